//! The files of a run: `result.json`, beside `ticket.safetensors`.

use serde::Serialize;

use super::config::RunConfig;
use super::experiment::Outcome;
use super::hash::{BITS_REVISION, mask_hash, weights_hash};
use super::ticket::{Ticket, TicketKind};
use crate::data::Normalisation;
use crate::machine::Machine;
use crate::network::{Architecture, Initialisation};
use crate::output::pretty;
use crate::training::{Evaluation, PrunedLayer, Timing};

impl Outcome {
    /// The names of the files.
    pub const FILES: [&'static str; 2] = ["ticket.safetensors", "result.json"];

    /// The files, as (name, content). `result.json` is the last, and so the sign of a complete result.
    pub fn files(&self, kind: TicketKind) -> [(&'static str, Vec<u8>); 2] {
        let [ticket, result] = Self::FILES;
        [
            (ticket, Ticket::bytes(kind, &self.config, self.normalisation, &self.layers)),
            (result, RunResult::new(self).to_json().into_bytes()),
        ]
    }
}

/// The content of `result.json`. Accuracies are fractions in [0, 1]; those for validation are null when nothing is held
/// out. Epochs are those done, 0 where there was nothing to do; those asked for are in `configuration`.
#[derive(Clone, Debug, Serialize)]
pub struct RunResult {
    network: Architecture,
    init: Initialisation,
    #[serde(with = "super::infinity::number_or_inf")]
    epsilon: f32,
    sparsity: f64,
    seed: u64,
    backend: String,
    threads: usize,
    /// The constants by which pixels became inputs.
    normalization: Normalisation,
    pretrain: PretrainResult,
    prune: PruneResult,
    layers: Vec<LayerResult>,
    weights_hash: String,
    mask_hash: String,
    slth_version: String,
    bits_revision: u32,
    machine: Machine,
    configuration: RunConfig,
}

#[derive(Clone, Debug, Serialize)]
struct PretrainResult {
    #[serde(flatten)]
    timing: Timing,
    max_change: f32,
    validation_accuracy: Option<f64>,
    test_accuracy: f64,
}

#[derive(Clone, Debug, Serialize)]
struct PruneResult {
    #[serde(flatten)]
    timing: Timing,
    validation_loss: Option<f64>,
    validation_accuracy: Option<f64>,
    test_accuracy: f64,
}

#[derive(Clone, Debug, Serialize)]
struct LayerResult {
    /// [outputs, inputs] or [filters, channels, kernel rows, kernel columns]
    shape: Vec<usize>,
    weights: usize,
    kept: usize,
    removed: usize,
}

impl RunResult {
    /// Summarises `outcome`, on this machine.
    pub fn new(outcome: &Outcome) -> Self {
        let Outcome { config, backend, threads, normalisation, pretrain, prune, layers } = outcome;
        let layer = |PrunedLayer { shape, mask, .. }: &PrunedLayer| LayerResult {
            shape: shape.dimensions(),
            weights: mask.len(),
            kept: mask.kept(),
            removed: mask.removed(),
        };
        let accuracy = |evaluation: &Option<Evaluation>| evaluation.as_ref().map(Evaluation::accuracy);
        Self {
            network: config.network.clone(),
            init: config.init,
            epsilon: config.epsilon,
            sparsity: config.sparsity,
            seed: config.seed,
            backend: backend.name().to_owned(),
            threads: *threads,
            normalization: *normalisation,
            pretrain: PretrainResult {
                timing: pretrain.timing,
                max_change: pretrain.max_change,
                validation_accuracy: accuracy(&pretrain.validation),
                test_accuracy: pretrain.test.accuracy(),
            },
            prune: PruneResult {
                timing: prune.timing,
                validation_loss: prune.validation.as_ref().map(|evaluation| evaluation.loss),
                validation_accuracy: accuracy(&prune.validation),
                test_accuracy: prune.test.accuracy(),
            },
            layers: layers.iter().map(layer).collect(),
            weights_hash: weights_hash(layers),
            mask_hash: mask_hash(layers),
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
