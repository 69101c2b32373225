"""slth.top_k and slth.nearest_subset against their definitions."""

import itertools

import numpy as np
import pytest
import slth


def expected_mask(scores, keep, by="magnitude"):
    """The mask by definition: of equal scores the lower index is removed first."""
    key = np.abs(scores.ravel()) if by == "magnitude" else scores.ravel()
    order = np.lexsort((np.arange(key.size), key))
    mask = np.zeros(key.size, bool)
    mask[order[key.size - keep :]] = True
    return mask.reshape(scores.shape)


@pytest.mark.parametrize("by", ["magnitude", "signed"])
@pytest.mark.parametrize("shape", [(1,), (7, 9), (64, 64), (3, 5, 7, 11), (101, 997)])
def test_keeps_the_largest(rng, shape, by):
    scores = rng.standard_normal(shape, dtype=np.float32)
    for keep in {0, 1, scores.size // 3, scores.size - 1, scores.size}:
        mask = slth.top_k(scores, keep, by=by)
        assert mask.dtype == bool and mask.shape == shape
        assert (mask == expected_mask(scores, keep, by)).all()


def test_ties_go_to_the_higher_index(rng):
    scores = rng.integers(-3, 4, (40, 50)).astype(np.float32)
    for keep in (0, 1, 999, 2000):
        assert (slth.top_k(scores, keep) == expected_mask(scores, keep)).all()


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 64, 65, 1009])
@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.9999, 1])
def test_sparsity_removes_int_s_n(rng, n, sparsity):
    mask = slth.top_k(rng.standard_normal(n, dtype=np.float32), sparsity=sparsity)
    assert n - mask.sum() == int(sparsity * n)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 63, 64, 65, 1009])
def test_packed_bits(rng, n):
    scores = rng.standard_normal(n, dtype=np.float32)
    bits = slth.top_k(scores, n // 2, packed=True)
    assert bits.dtype == np.uint8 and bits.shape == ((n + 7) // 8,)
    assert (bits == np.packbits(slth.top_k(scores, n // 2), bitorder="little")).all()


def test_a_list_is_ranked_together(rng):
    layers = [rng.standard_normal(shape, dtype=np.float32) for shape in ((3, 4), (50,), (0,), (2, 2, 2))]
    flat = np.concatenate([layer.ravel() for layer in layers])
    masks = slth.top_k(layers, sparsity=0.6)
    assert [mask.shape for mask in masks] == [layer.shape for layer in layers]
    expected = expected_mask(flat, flat.size - int(0.6 * flat.size))
    assert (np.concatenate([mask.ravel() for mask in masks]) == expected).all()
    assert slth.top_k([], 0) == []
    assert len(slth.top_k(tuple(layers), 3, packed=True)) == 4


def test_threads_change_no_bit(rng):
    scores = rng.standard_normal(700_001, dtype=np.float32)
    masks = [slth.top_k(scores, 350_000, packed=True, threads=threads) for threads in (1, 2, 7)]
    assert all((mask == masks[0]).all() for mask in masks)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        (dict(keep=11), ValueError, "cannot keep 11 of 10"),
        (dict(keep=-1), ValueError, "cannot keep -1 of 10"),
        (dict(keep=2**70), ValueError, "cannot keep"),
        (dict(keep=0.9), TypeError, r"keep must be a whole number \(for the fraction to remove, pass sparsity=\), found 0.9"),
        (dict(), TypeError, "needs keep or sparsity"),
        (dict(keep=1, sparsity=0.5), TypeError, "not both"),
        (dict(sparsity=1.5), ValueError, r"lie in \[0, 1\]"),
        (dict(sparsity=-0.1), ValueError, r"lie in \[0, 1\]"),
        (dict(sparsity=float("nan")), ValueError, r"lie in \[0, 1\]"),
        (dict(keep=1, by="size"), ValueError, "magnitude"),
        (dict(keep=1, threads=0), ValueError, "at least 1"),
    ],
)
def test_top_k_refuses(arguments, error, text):
    with pytest.raises(error, match=text):
        slth.top_k(np.ones(10, np.float32), **arguments)


def test_nan_is_refused(rng):
    scores = rng.standard_normal(100, dtype=np.float32)
    scores[17] = np.nan
    with pytest.raises(ValueError, match="score 17 .* NaN"):
        slth.top_k(scores, 50)


@pytest.mark.parametrize("epsilon", [0.0, 0.05])
def test_the_nearest_subset(rng, epsilon):
    candidates = rng.uniform(-1, 1, 9).astype(np.float32)
    targets = rng.uniform(-0.5, 0.5, 20).astype(np.float32)
    masks, residuals = slth.nearest_subset(candidates, targets, epsilon=epsilon)
    assert masks.shape == (20, 9) and masks.dtype == bool and residuals.dtype == np.float64
    subsets = np.array(list(itertools.product([False, True], repeat=9)))
    sums = subsets @ candidates.astype(np.float64)
    for mask, residual, target in zip(masks, residuals, targets):
        distance = np.maximum(np.abs(sums - target) - epsilon * subsets.sum(1), 0)
        assert abs(residual - distance.min()) < 1e-6
        own = max(abs(candidates[mask].sum(dtype=np.float64) - target) - epsilon * mask.sum(), 0)
        assert abs(residual - own) < 1e-6


def test_each_target_its_own_candidates(rng):
    candidates = rng.uniform(-1, 1, (30, 12)).astype(np.float32)
    targets = rng.uniform(-0.5, 0.5, 30).astype(np.float32)
    masks, residuals = slth.nearest_subset(candidates, targets)
    for i in range(30):
        mask, residual = slth.nearest_subset(candidates[i], targets[i : i + 1])
        assert (mask[0] == masks[i]).all() and residual[0] == residuals[i]


@pytest.mark.parametrize("target", [0.25, np.float32(0.25), np.float64(0.25), np.array(0.25, np.float32)])
def test_one_target(rng, target):
    candidates = rng.uniform(-1, 1, 12).astype(np.float32)
    masks, residuals = slth.nearest_subset(candidates, np.array([0.25], np.float32))
    mask, residual = slth.nearest_subset(candidates, target)
    assert mask.shape == (12,) and mask.dtype == bool and (mask == masks[0]).all()
    assert type(residual) is float and residual == residuals[0]


@pytest.mark.parametrize("target", [float("nan"), float("inf"), 10**400, 1e300])
def test_one_target_beyond_float32(target):
    with pytest.raises((ValueError, OverflowError)):
        slth.nearest_subset(np.ones(3, np.float32), target)


@pytest.mark.parametrize(
    "candidates, targets, text",
    [
        (np.zeros((3, 4)), np.zeros(2), r"candidates must have shape \[n\] or \[2, n\]"),
        (np.zeros((1, 4)), np.array(0.5), r"candidates must have shape \[n\]"),
        (np.zeros(0), np.zeros(2), "no candidates"),
        (np.zeros(99), np.zeros(2), "at most"),
        (np.zeros(3), np.zeros((2, 2)), "targets must have shape"),
        (np.array([1, np.nan]), np.zeros(2), "not finite"),
        (np.zeros(3), np.array([np.inf]), "not finite"),
    ],
)
def test_nearest_subset_refuses(candidates, targets, text):
    with pytest.raises(ValueError, match=text):
        slth.nearest_subset(candidates.astype(np.float32), targets.astype(np.float32))


def test_info():
    info = slth.info()
    assert info["backend"] in info["backends"] and info["threads"] >= 1 and info["version"] == slth.__version__
    before = slth.get_num_threads()
    try:
        slth.set_num_threads(1)
        assert slth.get_num_threads() == slth.info()["threads"] == 1
        with pytest.raises(ValueError):
            slth.set_num_threads(0)
    finally:
        slth.set_num_threads(before)
