"""Layers under a mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slth._slth import PackedWeights
from slth.torch import _ops


def _array(tensor: Tensor, name: str) -> np.ndarray:
    _ops.check(tensor, name)
    return tensor.detach().numpy()


def _mask_array(weight: Tensor, mask: Tensor | None) -> np.ndarray:
    """What is kept: what `mask` says, else all weights but zeros."""
    if mask is None:
        return (weight.detach() != 0).numpy()
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a torch.Tensor, found {type(mask).__name__}")
    if mask.shape != weight.shape:
        raise ValueError(f"mask must have shape {list(weight.shape)}, found {list(mask.shape)}")
    return (mask.detach() != 0).cpu().numpy()


class _Masked(nn.Module):
    """What masked layers share: weights that are no parameters but the extension's, and how they are saved."""

    _handle: _ops.Handle
    activation: str | None
    input_gradient: bool

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Kept weights with zeros, mask, bias."""
        raise NotImplementedError

    def _prepare(self, weight: np.ndarray, mask: np.ndarray, bias: np.ndarray | None) -> None:
        raise NotImplementedError

    def multiply(self, x: Tensor, relu: bool) -> Tensor:
        raise NotImplementedError

    @property
    def weight(self) -> Tensor:
        """The kept weights, and 0 in place of the removed ones: a new tensor."""
        return torch.from_numpy(self._arrays()[0])

    @property
    def mask(self) -> Tensor:
        """Which weights are kept: a new bool tensor."""
        return torch.from_numpy(self._arrays()[1])

    @property
    def bias(self) -> Tensor | None:
        """A new tensor, or None."""
        bias = self._arrays()[2]
        return None if bias is None else torch.from_numpy(bias.copy())

    def _with_gradient(self, x: Tensor) -> bool:
        """Whether autograd has to know of the product. Checks x."""
        _ops.check(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return False
        if not self.input_gradient:
            raise RuntimeError(
                "x requires a gradient, which this layer was not prepared for: use torch.inference_mode(), or build the layer"
                " with input_gradient=True (accelerate makes layers for inference only)"
            )
        return True

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, array in zip(("weight", "mask", "bias"), self._arrays()):
            if array is not None:
                destination[prefix + name] = torch.from_numpy(array.copy())

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """A dense layer's state is understood too: its zeros are what is removed."""
        old_weight, _, old_bias = self._arrays()
        expected = {"weight": old_weight.shape, "mask": old_weight.shape}
        if old_bias is not None:
            expected["bias"] = old_bias.shape
        given = {name: state_dict[prefix + name] for name in expected if prefix + name in state_dict}
        missing = [prefix + name for name in expected if name not in given and name != "mask"]
        wrong = [
            f"{prefix}{name} must have shape {list(expected[name])}, found {list(tensor.shape)}"
            for name, tensor in given.items()
            if tensor.shape != expected[name]
        ]
        error_msgs.extend(wrong)
        if strict:
            missing_keys.extend(missing)
            known = {prefix + name for name in expected}
            unexpected_keys.extend(key for key in state_dict if key.startswith(prefix) and key not in known)
        if wrong or "weight" not in given:
            return
        weight = given["weight"].detach().to("cpu", torch.float32)
        bias = given["bias"].detach().to("cpu", torch.float32).numpy() if "bias" in given else old_bias
        self._prepare(weight.numpy(), _mask_array(weight, given.get("mask")), bias)


class MaskedLinear(_Masked):
    """activation(x @ weight.T + bias) over the kept weights only: inference, and gradients of x.

    weight: float32 [outputs, inputs]; it is copied, and later changes of the tensor are not seen.
    mask: [outputs, inputs], what is not 0 is kept; None keeps what is not 0 in weight.
    bias: float32 [outputs], or None.
    activation: None or "relu".
    max_batch: the most rows that products will have (all axes of x but the last one, multiplied); larger batches are computed too, if slower.
    input_gradient: whether autograd may ask for the gradient of x, which takes as much memory again.
    storage: of the weights; "f32" or "bf16".

    Takes x [..., inputs], float32 on the CPU, of any strides. The state dict has weight (with zeros), mask and bias; that of an nn.Linear can be
    loaded, its zeros are removed.
    """

    def __init__(
        self,
        weight: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        activation: str | None = None,
        max_batch: int = 128,
        input_gradient: bool = False,
        storage: str = "f32",
    ) -> None:
        super().__init__()
        if activation not in (None, "relu"):
            raise ValueError(f'activation must be None or "relu", found {activation!r}')
        _ops.check(weight, "weight")
        if weight.dim() != 2:
            raise ValueError(f"weight must have two axes, found {list(weight.shape)}")
        self.out_features, self.in_features = weight.shape
        self.activation, self.input_gradient = activation, input_gradient
        max_batch = _ops.whole(max_batch, "max_batch", 1)
        self._options: dict[str, Any] = {"max_batch": max_batch, "input_gradient": input_gradient, "storage": storage}
        self._prepare(
            _array(weight, "weight"), _mask_array(weight, mask), None if bias is None else _array(bias, "bias")
        )

    def _prepare(self, weight: np.ndarray, mask: np.ndarray, bias: np.ndarray | None) -> None:
        self._handle = _ops.Handle(PackedWeights(weight, mask, bias=bias, **self._options))

    @property
    def packed(self) -> PackedWeights:
        """The prepared weights."""
        packed: PackedWeights = self._handle.value
        return packed

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        return self.packed.weight(), self.packed.mask(), self.packed.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.activation is not None)

    def multiply(self, x: Tensor, relu: bool) -> Tensor:
        """The product, under ReLU or without, whatever activation says: x [..., inputs] to [..., outputs]."""
        operator = _ops.masked_linear_with_gradient if self._with_gradient(x) else _ops.masked_linear
        if x.dim() == 2:
            y: Tensor = operator(x, self._handle.number, self.out_features, relu)
            return y
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape [..., {self.in_features}], found {list(x.shape)}")
        y = operator(x.reshape(-1, self.in_features), self._handle.number, self.out_features, relu)
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        kept = self.packed.kept / max(self.in_features * self.out_features, 1)
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.packed.bias is not None},"
            f" activation={self.activation}, sparsity={1 - kept:.4g}, format={self.packed.format}"
        )


class MaskedConv2d(_Masked):
    """activation(conv2d(x, weight) + bias) over the kept weights only: inference, and gradients of x.

    weight: float32 [outputs, channels, kernel rows, kernel columns].
    stride, padding: in both directions; padding is with zeros.
    max_batch: the batch that is prepared for; others are computed too.
    The others: as for MaskedLinear.

    Takes x [batch, channels, rows, columns] or [channels, rows, columns]. What is prepared for a size of images is kept, for the last eight.
    """

    def __init__(
        self,
        weight: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        activation: str | None = None,
        max_batch: int = 128,
        input_gradient: bool = False,
        storage: str = "f32",
    ) -> None:
        super().__init__()
        if activation not in (None, "relu"):
            raise ValueError(f'activation must be None or "relu", found {activation!r}')
        _ops.check(weight, "weight")
        if weight.dim() != 4:
            raise ValueError(f"weight must have four axes, found {list(weight.shape)}")
        self.out_channels, self.in_channels, *kernel = weight.shape
        self.kernel_size = tuple(kernel)
        self.stride, self.padding = _ops.whole(stride, "stride", 1), _ops.whole(padding, "padding")
        self.activation, self.input_gradient = activation, input_gradient
        self._options: dict[str, Any] = {
            "stride": self.stride,
            "padding": self.padding,
            "max_batch": _ops.whole(max_batch, "max_batch", 1),
            "input_gradient": input_gradient,
            "storage": storage,
        }
        self._prepare(
            _array(weight, "weight"), _mask_array(weight, mask), None if bias is None else _array(bias, "bias")
        )

    def _prepare(self, weight: np.ndarray, mask: np.ndarray, bias: np.ndarray | None) -> None:
        if np.isnan(weight).any():
            raise ValueError("weight is NaN")
        bias = None if bias is None else bias.copy()
        self._handle = _ops.Handle(_ops.Filters(weight * mask, mask.copy(), bias=bias, **self._options))

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        filters = self._handle.value
        return filters.weight.copy(), filters.mask.copy(), filters.options["bias"]

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.activation is not None)

    def multiply(self, x: Tensor, relu: bool) -> Tensor:
        """The product, under ReLU or without, whatever activation says: x [batch, channels, rows, columns], or one image."""
        operator = _ops.masked_conv2d_with_gradient if self._with_gradient(x) else _ops.masked_conv2d
        if x.dim() not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ValueError(f"x must have shape [batch, {self.in_channels}, rows, columns], found {list(x.shape)}")
        y: Tensor = operator(
            x if x.dim() == 4 else x.unsqueeze(0),
            self._handle.number,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            relu,
        )
        return y if x.dim() == 4 else y.squeeze(0)

    def extra_repr(self) -> str:
        mask = self._handle.value.mask
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride},"
            f" padding={self.padding}, bias={self._handle.value.options['bias'] is not None},"
            f" activation={self.activation}, sparsity={1 - mask.mean():.4g}"
        )


class FusedSequential(nn.Sequential):
    """An nn.Sequential that computes a masked layer and an nn.ReLU after it in one pass. Each of them can still be called by itself."""

    def forward(self, x: Any) -> Any:
        modules = list(self)
        at = 0
        while at < len(modules):
            module = modules[at]
            follower = modules[at + 1] if at + 1 < len(modules) else None
            if isinstance(module, _Masked) and _is_plain_relu(follower) and not _has_hooks(module):
                x = module.multiply(x, True)
                at += 2
            else:
                x = module(x)
                at += 1
        return x


def _has_hooks(module: nn.Module) -> bool:
    of_forward = module._forward_hooks or module._forward_pre_hooks
    return bool(of_forward or module._backward_hooks or module._backward_pre_hooks)


def _is_plain_relu(module: nn.Module | None) -> bool:
    return type(module) is nn.ReLU and not _has_hooks(module)


class _EdgePopup(nn.Module):
    """What edge-popup layers share."""

    weight: Tensor
    scores: nn.Parameter
    sparsity: float

    def __init__(self, shape: tuple[int, ...], sparsity: float) -> None:
        super().__init__()
        self.sparsity = _ops.fraction(sparsity, "sparsity")
        self.register_buffer("weight", torch.empty(shape, dtype=torch.float32))
        self.scores = nn.Parameter(torch.empty(shape, dtype=torch.float32))
        self._cache = _ops.Cache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights, Kaiming normal for ReLU, and the scores, uniform on ±1/sqrt(inputs of an output)."""
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.kaiming_uniform_(self.scores, a=math.sqrt(5))

    @property
    def keep(self) -> int:
        """How many weights are kept: all but int(sparsity * n)."""
        # In Python, because torch.compile traces it.
        n = self.weight.numel()
        return n - int(self.sparsity * n)

    @torch.no_grad()
    def mask(self) -> Tensor:
        """Which weights are kept under the present scores: a new bool tensor."""
        from slth import top_k

        return torch.from_numpy(top_k(_array(self.scores, "scores"), self.keep))


class EdgePopupLinear(_EdgePopup):
    """x @ (mask * weight).T, where mask keeps all but the int(sparsity * n) weights of smallest |score|.

    The scores are trained through the straight-through estimator, the gradient of each, removed or not, being sign(score) * weight * dW; the
    weights are frozen (Ramanujan et al. 2020, arXiv 1911.13299). No bias.

    Takes x [..., inputs], float32 on the CPU. weight is a buffer [outputs, inputs], scores a parameter of that shape.
    """

    def __init__(self, in_features: int, out_features: int, sparsity: float = 0.5) -> None:
        self.in_features = _ops.whole(in_features, "in_features")
        self.out_features = _ops.whole(out_features, "out_features")
        super().__init__((self.out_features, self.in_features), sparsity)

    def forward(self, x: Tensor) -> Tensor:
        _ops.check(x)
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape [..., {self.in_features}], found {list(x.shape)}")
        rows = x if x.dim() == 2 else x.reshape(-1, self.in_features)
        y = _ops.apply_edge_popup_linear(rows, self.weight, self.scores, self.keep, self._cache.number)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, sparsity={self.sparsity}"


class EdgePopupConv2d(_EdgePopup):
    """conv2d(x, mask * weight), as EdgePopupLinear; then, in the same pass, a max-pool and an activation, where they are asked for.

    activation: None or "relu".
    max_pool: the side of the windows that are pooled, as by nn.MaxPool2d(max_pool); 1 pools nothing. PyTorch's own pool takes longer than the
    convolution.

    Takes x [batch, channels, rows, columns], float32 on the CPU, of any strides. In memory the batch is the innermost axis of what it gives, which is
    what the next such layer reads fastest. weight is a buffer [outputs, channels, kernel rows, kernel columns].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        sparsity: float = 0.5,
        *,
        stride: int = 1,
        padding: int = 0,
        activation: str | None = None,
        max_pool: int = 1,
    ) -> None:
        if activation not in (None, "relu"):
            raise ValueError(f'activation must be None or "relu", found {activation!r}')
        if not 1 <= _ops.whole(max_pool, "max_pool", 1) <= 15:
            raise ValueError(f"max_pool must lie in 1 to 15, found {max_pool}")
        sides = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
        rows, columns = (_ops.whole(side, "kernel_size", 1) for side in sides)
        self.in_channels, self.out_channels = _ops.whole(in_channels, "in_channels"), _ops.whole(out_channels, "out_channels")
        self.kernel_size = rows, columns
        self.stride, self.padding = _ops.whole(stride, "stride", 1), _ops.whole(padding, "padding")
        self.activation, self.max_pool = activation, max_pool
        super().__init__((self.out_channels, self.in_channels, rows, columns), sparsity)

    def forward(self, x: Tensor) -> Tensor:
        _ops.check(x)
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape [batch, {self.in_channels}, rows, columns], found {list(x.shape)}")
        relu = self.activation is not None
        y = _ops.apply_edge_popup_conv2d(
            x, self.weight, self.scores, self.keep, self._cache.number, self.stride, self.padding, self.max_pool, relu
        )
        return y

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride},"
            f" padding={self.padding}, sparsity={self.sparsity}, activation={self.activation}, max_pool={self.max_pool}"
        )
