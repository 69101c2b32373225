//! Shared by all ways of pruning.

use std::ops::Range;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use slth_kernels::top_k::{Order, Selection, Selector, Threshold};
use slth_kernels::{Engine, KernelError, PackedMask};
use smallvec::SmallVec;

use super::n_of_m::{Pattern, fill};
use super::timing::Timing;
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

/// Which layers keep all their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KeepDense {
    /// None
    #[default]
    None,
    /// The first
    First,
    /// The last
    Last,
    /// The first and the last
    Both,
}

impl KeepDense {
    /// The others, of so many layers.
    pub(crate) fn pruned(self, layers: usize) -> Range<usize> {
        let first = usize::from(matches!(self, Self::First | Self::Both));
        let end = layers - usize::from(matches!(self, Self::Last | Self::Both));
        first..end.max(first)
    }
}

crate::flags::display_by_name!(Scope, KeepDense);

/// Which weights go, given their scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cut {
    /// s, the fraction of weights REMOVED, in [0, 1).
    pub sparsity: f64,
    /// What the sparsity is a fraction of.
    pub scope: Scope,
    /// With s > 0 how many of every so many consecutive weights are kept, whatever s is.
    pub pattern: Option<Pattern>,
    /// The layers that lose no weight.
    pub keep_dense: KeepDense,
    /// s of the last layer, where it has its own; per layer only.
    pub output_sparsity: Option<f64>,
}

/// A pruned layer.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunedLayer {
    /// Its sizes.
    pub shape: LayerShape,
    /// All weights `[outputs, inputs]`, the removed ones not zeroed.
    pub weights: Vec<f32>,
    /// The scores that the mask was made from, `[outputs, inputs]`.
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
    /// The time of pruning.
    pub timing: Timing,
}

/// Layers whose weights are ranked together.
struct Ranking {
    layers: Range<usize>,
    /// How many weights are kept: all but int(s·n), truncated in f64.
    keep: usize,
    removed: usize,
    selector: Selector,
    /// That of the last selection, near which the next is searched.
    threshold: Option<Threshold>,
}

/// Cuts masks out of scores, again and again.
pub(super) struct Cutter {
    rankings: Vec<Ranking>,
    pattern: Option<Pattern>,
    order: Vec<(u32, usize)>,
}

impl Cutter {
    /// For the layers of a network.
    pub(super) fn new(shapes: &[LayerShape], cut: &Cut) -> Self {
        let pruned = cut.keep_dense.pruned(shapes.len());
        let weights = shapes[pruned.clone()].iter().map(|shape| shape.weights()).sum();
        let ranking = |layers: Range<usize>, shape: LayerShape, sparsity| {
            let (keep, selector) = (shape.kept(sparsity), Selector::default());
            Ranking { layers, keep, removed: shape.weights() - keep, selector, threshold: None }
        };
        let rankings = match cut.scope {
            Scope::PerLayer => {
                let layer = |index| {
                    let own = cut.output_sparsity.filter(|_| index + 1 == shapes.len());
                    ranking(index..index + 1, shapes[index], own.unwrap_or(cut.sparsity))
                };
                pruned.map(layer).collect()
            }
            Scope::Global if pruned.is_empty() => vec![],
            Scope::Global => vec![ranking(pruned, LayerShape::new(1, weights), cut.sparsity)],
        };
        let pattern = cut.pattern.filter(|_| cut.sparsity > 0.0);
        Self { rankings, pattern, order: Vec::new() }
    }

    /// Whether nothing is removed.
    pub(super) fn keeps_all(&self) -> bool {
        self.pattern.is_none() && self.rankings.iter().all(|ranking| ranking.removed == 0)
    }

    /// Selects what is kept of each layer, given the scores of all; of equal ones the lower index goes first.
    pub(super) fn select<'s>(
        &mut self,
        engine: Engine,
        scores: impl Iterator<Item = &'s [f32]>,
        masks: &mut [PackedMask],
    ) -> Result<(), KernelError> {
        // Steps must not allocate.
        let scores: SmallVec<[&[f32]; 32]> = scores.collect();
        for Ranking { layers, keep, selector, threshold, .. } in &mut self.rankings {
            let (scores, masks) = (&scores[layers.clone()], &mut masks[layers.clone()]);
            if let Some(Pattern { keep, group }) = self.pattern {
                if let Some(index) = scores[0].iter().position(|score| score.is_nan()) {
                    return Err(KernelError::NotANumber { layer: layers.start, index });
                }
                fill(scores[0], keep, group, &mut masks[0], &mut self.order);
                continue;
            }
            let largest = Selection::largest(*keep, Order::Magnitude);
            let selection = threshold.map_or(largest, |threshold| largest.near(threshold));
            *threshold = Some(selector.select(engine, scores, selection, masks)?);
        }
        Ok(())
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

impl Cut {
    /// Checks that it makes sense, for `network` too.
    pub(crate) fn check(&self, network: &Architecture) -> Result<(), Error> {
        let Self { sparsity, scope, pattern, keep_dense, .. } = *self;
        check_sparsity(sparsity)?;
        let pruned = keep_dense.pruned(network.layers().len());
        let any = sparsity == 0.0 || !pruned.is_empty();
        Error::check("keep_dense", any, format_args!("leave a layer of {network} to prune"), keep_dense)?;
        let Some(pattern) = pattern.filter(|_| sparsity > 0.0) else { return Ok(()) };
        let removes = pattern.sparsity();
        let must = format_args!("be {removes}, which {pattern} removes").to_string();
        Error::check("sparsity", sparsity == removes, must, sparsity)?;
        Error::check("scope", scope == Scope::PerLayer, "be per-layer with a pattern", scope)?;
        let divides = |&index: &usize| {
            network.layers().nth(index).is_some_and(|shape| shape.inputs.is_multiple_of(pattern.group))
        };
        match pruned.into_iter().find(|index| !divides(index)) {
            None => Ok(()),
            Some(index) => {
                let inputs = network.layers().nth(index).map_or(0, |shape| shape.inputs);
                let (group, layer) = (pattern.group, index + 1);
                let problem = format!(
                    "groups of {group} do not divide the {inputs} inputs of layer {layer} of {network}; choose another, or leave the layer whole by --keep-dense"
                );
                Err(Error::config("pattern", problem))
            }
        }
    }
}
