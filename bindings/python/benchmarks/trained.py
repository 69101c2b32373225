"""A network with biases trained in PyTorch on MNIST, pruned by slth, and back in PyTorch.

Saves its state dict in f32 and bf16, evaluates both with `slth evaluate --weights`, prunes by magnitude with `slth prune` and with
`slth run --weights`, which finetunes, and loads what comes back: the same accuracy to the image, the same outputs within 1e-5 of the
largest. Takes the command slth, by default from the path.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import slth
import torch
from common import mnist, table
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune as torch_prune

COMMAND = sys.argv[1] if len(sys.argv) > 1 else "slth"
NORMALIZE = ["--normalize", "0.1307,0.3081"]
SPARSITY = 0.9


def command(*arguments: object) -> str:
    return subprocess.run([COMMAND, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def train(net: nn.Module, x: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    step = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(128):
            step.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), labels[batch]).backward()
            step.step()


def from_ticket(file: Path) -> nn.Sequential:
    """The pruned network that a ticket is."""
    ticket, net = load_file(file), network()
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    for i, layer in enumerate(layers, 1):
        layer.weight.data = ticket[f"layer{i}.weight"] * ticket[f"layer{i}.mask"]
        layer.bias.data = ticket[f"layer{i}.bias"]
    return net


def outputs_of_ticket(file: Path, x: np.ndarray) -> np.ndarray:
    """What slth's kernels make of its kept weights."""
    ticket = load_file(file)
    layers = len(ticket) // 4
    for i in range(1, layers + 1):
        weight, mask, bias = (ticket[f"layer{i}.{what}"].numpy() for what in ("weight", "mask", "bias"))
        packed = slth.PackedWeights(weight, mask.astype(bool), bias=bias, max_batch=len(x))
        x = packed.forward(x, activation=None if i == layers else "relu")
    return x


@torch.no_grad()
def main() -> None:
    torch.manual_seed(1)
    x, labels = map(torch.from_numpy, mnist("train"))
    test, answers = map(torch.from_numpy, mnist("t10k"))
    x, test = x.flatten(1), test.flatten(1)
    net = network()
    with torch.enable_grad():
        train(net, x, labels, epochs=2)

    def correct(net: nn.Module) -> int:
        return int((net(test).argmax(1) == answers).sum())

    def correct_of_slth(*arguments: object) -> int:
        line = command("evaluate", *arguments)
        return int(re.search(r"\((\d+) of", line)[1])

    rows = []

    def compare(what: str, in_torch: int, in_slth: int, exact: bool = True) -> None:
        rows.append([what, str(in_torch), str(in_slth)])
        assert in_torch == in_slth or not exact, (what, in_torch, in_slth)

    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        file = directory / "model.safetensors"
        save_file(net.state_dict(), file)
        compare("trained, f32", correct(net), correct_of_slth("--weights", file, *NORMALIZE))

        halves = directory / "bf16.safetensors"
        rounded = {name: tensor.bfloat16() for name, tensor in net.state_dict().items()}
        save_file(rounded, halves)
        wide = network()
        wide.load_state_dict({name: tensor.float() for name, tensor in rounded.items()})
        compare("trained, bf16", correct(wide), correct_of_slth("--weights", halves, *NORMALIZE))

        # One shot: the weights that PyTorch's l1_unstructured removes, and a file that load_state_dict takes.
        pruned = directory / "pruned.safetensors"
        command("prune", file, "--method", "magnitude", "--sparsity", SPARSITY, "--out", pruned)
        loaded, same = network(), network()
        loaded.load_state_dict(load_file(pruned))
        same.load_state_dict(net.state_dict())
        for ours, theirs in zip(loaded, same):
            if isinstance(theirs, nn.Linear):
                torch_prune.l1_unstructured(theirs, "weight", amount=int(SPARSITY * theirs.weight.numel()))
                assert torch.equal(ours.weight, theirs.weight), "other weights are removed"
                assert torch.equal(ours.bias, theirs.bias)
        compare(f"pruned to {SPARSITY}", correct(loaded), correct_of_slth("--weights", pruned, *NORMALIZE))
        masks = directory / "masks.safetensors"
        save_file(same.state_dict(), masks)
        compare("the same as weight_orig and weight_mask", correct(same), correct_of_slth("--weights", masks, *NORMALIZE))

        out = directory / "run"
        run = ["run", "--quiet", "--weights", file, *NORMALIZE, "--sparsity", SPARSITY, "--pretrain-epochs", 0]
        command(*run, "--method", "magnitude-then-finetune", "--prune-epochs", 3, "--validation", 0, "--out", out)
        result = json.loads((out / "result.json").read_text())
        ticket = out / "ticket.safetensors"
        back = from_ticket(ticket)
        expected = outputs_of_ticket(ticket, test.numpy())
        difference = float(np.abs(back(test).numpy() - expected).max())
        largest = float(np.abs(expected).max())
        in_slth = correct_of_slth("--ticket", ticket)
        assert in_slth == round(result["prune"]["test_accuracy"] * len(test))
        compare(f"pruned to {SPARSITY}, finetuned", correct(back), in_slth)
        assert difference <= 1e-5 * largest, (difference, largest)
    print(table([f"of {len(test)} test images correct", "PyTorch", "slth"], rows))
    print(f"outputs of the finetuned network: largest {largest:.3g}, largest difference {difference:.2g}")


if __name__ == "__main__":
    main()
