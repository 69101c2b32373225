"""The experiments of the command `slth`: settings in, dataclasses out. The work is the extension's."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth import _slth

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Progress:
    """How far work is, as a progress callback is told.

    Units of training are images, each counted as often as it is seen; of other work trials. `epoch` to `accuracy` are those of the
    training under way, where there is one; `loss` and `accuracy` are means over its epoch so far. `cell` and `cells` count the cells of a
    sweep, and `message` says how the last one did.
    """

    task: str
    done: int
    total: int
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    cell: int = 0
    cells: int = 0
    message: str = ""


Callback = Callable[[Progress], object]


@dataclass(frozen=True)
class Layer:
    """A pruned layer: float32 weights, all of them, float32 scores, and the bool mask of what is kept.

    Each `[outputs, inputs]`, or `[filters, channels, kernel rows, kernel columns]`. `bias` is float32 `[outputs]`, None where it has none.
    """

    weights: NDArray[np.float32] = field(repr=False)
    scores: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.bool_] = field(repr=False)
    bias: NDArray[np.float32] | None = field(repr=False, default=None)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weights.shape

    @property
    def kept(self) -> int:
        return int(self.mask.sum())


@dataclass(frozen=True)
class Run:
    """What came out of a run. Accuracies are fractions; those for validation are None where nothing is held out.

    `result` is all that `result.json` of the command has: times, machine and configuration too.
    """

    dense_accuracy: float
    dense_validation_accuracy: float | None
    test_accuracy: float
    validation_accuracy: float | None
    validation_loss: float | None
    weights_hash: str
    mask_hash: str
    layers: list[Layer]
    result: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Cell:
    """One cell of a sweep; `error` says why it failed, and accuracies are None then.

    `record` is its whole line of the store: times, machine and configuration too.
    """

    epsilon: float
    sparsity: float
    seed: int
    test_accuracy: float | None
    validation_accuracy: float | None
    validation_loss: float | None
    weights_hash: str | None
    mask_hash: str | None
    error: str | None
    record: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Sweep:
    """What is in the store of a sweep. Arrays are float64 `[epsilons, sparsities, seeds]`, NaN where a cell failed or is another shard's.

    `known` cells were there, `computed` ones are new.
    """

    epsilons: NDArray[np.float64]
    sparsities: NDArray[np.float64]
    seeds: NDArray[np.uint64]
    test_accuracy: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    cells: list[Cell] = field(repr=False)
    known: int
    computed: int


@dataclass(frozen=True)
class Candidates:
    """How many candidates are needed. `counts` is `[etas, ratios, trials]`, each row ascending; 31 stands for more than 30.

    `result` is all that `candidates.json` of the command has.
    """

    etas: NDArray[np.float64]
    ratios: NDArray[np.float64]
    counts: NDArray[np.int64]
    result: dict[str, Any] = field(repr=False)

    def quantile(self, fraction: float) -> NDArray[np.int64]:
        """The smallest n for which at least `fraction`, in (0, 1], of the trials succeed: `[etas, ratios]`."""
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], found {fraction}")
        trials = self.counts.shape[2]
        rank = max(math.ceil(fraction * trials - 1e-9), 1)
        return self.counts[:, :, min(rank, trials) - 1]


def run(
    *,
    data: Path | None = None,
    config: Path | None = None,
    out: Path | None = None,
    force: bool = False,
    ticket: str = "full",
    checkpoint: bool = False,
    resume: bool = False,
    threads: int | None = None,
    backend: str | None = None,
    progress: Callback | None = None,
    **settings: Any,
) -> Run:
    """Pretrains a random network, or the trained one of `weights`, and prunes it: `slth run`.

    `settings` are called like the command's flags, with underscores: `epsilon=0.02, sparsity=0.5, network="784-500-500-10", seed=1, …`;
    `slth run --help` says what each does, and the same ones give the same hashes. `data` is the directory of a data set, or a
    file of it: IDX files, CIFAR-10 or CIFAR-100 in binary form, or NumPy's `.npz` or `.npy` with `x_train`, `y_train`, `x_test` and `y_test`;
    MNIST by default. `config` is the `result.json` of a run to repeat, but for the settings given beside it. `out` takes `result.json`,
    `ticket.safetensors`, `history.csv` and its curves, which `force` replaces. `ticket` is "full", or "compact" for masks as bits and only those
    weights that the seed does not draw. With `checkpoint` the directory also takes the state of the run after every epoch, and
    `resume` goes on from there, to the same bits, where there is one. `progress` is called on the calling thread,
    some ten times a second; an exception there, or Ctrl-C, stops the run.
    """
    if config is not None:
        settings = {**json.loads(pathlib.Path(config).read_text())["configuration"], **settings}
    answer, layers = _slth._run(
        _json(settings), data, out, force, ticket, checkpoint, resume, threads, backend, _callback(progress)
    )
    result = json.loads(answer)
    dense, pruned = result["pretrain"], result["prune"]
    return Run(
        dense_accuracy=dense["test_accuracy"],
        dense_validation_accuracy=dense["validation_accuracy"],
        test_accuracy=pruned["test_accuracy"],
        validation_accuracy=pruned["validation_accuracy"],
        validation_loss=pruned["validation_loss"],
        weights_hash=result["weights_hash"],
        mask_hash=result["mask_hash"],
        layers=[Layer(*layer) for layer in layers],
        result=result,
    )


def sweep(
    out: Path,
    *,
    epsilon: Sequence[float] = (0, 0.01, 0.03, 0.1, 0.3),
    sparsity: Sequence[float] = (0, 0.2, 0.4, 0.6, 0.8),
    seeds: Sequence[int] = (1,),
    shard: str | None = None,
    retry_failed: bool = False,
    data: Path | None = None,
    threads: int | None = None,
    backend: str | None = None,
    progress: Callback | None = None,
    **settings: Any,
) -> Sweep:
    """Runs a grid of epsilon by sparsity by seeds: `slth sweep`.

    Lists ascend. Cells are appended to the store in the directory `out`, and those that it has are not computed again: what was stopped is
    continued by the same call, or by the command. `shard="I/N"` computes part I of N only. The other arguments are those of `run`.
    """
    grid = {"epsilons": _numbers(epsilon), "sparsities": _numbers(sparsity), "seeds": [int(seed) for seed in seeds]}
    answer, known, computed = _slth._sweep(
        _json(settings), json.dumps(grid), out, shard, retry_failed, data, threads, backend, _callback(progress)
    )
    records = json.loads(answer)
    arrays = {
        name: np.array(
            [np.nan if record is None or record.get(name) is None else record[name] for record in records],
            dtype=np.float64,
        )
        # The store's order is by epsilon, then seed, then sparsity.
        .reshape(len(epsilon), len(seeds), len(sparsity))
        .transpose(0, 2, 1)
        for name in ("test_accuracy", "validation_accuracy", "validation_loss")
    }
    return Sweep(
        epsilons=np.array(epsilon, dtype=np.float64),
        sparsities=np.array(sparsity, dtype=np.float64),
        seeds=np.array(seeds, dtype=np.uint64),
        cells=[_cell(record) for record in records if record is not None],
        known=known,
        computed=computed,
        **arrays,
    )


def required_candidates(
    *,
    size: str | float = "any",
    threads: int | None = None,
    backend: str | None = None,
    progress: Callback | None = None,
    **settings: Any,
) -> Candidates:
    """How many random candidates a subset sum needs: `slth candidates`.

    `settings` are called like the command's flags: `eta=[1e-2, 1e-3], ratio=[0, 1], criterion="every", trials=200, seed=1`. `size` is the one
    size of the subsets: "any", a number of candidates, or a fraction of them.
    """
    settings["size"] = [str(size)]
    for name in ("eta", "ratio"):
        if name in settings:
            settings[name] = _numbers(settings[name])
    answer, counts = _slth._required_candidates(_json(settings), threads, backend, _callback(progress))
    result = json.loads(answer)
    etas, ratios = (np.array(result["configuration"][name], dtype=np.float64) for name in ("eta", "ratio"))
    return Candidates(
        etas=etas,
        ratios=ratios,
        counts=np.array(counts, dtype=np.int64).reshape(len(etas), len(ratios), -1),
        result=result,
    )


def _cell(record: dict[str, Any]) -> Cell:
    epsilon = float(record["epsilon"])
    fields = ("test_accuracy", "validation_accuracy", "validation_loss", "weights_hash", "mask_hash", "error")
    outcome = {name: record.get(name) for name in fields}
    return Cell(epsilon=epsilon, sparsity=record["sparsity"], seed=record["seed"], record=record, **outcome)


def _number(value: float) -> float | str:
    """JSON has no infinity; the driver writes it as text."""
    value = float(value)
    return "inf" if value == math.inf else value


def _numbers(values: Sequence[float]) -> list[float | str]:
    return [_number(value) for value in values]


def _json(settings: dict[str, Any]) -> str:
    """NumPy's numbers as Python's, and infinity as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        return "inf" if value == math.inf else value

    return json.dumps({name: plain(value) for name, value in settings.items()})


def _callback(progress: Callback | None) -> Callable[..., None] | None:
    if progress is None:
        return None
    if not callable(progress):
        raise TypeError(f"progress must be callable, found {type(progress).__name__}")

    def call(
        task: str,
        done: int,
        total: int,
        step: tuple[int, int, float, float] | None,
        cells: tuple[int, int],
        message: str,
    ) -> None:
        epoch, epochs, loss, accuracy = step or (None, None, None, None)
        progress(Progress(task, done, total, epoch, epochs, loss, accuracy, *cells, message))

    return call
