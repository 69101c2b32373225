"""Shared fixtures."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(24)


@pytest.fixture
def layer(rng):
    """Weights [outputs, inputs] and a mask that keeps about a fifth of them."""
    weight = rng.standard_normal((61, 130), dtype=np.float32)
    return weight, rng.random(weight.shape) < 0.2
