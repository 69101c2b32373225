"""Selection of the largest scores in PyTorch (topk, kthvalue, sort) and NumPy (partition, AVX2 forced), one thread.

    selection.py > bench-results/<cpu>/<date>-<commit>.selection.jsonl

Each finds the threshold of the magnitudes, or the indices; none of them makes a mask.
"""

import numpy_avx2  # first: it decides how NumPy is loaded
import torch

from common import arguments, measure, name, passes, pin, task

numpy = numpy_avx2.numpy


def cases(given):
    random = numpy.random.default_rng(1)
    sizes = {n: [0.5] for n in (1000, 10_000, 100_000, 1_000_000)}
    sizes |= {392_000: [0.1, 0.5, 0.9], 10_000_000: [0.1, 0.5, 0.9]}
    for n, sparsities in sorted(sizes.items()):
        scores = random.standard_normal(n, dtype=numpy.float32)
        tensor = torch.from_numpy(scores)
        for sparsity in sparsities:
            what = task("top-k", "selection from normal", [n], sparsity)
            if given.case not in name(what):
                continue
            removed = round(sparsity * n)
            runs = {
                "numpy.partition": lambda: numpy.partition(numpy.abs(scores), removed)[removed],
                "torch.kthvalue": lambda: tensor.abs().kthvalue(removed + 1).values,
                "torch.topk": lambda: tensor.abs().topk(n - removed, sorted=False).values.min(),
                "torch.sort": lambda: tensor.abs().sort().values[removed],
            }
            values = {who: float(run()) for who, run in runs.items()}
            if len(set(values.values())) != 1:
                raise SystemExit(f"they disagree: {values}")
            measure(what, "score", float(n), runs, budget=given.budget)


def main():
    given = arguments(__doc__)
    pin()
    torch.set_num_threads(1)
    passes(lambda: cases(given))


if __name__ == "__main__":
    main()
