"""Masks of exact counts, in the form of torch.nn.utils.prune."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from slth import top_k
from slth.torch import _ops


@torch.no_grad()
def prune(
    model: nn.Module, sparsity: float, *, scope: str = "layer", method: str = "magnitude"
) -> dict[str, Tensor]:
    """Removes the fraction `sparsity` of the weights of the model's Linear and Conv2d layers, in place. Gives each layer's bool mask by its name.

    scope: "layer" removes int(sparsity * n) of the n weights of each layer, "global" of all of them, ranked together.
    method: "magnitude" removes the smallest, "random" any, drawn from PyTorch's generator.

    Afterwards a layer has weight_orig and weight_mask, as torch.nn.utils.prune leaves it: it can be trained further, and
    torch.nn.utils.prune.remove makes the zeros permanent. A layer that is pruned already keeps its mask's zeros, which count as removed; where
    they are more than is asked for, none comes back. Biases stay.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must lie in [0, 1), found {sparsity}")
    if scope not in ("layer", "global"):
        raise ValueError(f'scope must be "layer" or "global", found {scope!r}')
    if method not in ("magnitude", "random"):
        raise ValueError(f'method must be "magnitude" or "random", found {method!r}')
    layers: dict[str, Any] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            weight = original(module)
            _ops.check(weight, f"the weight of {name or 'the model'}")
            if id(weight) not in seen:
                seen.add(id(weight))
                layers[name] = module
    scores = {name: _scores(module, method) for name, module in layers.items()}
    if scope == "global":
        ranked = [list(scores)]
    else:
        ranked = [[name] for name in scores]
    masks: dict[str, Tensor] = {}
    for names in ranked:
        arrays = [scores[name].numpy() for name in names]
        count = sum(array.size for array in arrays)
        kept_so_far = sum(int((array >= 0).sum()) for array in arrays)
        keep = min(count - int(sparsity * count), kept_so_far)
        for name, mask in zip(names, top_k(arrays, keep, by="signed")):
            masks[name] = torch.from_numpy(mask)
            _apply(layers[name], masks[name])
    return masks


def original(module: Any) -> Tensor:
    """All weights of a layer, under whatever mask."""
    weight: Tensor | None = getattr(module, "weight_orig", None)
    return module.weight if weight is None else weight


def present_mask(module: Any) -> Tensor | None:
    """The mask that a layer has."""
    mask = getattr(module, "weight_mask", None)
    return None if mask is None else mask != 0


def _scores(module: Any, method: str) -> Tensor:
    """What weights are ranked by: not negative, and -1 for those that are removed already."""
    weight = original(module).detach()
    scores = weight.abs().contiguous() if method == "magnitude" else torch.rand_like(weight)
    mask = present_mask(module)
    return scores if mask is None else scores.masked_fill(~mask, -1)


def _apply(module: Any, mask: Tensor) -> None:
    if present_mask(module) is None:
        torch_prune.custom_from_mask(module, "weight", mask)
        return
    module.weight_mask.copy_(mask)
    # What the layer's hook does before each forward.
    module.weight = module.weight_orig * module.weight_mask
