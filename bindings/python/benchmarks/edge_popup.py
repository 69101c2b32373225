"""Edge-popup epochs on MNIST with slth.torch, in alternation with plain PyTorch, whose masks are from kthvalue; on one thread.

Usage: edge_popup.py [mlp|lenet5] [--epochs N] [--seeds 1,2,3] [--sparsity F] [--images N]
"""

import argparse
import math
import statistics
import time

import torch
import torch.nn.functional as F
from common import mnist, one_thread, table
from slth.torch import EdgePopupConv2d, EdgePopupLinear
from torch import nn

BATCH = 128


class Subnet(torch.autograd.Function):
    """|scores| above the k-th smallest, and the straight-through estimator."""

    @staticmethod
    def forward(ctx, magnitudes, k):
        if k == 0:
            return torch.ones_like(magnitudes)
        return (magnitudes > magnitudes.flatten().kthvalue(k).values).to(magnitudes.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Plain(nn.Module):
    """The same layer in plain PyTorch."""

    def __init__(self, layer):
        super().__init__()
        self.register_buffer("weight", layer.weight.clone())
        self.scores = nn.Parameter(layer.scores.detach().clone())
        self.k = int(layer.sparsity * layer.weight.numel())
        self.padding = getattr(layer, "padding", None)

    def forward(self, x):
        weight = self.weight * Subnet.apply(self.scores.abs(), self.k)
        if self.padding is None:
            return F.linear(x, weight)
        return F.max_pool2d(F.relu(F.conv2d(x, weight, padding=self.padding)), 2)


def network(name, s, linear=EdgePopupLinear, conv=EdgePopupConv2d):
    if name == "mlp":
        layers = [nn.Flatten(), linear(784, 500, s), nn.ReLU(), linear(500, 500, s), nn.ReLU(), linear(500, 10, s)]
    else:
        layers = [
            conv(1, 6, 5, s, padding=2, activation="relu", max_pool=2),
            *(conv(6, 16, 5, s, activation="relu", max_pool=2), nn.Flatten()),
            *(linear(400, 120, s), nn.ReLU(), linear(120, 84, s), nn.ReLU(), linear(84, 10, s)),
        ]
    return nn.Sequential(*layers)


def plain(net):
    convert = (Plain(layer) if hasattr(layer, "scores") else layer for layer in net)
    return nn.Sequential(*convert)


class Training:
    """SGD with momentum on the scores, on a cosine by epochs."""

    def __init__(self, net, epochs, seed):
        self.net, self.epochs, self.seconds = net, epochs, []
        self.optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)
        self.generator = torch.Generator().manual_seed(seed)

    def epoch(self, number, count):
        for group in self.optimiser.param_groups:
            group["lr"] = 0.1 * 0.5 * (1 + math.cos(math.pi * number / self.epochs))
        self.order = torch.randperm(count, generator=self.generator)
        self.spent = 0.0

    def steps(self, images, labels, first, last):
        begin = time.perf_counter()
        for at in range(first, last, BATCH):
            chosen = self.order[at : at + BATCH]
            self.optimiser.zero_grad()
            F.cross_entropy(self.net(images[chosen]), labels[chosen]).backward()
            self.optimiser.step()
        self.spent += time.perf_counter() - begin

    @torch.no_grad()
    def accuracy(self, images, labels):
        return (self.net(images).argmax(1) == labels).double().mean().item()


def check(net, other, images, labels):
    """One step's loss and gradients agree."""
    for a in (net, other):
        F.cross_entropy(a(images[:BATCH]), labels[:BATCH]).backward()
    for a, b in zip(net.parameters(), other.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
        a.grad = b.grad = None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=["mlp", "lenet5"], nargs="?", default="mlp")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--images", type=int, default=55_000)
    options = parser.parse_args()
    one_thread()
    torch.set_num_threads(1)
    images, labels = (torch.from_numpy(array)[: options.images] for array in mnist("train"))
    tests = [torch.from_numpy(array) for array in mnist("t10k")]

    seconds, rows = {"plain PyTorch": [], "slth.torch": []}, []
    for seed in map(int, options.seeds.split(",")):
        torch.manual_seed(seed)
        net = network(options.network, options.sparsity)
        other = plain(net)
        check(net, other, images, labels)
        trainings = {
            "plain PyTorch": Training(other, options.epochs, seed),
            "slth.torch": Training(net, options.epochs, seed),
        }
        # Turns of 20 steps.
        turn = 20 * BATCH
        for epoch in range(options.epochs):
            for training in trainings.values():
                training.epoch(epoch, len(images))
            for first in range(0, len(images), turn):
                for training in trainings.values():
                    training.steps(images, labels, first, min(first + turn, len(images)))
            for name, training in trainings.items():
                seconds[name].append(training.spent)
        rows.append([f"accuracy, seed {seed}", *(f"{100 * t.accuracy(*tests):.2f} %" for t in trainings.values())])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows.insert(0, ["seconds an epoch", *(f"{value:.2f}" for value in medians.values())])
    rows.insert(1, ["× faster", "1", f"{medians['plain PyTorch'] / medians['slth.torch']:.2f}"])
    print(table([f"{options.network}, s={options.sparsity}", *medians], rows))


if __name__ == "__main__":
    main()
