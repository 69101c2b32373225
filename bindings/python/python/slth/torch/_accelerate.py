"""Pruned models for inference."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod

from slth.torch import _ops
from slth.torch._modules import EdgePopupConv2d, EdgePopupLinear, FusedSequential, MaskedConv2d, MaskedLinear
from slth.torch._prune import original, present_mask

REPLACED = (nn.Linear, nn.Conv2d, EdgePopupLinear, EdgePopupConv2d)

# Linear layers of fewer weights, kept and removed, stay as they are: a call costs as much as the product.
LEAST_WEIGHTS = 4096


@dataclass(frozen=True)
class Report:
    """What accelerate did: the sparsity of each layer that it replaced, and why it left the others, by name."""

    replaced: dict[str, float] = field(default_factory=dict)
    dense: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        names = [*self.replaced, *self.dense]
        width = max(map(len, names), default=0)
        lines = [f"{name:{width}}  masked, sparsity {sparsity:.4g}" for name, sparsity in self.replaced.items()]
        lines += [f"{name:{width}}  dense: {reason}" for name, reason in self.dense.items()]
        return "\n".join(lines)


@torch.no_grad()
def accelerate(model: nn.Module, max_batch: int = 128) -> tuple[nn.Module, Report]:
    """A copy of a pruned model for inference, whose layers multiply by their kept weights only; and what became of each layer.

    It replaces Linear and Conv2d layers, and edge-popup's with their present masks. The report also names the other modules with matrices as
    parameters, which stay as they are.

    max_batch: the most rows that the layers' inputs will have, all axes but the last one multiplied (tokens of all sentences, say), or images of
    a convolution. More are computed too, if slower.

    The weights that a mask of torch.nn.utils.prune keeps are kept; without a mask, those that are not 0. An nn.Sequential computes a layer and an nn.ReLU that
    follows in one pass, which makes 0 of NaN; called by themselves, both compute what they did. Layers stay dense where that is faster, or where
    another product would be needed; the report says why. Everything but the replaced layers is copied, the model is as it was, and the copy is in
    evaluation mode. It gives the same numbers as the model up to rounding.
    """
    _ops.check_model(model)
    max_batch = _ops.whole(max_batch, "max_batch", 1)
    # What hooks compute from parameters cannot be copied by PyTorch, and is computed anew.
    attributes = [value for module in model.modules() for value in vars(module).values()]
    memo: dict[int, Any] = {
        id(value): value.detach().clone() for value in attributes if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    replaced: dict[str, float] = {}
    dense: dict[str, str] = {}
    used_whole = _read_by_parents(model)
    for name, module in model.named_modules():
        if not isinstance(module, REPLACED):
            if _has_matrix(module):
                dense[name] = f"it is a {type(module).__name__}, which is not replaced"
            continue
        new = used_whole.get(id(module)) or _refusal(module) or _masked(module, max_batch)
        if isinstance(new, str):
            dense[name] = new
            if present_mask(module) is not None:
                memo[id(module)] = copy.deepcopy(_without_hook(module), memo)
        else:
            product: Any = new[0] if isinstance(new, nn.Sequential) else new
            replaced[name] = 1 - product.mask.double().mean().item()
            memo[id(module)] = new
    # A layer that occurs in several places is one object in the copy too.
    result = copy.deepcopy(model, memo)
    for container in result.modules():
        if type(container) is nn.Sequential:
            pairs = zip(container, list(container)[1:])
            if any(isinstance(a, (MaskedLinear, MaskedConv2d)) and type(b) is nn.ReLU for a, b in pairs):
                container.__class__ = FusedSequential
    return result.eval(), Report(replaced, dense)


def _masked(module: Any, max_batch: int) -> nn.Module | str:
    """The layer under its mask, or why it stays dense."""
    if isinstance(module, EdgePopupLinear):
        return MaskedLinear(module.weight, module.mask(), max_batch=max_batch)
    if isinstance(module, EdgePopupConv2d):
        conv = MaskedConv2d(
            module.weight, module.mask(), stride=module.stride, padding=module.padding, max_batch=max_batch
        )
        pool = [nn.MaxPool2d(module.max_pool)] if module.max_pool > 1 else []
        relu = [nn.ReLU()] if module.activation is not None else []
        return nn.Sequential(conv, *pool, *relu) if pool or relu else conv
    weight, mask = original(module).detach(), present_mask(module)
    if mask is None:
        mask = weight != 0
    kept = mask.double().mean().item() if weight.numel() else 1.0
    if weight.numel() < LEAST_WEIGHTS and isinstance(module, nn.Linear):
        return f"{weight.numel()} weights are too few"
    if isinstance(module, nn.Linear):
        masked = MaskedLinear(weight, mask, module.bias, max_batch=max_batch)
        if masked.packed.format == "dense":
            return f"it keeps {kept:.0%} of its weights, and a dense product is as fast"
        return masked
    if kept > 0.85:
        return f"it keeps {kept:.0%} of its weights, and a dense product is as fast"
    padding = _padding(module) or 0
    return MaskedConv2d(weight, mask, module.bias, stride=module.stride[0], padding=padding, max_batch=max_batch)


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module computes with a matrix of its own, as a recurrent layer does."""
    own = module.parameters(recurse=False)
    return not isinstance(module, ParametrizationList) and any(p.dim() > 1 for p in own)


def _padding(module: Any) -> int | None:
    """Zeros on each side, where they are as many on all."""
    if module.padding == "valid":
        return 0
    if module.padding == "same":
        rows, columns = module.kernel_size
        return rows // 2 if rows == columns and rows % 2 == 1 else None
    rows, columns = module.padding
    return rows if rows == columns else None


def _refusal(module: Any) -> str | None:
    """Why a layer cannot be replaced."""
    if type(module) not in REPLACED:
        return f"it is a {type(module).__name__}, which may compute something else"
    for tensor in (original(module), getattr(module, "bias", None), getattr(module, "scores", None)):
        if tensor is not None and (tensor.dtype is not torch.float32 or not tensor.is_cpu):
            return f"it is {tensor.dtype} on {tensor.device}"
    own = 0 if present_mask(module) is None else 1
    if len(module._forward_pre_hooks) > own or module._forward_hooks:
        return "it has hooks"
    if not isinstance(module, nn.Conv2d):
        return None
    if module.groups != 1:
        return f"it has {module.groups} groups"
    if module.dilation != (1, 1):
        return f"it has a dilation of {module.dilation}"
    if module.padding_mode != "zeros":
        return f"it pads by {module.padding_mode}"
    if module.stride[0] != module.stride[1] or _padding(module) is None:
        return "its stride or padding differs by direction"
    return None


def _without_hook(module: Any) -> nn.Module:
    """A dense layer with the mask's zeros in place."""
    plain: nn.Module = copy.copy(module)
    plain.__dict__ = module.__dict__.copy()
    for attribute in ("_parameters", "_buffers", "_forward_pre_hooks"):
        plain.__dict__[attribute] = module.__dict__[attribute].copy()
    plain.__dict__.pop("weight", None)
    plain._parameters.pop("weight_orig")
    plain._buffers.pop("weight_mask")
    for number, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == "weight":
            del plain._forward_pre_hooks[number]
    plain._parameters = {
        "weight": nn.Parameter((module.weight_orig * module.weight_mask).detach()),
        **plain._parameters,
    }
    return plain


def _read_by_parents(model: nn.Module) -> dict[int, str]:
    """Layers whose weights their parents read themselves."""
    whole = (nn.TransformerEncoderLayer, nn.MultiheadAttention)
    return {
        id(child): f"{type(parent).__name__} reads its weight itself"
        for parent in model.modules()
        if isinstance(parent, whole)
        for child in parent.children()
    }
