//! `approximation.json` and the approximated networks.

use serde::Serialize;
use sha2::{Digest, Sha256};
use slth_kernels::subset_sum::Subset;

use super::config::ApproximateConfig;
use super::construction::Construction;
use super::network::Approximation;
use super::target::Target;
use crate::machine::Machine;
use crate::output::pretty;
use crate::run::hash::{BITS_REVISION, hex};
use crate::tensors::{Tensor, little_endian, serialize};
use crate::training::PrunedLayer;

/// The content of `approximation.json`.
#[derive(Clone, Debug, Serialize)]
pub struct ApproximationResult {
    /// One for each ε.
    pub results: Vec<ApproximationRow>,
    /// The smallest n for each of several ε.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub smallest: Vec<SmallestRow>,
    /// The theorem's network for each ε, where it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub construction: Vec<ConstructionRow>,
    /// Widths of the target.
    pub network: String,
    /// SHA-256, in hex, over its weights as little-endian f32, layer by layer.
    pub target_hash: String,
    /// The instruction set it ran on.
    pub backend: String,
    /// The threads it ran on.
    pub threads: usize,
    /// The program's version.
    pub slth_version: String,
    /// Its [`BITS_REVISION`].
    pub bits_revision: u32,
    /// The machine.
    pub machine: Machine,
    /// What went in.
    pub configuration: ApproximateConfig,
}

/// An approximation at one ε. With a construction the residuals are those of both halves of every weight, candidates and
/// kept ones are counted over both, and a weight fails when one half does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApproximationRow {
    /// How far candidates may be moved.
    pub epsilon: f32,
    /// Weights of the target.
    pub weights: usize,
    /// n.
    pub candidates_per_weight: usize,
    /// n · weights, shared or not.
    pub candidates_total: usize,
    /// Of those, kept.
    pub kept_total: usize,
    /// The largest distance of a weight from its subset.
    pub max_residual: f64,
    /// The mean distance.
    pub mean_residual: f64,
    /// Weights further than η from their subset.
    pub failed: usize,
    /// Test accuracy of the target, a fraction; null where no data was given that fits it.
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
    /// n; null where it is beyond 30.
    pub candidates_per_weight: Option<usize>,
}

/// The theorem's network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConstructionRow {
    /// How far weights of V may be moved.
    pub epsilon: f32,
    /// Its widths.
    pub network: String,
    /// Its weights, removed ones too.
    pub weights: usize,
    /// Of those, kept.
    pub kept: usize,
    /// Random inputs it was compared on.
    pub probes: usize,
    /// The largest difference between its outputs and the target's.
    pub max_difference: f64,
    /// The target's largest output.
    pub max_output: f64,
}

impl ApproximationRow {
    /// Summarises `subsets`, each of `n` candidates, `halves` of them for each weight; without accuracies.
    fn new(subsets: &[&Subset], halves: usize, n: usize, epsilon: f32, eta: f64, seconds: f64) -> Self {
        let (weights, candidates_per_weight) = (subsets.len() / halves, halves * n);
        let residuals = || subsets.iter().map(|subset| subset.residual);
        let fails = |weight: &&[&Subset]| weight.iter().any(|subset| subset.residual > eta);
        Self {
            epsilon,
            weights,
            candidates_per_weight,
            candidates_total: candidates_per_weight * weights,
            kept_total: subsets.iter().map(|subset| subset.size() as usize).sum(),
            max_residual: residuals().fold(0.0, f64::max),
            mean_residual: residuals().sum::<f64>() / subsets.len() as f64,
            failed: subsets.chunks(halves).filter(fails).count(),
            accuracy_before: None,
            accuracy_after: None,
            seconds,
            max_excess: None,
        }
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
            weights: built.network.weights(),
            kept: built.layers.iter().map(|layer| layer.mask.kept()).sum(),
            probes: built.probes,
            max_difference: built.max_difference,
            max_output: built.max_output,
        }
    }
}

impl ApproximationResult {
    /// The name of its file, the sign of a complete result.
    pub const FILE: &str = "approximation.json";

    /// The names of the plot.
    pub const PLOT: [&str; 2] = ["approximation.svg", "approximation.png"];

    /// The name of the network approximated with `epsilon`, one of the configuration's.
    pub fn network_file(config: &ApproximateConfig, epsilon: f32) -> String {
        if config.epsilon.len() == 1 {
            "approximated.safetensors".to_owned()
        } else {
            format!("approximated-epsilon-{epsilon}.safetensors")
        }
    }

    /// A result without anything in it yet.
    pub fn new(config: &ApproximateConfig, target: &Target, backend: &str, threads: usize) -> Self {
        let mut hash = Sha256::new();
        target.weights.iter().for_each(|weights| hash.update(little_endian(weights)));
        Self {
            results: Vec::new(),
            smallest: Vec::new(),
            construction: Vec::new(),
            network: target.network.to_string(),
            target_hash: hex(hash),
            backend: backend.to_owned(),
            threads,
            slth_version: env!("CARGO_PKG_VERSION").to_owned(),
            bits_revision: BITS_REVISION,
            machine: Machine::current(),
            configuration: config.clone(),
        }
    }

    /// As indented JSON.
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

impl Approximation {
    /// How near the weights come; without accuracies.
    pub fn summary(&self) -> ApproximationRow {
        let subsets: Vec<_> = self.subsets.iter().flatten().collect();
        let Self { candidates_per_weight: n, epsilon, eta, seconds, .. } = *self;
        ApproximationRow::new(&subsets, 1, n, epsilon, eta, seconds)
    }

    /// The bytes of its safetensors file: the target's tensor names, f32 `[outputs, inputs]`. The one entry of the metadata,
    /// `approximation`, says how it was made.
    pub fn to_safetensors(&self, target: &Target, config: &ApproximateConfig) -> Vec<u8> {
        let layers = target.network.layers().zip(&self.weights).zip(&target.names);
        let tensors = layers.map(|((shape, weights), name)| Tensor::floats(name, shape, weights));
        file(&tensors.collect::<Vec<_>>(), self.epsilon, config)
    }
}

impl Construction {
    /// How near the weights come, a weight failing when one of its halves is further than `eta`; without accuracies.
    pub fn summary(&self, eta: f64) -> ApproximationRow {
        let subsets: Vec<_> = self.subsets.iter().collect();
        ApproximationRow::new(&subsets, 2, self.candidates, self.epsilon, eta, self.seconds)
    }

    /// The bytes of its safetensors file: `layerI.weight` (f32, perturbed) and `layerI.mask` (u8), I from 1, each
    /// `[outputs, inputs]`; metadata as in an approximation's.
    pub fn to_safetensors(&self, config: &ApproximateConfig) -> Vec<u8> {
        let tensors = |(index, layer): (usize, &PrunedLayer)| {
            let name = |what| format!("layer{}.{what}", index + 1);
            let weights = Tensor::floats(name("weight"), layer.shape, &layer.weights);
            [weights, Tensor::mask(name("mask"), layer.shape, &layer.mask)]
        };
        file(&self.layers.iter().enumerate().flat_map(tensors).collect::<Vec<_>>(), self.epsilon, config)
    }
}

/// The bytes of a file of what was made with `epsilon`.
fn file(tensors: &[Tensor], epsilon: f32, config: &ApproximateConfig) -> Vec<u8> {
    serialize(tensors, "approximation", &ApproximateConfig { epsilon: vec![epsilon], ..config.clone() })
}
