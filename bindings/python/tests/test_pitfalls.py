"""Common pitfalls of bindings: forks, float modes, strides, aliasing, threads, signals."""

import array
import ctypes
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import slth


def work(seed=0):
    """The bits of a selection and a product that are large enough for several threads."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((1024, 1024), dtype=np.float32)
    packed = slth.PackedWeights(weight, slth.top_k(weight, sparsity=0.8, threads=2), threads=2)
    return packed.forward(rng.standard_normal((256, 1024), dtype=np.float32)).tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes():
    expected = work()  # starts the threads
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        results = pool.map_async(work, [0, 0, 0, 0]).get(timeout=60)
    assert all(result == expected for result in results)
    assert work() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_of_a_data_loader_compute():
    torch = pytest.importorskip("torch")
    work()

    class Masks(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            scores = np.random.default_rng(index).standard_normal(300_000, dtype=np.float32)
            return torch.from_numpy(slth.top_k(scores, 1000))

    loader = torch.utils.data.DataLoader(Masks(), num_workers=2, timeout=60)
    assert all(mask.sum() == 1000 for mask in loader)


def test_flush_to_zero_changes_no_bit():
    torch = pytest.importorskip("torch")
    tiny = np.full((256, 256), 1e-39, np.float32)
    x = np.ones((256, 256), np.float32)
    packed = slth.PackedWeights(tiny, ~np.eye(256, dtype=bool))
    scores = np.array([0, 1e-40, 2e-40, -3e-40], np.float32)
    layer = slth.torch.EdgePopupLinear(16, 16, 0.5)
    images = slth.torch.EdgePopupConv2d(1, 3, 3, 0.5)
    # Create denormals before setting the mode, because PyTorch would flush them.
    inputs = ((layer, torch.full((16, 16), 1e-39)), (images, torch.full((1, 1, 5, 5), 1e-39)))
    candidates, targets = np.float32([0.5, 1e-39]), np.float32([0.25])

    def everything():
        answers = [slth.PackedWeights(tiny, threads=threads).forward(x) for threads in (1, 2)]
        answers += [packed.forward(x), slth.weight_gradient(tiny, x), slth.top_k(scores, 2)]
        answers += slth.nearest_subset(candidates, targets)
        for module, rows in inputs:
            rows.requires_grad_()
            y = module(rows)
            answers += [g.numpy() for g in torch.autograd.grad(y, (rows, module.scores), torch.ones_like(y))]
            answers.append(y.detach().numpy())
        return [answer.tobytes() for answer in answers]

    expected = everything()
    try:
        assert torch.set_flush_denormal(True) in (True, False)
        assert everything() == expected
    finally:
        torch.set_flush_denormal(False)


def test_fortran_order_is_right():
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((37, 53), dtype=np.float32)
    for view in (scores.T, np.asfortranarray(scores), scores[::-1], scores[:, ::-2], scores[3:30:4, 5:50:3]):
        copy = np.ascontiguousarray(view)
        assert (slth.top_k(view, 100) == slth.top_k(copy, 100)).all()
        mask = slth.top_k(view, 100)
        packed, other = slth.PackedWeights(view, np.asfortranarray(mask)), slth.PackedWeights(copy, mask)
        x = rng.standard_normal((4, view.shape[1]), dtype=np.float32)
        assert (packed.forward(x) == other.forward(x)).all()
        assert (packed.forward(np.asfortranarray(x)) == other.forward(x)).all()
        assert (packed.forward(x[::-1]) == other.forward(x)[::-1]).all()
        dy = rng.standard_normal((4, view.shape[0]), dtype=np.float32)
        assert (slth.weight_gradient(dy[:, ::-1], x) == slth.weight_gradient(dy[:, ::-1].copy(), x)).all()


def test_inputs_with_strides_are_not_copied():
    """A view that repeats one row is read in place."""
    row = np.ones((1, 1024), np.float32)
    x = np.broadcast_to(row, (8, 1024))
    assert x.strides == (0, 4)
    packed = slth.PackedWeights(np.ones((3, 1024), np.float32))
    assert (packed.forward(x) == 1024).all()


def test_overlapping_in_and_out_are_refused():
    memory = np.zeros((8, 64), np.float32)
    packed = slth.PackedWeights(np.ones((32, 32), np.float32), input_gradient=True)
    x = memory[:, :32]
    for out in (x, memory[:, 16:48], memory.ravel()[4 : 4 + 8 * 32].reshape(8, 32)):
        with pytest.raises(ValueError, match="out shares memory"):
            packed.forward(x, out=out)
        with pytest.raises(ValueError, match="out shares memory"):
            packed.input_gradient(x, out=out)
        with pytest.raises(ValueError, match="out shares memory"):
            slth.weight_gradient(x, x, out=np.lib.stride_tricks.as_strided(x, (32, 32), (128, 4)))
    # Disjoint columns of one array do not overlap.
    memory[:, :32] = 1
    assert packed.forward(x, out=memory[:, 32:]) is not None and (memory[:, 32:] == 32).all()
    image = np.zeros((1, 1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="out shares memory"):
        slth.Conv2d(np.ones((1, 1, 1, 1), np.float32), image=(4, 4)).forward(image, out=image)


def test_two_views_of_one_tensor_are_refused():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(32, 32)
    with pytest.raises(ValueError, match="out shares memory"):
        slth.PackedWeights(np.ones((32, 32), np.float32)).forward(tensor, out=tensor.numpy())


def test_outputs_that_overlap_themselves_are_refused():
    packed = slth.PackedWeights(np.ones((8, 8), np.float32))
    x, out = np.ones((4, 8), np.float32), np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="overlap|read-only"):
        packed.forward(x, out=np.lib.stride_tricks.as_strided(out, (4, 8), (0, 4)))
    for wrong in (np.zeros((4, 8), np.float32)[:, ::-1], np.zeros((4, 8), np.float32)[::-1]):
        with pytest.raises(ValueError, match="strides that are not negative"):
            packed.forward(x, out=wrong)


def test_requires_grad_is_refused():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(4, 4, requires_grad=True)
    with pytest.raises(TypeError, match="scores cannot be read as an array.*grad"):
        slth.top_k(tensor, 1)
    with pytest.raises(TypeError, match="grad"):
        slth.PackedWeights(tensor)
    slth.PackedWeights(tensor.detach())
    for other in (tensor.detach().bfloat16(), tensor.detach().to("meta")):
        with pytest.raises(TypeError):
            slth.top_k(other, 1)


def test_read_only_arrays():
    x = np.ones((4, 8), np.float32)
    x.flags.writeable = False
    packed = slth.PackedWeights(x[:, :8], slth.top_k(x, 9))
    assert packed.forward(x).shape == (4, 4)
    out = np.zeros((4, 4), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        packed.forward(x, out=out)
    assert not out.any()


def test_arrays_of_size_zero():
    for shape in ((0, 8), (8, 0), (0, 0)):
        weight = np.zeros(shape, np.float32)
        mask = slth.top_k(weight, 0)
        assert mask.shape == shape
        packed = slth.PackedWeights(weight, mask, bias=np.ones(shape[0], np.float32), input_gradient=True)
        y = packed.forward(np.zeros((3, shape[1]), np.float32))
        assert y.shape == (3, shape[0]) and (y == 1).all()
        assert (packed.input_gradient(y) == 0).all()
        assert packed.forward(np.zeros((0, shape[1]), np.float32)).shape == (0, shape[0])
    assert slth.weight_gradient(np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32)).tolist() == [[0] * 4] * 3
    masks, residuals = slth.nearest_subset(np.ones(3, np.float32), np.zeros(0, np.float32))
    assert masks.shape == (0, 3) and residuals.shape == (0,)
    assert slth.Conv2d(np.zeros((0, 2, 3, 3), np.float32), image=(5, 5)).forward(
        np.zeros((2, 2, 5, 5), np.float32)
    ).shape == (2, 0, 3, 3)
    assert slth.top_k(np.float32(3) * np.ones((), np.float32), 1).shape == ()


def test_sizes_beyond_memory_are_refused():
    packed = slth.PackedWeights(np.zeros((8, 0), np.float32))
    with pytest.raises((ValueError, MemoryError)):
        packed.forward(np.zeros((2**61, 0), np.float32))
    with pytest.raises((ValueError, MemoryError)):
        slth.PackedWeights(np.broadcast_to(np.float32(1), (2**40, 2**20)), max_batch=1).forward(
            np.zeros((1, 2**20), np.float32)
        )


def test_four_threads_on_one_handle():
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((500, 784), dtype=np.float32)
    masks = [slth.top_k(rng.standard_normal(weight.shape, dtype=np.float32), sparsity=0.5) for _ in range(2)]
    packed = slth.PackedWeights(weight, masks[0], input_gradient=True)
    x = rng.standard_normal((64, 784), dtype=np.float32)
    answers = set()
    for mask in masks:
        packed.set_mask(mask)
        answers.add(packed.forward(x).tobytes())
    conv = slth.Conv2d(weight[:6, :75].reshape(6, 3, 5, 5), image=(16, 16))
    images = rng.standard_normal((4, 3, 16, 16), dtype=np.float32)
    image = conv.forward(images).tobytes()
    wrong, stop = [], threading.Event()

    def multiply():
        for _ in range(40):
            if packed.forward(x).tobytes() not in answers or conv.forward(images).tobytes() != image:
                wrong.append("a product")

    def change():
        while not stop.is_set():
            for mask in masks:
                packed.set_mask(mask)

    threads = [threading.Thread(target=multiply) for _ in range(4)]
    changer = threading.Thread(target=change)
    for thread in (*threads, changer):
        thread.start()
    for thread in threads:
        thread.join(60)
    stop.set()
    changer.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_the_gil_is_released():
    """A Python thread keeps counting while another thread computes."""
    rng = np.random.default_rng(4)
    packed = slth.PackedWeights(rng.standard_normal((1024, 1024), dtype=np.float32), threads=1)
    x = rng.standard_normal((4096, 1024), dtype=np.float32)
    packed.forward(x)
    counts, done = [], threading.Event()

    def compute():
        packed.forward(x)
        done.set()

    thread = threading.Thread(target=compute)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # a thread keeps the GIL until it releases it
    try:
        thread.start()
        while not done.is_set():
            counts.append(1)
            time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    assert len(counts) > 10


@pytest.mark.parametrize("dtype", ["f8", "f2", ">f4", "i4", "c8", "O", "U3", "?"])
def test_other_types_are_refused(dtype):
    if dtype == ">f4" and sys.byteorder == "big":
        pytest.skip("native here")
    value = np.zeros((4, 4), dtype)
    for call in (
        lambda: slth.top_k(value, 1),
        lambda: slth.PackedWeights(value),
        lambda: slth.PackedWeights(np.zeros((4, 4), np.float32)).forward(value),
        lambda: slth.weight_gradient(value, np.zeros((4, 4), np.float32)),
        lambda: slth.nearest_subset(value, np.zeros(4, np.float32)),
        lambda: slth.Conv2d(value.reshape(1, 1, 4, 4), image=(4, 4)),
    ):
        with pytest.raises(TypeError, match="must be float32 in native byte order"):
            call()


@pytest.mark.parametrize("value", [None, 3, "abc", [1.0, 2.0], {}, object(), [[1.0], [2.0, 3.0]]])
def test_what_is_no_array_is_refused(value):
    for call in (lambda: slth.top_k(value, 1), lambda: slth.PackedWeights(value)):
        with pytest.raises(TypeError):
            call()


def test_buffers_and_dlpack():
    numbers = array.array("f", [1, -5, 3, 2])
    expected = [False, True, True, False]
    assert slth.top_k(numbers, 2).tolist() == expected
    assert slth.top_k(memoryview(numbers), 2).tolist() == expected
    assert slth.top_k((ctypes.c_float * 4)(1, -5, 3, 2), 2).tolist() == expected

    class Exporter:
        """Supports only DLPack."""

        def __init__(self, values):
            self.values = values

        def __dlpack__(self, **arguments):
            return self.values.__dlpack__(**arguments)

        def __dlpack_device__(self):
            return self.values.__dlpack_device__()

    assert slth.top_k(Exporter(np.frombuffer(numbers, np.float32)), 2).tolist() == expected


def test_unaligned_memory():
    memory = np.frombuffer(mmap.mmap(-1, 4096), np.uint8)[1 : 1 + 4 * 64]
    memory[:] = np.frombuffer(np.arange(64, dtype=np.float32).tobytes(), np.uint8)
    unaligned = memory.view(np.float32).reshape(8, 8)
    assert not unaligned.flags.aligned
    copy = unaligned.copy()
    assert (slth.top_k(unaligned, 7) == slth.top_k(copy, 7)).all()
    assert (slth.PackedWeights(unaligned).forward(unaligned) == slth.PackedWeights(copy).forward(copy)).all()
    records = np.zeros(8, [("tag", "u1"), ("value", "f4")])
    records["value"] = np.arange(8)
    assert slth.top_k(records["value"], 2).tolist() == [False] * 6 + [True] * 2


def test_masks_of_odd_bytes_are_refused():
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 2] = 7
    with pytest.raises(ValueError, match="other than 0 and 1"):
        slth.PackedWeights(np.ones((4, 4), np.float32), mask.view(bool))


def test_nan_in_activations_reaches_its_outputs_only():
    packed = slth.PackedWeights(np.ones((4, 8), np.float32), np.eye(4, 8, dtype=bool))
    x = np.ones((2, 8), np.float32)
    x[0, 1] = np.nan
    assert np.isnan(packed.forward(x)).tolist() == [[False, True, False, False], [False] * 4]


def interrupted(code):
    """Runs `code` in a new Python process, and sends SIGINT after its first line of output."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background process of a shell ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout.readline()
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors, time.monotonic() - begin
    finally:
        process.kill()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    "call",
    [
        "slth.run(epsilon=0.1, pretrain_epochs=10_000, progress=print)",
        "slth.sweep(tempfile.mkdtemp(), epsilon=[0.1], pretrain_epochs=10_000, progress=print)",
        "slth.required_candidates(trials=1_000_000, eta=[1e-3], ratio=[1], progress=print)",
    ],
)
def test_ctrl_c_stops_experiments(call):
    code, errors, seconds = interrupted(f"import slth, tempfile\n{call}")
    assert code != 0 and "KeyboardInterrupt" in errors and "Panic" not in errors
    assert seconds < 10
