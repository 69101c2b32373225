//! `approximation.json` and the approximated networks.

use serde::Serialize;
use slth_kernels::subset_sum::Subset;

use super::config::ApproximateConfig;
use super::construction::Construction;
use crate::machine::Machine;
use crate::output::pretty;
use crate::tensors::{Tensor, serialize};
use crate::training::PrunedLayer;

/// The content of `approximation.json`.
#[derive(Clone, Debug, Serialize)]
pub struct ApproximationResult {
    /// One for each ε.
    pub results: Vec<ApproximationRow>,
    /// The smallest n for each of several ε.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub smallest: Vec<SmallestRow>,
    /// The theorem's network for each ε, if requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub construction: Vec<ConstructionRow>,
    /// Widths of the target; null if the file is not a fully connected network without biases.
    pub network: Option<String>,
    /// The tensors rebuilt, in the order of the file.
    pub tensors: Vec<String>,
    /// SHA-256, in hex, over their weights as little-endian f32, tensor by tensor.
    pub target_hash: String,
    /// The instruction set it ran on.
    pub backend: String,
    /// The threads it ran on.
    pub threads: usize,
    /// The program's version.
    pub slth_version: String,
    /// Its [`BITS_REVISION`](crate::BITS_REVISION).
    pub bits_revision: u32,
    /// The machine.
    pub machine: Machine,
    /// The configuration.
    pub configuration: ApproximateConfig,
}

/// An approximation at one ε. If η is relative, residuals and ε are fractions of each tensor's largest |weight|. With a
/// construction the residuals are those of both halves of every weight. Candidates and kept ones are counted over both halves,
/// and a weight fails when one half does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ApproximationRow {
    /// How far candidates may be moved.
    pub epsilon: f32,
    /// Weights of the target.
    pub weights: usize,
    /// n.
    pub candidates_per_weight: usize,
    /// The most candidates of a weight: more than n if it failed with n.
    pub candidates_most: usize,
    /// Candidates of all weights, shared or not.
    pub candidates_total: usize,
    /// Of those, kept.
    pub kept_total: usize,
    /// The largest distance of a weight from its subset.
    pub max_residual: f64,
    /// The mean distance.
    pub mean_residual: f64,
    /// Weights further than η from their subset.
    pub failed: usize,
    /// Weights that differ by more than η as written: the subset's sum rounded to the tensor's type. The rounding, at most 2⁻⁸ of
    /// the weight with BF16 and 2⁻¹¹ with F16, can move a weight beyond η.
    pub failed_as_written: usize,
    /// Test accuracy of the target, a fraction; null without data that fits it.
    pub accuracy_before: Option<f64>,
    /// Test accuracy of the approximation.
    pub accuracy_after: Option<f64>,
    /// Time of drawing and searching.
    pub seconds: f64,
    /// The largest residual beyond the optimum in f64; only where that was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_excess: Option<f64>,
}

/// The smallest number of candidates at which no weight fails.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SmallestRow {
    /// How far candidates may be moved.
    pub epsilon: f32,
    /// n; null if it is beyond 30.
    pub candidates_per_weight: Option<usize>,
}

/// The theorem's network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConstructionRow {
    /// How far weights of V may be moved.
    pub epsilon: f32,
    /// Its widths.
    pub network: String,
    /// The smallest n, of both halves together, at which no weight fails; null where it is beyond 60.
    pub candidates_needed: Option<usize>,
    /// The hidden units that takes, of all layers.
    pub units_needed: Option<usize>,
    /// The hidden units of the theorem, its open constant taken as 1.
    pub units_of_theorem: f64,
    /// Its weights, removed ones too.
    pub weights: usize,
    /// Of those, kept.
    pub kept: usize,
    /// Number of random test inputs.
    pub probes: usize,
    /// The largest difference between its outputs and the target's.
    pub max_difference: f64,
    /// The target's largest output.
    pub max_output: f64,
}

impl ApproximationRow {
    /// Adds weights with these `subsets`, `halves` for each, of `candidates` in all; residuals and `eta` are measured in `scale`.
    pub(super) fn add(&mut self, subsets: &[Subset], halves: usize, candidates: usize, scale: f64, eta: f64) {
        let residuals = || subsets.iter().map(|subset| subset.residual / scale);
        let weights = self.weights + subsets.len() / halves;
        let total = self.mean_residual * (self.weights * halves) as f64 + residuals().sum::<f64>();
        self.mean_residual = total / (weights * halves) as f64;
        self.weights = weights;
        self.candidates_total += candidates;
        self.kept_total += subsets.iter().map(|subset| subset.size() as usize).sum::<usize>();
        self.max_residual = residuals().fold(self.max_residual, f64::max);
        let fails = |weight: &&[Subset]| weight.iter().any(|subset| subset.residual / scale > eta);
        self.failed += subsets.chunks(halves).filter(fails).count();
    }

    /// The fraction of the candidates that is kept.
    pub fn kept_fraction(&self) -> f64 {
        self.kept_total as f64 / self.candidates_total as f64
    }
}

impl ConstructionRow {
    /// Summarises a construction.
    pub fn new(built: &Construction) -> Self {
        Self {
            epsilon: built.epsilon,
            network: built.network.to_string(),
            candidates_needed: built.smallest.map(|n| 2 * n),
            units_needed: built.units_needed,
            units_of_theorem: built.units_of_theorem,
            weights: built.network.weights(),
            kept: built.layers.iter().map(|layer| layer.mask.kept()).sum(),
            probes: built.probes,
            max_difference: built.max_difference,
            max_output: built.max_output,
        }
    }
}

impl ApproximationResult {
    /// The name of its file, which marks a complete result.
    pub const FILE: &str = "approximation.json";

    /// The names of the plot.
    pub const PLOT: [&str; 2] = ["approximation.svg", "approximation.png"];

    /// The name of a file of `epsilon`, one of the configuration's: `approximated` or `subsets`.
    pub fn file_of(config: &ApproximateConfig, what: &str, epsilon: f32) -> String {
        if config.epsilon.len() == 1 {
            format!("{what}.safetensors")
        } else {
            format!("{what}-epsilon-{epsilon}.safetensors")
        }
    }

    /// What was rebuilt, in words.
    pub fn subject(&self) -> String {
        let tensors = || format!("{} tensors", self.tensors.len());
        self.network.clone().unwrap_or_else(tensors)
    }

    /// As indented JSON.
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

impl Construction {
    /// The residuals of the weights, without accuracies; a weight fails when one of its halves is further than `eta`.
    pub fn summary(&self, eta: f64) -> ApproximationRow {
        let Self { epsilon, candidates: n, seconds, .. } = *self;
        let mut row =
            ApproximationRow { epsilon, candidates_per_weight: 2 * n, seconds, ..Default::default() };
        row.candidates_most = 2 * n;
        row.add(&self.subsets, 2, n * self.subsets.len(), 1.0, eta);
        row
    }

    /// The bytes of its safetensors file: `layerI.weight` (f32, perturbed) and `layerI.mask` (u8), I from 1, each
    /// `[outputs, inputs]`; metadata as in an approximation's.
    pub fn to_safetensors(&self, config: &ApproximateConfig) -> Vec<u8> {
        let tensors = |(index, layer): (usize, &PrunedLayer)| {
            let name = |what| format!("layer{}.{what}", index + 1);
            let weights = Tensor::floats(name("weight"), layer.shape.dimensions(), &layer.weights);
            [weights, Tensor::mask(name("mask"), layer.shape, &layer.mask)]
        };
        let tensors: Vec<_> = self.layers.iter().enumerate().flat_map(tensors).collect();
        serialize(&tensors, "approximation", &config.with_epsilon(self.epsilon))
    }
}
