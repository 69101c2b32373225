"""Inference of a pruned 784-1024-1024-10 with biases by slth.torch.accelerate, beside dense PyTorch, on one thread."""

import copy

import slth.torch
import torch
from common import in_turns, one_thread, table
from torch import nn
from torch.nn.utils import prune as torch_prune


def main() -> None:
    one_thread()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)).eval()
    rows = []
    for batch in (1, 16, 128):
        x = torch.randn(batch, 784)
        nets = {"dense": net}
        for sparsity in (0.5, 0.8, 0.9, 0.95):
            pruned = copy.deepcopy(net)
            for name in slth.torch.prune(pruned, sparsity):
                torch_prune.remove(pruned.get_submodule(name), "weight")
            nets[f"s={sparsity}"], _ = slth.torch.accelerate(pruned, max_batch=batch)
            with torch.inference_mode():
                torch.testing.assert_close(nets[f"s={sparsity}"](x), pruned(x), rtol=1e-4, atol=1e-4)
        with torch.inference_mode():
            times = in_turns({name: lambda net=net: net(x) for name, net in nets.items()}, 4)
        rows += [
            [f"{batch} {name}", f"{1e6 * seconds:.0f}", f"{times['dense'] / seconds:.2f}"]
            for name, seconds in times.items()
        ]
    print(table(["batch, layers", "µs", "× faster"], rows))


if __name__ == "__main__":
    main()
