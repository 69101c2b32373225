//! What long work tells whoever watches it.

use std::fmt::{self, Display};

/// A part of a run that goes through the training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Projected SGD on the weights.
    Pretrain,
    /// Edge-popup on the scores.
    Prune,
    /// SGD on the weights that pruning has kept.
    Finetune,
}

impl Phase {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretraining",
            Self::Prune => "pruning",
            Self::Finetune => "finetuning",
        }
    }
}

impl Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The state of training after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The current epoch, from 1.
    pub epoch: usize,
    /// How many epochs there are.
    pub epochs: usize,
    /// Images in this step's batch.
    pub images: usize,
    /// Mean training loss of the epoch so far.
    pub loss: f64,
    /// Training accuracy of the epoch so far, each image seen before the step it was part of; a fraction.
    pub accuracy: f64,
}

/// Watches work that is divided into units, from any thread. Every method does nothing by default.
///
/// The units of training are images, each counted as often as it is seen; of other work what `task` names: trials, weights.
pub trait Progress: Sync {
    /// Work begins: `total` units.
    fn begin(&self, task: &str, total: usize) {
        let _ = (task, total);
    }

    /// `units` more are done.
    fn advance(&self, units: usize) {
        let _ = units;
    }

    /// A step of training is done. By default its images are units done.
    fn step(&self, step: &Step) {
        self.advance(step.images);
    }

    /// A cell of a sweep is in its store, the `done`-th of `cells`: `result` says which and how it did.
    fn cell(&self, done: usize, cells: usize, result: &dyn Display) {
        let _ = (done, cells, result);
    }

    /// Whether to stop now; asked after every step of training and before every trial, which then end with
    /// [`Error::Stopped`](crate::Error::Stopped).
    fn stopped(&self) -> bool {
        false
    }

    /// The work is done.
    fn end(&self) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
