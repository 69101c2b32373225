"""What the scripts share: taking turns, and the JSON lines that `slth bench` reads."""

import json
import os
import statistics
import sys
import time


def pin():
    """Pins this process to the last core it may use, as `slth bench` does."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def task(kernel, operation, shape, sparsity=None):
    row = {"kernel": kernel, "operation": operation, "shape": shape}
    if sparsity is not None:
        row["sparsity"] = sparsity
    return row


def emit(task, who, unit, work, seconds, threads=1, role="peer", backend=None):
    """Prints the measurement made of the times of single runs."""
    times = sorted(seconds)
    quartiles = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    row = task | {"who": who, "role": role, "threads": threads, "unit": unit, "work": work}
    if backend is not None:
        row["backend"] = backend
    row |= {"seconds": statistics.median(times), "least": times[0]}
    row |= {"quartiles": [quartiles[0], quartiles[-1]], "rounds": len(times)}
    print(json.dumps(row), flush=True)


def measure(task, unit, work, contestants, threads=1, budget=10.0):
    """Lets the contestants, functions by name, take turns as `slth bench` does, and prints a line for each."""
    repeats = {}
    total = 0.0
    for who, run in contestants.items():
        run()
        start = time.perf_counter()
        run()
        once = time.perf_counter() - start
        repeats[who] = max(1, int(1e-3 / once) + 1)
        total += once * (repeats[who] + 1)
    samples = {who: [] for who in contestants}
    for _ in range(min(51, max(3, int(budget / total)))):
        for who, run in contestants.items():
            run()
            start = time.perf_counter()
            for _ in range(repeats[who]):
                run()
            samples[who].append((time.perf_counter() - start) / repeats[who])
    for who, times in samples.items():
        emit(task, who, unit, work, times, threads)


def note(text):
    print(text, file=sys.stderr, flush=True)
