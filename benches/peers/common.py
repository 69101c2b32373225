"""What the scripts share: taking turns, and the JSON lines that `slth bench` reads."""

import argparse
import json
import math
import os
import statistics
import sys
import time

# As in src/bench: seconds, and how much longer than the least one an undisturbed round takes.
SAMPLE = 0.5e-3
SHORT = 20e-3
UNDISTURBED = 0.05


def pin():
    """Pins this process to the last core it may use, as `slth bench` does."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def task(kernel, operation, shape, sparsity=None):
    row = {"kernel": kernel, "operation": operation, "shape": shape}
    if sparsity is not None:
        row["sparsity"] = sparsity
    return row


def digits(seconds):
    """To six of them."""
    return float(f"{seconds:.5e}")


def emit(task, who, unit, work, seconds, threads=1, role="peer", backend=None, within=UNDISTURBED):
    """Prints the measurement made of the times of single runs, of which those within so much of the least one count."""
    times = sorted(seconds)
    undisturbed = [time for at, time in enumerate(times) if time <= (1 + within) * times[0] or at < len(times) // 50]
    quartiles = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    row = task | {"who": who, "role": role, "threads": threads, "unit": unit, "work": work}
    if backend is not None:
        row["backend"] = backend
    row |= {"seconds": digits(statistics.median(undisturbed)), "least": digits(times[0])}
    row |= {"quartiles": [digits(quartiles[0]), digits(quartiles[-1])], "rounds": len(times), "undisturbed": len(undisturbed)}
    print(json.dumps(row), flush=True)


def arguments(description):
    """The command line of a script: which cases, and how long for each."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="", help="cases whose name contains this, as 'forward 512x784x500'")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds that the rounds of a case may take")
    return parser.parse_args()


def name(task):
    """As `slth bench` calls it."""
    shape = "x".join(map(str, task["shape"]))
    sparsity = f" s={task['sparsity']:g}" if "sparsity" in task else ""
    return f"{task['kernel']} {task['operation']} {shape}{sparsity}"


def measure(task, unit, work, contestants, threads=1, budget=2.0):
    """Lets the contestants, functions by name, take turns as `slth bench` does, and prints a line for each: each has the same
    share of the time, so that slow ones take fewer turns."""
    plans = {}
    for who, run in contestants.items():
        run()
        start = time.perf_counter()
        run()
        once = time.perf_counter() - start
        repeats, warm_up = math.ceil(SAMPLE / once), math.ceil(SAMPLE / 4 / once) if once < SHORT else 0
        rounds = int(budget / len(contestants) / (once * (repeats + warm_up)))
        plans[who] = repeats, warm_up, min(51, max(3, rounds))
    samples = {who: [] for who in contestants}
    turns = max(rounds for _, _, rounds in plans.values())
    for turn in range(turns):
        for who, run in contestants.items():
            repeats, warm_up, rounds = plans[who]
            if (turn + 1) * rounds // turns == turn * rounds // turns:
                continue
            for _ in range(warm_up):
                run()
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            samples[who].append((time.perf_counter() - start) / repeats)
    for who, times in samples.items():
        emit(task, who, unit, work, times, threads)


def note(text):
    print(text, file=sys.stderr, flush=True)
