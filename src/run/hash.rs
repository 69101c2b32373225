//! Hashes that tell whether two runs gave the same bits.

use sha2::{Digest, Sha256};

use crate::data::Dataset;
use crate::tensors::{little_endian, mask_bytes};
use crate::training::PrunedLayer;

/// The revision of the bits that a configuration and seed give: the number of entries under "Output bits" in CHANGELOG.md.
/// Results of another revision may differ, so that a sweep neither continues nor merges them.
pub const BITS_REVISION: u32 = 5;

/// SHA-256, in hex, over all weights, removed ones too, as little-endian f32, layer by layer: the bytes of the `layerI.weight`
/// tensors of `ticket.safetensors` one after another, each with its `layerI.bias` behind it, where there is one.
pub fn weights_hash(layers: &[PrunedLayer]) -> String {
    let mut hash = Sha256::new();
    for layer in layers {
        hash.update(little_endian(&layer.weights));
        hash.update(little_endian(&layer.bias));
    }
    hex(hash)
}

/// SHA-256, in hex, over all masks, a byte 0 or 1 per weight, layer by layer: the bytes of the `layerI.mask` tensors of
/// `ticket.safetensors` one after another.
pub fn mask_hash(layers: &[PrunedLayer]) -> String {
    let mut hash = Sha256::new();
    for layer in layers {
        hash.update(mask_bytes(&layer.mask));
    }
    hex(hash)
}

/// SHA-256, in hex, over sizes, labels and pixels of all images: equal for the same data, from any file.
pub fn dataset_hash(dataset: &Dataset) -> String {
    let mut hash = Sha256::new();
    let [channels, rows, columns] = dataset.shape();
    let mut numbers = vec![rows, columns, dataset.train().len(), dataset.test().len()];
    // Grey images have the hash of their rows and columns alone.
    numbers.extend((channels != 1).then_some(channels));
    numbers.iter().for_each(|&number| hash.update((number as u64).to_le_bytes()));
    for examples in [dataset.train(), dataset.test()] {
        hash.update(examples.labels());
        hash.update(examples.pixels());
    }
    hex(hash)
}

/// SHA-256, in hex, of `text`.
pub(crate) fn text_hash(text: impl AsRef<[u8]>) -> String {
    hex(Sha256::new().chain_update(text))
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
