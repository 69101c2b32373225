"""An epoch of edge-popup in PyTorch, batch 128, half of the weights removed, on one thread and on all cores: 784-500-500-10 on MNIST,
and Conv4 on images of noise in the shape of CIFAR-10.

    epoch.py [--help]

In three ways. sort: as edge-popup's authors do it. kthvalue: the threshold by torch.kthvalue. tuned: the threshold by
NumPy's partition, SGD fused; the best that was found without writing kernels. All train on the images of slth, in
its precision, by the same rule; batches are made by indexing a tensor that holds all images.
"""

import gzip
import math
import pathlib
import time

from fast_numpy import isa, numpy  # must come first: sets how NumPy is loaded
import torch
import torch.nn.functional as F

from common import arguments, emit, note, one_and_all, peer, peer_torch, use, wanted

ROUNDS = 3
NETWORKS = ["784-500-500-10", "conv4"]
IMAGES = {"784-500-500-10": 60_000, "conv4": 2_560}
# Weight shapes of each layer, outputs first; pooling follows every second convolution.
CONVOLUTIONAL = {
    "conv2": [(64, 3, 3, 3), (64, 64, 3, 3), (256, 16384), (256, 256), (10, 256)],
    "conv4": [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 8192), (256, 256), (10, 256)],
}
BATCH = 128
SPARSITY = 0.5
DATA = pathlib.Path(__file__).resolve().parents[2] / "data" / "mnist"


def mnist():
    def read(part, header):
        with gzip.open(DATA / "train" / f"train-{part}-ubyte.gz") as file:
            return numpy.frombuffer(file.read(), numpy.uint8, offset=header).copy()

    images = torch.from_numpy(read("images-idx3", 16)).view(-1, 784).float()
    labels = torch.from_numpy(read("labels-idx1", 8)).long()
    return (images / 255 - 0.1307) / 0.3081, labels


def noise(images):
    return torch.randn(images, 3, 32, 32), torch.arange(images) % 10


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
MOST = {"sort": 2}  # rounds at most, because one takes half a minute


class Network:
    def __init__(self, network, select, fused, seed=1):
        torch.manual_seed(seed)
        widths = [] if network in CONVOLUTIONAL else [int(width) for width in network.split("-")]
        shapes = CONVOLUTIONAL.get(network) or list(zip(widths[1:], widths))
        into = [math.prod(shape[1:]) for shape in shapes]
        self.select = select
        self.weights = [torch.randn(shape) * math.sqrt(2 / n) for shape, n in zip(shapes, into)]
        self.scores = [torch.nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(n)) for shape, n in zip(shapes, into)]
        self.sgd = torch.optim.SGD(self.scores, lr=0.1, momentum=0.9, weight_decay=1e-4, fused=fused)

    def forward(self, x):
        for i, (weight, scores) in enumerate(zip(self.weights, self.scores)):
            effective = weight * self.select.apply(scores.abs())
            convolution = weight.dim() == 4
            x = F.conv2d(x, effective, padding=1) if convolution else F.linear(x.flatten(1), effective)
            if i + 1 < len(self.weights):
                x = F.relu(x)
            if convolution and i % 2 == 1:
                x = F.max_pool2d(x, 2)
        return x

    def epoch(self, images, labels):
        """Trains one epoch; returns the seconds and the mean loss."""
        order = torch.randperm(len(images))
        start = time.perf_counter()
        total = 0.0
        for batch in order.split(BATCH):
            loss = F.cross_entropy(self.forward(images[batch]), labels[batch])
            self.sgd.zero_grad()
            loss.backward()
            self.sgd.step()
            total += loss.item() * len(batch)
        return time.perf_counter() - start, total / len(images)


def main():
    given = arguments(__doc__)
    tasks = [
        {"kernel": "pipeline", "operation": "pruning epoch", "network": network, "images": IMAGES[network], "sparsity": SPARSITY}
        for network in NETWORKS
    ]
    tasks = [task for task in tasks if wanted(given, task)]
    if not tasks:
        return
    peer_torch(torch)
    peer("NumPy", numpy.__version__, isa)
    for task in tasks:
        for threads in one_and_all(given):
            measured(given, task, threads)


def measured(given, task, threads):
    """Measures a task on this number of threads and prints its rows."""
    network, count = task["network"], task["images"]
    images, labels = noise(count) if network == "conv4" else mnist()
    # As in slth-bench, rates of convolutional networks are in images.
    unit, work = ("image", float(count)) if network == "conv4" else ("epoch", 1.0)
    use(threads)
    torch.set_num_threads(threads)
    networks = {variant: Network(network, *way) for variant, way in WAYS.items()}
    times = {variant: [] for variant in networks}
    for number in range(given.rounds or ROUNDS):
        for variant, way in networks.items():
            if len(times[variant]) == MOST.get(variant):
                continue
            seconds, loss = way.epoch(images, labels)
            # Noise cannot be learnt in one epoch, so only a loss that is not finite shows an error.
            if not loss < (math.inf if network == "conv4" else 2.0):
                raise SystemExit(f"{variant}: does not learn, loss {loss}")
            times[variant].append(seconds)
            note(f"{network}, {threads} threads, round {number + 1}: {variant} {seconds:.2f} s, loss {loss:.3f}")
    for variant, found in times.items():
        emit(task, "torch", variant, unit, work, found, threads)


if __name__ == "__main__":
    main()
