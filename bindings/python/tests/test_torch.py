"""slth.torch against dense PyTorch."""

import copy
import pathlib
import pickle
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import prune as torch_prune  # noqa: E402

import slth  # noqa: E402
import slth.torch  # noqa: E402
from slth.torch import EdgePopupConv2d, EdgePopupLinear, MaskedConv2d, MaskedLinear  # noqa: E402


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(24)
    torch.compiler.reset()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


class Straight(torch.autograd.Function):
    """The mask of the `keep` largest magnitudes, with a straight-through gradient."""

    @staticmethod
    def forward(ctx, magnitudes, keep):
        return torch.from_numpy(slth.top_k(magnitudes.numpy(), keep)).to(magnitudes.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def plain_edge_popup(layer, x, scores):
    """Edge-popup by definition, in plain PyTorch."""
    weight = layer.weight * Straight.apply(scores.abs(), layer.keep)
    if isinstance(layer, EdgePopupLinear):
        return F.linear(x, weight)
    y = F.conv2d(x, weight, stride=layer.stride, padding=layer.padding)
    y = y.relu() if layer.activation else y
    return F.max_pool2d(y, layer.max_pool)


def layers():
    return [
        (EdgePopupLinear(70, 33, 0.7), (9, 70)),
        (EdgePopupLinear(70, 33, 0), (2, 3, 70)),
        (EdgePopupConv2d(3, 6, 5, 0.5, padding=2), (4, 3, 12, 11)),
        (EdgePopupConv2d(3, 6, (3, 2), 0.8, stride=2), (1, 3, 12, 11)),
        (EdgePopupConv2d(3, 6, 5, 0.5, padding=2, activation="relu", max_pool=2), (4, 3, 12, 11)),
        (EdgePopupConv2d(3, 6, 3, 0.3, max_pool=3), (2, 3, 13, 12)),
        (EdgePopupConv2d(3, 6, 3, 0.3, activation="relu"), (33, 3, 7, 9)),
    ]


def masked_layers(**options):
    weight, bias = torch.randn(33, 70), torch.randn(33)
    weight[torch.rand_like(weight) < 0.8] = 0
    filters, planes = torch.randn(6, 3, 5, 5), torch.randn(6)
    filters[torch.rand_like(filters) < 0.8] = 0
    dense = [nn.Linear(70, 33), nn.Conv2d(3, 6, 5, stride=2, padding=1)]
    dense[0].load_state_dict({"weight": weight, "bias": bias})
    dense[1].load_state_dict({"weight": filters, "bias": planes})
    return [
        (MaskedLinear(weight, bias=bias, **options), dense[0], torch.randn(9, 70)),
        (MaskedConv2d(filters, bias=planes, stride=2, padding=1, **options), dense[1], torch.randn(4, 3, 12, 11)),
    ]


@pytest.mark.parametrize("index", range(7))
def test_edge_popup(index):
    layer, shape = layers()[index]
    x = torch.randn(shape, requires_grad=True)
    other, scores = x.detach().clone().requires_grad_(), layer.scores.detach().clone().requires_grad_()
    y, expected = layer(x), plain_edge_popup(layer, other, scores)
    close(y, expected)
    dy = torch.randn_like(y)
    y.backward(dy)
    expected.backward(dy)
    close(x.grad, other.grad)
    close(layer.scores.grad, scores.grad)
    n = layer.weight.numel()
    assert layer.mask().sum() == layer.keep == n - int(layer.sparsity * n)
    assert layer.weight.grad is None and list(dict(layer.named_parameters())) == ["scores"]


@pytest.mark.parametrize("index", range(7))
def test_edge_popup_trains_as_plain_torch(index):
    layer, shape = layers()[index]
    scores = layer.scores.detach().clone().requires_grad_()
    optimisers = [torch.optim.SGD([s], lr=0.1, momentum=0.9) for s in (layer.scores, scores)]
    for step in range(5):
        x = torch.randn(shape[:0] + (shape[0] + step % 2,) + shape[1:])
        losses = [layer(x).square().mean(), plain_edge_popup(layer, x, scores).square().mean()]
        for optimiser, loss in zip(optimisers, losses):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        close(losses[0], losses[1])
    close(layer.scores, scores)


@pytest.mark.parametrize("index", range(7))
def test_gradients_of_any_strides(index):
    layer, shape = layers()[index]
    x = torch.randn(shape, requires_grad=True)
    y = layer(x)
    expanded = torch.autograd.grad(y.sum(), (x, layer.scores), retain_graph=True)
    ones = torch.autograd.grad(y, (x, layer.scores), torch.ones_like(y).contiguous(), retain_graph=True)
    for a, b in zip(expanded, ones):
        assert torch.equal(a, b)
    dy = torch.randn(y.shape)
    transposed = dy.transpose(0, -1).contiguous().transpose(0, -1)
    assert transposed.shape == dy.shape
    for a, b in zip(
        torch.autograd.grad(y, (x, layer.scores), dy, retain_graph=True),
        torch.autograd.grad(y, (x, layer.scores), transposed),
    ):
        assert torch.equal(a, b)
    strided = torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]
    assert torch.equal(layer(strided), layer(strided.contiguous()))


def test_a_step_between_forward_and_backward_uses_its_own_mask():
    layer = EdgePopupLinear(70, 33)
    x = torch.randn(9, 70, requires_grad=True)
    y = layer(x)
    (expected,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    # Another forward pass with other scores replaces the mask in the cache.
    kept = layer.scores.detach().clone()
    layer.scores.data = torch.rand_like(kept)
    layer(torch.randn(9, 70))
    layer.scores.data = kept
    (found,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(found, expected)


def test_convolutions_follow_each_other_with_the_batch_innermost():
    first, second = EdgePopupConv2d(1, 6, 5, padding=2, activation="relu", max_pool=2), EdgePopupConv2d(6, 16, 5)
    x = torch.randn(5, 1, 28, 28)
    y = first(x)
    assert y.stride()[0] == 1 and y.shape == (5, 6, 14, 14)
    gradients = []
    for between in (y, y.detach().contiguous().requires_grad_()):
        z = second(between)
        gradients.append(torch.autograd.grad(z.square().sum(), (between, second.scores)))
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


def test_a_pool_breaks_ties_as_pytorch():
    layer = EdgePopupConv2d(1, 1, 1, 0, max_pool=2)
    with torch.no_grad():
        layer.weight.fill_(1)
    x = torch.ones(3, 1, 4, 4, requires_grad=True)
    other = torch.ones(3, 1, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    F.max_pool2d(other, 2).sum().backward()
    assert torch.equal(x.grad, other.grad)
    for arguments in (dict(max_pool=0), dict(max_pool=16), dict(activation="gelu")):
        with pytest.raises(ValueError):
            EdgePopupConv2d(1, 1, 1, **arguments)


def test_changed_weights_are_seen():
    for layer, shape in layers():
        x = torch.randn(shape)
        layer(x)
        with torch.no_grad():
            layer.weight.mul_(2)
        close(layer(x), plain_edge_popup(layer, x, layer.scores.detach()))
        layer.weight = torch.randn_like(layer.weight)
        close(layer(x), plain_edge_popup(layer, x, layer.scores.detach()))
        layer.load_state_dict({name: tensor * 3 for name, tensor in layer.state_dict().items()})
        close(layer(x), plain_edge_popup(layer, x, layer.scores.detach()))
        with torch.inference_mode():
            layer.weight = torch.randn(layer.weight.shape)
            layer(x)
            layer.weight.mul_(2)
            close(layer(x), plain_edge_popup(layer, x, layer.scores.detach()))


@pytest.mark.parametrize("index", range(2))
def test_masked_layers(index):
    layer, dense, x = masked_layers()[index]
    with torch.inference_mode():
        close(layer(x), dense(x))
        if index == 0:
            assert layer(x[0]).shape == (33,)
            close(layer(x.reshape(3, 3, 70)), dense(x.reshape(3, 3, 70)))
            close(layer(x[:0]), dense(x[:0]))
        else:
            close(layer(x[0]), dense(x[0]))
            for size in range(5, 20):
                close(layer(x[:, :, :size, :6]), dense(x[:, :, :size, :6]))
            close(layer(x.to(memory_format=torch.channels_last)), dense(x))
    layer.activation = "relu"
    close(layer(x), dense(x).relu())
    assert torch.equal(layer.weight, dense.weight) and torch.equal(layer.bias, dense.bias)
    assert torch.equal(layer.mask, dense.weight != 0) and not list(layer.parameters())
    assert "sparsity=0." in repr(layer)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("index", range(2))
def test_gradients_through_masked_layers(index, activation):
    layer, dense, x = masked_layers(input_gradient=True, activation=activation)[index]
    x.requires_grad_()
    other = x.detach().clone().requires_grad_()
    y, expected = layer(x), dense(other)
    expected = expected.relu() if activation else expected
    y.sum().backward()
    expected.sum().backward()
    close(x.grad, other.grad)


@pytest.mark.parametrize("index", range(9))
def test_compiled_without_a_break(index):
    layer, x = [
        *((layer, torch.randn(shape)) for layer, shape in layers()),
        *((layer, x) for layer, _, x in masked_layers()),
    ][index]
    with torch.no_grad():
        expected = layer(x)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), expected)
        assert torch.equal(compiled(torch.cat([x, x]))[: len(x)], expected)
    if index < 7:
        x.requires_grad_()
        expected = torch.autograd.grad(layer(x).square().sum(), (x, layer.scores))
        found = torch.autograd.grad(compiled(x).square().sum(), (x, layer.scores))
        assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_gradients_through_compiled_masked_layers():
    for layer, dense, x in masked_layers(input_gradient=True, activation="relu"):
        x.requires_grad_()
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        (found,) = torch.autograd.grad(compiled(x).sum(), x)
        (expected,) = torch.autograd.grad(dense(x).relu().sum(), x)
        close(found, expected)


def test_compiled_by_inductor():
    model = nn.Sequential(EdgePopupLinear(20, 30), nn.ReLU(), EdgePopupLinear(30, 5))
    x = torch.randn(4, 20)
    try:
        compiled = torch.compile(model, fullgraph=True)(x)
    except Exception as error:  # no C++ compiler
        pytest.skip(f"inductor: {type(error).__name__}")
    close(compiled, model(x))


def test_operators_by_pytorch_itself():
    """PyTorch's opcheck tests schemas, fake kernels, autograd registration and compilation."""
    layer, conv = EdgePopupLinear(20, 30), EdgePopupConv2d(3, 6, 5)
    x, images = torch.randn(4, 20, requires_grad=True), torch.randn(2, 3, 9, 9, requires_grad=True)
    masked, filters = (layer for layer, _, _ in masked_layers(input_gradient=True))
    ops = torch.ops.slth
    for op, arguments in [
        (ops.edge_popup_linear, (x, layer.weight, layer.scores, 7, layer._cache.number)),
        (ops.edge_popup_conv2d, (images, conv.weight, conv.scores, 7, conv._cache.number, 1, 0, 2, True)),
        (ops.masked_linear, (torch.randn(4, 70), masked._handle.number, 33, True)),
        (ops.masked_linear_with_gradient, (torch.randn(4, 70, requires_grad=True), masked._handle.number, 33, True)),
        (ops.masked_conv2d, (torch.randn(2, 3, 9, 9), filters._handle.number, 6, [5, 5], 2, 1, False)),
        (
            ops.masked_conv2d_with_gradient,
            (torch.randn(2, 3, 9, 9, requires_grad=True), filters._handle.number, 6, [5, 5], 2, 1, False),
        ),
    ]:
        torch.library.opcheck(op.default, arguments)


def every_layer():
    return [*((layer, torch.randn(shape)) for layer, shape in layers()), *((m, x) for m, _, x in masked_layers())]


@pytest.mark.parametrize("index", range(9))
def test_copies_pickles_and_states(index, tmp_path):
    layer, x = every_layer()[index]
    with torch.no_grad():
        y = layer(x)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(other(x), y)
        torch.save(layer, tmp_path / "layer.pt")
        assert torch.equal(torch.load(tmp_path / "layer.pt", weights_only=False)(x), y)
        torch.save(layer.state_dict(), tmp_path / "state.pt")
        other, _ = every_layer()[index]
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert not torch.equal(other(x), y)
        other.load_state_dict(state)
        assert torch.equal(other(x), y)
    # Changing a copy does not change the original.
    other.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in state.items()})
    assert torch.equal(layer(x), y)


def test_states_of_dense_layers():
    for layer, dense, x in masked_layers():
        state = {name: 2 * tensor for name, tensor in dense.state_dict().items()}
        layer.load_state_dict(state)
        close(layer(x), 2 * dense(x))
        with pytest.raises(RuntimeError, match="weight must have shape"):
            layer.load_state_dict({"weight": torch.zeros(1, 2), "bias": state["bias"]})
        with pytest.raises(RuntimeError, match="Missing key.*weight"):
            layer.load_state_dict({"bias": state["bias"]})
        with pytest.raises(RuntimeError, match="Unexpected key.*other"):
            layer.load_state_dict({**state, "other": state["bias"]})
        sequential = nn.Sequential(layer)
        sequential.load_state_dict({f"0.{name}": tensor for name, tensor in state.items()})


@pytest.mark.parametrize("stride, kernel, text", [(0, 3, "stride must be at least 1"), (1, 9, "does not fit into images of 8")])
def test_convolutions_without_output_are_refused(stride, kernel, text):
    with pytest.raises(ValueError, match=text):
        slth.torch.EdgePopupConv2d(3, 4, kernel, sparsity=0.5, stride=stride)(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_are_refused(dtype):
    for layer, x in every_layer():
        with pytest.raises(TypeError, match=f"x must be a float32 tensor on the CPU, found {dtype}"):
            layer(x.to(dtype))
        with pytest.raises(TypeError, match="x must be a torch.Tensor, found numpy.ndarray"):
            layer(x.detach().numpy())
    for layer, shape in layers():
        with pytest.raises(TypeError, match="must be a float32 tensor"):
            layer.to(dtype)(torch.randn(shape))
    with pytest.raises(TypeError, match="weight must be a float32 tensor"):
        MaskedLinear(torch.randn(3, 4, dtype=dtype))
    with pytest.raises(TypeError, match="must be a float32 tensor"):
        slth.torch.prune(nn.Linear(3, 4, dtype=dtype), 0.5)


def test_other_devices_are_refused():
    for layer, x in every_layer():
        with pytest.raises(TypeError, match="found torch.float32 on meta"):
            layer(x.to("meta"))


def test_other_shapes_are_refused():
    for layer, x in every_layer():
        for wrong in (torch.randn(3, 4), torch.randn(2, 5, 9, 9), torch.tensor(1.0)):
            with pytest.raises(ValueError, match="x "):
                layer(wrong)
    with pytest.raises(ValueError, match=r"x must have shape \[9, 70\], found \[9, 69\]"):
        masked_layers()[0][0](torch.randn(9, 69))
    with pytest.raises(ValueError, match="mask must have shape"):
        MaskedLinear(torch.randn(3, 4), torch.ones(4, 3))
    with pytest.raises(TypeError, match="mask must be a torch.Tensor, found ndarray"):
        MaskedLinear(torch.randn(3, 4), np.ones((3, 4), bool))
    with pytest.raises(ValueError, match="activation"):
        MaskedLinear(torch.randn(3, 4), activation="gelu")


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: EdgePopupLinear(3, 4, 1.5), ValueError, r"sparsity must lie in \[0, 1\], found 1.5"),
        (lambda: EdgePopupLinear(3, 4, "0.5"), TypeError, "sparsity must be a number, found '0.5'"),
        (lambda: EdgePopupLinear(3.5, 4), TypeError, "in_features must be a whole number, found 3.5"),
        (lambda: EdgePopupConv2d(3, 4, 3, stride=0), ValueError, "stride must be at least 1, found 0"),
        (lambda: EdgePopupConv2d(3, 4, 3, padding=-1), ValueError, "padding must be at least 0, found -1"),
        (lambda: EdgePopupConv2d(3, 4, 3, max_pool=2.5), TypeError, "max_pool must be a whole number"),
        (lambda: MaskedConv2d(torch.randn(4, 3, 3, 3), stride=(2, 2)), TypeError, r"stride must be a whole number, found \(2, 2\)"),
        (lambda: MaskedLinear(torch.randn(4, 3), max_batch=2.5), TypeError, "max_batch must be a whole number, found 2.5"),
        (lambda: MaskedLinear(torch.randn(4, 3), max_batch=-1), ValueError, "max_batch must be at least 1, found -1"),
        (lambda: MaskedLinear(torch.randn(4, 3, 3)), ValueError, "weight must have two axes"),
        (lambda: MaskedLinear(torch.randn(4, 3), bias=True), TypeError, "bias must be a torch.Tensor, found builtins.bool"),
        (lambda: slth.torch.prune(nn.Linear(4, 4), "0.5"), TypeError, "sparsity must be a number, found '0.5'"),
        (lambda: slth.torch.prune(None, 0.5), TypeError, "model must be a torch.nn.Module, found NoneType"),
        (lambda: slth.torch.accelerate({}), TypeError, "model must be a torch.nn.Module, found dict"),
        (lambda: slth.torch.accelerate(nn.ReLU(), 0), ValueError, "max_batch must be at least 1, found 0"),
        (lambda: slth.torch.prune(nn.ReLU(), 0.5), ValueError, "the model has no Linear or Conv2d layer"),
    ],
)
def test_wrong_arguments_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_everything_removed():
    layer = EdgePopupLinear(30, 20, 1)
    x = torch.randn(4, 30, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert layer.keep == 0 and not y.any() and not x.grad.any() and layer.scores.grad.any()
    linear = nn.Linear(30, 20, bias=False)
    slth.torch.prune(linear, 1)
    assert not linear(x).any()


def test_a_gradient_that_was_not_asked_for():
    layer, _, x = masked_layers()[0]
    with pytest.raises(RuntimeError, match="input_gradient=True"):
        layer(x.requires_grad_())


def model():
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 64, 300),
        nn.ReLU(),
        nn.Linear(300, 10),
    )


def test_prune_by_layer():
    net = model()
    before = copy.deepcopy(net)
    masks = slth.torch.prune(net, 0.7)
    assert list(masks) == ["0", "4", "6"]
    for name, mask in masks.items():
        weight, pruned = before.get_submodule(name).weight.detach(), net.get_submodule(name)
        assert (~mask).sum() == int(0.7 * weight.numel()) and mask.dtype == torch.bool
        assert torch.equal(pruned.weight, weight * mask) and torch.equal(pruned.weight_orig, weight)
        assert torch.equal(pruned.weight_mask, mask.to(weight.dtype))
        assert weight[mask].abs().min() >= weight[~mask].abs().max()
    # Training continues, and removed weights stay removed.
    net(torch.randn(2, 1, 16, 16)).square().mean().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    net(torch.randn(2, 1, 16, 16))
    assert all(((net.get_submodule(name).weight == 0) | mask).all() for name, mask in masks.items())


def test_prune_globally_and_again():
    net = model()
    n = sum(layer.weight.numel() for layer in net if hasattr(layer, "weight"))
    first = slth.torch.prune(net, 0.5, scope="global")
    assert sum((~mask).sum() for mask in first.values()) == int(0.5 * n)
    second = slth.torch.prune(net, 0.8, scope="global")
    assert sum((~mask).sum() for mask in second.values()) == int(0.8 * n)
    assert all((second[name] <= first[name]).all() for name in first)
    third = slth.torch.prune(net, 0.1)
    assert all(torch.equal(third[name], second[name]) for name in third)


def test_prune_on_top_of_pytorch():
    layer = nn.Linear(40, 50)
    torch_prune.random_unstructured(layer, "weight", 0.3)
    removed = layer.weight_mask == 0
    masks = slth.torch.prune(layer, 0.6)
    assert (~masks[""]).sum() == 1200 and not masks[""][removed].any()
    torch_prune.remove(layer, "weight")
    assert (layer.weight == 0).sum() == 1200


def test_prune_layers_that_share_a_weight():
    a, b, c = (nn.Linear(40, 40) for _ in range(3))
    b.weight = a.weight
    net = nn.Sequential(a, b, c)
    masks = slth.torch.prune(net, 0.5, scope="global")
    assert list(masks) == ["0", "1", "2"] and torch.equal(masks["0"], masks["1"])
    assert (~masks["0"]).sum() + (~masks["2"]).sum() == 1600
    assert a.weight_orig is b.weight_orig and torch.equal(a.weight, b.weight)
    fast, _ = slth.torch.accelerate(net)
    x = torch.randn(3, 40)
    torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)


def test_prune_refuses_weights_that_are_computed():
    for computed in (
        nn.utils.spectral_norm(nn.Linear(40, 50)),
        nn.utils.parametrizations.weight_norm(nn.Linear(40, 50)),
    ):
        first = nn.Linear(40, 40)
        with pytest.raises(ValueError, match="the weight of 1 is not a parameter"):
            slth.torch.prune(nn.Sequential(first, computed), 0.5)
        assert not hasattr(first, "weight_mask")


def test_prune_at_random_and_refusals():
    torch.manual_seed(1)
    a = slth.torch.prune(nn.Linear(40, 50), 0.5, method="random")
    torch.manual_seed(1)
    b = slth.torch.prune(nn.Linear(40, 50), 0.5, method="random")
    assert torch.equal(a[""], b[""]) and (~a[""]).sum() == 1000
    tied = nn.Linear(40, 40)
    assert len(slth.torch.prune(nn.Sequential(tied, tied), 0.5)) == 1
    for arguments in (dict(sparsity=1.1), dict(sparsity=0.5, scope="all"), dict(sparsity=0.5, method="taylor")):
        with pytest.raises(ValueError):
            slth.torch.prune(nn.Linear(4, 4), **arguments)


@pytest.mark.parametrize("remove", [False, True])
def test_accelerate(remove):
    net = model().eval()
    slth.torch.prune(net, 0.9)
    if remove:
        for name in ("0", "4", "6"):
            torch_prune.remove(net.get_submodule(name), "weight")
    net.train()
    fast, report = slth.torch.accelerate(net, max_batch=16)
    assert net.training and not fast.training
    assert isinstance(fast[0], MaskedConv2d) and isinstance(fast[4], MaskedLinear)
    assert set(report.replaced) | set(report.dense) == {"0", "4", "6"}
    assert abs(report.replaced["4"] - 0.9) < 1e-4 and "masked, sparsity 0.9" in str(report)
    with torch.inference_mode():
        for batch in (1, 3, 40):
            x = torch.randn(batch, 1, 16, 16)
            close(fast(x), net(x))
    # The copy shares nothing with the model.
    with torch.inference_mode():
        y = fast(x)
        for parameter in net.parameters():
            parameter.zero_()
        assert torch.equal(fast(x), y)
    other = copy.deepcopy(fast)
    assert torch.equal(pickle.loads(pickle.dumps(other))(x), y)
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), y)


def test_a_fused_layer_called_by_itself():
    net = nn.Sequential(nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU())
    slth.torch.prune(net, 0.9)
    fast, _ = slth.torch.accelerate(net)
    x = torch.randn(3, 80)
    with torch.inference_mode():
        h = net[0](x)
        assert (h < 0).any()
        close(fast[0](x), h)
        close(fast[1](h), h.relu())
        close(fast[:3](x), net[:3](x))
        close(fast(x), net(x))
        assert torch.equal(pickle.loads(pickle.dumps(fast))(x), fast(x))
        # Layer and ReLU run in one pass: the ReLU module is called only if hooks need it.
        seen = []
        fast[1].forward = lambda x: seen.append(0) or x.relu()
        fast(x)
        assert not seen
        fast[0].register_forward_hook(lambda module, inputs, y: seen.append(y))
        close(fast(x), net(x))
        assert len(seen) == 2
        close(seen[0], h)


def test_pool_and_relu_pass_nan_on():
    x = torch.randn(2, 3, 8, 8)
    x[0, 0, 3, 3] = float("nan")
    for pool, activation in ((1, "relu"), (2, None), (2, "relu")):
        layer = EdgePopupConv2d(3, 8, 3, 0.0, padding=1, activation=activation, max_pool=pool)
        y = F.conv2d(x, layer.weight, padding=1)
        y = F.max_pool2d(y.relu() if activation else y, pool)
        torch.testing.assert_close(layer(x), y, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_accelerate_says_what_it_leaves():
    class Odd(nn.Linear):
        pass

    hooked = nn.Linear(80, 80)
    hooked.register_forward_hook(lambda *_: None)
    layers = {
        "dense": (nn.Linear(80, 80), "keeps 100%"),
        "small": (nn.Linear(8, 8), "too few"),
        "odd": (Odd(80, 80), "Odd"),
        "float64": (nn.Linear(80, 80, dtype=torch.float64), "float64"),
        "hooked": (hooked, "hooks"),
        "groups": (nn.Conv2d(4, 4, 3, groups=2), "groups"),
        "dilated": (nn.Conv2d(4, 4, 3, dilation=2), "dilation"),
        "circular": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "circular"),
        "uneven": (nn.Conv2d(4, 4, 3, stride=(1, 2)), "differs"),
        "encoder": (nn.TransformerEncoderLayer(16, 2), None),
        "recurrent": (nn.LSTM(80, 80), "it is a LSTM, which is not replaced"),
        "normalised": (nn.utils.parametrizations.weight_norm(nn.Linear(80, 80)), "ParametrizedLinear"),
    }
    net = nn.ModuleDict({name: layer for name, (layer, _) in layers.items()})
    fast, report = slth.torch.accelerate(net)
    assert not report.replaced
    for name, (layer, reason) in layers.items():
        if reason is not None:
            assert reason in report.dense[name], report
            assert type(fast[name]) is type(layer)
    assert "reads its weight itself" in report.dense["encoder.linear1"]
    assert not any("parametrizations" in name for name in report.dense)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_accelerate_keeps_other_hooks():
    hooked = nn.Linear(80, 80)
    slth.torch.prune(hooked, 0.5)
    hooked.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    biased = nn.Linear(80, 80)
    torch_prune.random_unstructured(biased, "bias", amount=0.5)
    normed = nn.utils.weight_norm(nn.Linear(80, 80))
    net = nn.Sequential(hooked, biased, normed)
    fast, report = slth.torch.accelerate(net)
    assert set(report.dense) == {"0", "1", "2"} and "hooks" in report.dense["0"]
    x = torch.randn(3, 80)
    with torch.inference_mode():
        y = net(x)
        close(fast(x), y)
        for parameter in net.parameters():
            parameter.zero_()
        close(fast(x), y)


def test_accelerate_edge_popup_passes_nan_on():
    net = nn.Sequential(EdgePopupConv2d(3, 8, 3, 0.5, padding=1, activation="relu", max_pool=2))
    fast, _ = slth.torch.accelerate(net)
    x = torch.randn(2, 3, 8, 8)
    x[0, 0, 3, 3] = float("nan")
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-4, equal_nan=True)


def test_accelerate_edge_popup():
    net = nn.Sequential(
        EdgePopupConv2d(1, 8, 5, 0.5, padding=2, activation="relu", max_pool=2),
        EdgePopupConv2d(8, 16, 3, 0.9, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        EdgePopupLinear(144, 200, 0.9),
        nn.ReLU(),
        EdgePopupLinear(200, 10, 0),
    )
    fast, report = slth.torch.accelerate(net, max_batch=16)
    assert set(report.replaced) == {"0", "1", "4", "6"} and not report.dense
    assert report.replaced["1"] == pytest.approx(0.9, abs=1e-3) and report.replaced["6"] == 0
    x = torch.randn(5, 1, 14, 14)
    with torch.inference_mode():
        close(fast(x), net(x))
        scores = [layer.scores for layer in net if hasattr(layer, "scores")]
        y = fast(x)
        for layer in scores:
            layer.zero_()
        assert torch.equal(fast(x), y)


def test_accelerate_shared_layers_and_hooks_of_masks():
    shared = nn.Linear(80, 80)
    slth.torch.prune(shared, 0.9)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    fast, report = slth.torch.accelerate(net)
    assert fast[0] is fast[2] and fast[0].activation is None
    x = torch.randn(3, 80)
    with torch.inference_mode():
        close(fast(x), net(x))
    little = nn.Linear(80, 80)
    slth.torch.prune(little, 0.05)
    fast, report = slth.torch.accelerate(nn.Sequential(little, nn.ReLU()))
    assert type(fast[0]) is nn.Linear and not fast[0]._forward_pre_hooks and "weight" in dict(fast[0].named_parameters())
    with torch.inference_mode():
        close(fast(x), little(x).relu())
    single, report = slth.torch.accelerate(shared)
    assert isinstance(single, MaskedLinear) and "" in report.replaced


def test_tensors_of_pytorch_without_a_copy():
    scores = torch.randn(30, 40)
    assert (slth.top_k(scores, 100) == slth.top_k(scores.numpy(), 100)).all()
    assert (slth.top_k(scores.t(), 100) == slth.top_k(np.ascontiguousarray(scores.numpy().T), 100)).all()
    packed = slth.PackedWeights(scores)
    close(torch.from_numpy(packed.forward(scores[:, :40])), scores @ scores.T)


def test_the_programs_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (pathlib.Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        exec(program, {})
