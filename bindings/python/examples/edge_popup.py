"""Finds a subnetwork of a random network that knows MNIST: edge-popup, no weight is trained."""

import slth.torch
import torch
import torch.nn.functional as F
from mnist import mnist
from slth.torch import EdgePopupLinear
from torch import nn

torch.manual_seed(1)
images, labels = mnist("train")
tests, test_labels = mnist("t10k")
layers = [EdgePopupLinear(i, o, sparsity=0.5) for i, o in ((784, 500), (500, 500), (500, 10))]
model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
before = [layer.weight.clone() for layer in layers]
optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
for step in range(431):
    if step % 100 == 0 or step == 430:
        with torch.no_grad():
            correct = (model(tests).argmax(1) == test_labels).double().mean()
        print(f"step {step}: test accuracy {100 * correct:.2f} %")
    chosen = torch.randint(len(images), (128,))
    optimiser.zero_grad()
    F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
    optimiser.step()
assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, before))
print("kept of each layer:", [layer.keep for layer in layers])
