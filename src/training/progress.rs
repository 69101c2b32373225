//! What training tells whoever watches it.

use std::fmt;

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
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretraining",
            Self::Prune => "pruning",
            Self::Finetune => "finetuning",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The state after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The current epoch, from 1.
    pub epoch: usize,
    /// Images in this step's batch.
    pub images: usize,
    /// Mean training loss of the epoch so far.
    pub loss: f64,
    /// Training accuracy of the epoch so far, each image seen before the step it was part of; a fraction.
    pub accuracy: f64,
}

/// Watches a run. Every method does nothing by default. Calls come from the thread that trains, between steps.
pub trait Progress: Send {
    /// A phase begins: `epochs` times `images` images.
    fn begin(&mut self, phase: Phase, epochs: usize, images: usize) {
        let _ = (phase, epochs, images);
    }

    /// A step is done.
    fn step(&mut self, step: &Step) {
        let _ = step;
    }

    /// Whether to stop now; asked after every step. Training then ends with [`Error::Stopped`](crate::Error::Stopped).
    fn stopped(&self) -> bool {
        false
    }

    /// The phase is done.
    fn end(&mut self, phase: Phase) {
        let _ = phase;
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
