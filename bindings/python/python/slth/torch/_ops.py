"""The operators: what torch.compile and autograd see of the extension.

An operator cannot take an object of another library. It takes the number of a `Handle`, whose owner is a module. Operators compute on
torch.get_num_threads() threads.
"""

from __future__ import annotations

import copy
import itertools
import numbers
import operator
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from slth._slth import Conv2d, EdgePopup

_numbers = itertools.count()
_handles: WeakValueDictionary[int, Any] = WeakValueDictionary()

LIBRARY = torch.library.Library("slth", "DEF")  # type: ignore[no-untyped-call]


class Handle:
    """Gives the object `value` a number for operators. A copy has another number."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.number = next(_numbers)
        _handles[self.number] = self

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        return type(self)(copy.deepcopy(self.value, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.value,)


class Cache(Handle):
    """Cache of an edge-popup layer between steps. It is not in the state dict, because it changes no result. A copy begins anew."""

    def __init__(self) -> None:
        super().__init__(EdgePopup())
        self.weight: Tensor | None = None
        self.seen = -1
        self.version = 0

    def version_of(self, weight: Tensor) -> int:
        """A number that changes with the weights.

        The tensor seen last is held, so that no other one comes to lie at its address.
        """
        if weight.is_inference():
            return -1  # such tensors do not count their changes
        old = self.weight
        if old is None or old.data_ptr() != weight.data_ptr() or self.seen != weight._version:
            self.weight, self.seen = weight.detach(), weight._version
            self.version += 1
        return self.version

    def __deepcopy__(self, memo: dict[int, Any]) -> Cache:
        return type(self)()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class Filters:
    """The filters of a masked convolution, prepared for each size of images when it first comes."""

    MOST_SIZES = 8

    def __init__(self, weight: np.ndarray, mask: np.ndarray, **options: Any) -> None:
        self.weight, self.mask, self.options = weight, mask, options
        self.prepared: dict[tuple[int, int], Conv2d] = {}

    def of(self, image: tuple[int, int]) -> Conv2d:
        conv = self.prepared.get(image)
        if conv is None:
            conv = Conv2d(self.weight, self.mask, image=image, **self.options)
            if len(self.prepared) >= self.MOST_SIZES:
                self.prepared.pop(next(iter(self.prepared)), None)
            self.prepared[image] = conv
        return conv

    def __reduce__(self) -> tuple[Any, ...]:
        return _filters, (self.weight, self.mask, self.options)


def _filters(weight: np.ndarray, mask: np.ndarray, options: dict[str, Any]) -> Filters:
    return Filters(weight, mask, **options)


def check(x: Tensor, name: str = "x") -> None:
    """Refuses what the extension cannot read."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, found {type(x).__module__}.{type(x).__qualname__}")
    if x.dtype is not torch.float32 or not x.is_cpu:
        raise TypeError(f"{name} must be a float32 tensor on the CPU, found {x.dtype} on {x.device}")


def check_model(model: Any) -> None:
    """Refuses what is no module."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, found {type(model).__name__}")


def whole(number: Any, name: str, least: int = 0) -> int:
    """A whole number that is not below `least`."""
    try:
        found = operator.index(number)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, found {number!r}") from None
    if found < least:
        raise ValueError(f"{name} must be at least {least}, found {found}")
    return found


def fraction(number: Any, name: str) -> float:
    """A number in [0, 1]."""
    if not isinstance(number, numbers.Real):
        raise TypeError(f"{name} must be a number, found {number!r}")
    found = float(number)
    if not 0 <= found <= 1:
        raise ValueError(f"{name} must lie in [0, 1], found {found}")
    return found


def spatial(size: int, kernel: int, stride: int, padding: int) -> int:
    """Rows or columns of a convolution's output."""
    if size + 2 * padding < kernel:
        raise ValueError(f"a kernel of {kernel} does not fit into images of {size} with padding {padding}")
    return (size + 2 * padding - kernel) // stride + 1


def _define(schema: str, cpu: Any, fake: Any) -> Any:
    name = LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    LIBRARY.impl(name, cpu, "CPU")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"slth::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.slth, name).default


# Masked layers. The forward without gradients is an operator of its own: autograd's formula costs microseconds a call.


def _masked_linear(x: Tensor, handle: int, outputs: int, relu: bool) -> Tensor:
    check(x)
    batch, inputs = x.shape
    row, column = x.stride()
    y = x.new_empty(batch, outputs)
    packed = _handles[handle].value
    packed._forward_at(x.data_ptr(), (batch, inputs), (row, column), y.data_ptr(), outputs, relu, torch.get_num_threads())
    return y


def _masked_linear_fake(x: Tensor, handle: int, outputs: int, relu: bool) -> Tensor:
    return x.new_empty(x.shape[0], outputs)


def _masked_linear_backward(dy: Tensor, handle: int, inputs: int) -> Tensor:
    check(dy, "dy")
    dx = dy.new_empty(dy.shape[0], inputs)
    packed = _handles[handle].value
    packed._input_gradient_at(dy.data_ptr(), tuple(dy.shape), dy.stride(), dx.data_ptr(), inputs, torch.get_num_threads())
    return dx


def _masked_conv2d(
    x: Tensor, handle: int, outputs: int, kernel: list[int], stride: int, padding: int, relu: bool
) -> Tensor:
    check(x)
    y = _masked_conv2d_fake(x, handle, outputs, kernel, stride, padding, relu)
    conv = _handles[handle].value.of((x.shape[2], x.shape[3]))
    y = y.contiguous()
    conv._forward_at(x.data_ptr(), tuple(x.shape), x.stride(), y.data_ptr(), tuple(y.shape), relu, torch.get_num_threads())
    return y


def _masked_conv2d_fake(
    x: Tensor, handle: int, outputs: int, kernel: list[int], stride: int, padding: int, relu: bool
) -> Tensor:
    rows, columns = (spatial(x.shape[2 + axis], kernel[axis], stride, padding) for axis in (0, 1))
    return x.new_empty(x.shape[0], outputs, rows, columns)


def _masked_conv2d_backward(dy: Tensor, handle: int, sizes: list[int]) -> Tensor:
    check(dy, "dy")
    dx = dy.new_empty(sizes)
    conv = _handles[handle].value.of((sizes[2], sizes[3]))
    conv._input_gradient_at(dy.data_ptr(), tuple(dy.shape), dy.stride(), dx.data_ptr(), tuple(sizes), torch.get_num_threads())
    return dx


masked_linear = _define(
    "masked_linear(Tensor x, int handle, int outputs, bool relu) -> Tensor", _masked_linear, _masked_linear_fake
)
masked_linear_with_gradient = _define(
    "masked_linear_with_gradient(Tensor x, int handle, int outputs, bool relu) -> Tensor",
    _masked_linear,
    _masked_linear_fake,
)
masked_linear_backward = _define(
    "masked_linear_backward(Tensor dy, int handle, int inputs) -> Tensor",
    _masked_linear_backward,
    lambda dy, handle, inputs: dy.new_empty(dy.shape[0], inputs),
)
_CONV2D = "(Tensor x, int handle, int outputs, int[2] kernel, int stride, int padding, bool relu) -> Tensor"
masked_conv2d = _define("masked_conv2d" + _CONV2D, _masked_conv2d, _masked_conv2d_fake)
masked_conv2d_with_gradient = _define("masked_conv2d_with_gradient" + _CONV2D, _masked_conv2d, _masked_conv2d_fake)
masked_conv2d_backward = _define(
    "masked_conv2d_backward(Tensor dy, int handle, SymInt[] sizes) -> Tensor",
    _masked_conv2d_backward,
    lambda dy, handle, sizes: dy.new_empty(sizes),
)


def _save_masked(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.sizes, ctx.handle, ctx.relu = inputs[0].shape, inputs[1], inputs[-1]
    if ctx.relu:
        ctx.save_for_backward(output)


def _before_relu(ctx: Any, dy: Tensor) -> Tensor:
    if not ctx.relu:
        return dy
    y: Tensor = ctx.saved_tensors[0]
    return dy * (y > 0)


def _backward_masked_linear(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    return masked_linear_backward(_before_relu(ctx, dy), ctx.handle, ctx.sizes[1]), None, None, None


def _backward_masked_conv2d(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    dx = masked_conv2d_backward(_before_relu(ctx, dy), ctx.handle, ctx.sizes)
    return dx, None, None, None, None, None, None


torch.library.register_autograd(
    "slth::masked_linear_with_gradient", _backward_masked_linear, setup_context=_save_masked, lib=LIBRARY
)
torch.library.register_autograd(
    "slth::masked_conv2d_with_gradient", _backward_masked_conv2d, setup_context=_save_masked, lib=LIBRARY
)


# Edge-popup. Forward gives the mask too, as packed bits: backward needs that of the same step.


def _cache(number: int) -> Cache:
    # In another process the number may name nothing: then the layer is made anew.
    found = _handles.get(number)
    return found if isinstance(found, Cache) else Cache()


def _edge_popup_linear(x: Tensor, weight: Tensor, scores: Tensor, keep: int, cache: int) -> tuple[Tensor, Tensor]:
    check(x)
    check(weight, "weight")
    check(scores, "scores")
    y, bits = _edge_popup_linear_fake(x, weight, scores, keep, cache)
    weight, scores = weight.contiguous(), scores.contiguous()
    held = _cache(cache)
    held.value.linear(
        weight.data_ptr(),
        held.version_of(weight),
        tuple(weight.shape),
        scores.data_ptr(),
        tuple(scores.shape),
        keep,
        x.data_ptr(),
        tuple(x.shape),
        x.stride(),
        y.data_ptr(),
        bits.data_ptr(),
        torch.get_num_threads(),
    )
    return y, bits


def _edge_popup_linear_fake(
    x: Tensor, weight: Tensor, scores: Tensor, keep: int, cache: int
) -> tuple[Tensor, Tensor]:
    bits = torch.empty((scores.numel() + 7) // 8, dtype=torch.uint8, device=x.device)
    return x.new_empty(x.shape[0], weight.shape[0]), bits


def _edge_popup_linear_backward(
    dy: Tensor, x: Tensor, weight: Tensor, scores: Tensor, bits: Tensor, cache: int, needs_dx: bool
) -> tuple[Tensor, Tensor]:
    check(dy, "dy")
    check(x)
    dx, ds = _edge_popup_backward_fake(dy, x, weight, scores, bits, cache, needs_dx)
    weight, scores, bits = weight.contiguous(), scores.contiguous(), bits.contiguous()
    held = _cache(cache)
    held.value.linear_backward(
        weight.data_ptr(),
        held.version_of(weight),
        tuple(weight.shape),
        scores.data_ptr(),
        tuple(scores.shape),
        (bits.data_ptr(), bits.numel()),
        dy.data_ptr(),
        tuple(dy.shape),
        dy.stride(),
        x.data_ptr(),
        tuple(x.shape),
        x.stride(),
        dx.data_ptr() if needs_dx else 0,
        ds.data_ptr(),
        torch.get_num_threads(),
    )
    return dx, ds


def _edge_popup_backward_fake(
    dy: Tensor, x: Tensor, weight: Tensor, scores: Tensor, bits: Tensor, cache: int, needs_dx: bool
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if needs_dx else (0,)), scores.new_empty(scores.shape)


def _geometry(x: Tensor, weight: Tensor, stride: int, padding: int, pool: int, relu: bool) -> Any:
    """Sizes of a convolution, as the extension takes them."""
    outputs, channels, rows, columns = weight.shape
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(f"x must have shape [batch, {channels}, rows, columns], found {list(x.shape)}")
    return (channels, x.shape[2], x.shape[3]), (outputs, rows, columns), (stride, padding), (pool, relu)


def _edge_popup_conv2d(
    x: Tensor, weight: Tensor, scores: Tensor, keep: int, cache: int, stride: int, padding: int, pool: int, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    check(x)
    check(weight, "weight")
    check(scores, "scores")
    geometry = _geometry(x, weight, stride, padding, pool, relu)
    y, bits, winners = _edge_popup_conv2d_fake(x, weight, scores, keep, cache, stride, padding, pool, relu)
    weight, scores = weight.contiguous(), scores.contiguous()
    held = _cache(cache)
    held.value.conv2d(
        weight.data_ptr(),
        held.version_of(weight),
        geometry,
        scores.data_ptr(),
        scores.numel(),
        keep,
        x.data_ptr(),
        x.shape[0],
        x.stride(),
        (y.data_ptr(), y.numel()),
        (winners.data_ptr(), winners.numel()),
        bits.data_ptr(),
        torch.get_num_threads(),
    )
    return y, bits, winners


def _edge_popup_conv2d_fake(
    x: Tensor, weight: Tensor, scores: Tensor, keep: int, cache: int, stride: int, padding: int, pool: int, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = (spatial(x.shape[axis], weight.shape[axis], stride, padding) // pool for axis in (2, 3))
    bits = torch.empty((scores.numel() + 7) // 8, dtype=torch.uint8, device=x.device)
    # With the batch innermost, as convolutions compute, and as the next one reads without a copy.
    shape = (weight.shape[0], rows, columns, x.shape[0])
    winners = torch.empty(shape if pool > 1 or relu else (0,), dtype=torch.uint8, device=x.device)
    return x.new_empty(shape).permute(3, 0, 1, 2), bits, winners


def _edge_popup_conv2d_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    scores: Tensor,
    bits: Tensor,
    winners: Tensor,
    cache: int,
    stride: int,
    padding: int,
    pool: int,
    relu: bool,
    needs_dx: bool,
) -> tuple[Tensor, Tensor]:
    check(dy, "dy")
    check(x)
    geometry = _geometry(x, weight, stride, padding, pool, relu)
    dx, ds = _edge_popup_conv2d_backward_fake(
        dy, x, weight, scores, bits, winners, cache, stride, padding, pool, relu, needs_dx
    )
    weight, scores, bits, winners = (tensor.contiguous() for tensor in (weight, scores, bits, winners))
    held = _cache(cache)
    held.value.conv2d_backward(
        weight.data_ptr(),
        held.version_of(weight),
        geometry,
        scores.data_ptr(),
        scores.numel(),
        (bits.data_ptr(), bits.numel()),
        (winners.data_ptr(), winners.numel()),
        dy.data_ptr(),
        tuple(dy.shape),
        dy.stride(),
        x.data_ptr(),
        x.shape[0],
        x.stride(),
        dx.data_ptr() if needs_dx else 0,
        dx.stride() if needs_dx else x.stride(),
        ds.data_ptr(),
        torch.get_num_threads(),
    )
    return dx, ds


def _edge_popup_conv2d_backward_fake(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    scores: Tensor,
    bits: Tensor,
    winners: Tensor,
    cache: int,
    stride: int,
    padding: int,
    pool: int,
    relu: bool,
    needs_dx: bool,
) -> tuple[Tensor, Tensor]:
    # As x where it has no gaps, which may be with the batch innermost too.
    dx = torch.empty_like(x) if needs_dx else x.new_empty(0)
    return dx, scores.new_empty(scores.shape)


edge_popup_linear = _define(
    "edge_popup_linear(Tensor x, Tensor weight, Tensor scores, int keep, int cache) -> (Tensor, Tensor)",
    _edge_popup_linear,
    _edge_popup_linear_fake,
)
edge_popup_linear_backward = _define(
    "edge_popup_linear_backward(Tensor dy, Tensor x, Tensor weight, Tensor scores, Tensor bits, int cache,"
    " bool needs_dx) -> (Tensor, Tensor)",
    _edge_popup_linear_backward,
    _edge_popup_backward_fake,
)
edge_popup_conv2d = _define(
    "edge_popup_conv2d(Tensor x, Tensor weight, Tensor scores, int keep, int cache, int stride, int padding, int pool,"
    " bool relu) -> (Tensor, Tensor, Tensor)",
    _edge_popup_conv2d,
    _edge_popup_conv2d_fake,
)
edge_popup_conv2d_backward = _define(
    "edge_popup_conv2d_backward(Tensor dy, Tensor x, Tensor weight, Tensor scores, Tensor bits, Tensor winners, int cache,"
    " int stride, int padding, int pool, bool relu, bool needs_dx) -> (Tensor, Tensor)",
    _edge_popup_conv2d_backward,
    _edge_popup_conv2d_backward_fake,
)


def _save_edge_popup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, scores, _, ctx.cache, *ctx.geometry = inputs
    ctx.save_for_backward(x, weight, scores, *output[1:])


def _backward_edge_popup(operator: Any) -> Callable[..., tuple[Tensor | None, ...]]:
    """The formula, by way of `operator`."""

    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        needs_dx, needs_dw, needs_ds = ctx.needs_input_grad[:3]
        if needs_dw:
            raise RuntimeError("the weights of an edge-popup layer are frozen; they have no gradient")
        dx, ds = operator(dy, *ctx.saved_tensors, ctx.cache, *ctx.geometry, needs_dx)
        return dx if needs_dx else None, None, ds if needs_ds else None, None, None, *(None for _ in ctx.geometry)

    return backward


torch.library.register_autograd(
    "slth::edge_popup_linear",
    _backward_edge_popup(edge_popup_linear_backward),
    setup_context=_save_edge_popup,
    lib=LIBRARY,
)
torch.library.register_autograd(
    "slth::edge_popup_conv2d",
    _backward_edge_popup(edge_popup_conv2d_backward),
    setup_context=_save_edge_popup,
    lib=LIBRARY,
)


def _eager(forward: Callable[..., tuple[Tensor, ...]], backward: Any) -> Callable[..., Tensor]:
    """The same without PyTorch's dispatcher, which costs tens of microseconds a step and layer: for plain tensors outside of torch.compile."""
    formula = _backward_edge_popup(backward)

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Tensor:
            y, *others = forward(*inputs)
            _save_edge_popup(ctx, inputs, (y, *others))
            return y

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
            return formula(ctx, dy)

    apply: Callable[..., Tensor] = Eager.apply
    return apply


_eager_linear = _eager(_edge_popup_linear, _edge_popup_linear_backward)
_eager_conv2d = _eager(_edge_popup_conv2d, _edge_popup_conv2d_backward)


def _is_plain(x: Tensor) -> bool:
    return type(x) is Tensor and not torch.compiler.is_compiling()


def apply_edge_popup_linear(x: Tensor, *others: Any) -> Tensor:
    """edge_popup_linear without the mask."""
    y: Tensor = _eager_linear(x, *others) if _is_plain(x) else edge_popup_linear(x, *others)[0]
    return y


def apply_edge_popup_conv2d(x: Tensor, *others: Any) -> Tensor:
    """edge_popup_conv2d without the mask."""
    y: Tensor = _eager_conv2d(x, *others) if _is_plain(x) else edge_popup_conv2d(x, *others)[0]
    return y
