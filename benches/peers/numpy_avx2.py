"""Imports NumPy with its AVX-512 code off: on some CPUs its partition is several times slower with it."""

import os

os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V4 AVX512_ICL AVX512_SPR"

import numpy  # noqa: E402

try:
    from numpy._core._multiarray_umath import __cpu_features__ as features
except ImportError:  # NumPy 1
    from numpy.core._multiarray_umath import __cpu_features__ as features

if features.get("X86_V4"):
    raise SystemExit("this NumPy does not let its AVX-512 code be turned off")
