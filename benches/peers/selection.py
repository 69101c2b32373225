"""Selection of the largest scores in PyTorch (topk, kthvalue, sort) and NumPy (partition), one thread.

    selection.py [--help]

Each finds the threshold of the magnitudes, or the indices; none of them makes a mask.
"""

from fast_numpy import isa, numpy  # must come first: sets how NumPy is loaded
import torch

from common import arguments, measure, peer, peer_torch, use, wanted


def cases(given):
    random = numpy.random.default_rng(1)
    counts = {n: [0.5] for n in (1000, 10_000, 100_000, 1_000_000)}
    counts |= {392_000: [0.1, 0.5, 0.9], 10_000_000: [0.1, 0.5, 0.9]}
    for count, sparsities in sorted(counts.items()):
        scores = random.standard_normal(count, dtype=numpy.float32)
        tensor = torch.from_numpy(scores)
        for sparsity in sparsities:
            task = {"kernel": "top-k", "scores": "normal", "count": count, "sparsity": sparsity}
            if not wanted(given, task):
                continue
            removed = round(sparsity * count)
            runs = {
                ("NumPy", "partition"): lambda: numpy.partition(numpy.abs(scores), removed)[removed],
                ("torch", "kthvalue"): lambda: tensor.abs().kthvalue(removed + 1).values,
                ("torch", "topk"): lambda: tensor.abs().topk(count - removed, sorted=False).values.min(),
                ("torch", "sort"): lambda: tensor.abs().sort().values[removed],
            }
            values = {who: float(run()) for who, run in runs.items()}
            if len(set(values.values())) != 1:
                raise SystemExit(f"they disagree: {values}")
            measure(task, "score", float(count), runs, 1, given.seconds, given.rounds)


def main():
    given = arguments(__doc__)
    peer_torch(torch)
    peer("NumPy", numpy.__version__, isa)
    use(1)
    torch.set_num_threads(1)
    cases(given)


if __name__ == "__main__":
    main()
