"""Products with masked weights in PyTorch (F.linear in f32 and bf16, oneDNN prepacked, sparse CSR), NumPy, SciPy and MKL, and
PyTorch's convolutions, on one thread and on all cores; NumPy and SciPy on one.

    products.py [--help]

Dense ones multiply by weights with zeros. Activations are laid out as each library likes them: [batch, inputs] for
F.linear and oneDNN, [inputs, batch] for the others, images one after another for convolutions.
"""

import glob
import os
import sys
import warnings
from importlib import metadata

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
for library in glob.glob(sys.prefix + "/lib/libmkl_rt.so*"):  # where pip installs MKL, which sparse_dot_mkl does not search
    os.environ.setdefault("MKL_RT", library)

from fast_numpy import isa, numpy  # must come first: sets how NumPy is loaded

try:
    import scipy
except ImportError:
    sys.exit(f"{sys.executable} has no scipy: see requirements.txt beside this script")
import torch
import torch.nn.functional as F

from common import arguments, matmul, measure, note, one_and_all, peer, peer_torch, use, wanted

try:
    import sparse_dot_mkl
except Exception as error:  # noqa: BLE001: whatever keeps it from loading
    sparse_dot_mkl = None
    note(f"without MKL's sparse product: {error}")

SPARSITIES = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99]
FEW = [0.5, 0.8, 0.9, 0.95]
SIZES = {
    (128, 784, 500): [0.0, 0.25, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99],
    (512, 784, 500): SPARSITIES,
    (1024, 1024, 1024): [0.0, *FEW],
    (256, 4096, 4096): FEW,
    (1, 4096, 4096): SPARSITIES,
}
# Small batches: the same cases as in slth-bench.
FEW_COLUMNS_AT = [0.0, 0.5, 0.8, 0.9, 0.95]
for inputs, outputs in [(784, 500), (1024, 1024), (4096, 4096), (384, 1536), (1536, 384)]:
    for columns in [1, 2, 3, 4, 8, 16, 17, 32, 64, 128]:
        SIZES.setdefault((columns, inputs, outputs), FEW_COLUMNS_AT)
# Relative error of products of factors rounded to bf16.
ROUNDED = 2.0**-7
# Batch, channels, rows, columns, filters, window, padding.
CONVOLUTIONS = [
    (128, 1, 28, 28, 6, 5, 2),
    (128, 6, 14, 14, 16, 5, 0),
    (128, 64, 14, 14, 64, 3, 1),
    (128, 64, 32, 32, 64, 3, 1),
    (128, 64, 16, 16, 128, 3, 1),
    (128, 128, 16, 16, 128, 3, 1),
    (8, 256, 32, 32, 256, 3, 1),
    (8, 512, 32, 32, 512, 3, 1),
]


def masked(shape, sparsity, random):
    """Weights with zeros for those removed."""
    weights = random.uniform(-1, 1, shape).astype(numpy.float32)
    weights.flat[random.permutation(weights.size)[: round(sparsity * weights.size)]] = 0
    return weights


def contestants(batch, inputs, outputs, sparsity, random, threads):
    weights = masked((outputs, inputs), sparsity, random)
    x = random.uniform(-1, 1, (inputs, batch)).astype(numpy.float32)
    expected = weights.astype(numpy.float64) @ x
    sparse = scipy.sparse.csr_array(weights)
    w, columns = torch.from_numpy(weights), torch.from_numpy(x)
    rows = columns.T.contiguous()
    half_rows, half_w = rows.bfloat16(), w.bfloat16()
    runs = {
        ("torch", "F.linear"): lambda: F.linear(rows, w).T,
        ("torch", "F.linear bf16"): lambda: F.linear(half_rows, half_w).T,
    }
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(w, batch)
        linear = torch.ops.mkldnn._linear_pointwise
        runs["torch", "oneDNN prepacked"] = lambda: linear(rows, packed, None, "none", [], "").T
    except (AttributeError, RuntimeError) as error:
        note(f"without oneDNN prepacked: {error}")
    if threads == 1:
        runs["NumPy", ""] = lambda: weights @ x
    if sparsity > 0:
        csr = w.to_sparse_csr()
        runs["torch", "CSR"] = lambda: csr @ columns
        if threads == 1:
            runs["SciPy", "CSR"] = lambda: sparse @ x
        if sparse_dot_mkl:
            runs["MKL", "CSR"] = lambda: sparse_dot_mkl.dot_product_mkl(sparse, x)
    for who, run in runs.items():
        found = run()
        found = found.float() if isinstance(found, torch.Tensor) else found
        worst = numpy.abs(numpy.asarray(found, numpy.float64) - expected).max()
        if not worst <= (ROUNDED * numpy.sqrt(inputs) if "bf16" in who[1] else 1e-5 * inputs):
            raise SystemExit(f"{who}: wrong by {worst}")
    return runs, numpy.count_nonzero(weights)


def convolutions(batch, channels, rows, columns, filters, window, padding, sparsity, random):
    """The functions by operation, and the number of useful multiply-adds: terms of kept weights, without those in the padding."""
    weights = masked((filters, channels, window, window), sparsity, random)
    x = torch.from_numpy(random.uniform(-1, 1, (batch, channels, rows, columns)).astype(numpy.float32))
    w = torch.from_numpy(weights)
    dy = torch.rand_like(F.conv2d(x, w, padding=padding)) - 0.5
    ones = torch.ones((1, channels, rows, columns))
    terms = F.conv2d(ones, (w != 0).float(), padding=padding).sum().item()
    backward = torch.ops.aten.convolution_backward
    rest = (None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1)
    runs = {
        "forward": lambda: F.conv2d(x, w, padding=padding),
        "input gradient": lambda: backward(dy, x, w, *rest, (True, False, False))[0],
        "weight gradient": lambda: backward(dy, x, w, *rest, (False, True, False))[1],
    }
    # Expected results, from products with the matrix of all windows.
    windows, matrix, flat = F.unfold(x, window, padding=padding), w.flatten(1), dy.flatten(2)
    expected = {
        "forward": (matrix @ windows).view_as(dy),
        "input gradient": F.fold(matrix.T @ flat, (rows, columns), window, padding=padding),
        "weight gradient": torch.einsum("bol,bkl->ok", flat, windows).view_as(w),
    }
    for operation, run in runs.items():
        worst, size = (run() - expected[operation]).abs().max(), expected[operation].abs().max()
        if not worst <= 1e-4 * size:
            raise SystemExit(f"convolution, {operation}: wrong by {worst}")
    return runs, 2.0 * batch * terms


def convolution(operation, batch, channels, height, width, outputs, window, padding, sparsity):
    task = {"kernel": "conv2d", "operation": operation, "batch": batch, "channels": channels, "height": height, "width": width}
    task |= {"outputs": outputs, "window": window, "stride": 1, "padding": padding}
    return task if sparsity is None else task | {"sparsity": sparsity}


def cases(given, threads):
    random = numpy.random.default_rng(1)
    for sizes, sparsities in SIZES.items():
        for sparsity in sparsities:
            task = matmul("forward", *sizes, sparsity)
            if wanted(given, task):
                runs, kept = contestants(*sizes, sparsity, random, threads)
                measure(task, "flop", 2.0 * kept * sizes[0], runs, threads, given.seconds, given.rounds)
    for sizes in CONVOLUTIONS:
        for sparsity in [0.0, 0.5, 0.8, 0.9]:
            tasks = {}
            for operation in ("forward", "input gradient", "weight gradient"):
                dense = operation == "weight gradient"
                task = convolution(operation, *sizes, None if dense else sparsity)
                if wanted(given, task) and not (dense and sparsity > 0):
                    tasks[operation] = task
            if tasks:
                runs, flops = convolutions(*sizes, sparsity, random)
            for operation, task in tasks.items():
                measure(task, "flop", flops, {("torch", "conv2d"): runs[operation]}, threads, given.seconds / 4, given.rounds)


def main():
    given = arguments(__doc__)
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
    peer_torch(torch)
    blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    peer("NumPy", numpy.__version__, isa, f"{blas['name']} {blas['version']}, one thread")
    peer("SciPy", scipy.__version__, "compiled for the baseline", "one thread")
    if sparse_dot_mkl:
        peer("MKL", metadata.version("mkl"), "chosen by MKL", f"sparse_dot_mkl {metadata.version('sparse_dot_mkl')}")
    for threads in one_and_all(given):
        use(threads)
        torch.set_num_threads(threads)
        if sparse_dot_mkl:
            sparse_dot_mkl.mkl_set_num_threads(threads)
        note(f"{threads} threads")
        with torch.inference_mode():
            cases(given, threads)


if __name__ == "__main__":
    main()
