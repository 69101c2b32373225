//! What all ways of pruning share.

use std::ops::Range;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use slth_kernels::PackedMask;

use super::epochs::Timing;
use crate::error::Error;
use crate::network::{Architecture, LayerShape};

/// What the sparsity is a fraction of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Of each layer's weights
    #[default]
    #[value(alias = "layer")]
    PerLayer,
    /// Of all weights, ranked together: a layer may lose everything
    Global,
}

crate::flags::display_by_name!(Scope);

/// A pruned layer.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunedLayer {
    /// Its sizes.
    pub shape: LayerShape,
    /// All weights `[outputs, inputs]`, the removed ones not zeroed.
    pub weights: Vec<f32>,
    /// The scores that the mask was cut from, `[outputs, inputs]`.
    pub scores: Vec<f32>,
    /// Which weights are kept.
    pub mask: PackedMask,
    /// Its biases `[outputs]`; empty where it has none.
    pub bias: Vec<f32>,
}

/// A pruned network.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// Its layers, first to last.
    pub layers: Vec<PrunedLayer>,
    /// How long it took.
    pub timing: Timing,
}

/// The layers whose weights are ranked together, and how many of these weights are kept at `sparsity`: all but int(s·n),
/// truncated in f64.
pub(super) fn rankings(network: &Architecture, scope: Scope, sparsity: f64) -> Vec<(Range<usize>, usize)> {
    match scope {
        Scope::PerLayer => {
            let layers = network.layers().enumerate();
            layers.map(|(index, layer)| (index..index + 1, layer.kept(sparsity))).collect()
        }
        Scope::Global => {
            let all = LayerShape::new(1, network.weights());
            vec![(0..network.layers().len(), all.kept(sparsity))]
        }
    }
}

/// Checks that layers of so many `weights`, biases counted where a layer has them, are those of `network`.
pub(super) fn check_weights(
    network: &Architecture,
    weights: impl ExactSizeIterator<Item = usize>,
) -> Result<(), Error> {
    let (expected, found) = (network.layers().len(), weights.len());
    if expected != found {
        return Err(Error::config(
            "network",
            format!("{network} has {expected} layers, the weights {found}"),
        ));
    }
    for ((layer, index), found) in network.layers().zip(1..).zip(weights) {
        if found != layer.weights() && found != layer.weights() + layer.outputs {
            let expected = layer.weights();
            let problem = format!("layer {index} of {network} has {expected} weights, but {found} are given");
            return Err(Error::config("network", problem));
        }
    }
    Ok(())
}

/// Checks that `sparsity` lies in [0, 1).
pub(crate) fn check_sparsity(sparsity: f64) -> Result<(), Error> {
    Error::check("sparsity", (0.0..1.0).contains(&sparsity), "lie in [0, 1)", sparsity)
}
