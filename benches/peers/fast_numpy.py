"""Imports NumPy with or without its AVX-512 code, whichever selects faster on this CPU.

On some CPUs NumPy's AVX-512 partition is several times slower than its AVX2 one. Import this before anything that imports NumPy.
`isa` is the instruction set chosen.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

missing = [package for package in ("numpy", "torch") if importlib.util.find_spec(package) is None]
if missing:
    requirements = pathlib.Path(__file__).with_name("requirements.txt")
    sys.exit(f"{sys.executable} has no {' and no '.join(missing)}: {sys.executable} -m pip install -r {requirements}")

# OpenBLAS detects the CPU itself; a value in the environment may be for another CPU.
os.environ.pop("OPENBLAS_CORETYPE", None)

DISABLE = "NPY_DISABLE_CPU_FEATURES"
WAYS = {"avx512": "", "avx2": "X86_V4 AVX512_SKX AVX512_ICL AVX512_SPR"}
TRIAL = """
import time, warnings
warnings.simplefilter("ignore")
import numpy
scores = numpy.abs(numpy.random.default_rng(1).standard_normal(392_000, dtype=numpy.float32))
times = []
for _ in range(30):
    start = time.perf_counter()
    numpy.partition(scores, scores.size // 2)
    times.append(time.perf_counter() - start)
print(min(times))
"""


def seconds(disabled):
    command = [sys.executable, "-c", TRIAL]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {DISABLE: disabled}).stdout)


isa = min(WAYS, key=lambda way: seconds(WAYS[way]))
if WAYS[isa]:
    os.environ[DISABLE] = WAYS[isa]

import warnings  # noqa: E402

with warnings.catch_warnings():
    # NumPy warns about disabled features that this CPU does not have.
    warnings.simplefilter("ignore")
    import numpy  # noqa: E402, F401
