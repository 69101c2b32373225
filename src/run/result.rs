//! `result.json`.

use serde::Serialize;

use super::hash::{mask_hash, weights_hash};
use crate::data::Normalisation;
use crate::machine::Machine;
use crate::run::{Outcome, RunConfig};
use crate::training::{Evaluation, PrunedLayer};

/// The content of `result.json`. Accuracies are fractions in [0, 1]; those for validation are null when nothing is held
/// out. Epochs are those done, 0 where there was nothing to do; those asked for are in `configuration`.
#[derive(Clone, Debug, Serialize)]
pub struct RunResult {
    network: String,
    init: String,
    #[serde(with = "crate::run::number_or_inf")]
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
    machine: Machine,
    configuration: RunConfig,
}

#[derive(Clone, Debug, Serialize)]
struct PretrainResult {
    epochs: usize,
    seconds: f64,
    images_per_second: f64,
    max_change: f32,
    validation_accuracy: Option<f64>,
    test_accuracy: f64,
}

#[derive(Clone, Debug, Serialize)]
struct PruneResult {
    epochs: usize,
    seconds: f64,
    images_per_second: f64,
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

impl LayerResult {
    fn new(layer: &PrunedLayer) -> Self {
        Self {
            shape: layer.shape.dimensions(),
            weights: layer.mask.len(),
            kept: layer.mask.kept(),
            removed: layer.mask.removed(),
        }
    }
}

impl RunResult {
    /// Summarises `outcome`, on this machine.
    pub fn new(outcome: &Outcome) -> Self {
        let Outcome { config, backend, threads, normalisation, pretrain, prune, layers } = outcome;
        let accuracy = |evaluation: &Option<Evaluation>| evaluation.as_ref().map(Evaluation::accuracy);
        Self {
            network: config.network.to_string(),
            init: config.init.to_string(),
            epsilon: config.epsilon,
            sparsity: config.sparsity,
            seed: config.seed,
            backend: backend.name().to_owned(),
            threads: *threads,
            normalization: *normalisation,
            pretrain: PretrainResult {
                epochs: pretrain.timing.epochs,
                seconds: pretrain.timing.seconds,
                images_per_second: pretrain.timing.images_per_second,
                max_change: pretrain.max_change,
                validation_accuracy: accuracy(&pretrain.validation),
                test_accuracy: pretrain.test.accuracy(),
            },
            prune: PruneResult {
                epochs: prune.timing.epochs,
                seconds: prune.timing.seconds,
                images_per_second: prune.timing.images_per_second,
                validation_loss: prune.validation.as_ref().map(|evaluation| evaluation.loss),
                validation_accuracy: accuracy(&prune.validation),
                test_accuracy: prune.test.accuracy(),
            },
            layers: layers.iter().map(LayerResult::new).collect(),
            weights_hash: weights_hash(layers),
            mask_hash: mask_hash(layers),
            slth_version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::current(),
            configuration: config.clone(),
        }
    }

    /// As indented JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("no map with keys other than strings") + "\n"
    }
}
