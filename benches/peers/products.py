"""Products with masked weights in PyTorch (F.linear, oneDNN prepacked, sparse CSR), SciPy and MKL, one thread each.

    products.py > bench-results/<cpu>/<date>-<commit>.products.jsonl

Dense ones multiply by weights with zeros. Activations are laid out as each library likes them: [batch, inputs] for
F.linear and oneDNN, [inputs, batch] for the sparse ones.
"""

import glob
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
for library in glob.glob(sys.prefix + "/lib/libmkl_rt.so*"):  # where pip puts it and nobody looks
    os.environ.setdefault("MKL_RT", library)

import warnings

import numpy
import scipy.sparse
import torch
import torch.nn.functional as F

from common import measure, note, pin, task

try:
    import sparse_dot_mkl
except Exception as error:  # noqa: BLE001: whatever keeps it from loading
    sparse_dot_mkl = None
    note(f"without MKL's sparse product: {error}")

SHAPES = [(128, 784, 500), (512, 784, 500), (1024, 1024, 1024), (256, 4096, 4096), (1, 4096, 4096)]
SPARSITIES = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99]


def contestants(batch, inputs, outputs, sparsity, random):
    weights = random.uniform(-1, 1, (outputs, inputs)).astype(numpy.float32)
    weights[random.uniform(size=weights.shape) < sparsity] = 0
    x = random.uniform(-1, 1, (inputs, batch)).astype(numpy.float32)
    expected = weights.astype(numpy.float64) @ x
    sparse = scipy.sparse.csr_array(weights)
    w, columns = torch.from_numpy(weights), torch.from_numpy(x)
    rows = columns.T.contiguous()
    runs = {"F.linear": lambda: F.linear(rows, w).T}
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(w, batch)
        runs["oneDNN prepacked"] = lambda: torch.ops.mkldnn._linear_pointwise(rows, packed, None, "none", [], "").T
    except (AttributeError, RuntimeError) as error:
        note(f"without oneDNN prepacked: {error}")
    if sparsity > 0:
        csr = w.to_sparse_csr()
        runs["torch CSR"] = lambda: csr @ columns
        runs["SciPy CSR"] = lambda: sparse @ x
        if sparse_dot_mkl:
            runs["MKL CSR"] = lambda: sparse_dot_mkl.dot_product_mkl(sparse, x)
    for who, run in runs.items():
        worst = numpy.abs(numpy.asarray(run(), numpy.float64) - expected).max()
        if not worst <= 1e-5 * inputs:
            raise SystemExit(f"{who}: wrong by {worst}")
    return runs, numpy.count_nonzero(weights)


def main():
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
    pin()
    torch.set_num_threads(1)
    random = numpy.random.default_rng(1)
    with torch.inference_mode():
        for batch, inputs, outputs in SHAPES:
            for sparsity in SPARSITIES:
                runs, kept = contestants(batch, inputs, outputs, sparsity, random)
                what = task("masked-matmul", "forward", [batch, inputs, outputs], sparsity)
                measure(what, "flop", 2.0 * kept * batch, runs, budget=5.0)


if __name__ == "__main__":
    main()
