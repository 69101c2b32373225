"""MNIST as it lies in this repository."""

import gzip
from pathlib import Path

import numpy as np
import torch


def mnist(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [n, 784], normalised, and labels of "train" or "t10k"."""

    def read(kind: str, header: int) -> np.ndarray:
        (file,) = (Path(__file__).resolve().parents[3] / "data" / "mnist").rglob(f"{part}-{kind}-ubyte.gz")
        return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=header)

    pixels = torch.from_numpy(read("images-idx3", 16).reshape(-1, 784).astype(np.float32)) / 255
    return (pixels - 0.1307) / 0.3081, torch.from_numpy(read("labels-idx1", 8).astype(np.int64))
