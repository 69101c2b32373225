"""Exact masks, fast products with pruned weights, and edge-popup on a CPU, for NumPy and PyTorch.

Sparsity is the fraction of weights REMOVED, everywhere. The same inputs give the same bits on every instruction set and every number of
threads. Arrays are float32 in native byte order, NumPy's or anything that can be seen as one by the buffer protocol or DLPack; they may
have any strides, and are not copied where the strides allow. Every function releases the GIL while it computes.

* top_k: the mask of the largest scores
* PackedWeights, Conv2d: a layer under a mask, prepared for many products; weight_gradient: the gradient of a layer's weights
* nearest_subset: the subset of candidates whose sum comes nearest to a target
* run, sweep, required_candidates: the experiments of the command `slth`
* info, set_num_threads, get_num_threads: this machine
* slth.torch: pruning, inference and edge-popup for PyTorch, which is imported at its first use
"""

import importlib
from types import ModuleType

from slth._experiments import (
    Candidates,
    Cell,
    Layer,
    Progress,
    Run,
    Sweep,
    required_candidates,
    run,
    sweep,
)
from slth._slth import (
    Conv2d,
    PackedWeights,
    get_num_threads,
    info,
    nearest_subset,
    set_num_threads,
    top_k,
    weight_gradient,
)

__version__: str = info()["version"]

__all__ = [
    "Candidates",
    "Cell",
    "Conv2d",
    "Layer",
    "PackedWeights",
    "Progress",
    "Run",
    "Sweep",
    "get_num_threads",
    "info",
    "nearest_subset",
    "required_candidates",
    "run",
    "set_num_threads",
    "sweep",
    "top_k",
    "weight_gradient",
]


def __getattr__(name: str) -> ModuleType:
    # PyTorch takes seconds to import, and need not be installed.
    if name == "torch":
        return importlib.import_module("slth.torch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
