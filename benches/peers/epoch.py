"""An epoch of edge-popup on MNIST, 784-500-500-10, batch 128, half of the weights removed: PyTorch and slth in alternation.

    epoch.py --slth target/release/slth > bench-results/<cpu>/<date>-<commit>.epoch.jsonl

PyTorch in three ways. sort: as edge-popup's authors do it. kthvalue: the threshold by torch.kthvalue. tuned: the threshold by
NumPy's AVX2 partition, SGD fused; the best that was found without writing kernels. All train on the images of slth, in
its precision, by the same rule; batches are made by indexing a tensor that holds all images.
"""

import argparse
import gzip
import json
import math
import os
import pathlib
import subprocess
import time

import numpy_avx2  # first: it decides how NumPy is loaded
import torch
import torch.nn.functional as F

from common import emit, note, task

numpy = numpy_avx2.numpy
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


WAYS = {"PyTorch, sort": (Sort, False), "PyTorch, kthvalue": (Kthvalue, False), "PyTorch, tuned": (Partition, True)}


MOST = {"PyTorch, sort": 2}  # half a minute each


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


def ours(slth, threads):
    """The rows of one round of ours on so many threads."""
    case = "pruning epoch 784-500-500-10 s=0.5"
    command = [slth, "bench", "--kernel", "pipeline", "--case", case, "--rounds", "1", "--threads", str(threads), "--json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    return [row for row in rows if row["role"] == "ours" and row["threads"] == threads]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slth", default="target/release/slth", help="the program, built with --release")
    parser.add_argument("--rounds", type=int, default=3, help="of each but sort, which takes two")
    parser.add_argument("--threads", default="1,2", help="numbers of threads")
    parser.add_argument("--images", type=int, default=60_000, help="fewer, to try it out; slth always has all")
    arguments = parser.parse_args()
    images, labels = mnist()
    images, labels = images[: arguments.images], labels[: arguments.images]
    what = task("pipeline", "pruning epoch beside PyTorch", WIDTHS, SPARSITY)
    cores = os.sched_getaffinity(0)
    for threads in map(int, arguments.threads.split(",")):
        os.sched_setaffinity(0, {max(cores)} if threads == 1 else cores)
        torch.set_num_threads(threads)
        networks = {who: Network(*way) for who, way in WAYS.items()}
        theirs = {who: [] for who in networks}
        mine = {}
        for done in range(arguments.rounds):
            for who, network in networks.items():
                if len(theirs[who]) == MOST.get(who):
                    continue
                seconds, loss = network.epoch(images, labels)
                if not loss < 2.0:
                    raise SystemExit(f"{who}: does not learn, loss {loss}")
                theirs[who].append(seconds)
                note(f"{threads} threads, round {done + 1}: {who} {seconds:.2f} s, loss {loss:.3f}")
                # Next to each of theirs one of ours.
                for row in ours(arguments.slth, threads):
                    mine.setdefault(row["backend"], []).append(row["seconds"])
        # All count: there are more of ours, and the best of more would be better.
        for backend, times in mine.items():
            emit(what, "slth", "piece", 1.0, times, threads, role="ours", backend=backend, within=None)
        for who, times in theirs.items():
            emit(what, who, "piece", 1.0, times, threads, within=None)


if __name__ == "__main__":
    main()
