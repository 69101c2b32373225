//! The files of a run: `result.json`, beside `ticket.safetensors` and `history.csv`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::RunConfig;
use super::experiment::{Outcome, recorded};
use super::hash::{BITS_REVISION, mask_hash, weights_hash};
use super::history;
use super::ticket::{Ticket, TicketKind};
use crate::data::{Dataset, Normalisation};
use crate::error::Error;
use crate::machine::Machine;
use crate::network::{Architecture, Initialisation};
use crate::output::{OutputDirectory, OutputError, pretty};
use crate::progress::Progress;
use crate::training::{Evaluation, PrunedLayer, Timing};

impl Outcome {
    /// The names of the files.
    pub const FILES: [&'static str; 4] = ["ticket.safetensors", "history.csv", "history.svg", "result.json"];

    /// The files, as (name, content). `result.json` is the last, so it marks a complete result.
    ///
    /// # Errors
    /// When the curves cannot be drawn, for which no reason is known.
    pub fn files(&self, kind: TicketKind) -> Result<[(&'static str, Vec<u8>); 4], Error> {
        let [ticket, table, curves, result] = Self::FILES;
        Ok([
            (ticket, Ticket::bytes(kind, &self.config, self.normalisation, &self.layers)),
            (table, history::csv(&self.history)?),
            (curves, history::curves(&self.history).svg()?.into_bytes()),
            (result, RunResult::new(self).to_json().into_bytes()),
        ])
    }
}

/// When a run writes its state into its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoints {
    /// After every epoch; the run begins anew.
    Write,
    /// After every epoch; the run goes on from the state that is there, if one is.
    Resume,
}

/// A directory that a run writes its files to, once everything else has been checked.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    out: OutputDirectory,
    checkpoint: Option<PathBuf>,
    ticket: TicketKind,
}

impl RunDirectory {
    /// The name of the file that holds a run's state: a [`Checkpoint`](super::Checkpoint).
    pub const CHECKPOINT: &'static str = "checkpoint.slth";

    /// Makes the directory where it is missing; with `force`, files of an earlier run may be replaced.
    ///
    /// # Errors
    /// As [`OutputDirectory::prepare`]. A checkpoint is in the way of one that is written, unless it is resumed.
    pub fn prepare(
        path: impl AsRef<Path>,
        force: bool,
        checkpoints: Option<Checkpoints>,
    ) -> Result<Self, OutputError> {
        let path = path.as_ref();
        let anew = checkpoints == Some(Checkpoints::Write);
        let names = anew.then_some(Self::CHECKPOINT).into_iter().chain(Outcome::FILES);
        let file = path.join(Self::CHECKPOINT);
        // A run that was killed between the renaming of its files goes on.
        let [.., last] = Outcome::FILES;
        let unfinished =
            checkpoints == Some(Checkpoints::Resume) && file.is_file() && !path.join(last).exists();
        let out = OutputDirectory::prepare(path, &names.collect::<Vec<_>>(), force || unfinished)?;
        let checkpoint = checkpoints.map(|_| file);
        if let Some(file) = checkpoint.as_ref().filter(|file| anew && file.symlink_metadata().is_ok()) {
            std::fs::remove_file(file).map_err(|source| OutputError::Write { file: file.clone(), source })?;
        }
        Ok(Self { out, checkpoint, ticket: TicketKind::default() })
    }

    /// The same for tickets of this kind.
    #[must_use]
    pub fn with_ticket(self, ticket: TicketKind) -> Self {
        Self { ticket, ..self }
    }

    /// As [`run`](super::run()); then writes its files, and removes the checkpoint.
    ///
    /// # Errors
    /// Those of the run, of writing, and of a checkpoint that is of another run or damaged.
    pub fn run(
        &self,
        config: &RunConfig,
        dataset: &Dataset,
        progress: &dyn Progress,
    ) -> Result<Outcome, Error> {
        let outcome = recorded(config, dataset, self.checkpoint.as_deref(), progress)?;
        self.out.write(&outcome.files(self.ticket)?)?;
        if let Some(checkpoint) = &self.checkpoint {
            let _ = std::fs::remove_file(checkpoint);
        }
        Ok(outcome)
    }
}

/// The content of `result.json`. Accuracies are fractions in [0, 1]; those for validation are null when nothing is held out.
/// Epochs are those done, 0 if there was nothing to do; the requested ones are in `configuration`.
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
    /// What the directory or file of the images is called.
    data_name: String,
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
        let Outcome { config, backend, threads, data_name, normalisation, pretrain, prune, layers, .. } =
            outcome;
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
            data_name: data_name.clone(),
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
