"""An epoch of edge-popup on MNIST, 784-500-500-10, batch 128, half of the weights removed, in PyTorch, on one thread and on all cores.

    epoch.py [--help]

In three ways. sort: as edge-popup's authors do it. kthvalue: the threshold by torch.kthvalue. tuned: the threshold by
NumPy's partition, SGD fused; the best that was found without writing kernels. All train on the images of slth, in
its precision, by the same rule; batches are made by indexing a tensor that holds all images.
"""

import gzip
import math
import pathlib
import time

from fast_numpy import isa, numpy  # first: it decides how NumPy is loaded
import torch
import torch.nn.functional as F

from common import arguments, emit, note, one_and_all, peer, peer_torch, use, wanted

ROUNDS = 3
WIDTHS = [784, 500, 500, 10]
BATCH = 128
SPARSITY = 0.5
DATA = pathlib.Path(__file__).resolve().parents[2] / "data" / "mnist"


def mnist():
    def read(name, header):
        with gzip.open(DATA / f"{name}-ubyte.gz") as file:
            return numpy.frombuffer(file.read(), numpy.uint8, offset=header).copy()

    images = torch.from_numpy(read("train-images-idx3", 16)).view(-1, 784).float()
    labels = torch.from_numpy(read("train-labels-idx1", 8)).long()
    return (images / 255 - 0.1307) / 0.3081, labels


class Sort(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores):
        mask = torch.empty_like(scores)
        _, order = scores.flatten().sort()
        removed = int(SPARSITY * scores.numel())
        flat = mask.view(-1)
        flat[order[:removed]] = 0
        flat[order[removed:]] = 1
        return mask

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Kthvalue(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores):
        threshold = scores.flatten().kthvalue(int(SPARSITY * scores.numel())).values
        return (scores > threshold).float()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Partition(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores):
        removed = int(SPARSITY * scores.numel())
        threshold = numpy.partition(scores.numpy().reshape(-1), removed)[removed]
        return (scores >= float(threshold)).float()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


WAYS = {"sort": (Sort, False), "kthvalue": (Kthvalue, False), "tuned": (Partition, True)}
MOST = {"sort": 2}  # half a minute each


class Network:
    def __init__(self, select, fused):
        torch.manual_seed(1)
        shapes = list(zip(WIDTHS[1:], WIDTHS))
        self.select = select
        self.weights = [torch.randn(out, into) * math.sqrt(2 / into) for out, into in shapes]
        self.scores = [torch.nn.Parameter(torch.empty(s).uniform_(-1, 1) / math.sqrt(s[1])) for s in shapes]
        self.sgd = torch.optim.SGD(self.scores, lr=0.1, momentum=0.9, weight_decay=1e-4, fused=fused)

    def epoch(self, images, labels):
        """Seconds, and the mean loss."""
        order = torch.randperm(len(images))
        start = time.perf_counter()
        total = 0.0
        for batch in order.split(BATCH):
            x = images[batch]
            for i, (weight, scores) in enumerate(zip(self.weights, self.scores)):
                x = F.linear(x, weight * self.select.apply(scores.abs()))
                if i + 1 < len(self.weights):
                    x = F.relu(x)
            loss = F.cross_entropy(x, labels[batch])
            self.sgd.zero_grad()
            loss.backward()
            self.sgd.step()
            total += loss.item() * len(batch)
        return time.perf_counter() - start, total / len(images)


def main():
    given = arguments(__doc__)
    task = {"kernel": "pipeline", "operation": "pruning epoch", "network": "-".join(map(str, WIDTHS)), "images": 60_000, "sparsity": SPARSITY}
    if not wanted(given, task):
        return
    peer_torch(torch)
    peer("NumPy", numpy.__version__, isa)
    images, labels = mnist()
    for threads in one_and_all(given):
        use(threads)
        torch.set_num_threads(threads)
        networks = {variant: Network(*way) for variant, way in WAYS.items()}
        times = {variant: [] for variant in networks}
        for number in range(given.rounds or ROUNDS):
            for variant, network in networks.items():
                if len(times[variant]) == MOST.get(variant):
                    continue
                seconds, loss = network.epoch(images, labels)
                if not loss < 2.0:
                    raise SystemExit(f"{variant}: does not learn, loss {loss}")
                times[variant].append(seconds)
                note(f"{threads} threads, round {number + 1}: {variant} {seconds:.2f} s, loss {loss:.3f}")
        for variant, found in times.items():
            emit(task, "torch", variant, "epoch", 1.0, found, threads)


if __name__ == "__main__":
    main()
