"""Trains an MLP on MNIST, prunes it by magnitude, trains what is left, and accelerates its inference."""

import time

import slth.torch
import torch
import torch.nn.functional as F
from mnist import mnist
from torch import nn

torch.manual_seed(1)
images, labels = mnist("train")
tests, test_labels = mnist("t10k")
model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


def train(steps: int, rate: float) -> None:
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        chosen = torch.randint(len(images), (128,))
        optimiser.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimiser.step()
    model.eval()


@torch.no_grad()
def accuracy(net: nn.Module) -> str:
    return f"{100 * (net(tests).argmax(1) == test_labels).double().mean():.2f} %"


@torch.no_grad()
def milliseconds(net: nn.Module, batch: int) -> float:
    begin = time.perf_counter()
    for _ in range(100):
        net(tests[:batch])
    return 10 * (time.perf_counter() - begin)


train(steps=300, rate=0.05)
print("dense: ", accuracy(model))
slth.torch.prune(model, sparsity=0.9)
print("pruned:", accuracy(model))
train(steps=200, rate=0.02)  # removed weights stay 0
print("tuned: ", accuracy(model))

fast, report = slth.torch.accelerate(model, max_batch=16)
print("fast:  ", accuracy(fast))
print(report)
dense = nn.Sequential(*(nn.Linear(i, o) for i, o in ((784, 1024), (1024, 1024), (1024, 10)))).eval()
print(f"batch of 16: dense layers {milliseconds(dense, 16):.2f} ms, accelerated {milliseconds(fast, 16):.2f} ms")
