"""Masks of the largest scores, beside NumPy's partition and PyTorch's kthvalue and topk, on one thread.

A turn is five calls; the first is not counted, as in a loop that calls only one of them. Masks made in memory fresh from the system take
longer, because each page is cleared first."""

import numpy as np
import slth
import torch
from common import in_turns, one_thread, table


def by_partition(scores: np.ndarray, keep: int) -> np.ndarray:
    magnitudes = np.abs(scores)
    return magnitudes >= np.partition(magnitudes.ravel(), magnitudes.size - keep)[magnitudes.size - keep]


def by_kthvalue(scores: torch.Tensor, keep: int) -> torch.Tensor:
    magnitudes = scores.abs()
    return magnitudes > magnitudes.flatten().kthvalue(magnitudes.numel() - keep).values


def by_topk(scores: torch.Tensor, keep: int) -> torch.Tensor:
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.abs().flatten().topk(keep, sorted=False).indices] = True
    return mask.view_as(scores)


def main() -> None:
    one_thread()
    torch.set_num_threads(1)
    rows = []
    for shape in [(10, 500), (500, 784), (1024, 4096)]:
        scores = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
        tensor, keep = torch.from_numpy(scores), scores.size // 2
        contestants = {
            "slth bool": lambda: slth.top_k(scores, keep),
            "slth packed": lambda: slth.top_k(scores, keep, packed=True),
            "numpy.partition": lambda: by_partition(scores, keep),
            "torch.kthvalue": lambda: by_kthvalue(tensor, keep),
            "torch.topk": lambda: by_topk(tensor, keep),
        }
        expected = by_partition(scores, keep)  # no two scores are equal here
        for name, call in contestants.items():
            mask = call()
            if name == "slth packed":
                mask = np.unpackbits(mask, count=scores.size, bitorder="little").astype(bool).reshape(shape)
            assert np.array_equal(np.asarray(mask), expected), name
        times = in_turns(contestants, 8, calls=5, skip=1)
        base = times["slth bool"]
        rows += [
            [f"{scores.size} {name}", f"{1e6 * seconds:.0f}", f"{seconds / base:.1f}"]
            for name, seconds in times.items()
        ]
    print(table(["scores, half kept", "µs", "× slth bool"], rows))


if __name__ == "__main__":
    main()
