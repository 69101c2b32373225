"""A mask by exact top-k, and products with the weights that it keeps."""

import numpy as np
import slth

weight = np.random.default_rng(1).standard_normal((500, 784), dtype=np.float32)
mask = slth.top_k(weight, sparsity=0.9)  # bool [500, 784]; int(0.9 * 392000) weights are removed
layer = slth.PackedWeights(weight, mask, max_batch=16)
x = np.random.default_rng(2).standard_normal((16, 784), dtype=np.float32)
y = layer.forward(x, activation="relu")  # [16, 500]
assert np.allclose(y, np.maximum(x @ (weight * mask).T, 0), atol=1e-3)
print(f"{layer}: {layer.nbytes / 1e6:.1f} MB, {np.count_nonzero(y)} of {y.size} outputs are positive")

# Several layers ranked together; and a mask as packed bits, an eighth of the memory.
layers = [weight, 2 * weight[:100]]
masks = slth.top_k(layers, sparsity=0.5)
print("kept of each layer:", [round(float(mask.mean()), 3) for mask in masks])
bits = slth.top_k(weight, sparsity=0.9, packed=True)
assert (np.unpackbits(bits, count=weight.size, bitorder="little").reshape(weight.shape) == mask).all()
