from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict, final, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

# An array of NumPy, or an object with the buffer protocol or DLPack.
_Array = Any
_Mask = Any
_Floats = NDArray[np.float32]
_Activation = Literal["relu"] | None
_MaskReuse = Literal["many", "once"]
_Storage = Literal["f32", "bf16"]
_By = Literal["magnitude", "signed"]

__all__ = [
    "Conv2d",
    "EdgePopup",
    "PackedWeights",
    "_required_candidates",
    "_restore_conv2d",
    "_restore_weights",
    "_run",
    "_sweep",
    "get_num_threads",
    "info",
    "nearest_subset",
    "set_num_threads",
    "top_k",
    "weight_gradient",
]

class _Info(TypedDict):
    version: str
    bits_revision: int
    cpu: str
    cores: int
    os: str
    backends: list[str]
    backend: str
    threads: int

def info() -> _Info: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
@overload
def top_k(
    scores: list[_Array] | tuple[_Array, ...],
    keep: int | None = None,
    *,
    sparsity: float | None = None,
    by: _By = "magnitude",
    packed: bool = False,
    threads: int | None = None,
) -> list[NDArray[Any]]: ...
@overload
def top_k(
    scores: _Array,
    keep: int | None = None,
    *,
    sparsity: float | None = None,
    by: _By = "magnitude",
    packed: Literal[False] = False,
    threads: int | None = None,
) -> NDArray[np.bool_]: ...
@overload
def top_k(
    scores: _Array,
    keep: int | None = None,
    *,
    sparsity: float | None = None,
    by: _By = "magnitude",
    packed: Literal[True],
    threads: int | None = None,
) -> NDArray[np.uint8]: ...
@overload
def nearest_subset(
    candidates: _Array, targets: float, *, epsilon: float = 0.0, threads: int | None = None
) -> tuple[NDArray[np.bool_], float]: ...
@overload
def nearest_subset(
    candidates: _Array, targets: _Array, *, epsilon: float = 0.0, threads: int | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]: ...
def weight_gradient(
    dy: _Array,
    x: _Array,
    mask: _Mask | None = None,
    *,
    out: _Floats | None = None,
    threads: int | None = None,
) -> _Floats: ...

@final
class PackedWeights:
    def __new__(
        cls,
        weight: _Array,
        mask: _Mask | None = None,
        *,
        bias: _Array | None = None,
        max_batch: int = 128,
        mask_reuse: _MaskReuse = "many",
        input_gradient: bool = False,
        storage: _Storage = "f32",
        keep_source: bool = True,
        threads: int | None = None,
    ) -> Self: ...
    def forward(self, x: _Array, activation: _Activation = None, out: _Floats | None = None) -> _Floats: ...
    def input_gradient(self, dy: _Array, out: _Floats | None = None) -> _Floats: ...
    def set_mask(self, mask: _Mask) -> None: ...
    def set_weight(self, weight: _Array) -> None: ...
    def weight(self) -> _Floats: ...
    def mask(self) -> NDArray[np.bool_]: ...
    @property
    def bias(self) -> _Floats | None: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def kept(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def format(self) -> str: ...
    @property
    def max_batch(self) -> int: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes, *, bias: _Array | None = None, threads: int | None = None) -> PackedWeights: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: Any) -> Self: ...
    def _forward_at(
        self,
        x: int,
        sizes: tuple[int, int],
        strides: tuple[int, int],
        y: int,
        outputs: int,
        relu: bool,
        threads: int,
        /,
    ) -> None: ...
    def _input_gradient_at(
        self, dy: int, sizes: tuple[int, int], strides: tuple[int, int], dx: int, inputs: int, threads: int, /
    ) -> None: ...

@final
class Conv2d:
    def __new__(
        cls,
        weight: _Array,
        mask: _Mask | None = None,
        *,
        image: tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        bias: _Array | None = None,
        max_batch: int = 128,
        mask_reuse: _MaskReuse = "many",
        input_gradient: bool = False,
        storage: _Storage = "f32",
        threads: int | None = None,
    ) -> Self: ...
    def forward(self, x: _Array, activation: _Activation = None, out: _Floats | None = None) -> _Floats: ...
    def input_gradient(self, dy: _Array, out: _Floats | None = None) -> _Floats: ...
    def weight_gradient(self, dy: _Array, x: _Array) -> _Floats: ...
    def set_mask(self, mask: _Mask) -> None: ...
    def set_weight(self, weight: _Array) -> None: ...
    def weight(self) -> _Floats: ...
    def mask(self) -> NDArray[np.bool_]: ...
    @property
    def bias(self) -> _Floats | None: ...
    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    @property
    def image(self) -> tuple[int, int]: ...
    @property
    def kept(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def format(self) -> str: ...
    @property
    def max_batch(self) -> int: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: Any) -> Self: ...
    def _forward_at(
        self,
        x: int,
        sizes: Sequence[int],
        strides: Sequence[int],
        y: int,
        y_sizes: Sequence[int],
        relu: bool,
        threads: int,
        /,
    ) -> None: ...
    def _input_gradient_at(
        self, dy: int, sizes: Sequence[int], strides: Sequence[int], dx: int, dx_sizes: Sequence[int], threads: int, /
    ) -> None: ...

_Geometry = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int], tuple[int, bool]]

@final
class EdgePopup:
    def __new__(cls) -> Self: ...
    def linear(
        self,
        weight: int,
        version: int,
        sizes: Sequence[int],
        scores: int,
        score_sizes: Sequence[int],
        keep: int,
        x: int,
        x_sizes: Sequence[int],
        strides: Sequence[int],
        y: int,
        bits: int,
        threads: int,
        /,
    ) -> None: ...
    def linear_backward(
        self,
        weight: int,
        version: int,
        sizes: Sequence[int],
        scores: int,
        score_sizes: Sequence[int],
        bits: tuple[int, int],
        dy: int,
        dy_sizes: Sequence[int],
        dy_strides: Sequence[int],
        x: int,
        x_sizes: Sequence[int],
        x_strides: Sequence[int],
        dx: int,
        ds: int,
        threads: int,
        /,
    ) -> None: ...
    def conv2d(
        self,
        weight: int,
        version: int,
        geometry: _Geometry,
        scores: int,
        score_count: int,
        keep: int,
        x: int,
        batch: int,
        strides: Sequence[int],
        y: tuple[int, int],
        winners: tuple[int, int],
        bits: int,
        threads: int,
        /,
    ) -> None: ...
    def conv2d_backward(
        self,
        weight: int,
        version: int,
        geometry: _Geometry,
        scores: int,
        score_count: int,
        bits: tuple[int, int],
        winners: tuple[int, int],
        dy: int,
        dy_sizes: Sequence[int],
        dy_strides: Sequence[int],
        x: int,
        batch: int,
        x_strides: Sequence[int],
        dx: int,
        dx_strides: Sequence[int],
        ds: int,
        threads: int,
        /,
    ) -> None: ...

_Path = str | PathLike[str]

def _run(
    settings: str,
    data: _Path | None,
    out: _Path | None,
    force: bool,
    ticket: str,
    checkpoint: bool,
    resume: bool,
    threads: int | None,
    backend: str | None,
    callback: Callable[..., None] | None,
    /,
) -> tuple[str, list[tuple[_Floats, _Floats, NDArray[np.bool_], _Floats | None]]]: ...
def _sweep(
    settings: str,
    grid: str,
    out: _Path,
    shard: str | None,
    retry_failed: bool,
    data: _Path | None,
    threads: int | None,
    backend: str | None,
    callback: Callable[..., None] | None,
    /,
) -> tuple[str, int, int]: ...
def _required_candidates(
    settings: str, threads: int | None, backend: str | None, callback: Callable[..., None] | None, /
) -> tuple[str, list[list[int]]]: ...

def _restore_weights(bytes: bytes, bias: _Floats | None, threads: int | None) -> PackedWeights: ...
def _restore_conv2d(
    weight: _Floats,
    mask: NDArray[np.bool_],
    sizes: tuple[tuple[int, int], int, int],
    bias: _Floats | None,
    options: tuple[int, bool, str],
    threads: int | None,
) -> Conv2d: ...
