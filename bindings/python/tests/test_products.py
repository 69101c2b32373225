"""slth.PackedWeights, slth.weight_gradient and slth.Conv2d against float64."""

import copy
import pickle

import numpy as np
import pytest
import slth


def close(found, expected):
    scale = np.abs(expected).max(initial=1)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) < 1e-5 * scale


def conv2d(x, weight, stride, padding):
    """The convolution by definition, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = weight.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), axis=(2, 3))
    return np.einsum("ncyxij,ocij->noyx", windows[:, :, ::stride, ::stride], weight.astype(np.float64))


@pytest.mark.parametrize("max_batch", [1, 8, 128])
@pytest.mark.parametrize("batch", [0, 1, 2, 7, 33, 130])
@pytest.mark.parametrize("mask_reuse", ["many", "once"])
def test_products(rng, layer, batch, max_batch, mask_reuse):
    weight, mask = layer
    bias = rng.standard_normal(61, dtype=np.float32)
    packed = slth.PackedWeights(
        weight, mask, bias=bias, max_batch=max_batch, mask_reuse=mask_reuse, input_gradient=True
    )
    x = rng.standard_normal((batch, 130), dtype=np.float32)
    dense = (weight * mask).astype(np.float64)
    close(packed.forward(x), x @ dense.T + bias)
    close(packed.forward(x, "relu"), np.maximum(x @ dense.T + bias, 0))
    dy = rng.standard_normal((batch, 61), dtype=np.float32)
    close(packed.input_gradient(dy), dy @ dense)
    close(slth.weight_gradient(dy, x), dy.T.astype(np.float64) @ x)
    gradient = slth.weight_gradient(dy, x, mask)
    close(gradient, (dy.T.astype(np.float64) @ x) * mask)
    assert not gradient[~mask].any()


def test_attributes(layer):
    weight, mask = layer
    packed = slth.PackedWeights(weight, mask, bias=np.zeros(61, np.float32), max_batch=16)
    assert packed.kept == mask.sum() and packed.shape == (61, 130) and packed.max_batch == 16
    assert packed.format == "interleaved" and packed.nbytes > 4 * weight.size
    assert (packed.weight() == weight * mask).all() and (packed.mask() == mask).all()
    assert packed.bias.shape == (61,) and "61 x 130" in repr(packed)
    everything = slth.PackedWeights(weight)
    assert everything.format == "dense" and everything.kept == weight.size and everything.bias is None
    assert (everything.weight() == weight).all() and everything.mask().all()


def test_other_masks_and_weights(rng, layer):
    weight, mask = layer
    packed = slth.PackedWeights(weight, mask, input_gradient=True)
    x = rng.standard_normal((5, 130), dtype=np.float32)
    for density in (0, 0.01, 0.5, 1):
        other = rng.random(weight.shape) < density
        packed.set_mask(other)
        close(packed.forward(x), x @ (weight * other).astype(np.float64).T)
    packed.set_mask(np.packbits(mask, bitorder="little"))
    weight = rng.standard_normal(weight.shape, dtype=np.float32)
    packed.set_weight(weight)
    close(packed.forward(x), x @ (weight * mask).astype(np.float64).T)
    close(packed.input_gradient(x[:, :61]), x[:, :61] @ (weight * mask).astype(np.float64))


def test_without_the_removed_weights(rng, layer):
    weight, mask = layer
    x = rng.standard_normal((5, 130), dtype=np.float32)
    whole, packed = (slth.PackedWeights(weight, mask, keep_source=keep) for keep in (True, False))
    assert packed.nbytes < whole.nbytes and len(pickle.dumps(packed)) < len(pickle.dumps(whole)) / 2
    for other in (packed, pickle.loads(pickle.dumps(packed))):
        assert (other.forward(x) == whole.forward(x)).all()
        with pytest.raises(ValueError, match="keep_source=True"):
            other.set_mask(~mask)


def test_copies_and_pickles(rng, layer):
    weight, mask = layer
    packed = slth.PackedWeights(weight, mask, bias=weight[:, 0], input_gradient=True, threads=1)
    x = rng.standard_normal((5, 130), dtype=np.float32)
    y = packed.forward(x)
    others = [copy.copy(packed), copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))]
    packed.set_mask(np.zeros_like(mask))
    for other in others:
        assert (other.forward(x) == y).all() and (other.mask() == mask).all()
        assert other.format == slth.PackedWeights(weight, mask).format
        other.input_gradient(y)


def test_bytes(rng, layer):
    weight, mask = layer
    packed = slth.PackedWeights(weight, mask, bias=weight[:, 0])
    data = packed.to_bytes()
    x = rng.standard_normal((5, 130), dtype=np.float32)
    again = slth.PackedWeights.from_bytes(data, bias=weight[:, 0], threads=1)
    assert (again.forward(x) == packed.forward(x)).all() and again.to_bytes() == data
    assert slth.PackedWeights.from_bytes(data).bias is None
    for wrong in (b"", data[:-1], data + b"0", b"x" + data[1:]):
        with pytest.raises(ValueError, match="malformed bytes"):
            slth.PackedWeights.from_bytes(wrong)


def test_threads_and_layouts_change_no_bit(rng):
    weight = rng.standard_normal((512, 700), dtype=np.float32)
    mask = slth.top_k(weight, sparsity=0.8)
    x = rng.standard_normal((128, 700), dtype=np.float32)
    results = []
    for threads in (1, 2):
        packed = slth.PackedWeights(weight, mask, threads=threads)
        for layout in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
            results.append(packed.forward(layout))
        out = np.zeros((512, 128), np.float32)
        assert packed.forward(x, out=out.T) is not None
        results.append(np.ascontiguousarray(out.T))
    assert all((result.view(np.uint32) == results[0].view(np.uint32)).all() for result in results)


def test_bf16_rounds_once(layer):
    weight, mask = layer
    bits = weight.view(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    x = np.random.default_rng(3).standard_normal((5, 130), np.float32)
    packed = slth.PackedWeights(weight, mask, max_batch=8, storage="bf16")
    expected = slth.PackedWeights(rounded, mask, max_batch=8).forward(x)
    for layer in [packed, pickle.loads(pickle.dumps(packed)), copy.deepcopy(packed)]:
        assert (layer.forward(x).view(np.uint32) == expected.view(np.uint32)).all()


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        (dict(mask=np.ones((61, 129), bool)), ValueError, r"mask must have shape \[61, 130\]"),
        (dict(mask=np.ones(61 * 130, bool)), ValueError, "mask must have shape"),
        (dict(mask=np.ones(991, np.uint8)), ValueError, r"mask must have shape \[992\]"),
        (dict(mask=np.ones((61, 130), np.float32)), TypeError, "mask must be bool"),
        (dict(bias=np.zeros(60, np.float32)), ValueError, r"bias must have shape \[61\]"),
        (dict(bias=np.zeros(61)), TypeError, "bias must be float32"),
        (dict(bias=np.full(61, np.nan, np.float32)), ValueError, "bias is NaN at index 0"),
        (dict(max_batch=-1), ValueError, "max_batch must be at least 1, found -1"),
        (dict(max_batch=2.5), TypeError, "max_batch must be a whole number, found 2.5"),
        (dict(max_batch=2**70), ValueError, "max_batch is too large"),
        (dict(threads="2"), TypeError, "threads must be a whole number, found '2'"),
        (dict(mask_reuse="never"), ValueError, "mask_reuse"),
        (dict(storage="f16"), ValueError, "storage"),
        (dict(threads=-3), ValueError, "threads"),
    ],
)
def test_prepare_refuses(layer, arguments, error, text):
    with pytest.raises(error, match=text):
        slth.PackedWeights(layer[0], **arguments)


def test_products_refuse(layer):
    weight, mask = layer
    packed = slth.PackedWeights(weight, mask)
    x = np.zeros((4, 130), np.float32)
    for call, error, text in [
        (lambda: packed.forward(x.T), ValueError, r"x must have shape \[batch, 130\], found \[130, 4\]"),
        (lambda: packed.forward(x[0]), ValueError, "x must have shape"),
        (lambda: packed.forward(x, "gelu"), ValueError, "activation"),
        (lambda: packed.forward(x, np.tanh), TypeError, "activation must be None or \"relu\", found"),
        (lambda: packed.forward(x, out=np.zeros((4, 60), np.float32)), ValueError, r"out must have shape \[4, 61\]"),
        (lambda: packed.forward(x, out=np.zeros((4, 61))), TypeError, "out must be float32"),
        (lambda: packed.forward(x, out=[0.0]), TypeError, "out must be a numpy.ndarray"),
        (lambda: packed.input_gradient(x[:, :61]), ValueError, "prepare with input_gradient=True"),
        (lambda: packed.set_weight(weight.T), ValueError, "weight must have shape"),
        (lambda: slth.weight_gradient(x, x[:3]), ValueError, r"x must have shape \[4, inputs\]"),
    ]:
        with pytest.raises(error, match=text):
            call()
    weight[3, 5] = np.nan
    with pytest.raises(ValueError, match="weight is NaN at index 395"):
        packed.set_weight(weight)
    with pytest.raises(ValueError, match="weight is NaN at index 395"):
        slth.PackedWeights(np.asfortranarray(weight))


@pytest.mark.parametrize("stride, padding", [(1, 0), (1, 2), (2, 1), (3, 3)])
@pytest.mark.parametrize("batch", [0, 1, 3, 17])
def test_convolutions(rng, batch, stride, padding):
    weight = rng.standard_normal((6, 3, 5, 3), dtype=np.float32)
    mask = rng.random(weight.shape) < 0.4
    bias = rng.standard_normal(6, dtype=np.float32)
    conv = slth.Conv2d(
        weight, mask, image=(11, 9), stride=stride, padding=padding, bias=bias, input_gradient=True, max_batch=3
    )
    x = rng.standard_normal((batch, 3, 11, 9), dtype=np.float32)
    expected = conv2d(x, weight * mask, stride, padding) + bias[:, None, None]
    close(conv.forward(x), expected)
    close(conv.forward(x, "relu"), np.maximum(expected, 0))
    # Both are gradients of the sum of y · dy, which is linear in x and in the weights.
    dy = rng.standard_normal(expected.shape, dtype=np.float32)
    dx, dw = conv.input_gradient(dy), conv.weight_gradient(dy, x)
    other = rng.standard_normal(x.shape, dtype=np.float32)
    change = (conv2d(other, weight * mask, stride, padding) * dy).sum()
    assert dx.shape == x.shape and abs((dx * other).sum() - change) < 1e-3 * max(abs(change), 10)
    other = rng.standard_normal(weight.shape, dtype=np.float32)
    change = (conv2d(x, other, stride, padding) * dy).sum()
    assert dw.shape == weight.shape and abs((dw * other).sum() - change) < 1e-3 * max(abs(change), 10)


def test_convolutions_change_copy_and_pickle(rng):
    weight = rng.standard_normal((6, 3, 5, 5), dtype=np.float32)
    mask = slth.top_k(weight, sparsity=0.5)
    conv = slth.Conv2d(weight, mask, image=(14, 14), bias=weight[:, 0, 0, 0], input_gradient=True)
    assert conv.kept == 225 and conv.shape == weight.shape and conv.image == (14, 14) and conv.nbytes > 0
    assert (conv.weight() == weight * mask).all() and (conv.mask() == mask).all() and conv.format == "taps"
    x = rng.standard_normal((2, 3, 14, 14), dtype=np.float32)
    y = conv.forward(x)
    for other in (copy.copy(conv), copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert (other.forward(x) == y).all() and other.input_gradient(y).shape == x.shape
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert (conv.forward(channels_last) == y).all()
    conv.set_mask(np.ones_like(mask))
    conv.set_weight(2 * weight)
    close(conv.forward(x), conv2d(x, 2 * weight, 1, 0) + weight[:, 0, 0, 0, None, None])


def test_convolutions_refuse(rng):
    weight = rng.standard_normal((6, 3, 5, 5), dtype=np.float32)
    for call, error, text in [
        (lambda: slth.Conv2d(weight[0], image=(9, 9)), ValueError, "weight must have shape"),
        (lambda: slth.Conv2d(weight, image=(4, 9)), ValueError, "does not fit"),
        (lambda: slth.Conv2d(weight, image=(9, 9), stride=0), ValueError, "stride must be at least 1"),
        (lambda: slth.Conv2d(weight, image=(9, 9), padding=2**62), ValueError, None),
        (lambda: slth.Conv2d(weight, image=(-1, 9)), ValueError, "image must be at least 0, found -1"),
        (lambda: slth.Conv2d(weight, image=(9, 9), padding=-1), ValueError, "padding must be at least 0, found -1"),
        (lambda: slth.Conv2d(weight, image=9), TypeError, r"image must be \(rows, columns\), found 9"),
        (lambda: slth.Conv2d(weight, image=(9, 9), stride=(1, 1)), TypeError, "stride must be one whole number"),
        (lambda: slth.Conv2d(weight, image=(9, 9), padding="same"), TypeError, "padding must be one whole number"),
        (lambda: slth.top_k(weight, sparsity="0.9"), TypeError, "sparsity must be a number, found '0.9'"),
        (lambda: slth.Conv2d(weight, image=(9, 9)).forward(np.zeros((1, 3, 9, 8), np.float32)), ValueError, "x must"),
        (lambda: slth.Conv2d(weight * np.nan, image=(9, 9)), ValueError, "NaN"),
    ]:
        with pytest.raises(error, match=text):
            call()
