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
    they are more than is asked for, none comes back. Layers that share a weight share its mask, and its weights count once. Biases stay. A weight
    that is computed by something else (weight or spectral normalisation, a parametrization) is a ValueError, and no layer is changed; and so is a model
    without such layers.
    """
    _ops.check_model(model)
    sparsity = _ops.fraction(sparsity, "sparsity")
    if scope not in ("layer", "global"):
        raise ValueError(f'scope must be "layer" or "global", found {scope!r}')
    if method not in ("magnitude", "random"):
        raise ValueError(f'method must be "magnitude" or "random", found {method!r}')
    layers: dict[str, Any] = {}
    sharing: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            parameter = "weight" if present_mask(module) is None else "weight_orig"
            weight = module._parameters.get(parameter)
            if weight is None:
                raise ValueError(f"the weight of {name or 'the model'} is not a parameter; remove what computes it first")
            _ops.check(weight, f"the weight of {name or 'the model'}")
            layers[name] = module
            sharing.setdefault(id(weight), []).append(name)
    if not layers:
        raise ValueError("the model has no Linear or Conv2d layer")
    scores = {names[0]: _scores([layers[name] for name in names], method) for names in sharing.values()}
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
        masks.update(zip(names, map(torch.from_numpy, top_k(arrays, keep, by="signed"))))
    for names in sharing.values():
        for name in names:
            masks[name] = masks[names[0]]
            _apply(layers[name], masks[name])
    return {name: masks[name] for name in layers}


def original(module: Any) -> Tensor:
    """All weights of a layer, under whatever mask."""
    weight: Tensor | None = getattr(module, "weight_orig", None)
    return module.weight if weight is None else weight


def present_mask(module: Any) -> Tensor | None:
    """The mask that a layer has."""
    mask = getattr(module, "weight_mask", None)
    return None if mask is None else mask != 0


def _scores(modules: list[Any], method: str) -> Tensor:
    """What the weights that these layers share are ranked by: not negative, and -1 for those that one of them has removed already."""
    weight = original(modules[0]).detach()
    scores = weight.abs().contiguous() if method == "magnitude" else torch.rand_like(weight)
    for mask in map(present_mask, modules):
        if mask is not None:
            scores = scores.masked_fill(~mask, -1)
    return scores


def _apply(module: Any, mask: Tensor) -> None:
    if present_mask(module) is None:
        torch_prune.custom_from_mask(module, "weight", mask)  # type: ignore[no-untyped-call]
        return
    module.weight_mask.copy_(mask)
    # What the layer's hook does before each forward.
    module.weight = module.weight_orig * module.weight_mask
