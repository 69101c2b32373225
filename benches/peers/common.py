"""Shared by the scripts: interleaved sampling, and the JSON lines that `slth-bench --python` reads."""

import argparse
import json
import math
import os
import re
import statistics
import sys
import time

# In seconds; the same values as in slth-bench.
SAMPLE = 0.5e-3
SHORT = 20e-3

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


def use(threads):
    """Restricts this process to the last `threads` cores; slth-bench too runs one thread on the last core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES[-threads:])


def one_and_all(given):
    """The numbers of threads to measure."""
    threads = min(given.threads or len(CORES), len(CORES))
    return [1, threads] if threads > 1 else [1]


def peer(name, version, isa, features=""):
    """Prints a library's version, enabled features and instruction set."""
    print(json.dumps({"peer": name, "version": version, "features": features, "isa": isa}), flush=True)


def peer_torch(torch):
    """As `peer`, for PyTorch; its features are the libraries that it uses."""
    behind = [name for name in ("mkl", "mkldnn", "openmp") if getattr(torch.backends, name).is_available()]
    peer("torch", torch.__version__, torch.backends.cpu.get_cpu_capability().lower(), ", ".join(behind))


def matmul(operation, batch, inputs, outputs, sparsity):
    return {"kernel": "masked-matmul", "operation": operation, "batch": batch, "inputs": inputs, "outputs": outputs, "sparsity": sparsity}


def name(task):
    """The name of the task in `slth-bench`."""
    kept = f" s={task['sparsity']:g}" if "sparsity" in task else ""
    if task["kernel"] == "masked-matmul":
        return f"masked-matmul {task['operation']} {task['batch']}x{task['inputs']}x{task['outputs']}{kept}"
    if task["kernel"] == "conv2d":
        padding = f"p{task['padding']}" if task["padding"] else ""
        image = f"{task['batch']}x{task['channels']}x{task['height']}x{task['width']}"
        return f"conv2d {task['operation']} {task['outputs']}@{task['window']}x{task['window']}{padding} {image}{kept}"
    if task["kernel"] == "top-k":
        return f"top-k selection from {task['scores']} {task['count']}{kept}"
    return f"pipeline {task['operation']} {task['network']}{kept}"


def digits(number):
    """Rounds to six significant digits."""
    return float(f"{number:.5e}")


def emit(task, contestant, variant, unit, work, seconds, threads=1):
    """Prints the row for these times of single runs."""
    times = sorted(seconds)
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    row = task | {"contestant": contestant, "variant": variant, "role": "peer", "threads": threads, "unit": unit, "work": work}
    row |= {"min": digits(times[0]), "median": digits(median), "spread": digits((upper - lower) / 2 / median), "samples": len(times)}
    print(json.dumps(row), flush=True)


def arguments(description):
    """Parses the command line of a script: which cases to measure, and for how long."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="", help="kernels to measure, separated by commas (default: all)")
    parser.add_argument("--case", action="append", default=[], help="measure cases whose name contains this, for example"
                        " 'forward 512x784x500'; may be given several times")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per case")
    parser.add_argument("--rounds", type=int, help="samples of each contestant (default: as many as the time allows)")
    parser.add_argument("--threads", type=int, help="threads of contestants that can use several (default: all cores)")
    return parser.parse_args()


def wanted(given, task):
    """Whether the command line asks for a task. A text that ends with a sparsity ends the name too: s=0.9 is not s=0.95."""
    def named(text):
        return name(task).endswith(text) if re.search(r"s=[0-9.]+$", text) else text in name(task)

    return task["kernel"] in (given.kernel or task["kernel"]).split(",") and any(map(named, given.case or [""]))


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(task, unit, work, contestants, threads, seconds, rounds):
    """Measures the contestants, functions by (library, variant), in interleaved rounds, and prints a row for each. All have the same
    share of the time, so slow ones take part in fewer rounds."""
    plans, times = {}, {who: [] for who in contestants}
    for who, run in contestants.items():
        run()
        once = min(timed(run) for _ in range(2))
        repeats, warm_up = math.ceil(SAMPLE / once), math.ceil(SAMPLE / 4 / once) if once < SHORT else 0
        fit = int(seconds / len(contestants) / (once * (repeats + warm_up)))
        plans[who] = repeats, warm_up, rounds or min(200, max(3, fit))
    rounds = max(own for *_, own in plans.values())
    for number in range(rounds):
        for who, run in contestants.items():
            repeats, warm_up, own = plans[who]
            if (number + 1) * own // rounds == number * own // rounds:
                continue
            for _ in range(warm_up):
                run()
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            times[who].append((time.perf_counter() - start) / repeats)
    for who, found in times.items():
        emit(task, *who, unit, work, found, threads)


def note(text):
    print(text, file=sys.stderr, flush=True)
