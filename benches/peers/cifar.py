"""Edge-popup on CIFAR-10 in PyTorch: test accuracy of the last epoch, and seconds an epoch, on one thread.

    cifar.py DIR [--network conv2] [--epochs 6] [--seeds 0,1,2] [--sparsity 0.5]

DIR has the binary files, data_batch_*.bin and test_batch.bin, plain or gzipped. The threshold is found by torch.kthvalue; batch 128, learning rate 0.1
on a cosine epoch by epoch, momentum 0.9, weight decay 1e-4, weights by Kaiming's normal distribution, pixels standardised by
channel. The same of slth, its network trained on all images:

    slth run --data DIR --network conv2 --epsilon 0 --pretrain-epochs 0 --sparsity 0.5 --prune-epochs 6 --validation 0 \\
        --threads 1 --normalize 0.4914,0.4822,0.4465,0.2470,0.2435,0.2616 --seed 1
"""

import argparse
import gzip
import math
import pathlib
import statistics

from fast_numpy import numpy  # must come first: sets how NumPy is loaded
import torch

import epoch
from common import use

MEAN = [0.4914, 0.4822, 0.4465]
STD = [0.2470, 0.2435, 0.2616]
RECORD = 1 + 3 * 32 * 32


def images(files):
    def read(file):
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as opened:
            return numpy.frombuffer(opened.read(), numpy.uint8).reshape(-1, RECORD)

    records = numpy.concatenate([read(file) for file in sorted(files)])
    pixels = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    mean, std = (torch.tensor(of).view(3, 1, 1) for of in (MEAN, STD))
    return (pixels - mean) / std, torch.from_numpy(records[:, 0]).long()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--network", choices=list(epoch.CONVOLUTIONAL), default="conv2")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sparsity", type=float, default=0.5)
    given = parser.parse_args()
    use(1)
    torch.set_num_threads(1)
    epoch.SPARSITY = given.sparsity
    train, labels = images(given.data.glob("data_batch_*.bin*"))
    test, classes = images(given.data.glob("test_batch.bin*"))
    for seed in map(int, given.seeds.split(",")):
        network = epoch.Network(given.network, epoch.Kthvalue, False, seed)
        times = []
        for number in range(given.epochs):
            for group in network.sgd.param_groups:
                group["lr"] = 0.05 * (1 + math.cos(math.pi * number / given.epochs))
            times.append(network.epoch(train, labels)[0])
        with torch.no_grad():
            right = sum(int((network.forward(x).argmax(1) == y).sum()) for x, y in zip(test.split(500), classes.split(500)))
        print(f"seed {seed}: test accuracy {right / len(test):.4f}, {statistics.median(times):.1f} s an epoch", flush=True)


if __name__ == "__main__":
    main()
