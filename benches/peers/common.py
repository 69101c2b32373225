"""What the scripts share: taking turns, and the JSON lines that `slth bench` reads."""

import argparse
import json
import math
import os
import statistics
import sys
import time

# As in src/bench: seconds, how often a short run is timed in a turn, and how much longer than the least one an undisturbed round takes.
SAMPLE = 0.5e-3
SHORT = 20e-3
SAMPLES = 4
UNDISTURBED = 0.05

# Fewer than there, and longer ones: making the inputs takes most of the time.
PASSES = 3

# The times of all passes, by what is printed with them.
found = {}


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
    """Prints the measurement made of the times of single runs. Those `within` so much of the least one count, or the least
    fiftieth; all where it is None."""
    times = sorted(seconds)
    quartiles = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    row = task | {"who": who, "role": role, "threads": threads, "unit": unit, "work": work}
    if backend is not None:
        row["backend"] = backend
    counting = times
    if within is not None:
        counting = [time for at, time in enumerate(times) if time <= (1 + within) * times[0] or at < len(times) // 50]
    row |= {"seconds": digits(statistics.median(counting)), "least": digits(times[0])}
    row |= {"quartiles": [digits(quartiles[0]), digits(quartiles[-1])], "rounds": len(times)}
    if within is not None:
        row["undisturbed"] = len(counting)
    print(json.dumps(row), flush=True)


def arguments(description):
    """The command line of a script: which cases, and how long for each."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="", help="cases whose name contains this, as 'forward 512x784x500'")
    parser.add_argument("--budget", type=float, default=1.2, help="seconds that the rounds of a case may take in one pass")
    return parser.parse_args()


def name(task):
    """As `slth bench` calls it."""
    shape = "x".join(map(str, task["shape"]))
    sparsity = f" s={task['sparsity']:g}" if "sparsity" in task else ""
    return f"{task['kernel']} {task['operation']} {shape}{sparsity}"


def passes(cases):
    """Goes through all `cases`, which measures them, several times, and prints a line for each contestant."""
    for number in range(PASSES):
        note(f"pass {number + 1} of {PASSES}")
        cases()
    if not found:
        raise SystemExit("no case has such a name: without --case all are measured, and what is printed says what they are called")
    for what, who, unit, work, threads, times in found.values():
        emit(what, who, unit, work, times, threads)


def measure(task, unit, work, contestants, threads=1, budget=1.2):
    """Lets the contestants, functions by name, take turns as `slth bench` does: each has the same share of the time, so that
    slow ones take fewer turns."""
    plans = {}
    for who, run in contestants.items():
        run()
        start = time.perf_counter()
        run()
        once = time.perf_counter() - start
        repeats, warm_up = math.ceil(SAMPLE / once), math.ceil(SAMPLE / 4 / once) if once < SHORT else 0
        samples = SAMPLES if once < SHORT else 1
        turns = int(budget / len(contestants) / (once * (samples * repeats + warm_up)))
        plans[who] = repeats, warm_up, samples, min(50, max(3, turns))
    all_turns = max(turns for *_, turns in plans.values())
    for turn in range(all_turns):
        for who, run in contestants.items():
            repeats, warm_up, samples, turns = plans[who]
            if (turn + 1) * turns // all_turns == turn * turns // all_turns:
                continue
            *_, times = found.setdefault((name(task), who, threads), (task, who, unit, work, threads, []))
            for _ in range(warm_up):
                run()
            for _ in range(samples):
                start = time.perf_counter()
                for _ in range(repeats):
                    run()
                times.append((time.perf_counter() - start) / repeats)


def note(text):
    print(text, file=sys.stderr, flush=True)
