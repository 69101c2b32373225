"""Pruning, inference with pruned layers, and edge-popup for PyTorch, on a CPU in float32.

* prune: masks of exact counts, in the form of torch.nn.utils.prune
* accelerate: a copy of a pruned model whose layers multiply by their kept weights only
* MaskedLinear, MaskedConv2d: the layers of such a copy
* EdgePopupLinear, EdgePopupConv2d: frozen weights under a mask of trained scores (Ramanujan et al. 2020)

All are operators of PyTorch: they work under torch.compile and autograd, and compute on torch.get_num_threads() threads.
"""

from slth.torch._accelerate import Report, accelerate
from slth.torch._modules import EdgePopupConv2d, EdgePopupLinear, MaskedConv2d, MaskedLinear
from slth.torch._prune import prune

__all__ = [
    "EdgePopupConv2d",
    "EdgePopupLinear",
    "MaskedConv2d",
    "MaskedLinear",
    "Report",
    "accelerate",
    "prune",
]
