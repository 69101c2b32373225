"""What the benchmarks share: MNIST of this repository, and measuring in turns."""

from __future__ import annotations

import gzip
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import slth

MNIST = Path(__file__).resolve().parents[3] / "data" / "mnist"


def one_thread() -> None:
    """One thread for all, on the core this process is on where the system can pin it."""
    slth.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def in_turns(
    contestants: dict[str, Callable[[], object]], seconds: float, calls: int = 1, skip: int = 0
) -> dict[str, float]:
    """The median seconds of a call of each: rounds in which each is called so many times, in the same order, after a round that is not
    counted. The first `skip` calls of each turn are not counted: they pay for memory that the others have given back to the system."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
        for name, call in contestants.items():
            for index in range(calls):
                begin = time.perf_counter()
                call()
                if index >= skip:
                    times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, normalised, [n, 1, 28, 28], and labels of "train" or "t10k"."""

    def read(kind: str, header: int) -> np.ndarray:
        (file,) = MNIST.rglob(f"{part}-{kind}-ubyte.gz")
        return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=header)

    pixels = read("images-idx3", 16).reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255)
    return (pixels - np.float32(0.1307)) / np.float32(0.3081), read("labels-idx1", 8).astype(np.int64)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns under each other, all but the first to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: list[str]) -> str:
        first, *others = (cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        return "  ".join([first, *others])

    return "\n".join(map(line, [header, *rows]))
