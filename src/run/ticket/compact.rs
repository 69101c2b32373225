//! Compact tickets: masks as bits, and only those weights that the configuration does not draw.
//!
//! Of each layer, I from 1: `layerI.mask_bits` (u8), bit j of byte i for weight 8 i + j, 1 kept; where training has changed kept weights,
//! these as `layerI.kept` (f32), in order; where it has changed biases, `layerI.bias` (f32). Differences to the drawn weights would
//! take as much room, and rounding would lose bits. `drawn_hash` (u8) is the SHA-256 of all that the configuration draws, weights and
//! biases as little-endian f32, where any of it is left out: another version of slth may draw otherwise.

use std::collections::BTreeMap;

use safetensors::Dtype;
use sha2::{Digest, Sha256};
use slth_kernels::PackedMask;

use super::read::{TicketProblem, floats, take};
use crate::network::LayerShape;
use crate::run::config::RunConfig;
use crate::tensors::{Tensor, TensorEntry, TensorFile, little_endian};
use crate::training::PrunedLayer;

const DRAWN_HASH: &str = "drawn_hash";

/// SHA-256 of what a configuration draws.
fn hash(drawn: &[Vec<f32>]) -> Vec<u8> {
    let mut hash = Sha256::new();
    drawn.iter().for_each(|layer| hash.update(little_endian(layer)));
    hash.finalize().to_vec()
}

/// The names of a layer's tensors, `index` from 0.
fn names(index: usize) -> [String; 3] {
    ["mask_bits", "kept", "bias"].map(|what| format!("layer{}.{what}", index + 1))
}

/// Whether a ticket with these tensors is a compact one.
pub(super) fn is_compact(tensors: &BTreeMap<&str, &TensorEntry>) -> bool {
    tensors.contains_key(&*names(0)[0])
}

/// The tensors of a compact ticket.
pub(super) fn tensors(config: &RunConfig, layers: &[PrunedLayer]) -> Vec<Tensor> {
    let same = |a: &[f32], b: &[f32]| a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()));
    let drawn = config.weights.is_none().then(|| config.drawn());
    let (mut tensors, mut complete) = (Vec::new(), true);
    for (index, PrunedLayer { weights, mask, bias, .. }) in layers.iter().enumerate() {
        let [mask_bits, kept, biases] = names(index);
        let drawn = drawn.as_ref().map(|layers| layers[index].split_at(mask.len()));
        let kept_of = |weights: &[f32]| mask.kept_indices().map(|i| weights[i]).collect::<Vec<_>>();
        let own = kept_of(weights);
        tensors.push(Tensor::bits(mask_bits, mask));
        if !drawn.is_some_and(|(weights, _)| same(&own, &kept_of(weights))) {
            tensors.push(Tensor::floats(kept, vec![own.len()], &own));
        } else {
            complete = false;
        }
        if !bias.is_empty() && !drawn.is_some_and(|(_, drawn)| same(bias, drawn)) {
            tensors.push(Tensor::floats(biases, vec![bias.len()], bias));
        } else {
            complete &= bias.is_empty();
        }
    }
    tensors.extend(drawn.filter(|_| !complete).map(|drawn| Tensor::bytes(DRAWN_HASH, hash(&drawn))));
    tensors
}

/// What is read of a layer.
struct Stored {
    shape: LayerShape,
    mask: PackedMask,
    kept: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

/// The layers of a compact ticket. The tensors that it has are no longer among those left.
pub(super) fn layers(
    file: &TensorFile,
    left: &mut BTreeMap<&str, &TensorEntry>,
    config: &RunConfig,
) -> Result<Vec<PrunedLayer>, TicketProblem> {
    // All masks are read before a weight is drawn: they are as long as the network is large.
    let mut stored = Vec::new();
    for (index, shape) in config.network.layers().enumerate() {
        let [mask_bits, kept, bias] = names(index);
        let mask = mask(file, take(left, mask_bits, Dtype::U8, vec![shape.weights().div_ceil(8)])?, shape)?;
        let mut values = |name: String, count| {
            let there = left.contains_key(&*name);
            there.then(|| floats(file, take(left, name, Dtype::F32, vec![count])?)).transpose()
        };
        let (kept, bias) = (values(kept, mask.kept())?, values(bias, shape.outputs)?);
        if kept.is_none() && config.weights.is_some() {
            return Err(TicketProblem::Missing(names(index)[1].clone()));
        }
        stored.push(Stored { shape, mask, kept, bias });
    }
    let complete = stored.iter().all(|layer| layer.kept.is_some() && (layer.bias.is_some() || !config.bias));
    let drawn = if complete { Vec::new() } else { config.drawn() };
    if !complete {
        let expected = take(left, DRAWN_HASH.to_owned(), Dtype::U8, vec![32])?;
        if file.bytes(expected).map_err(|error| error.problem)? != hash(&drawn) {
            return Err(TicketProblem::DrawnOtherwise);
        }
        if !drawn.iter().flatten().all(|weight| weight.is_finite()) {
            return Err(TicketProblem::Configuration("the weights that it draws are not finite".to_owned()));
        }
    }
    let mut drawn = drawn.into_iter();
    let layer = |Stored { shape, mask, kept, bias }| {
        let mut weights = drawn.next().unwrap_or_default();
        let drawn_bias = weights.split_off(weights.len().min(mask.len()));
        if let Some(kept) = kept {
            weights = vec![0.0; mask.len()];
            mask.kept_indices().zip(kept).for_each(|(i, weight)| weights[i] = weight);
        }
        PrunedLayer { shape, weights, scores: Vec::new(), mask, bias: bias.unwrap_or(drawn_bias) }
    };
    Ok(stored.into_iter().map(layer).collect())
}

fn mask(file: &TensorFile, entry: &TensorEntry, shape: LayerShape) -> Result<PackedMask, TicketProblem> {
    let (bytes, len) = (file.bytes(entry).map_err(|error| error.problem)?, shape.weights());
    let beyond = bytes.last().filter(|_| len % 8 > 0).map_or(0, |&last| last >> (len % 8));
    if beyond > 0 {
        return Err(TicketProblem::MaskTooLong(entry.name.clone()));
    }
    Ok(PackedMask::from_fn(len, |i| bytes[i / 8] >> (i % 8) & 1 == 1))
}
