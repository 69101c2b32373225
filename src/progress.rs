//! Progress of long work, reported to its caller.

use std::fmt::Display;

use crate::data::Subset;
use crate::error::Error;

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

/// An epoch of training that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochDone {
    /// Which training of the run: pretraining, pruning or finetuning.
    pub phase: &'static str,
    /// Which epoch, from 1.
    pub epoch: usize,
    /// Mean training loss, each image seen before the step it was part of.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f32,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// A training between two epochs.
pub trait TrainingState {
    /// All numbers that later epochs depend on, besides settings and images. Put into a training with the same settings, they
    /// continue this one to the same bits.
    fn numbers(&mut self) -> Vec<&mut [f32]>;

    /// Loss and accuracy of the network, pruned where it is being pruned, on `images`.
    ///
    /// # Errors
    /// When there are none, or the network's outputs are infinite or NaN.
    fn evaluate(&mut self, images: &Subset<'_>) -> Result<[f64; 2], Error>;
}

/// Watches work that is divided into units, from any thread. By default every method does nothing.
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

    /// The training that `phase` names begins. A watcher who has the numbers of an earlier one puts them into `state`, and tells
    /// how many epochs that had done, in how many seconds; they are not done again.
    ///
    /// # Errors
    /// Any, which ends the training.
    fn resume(&self, phase: &'static str, state: &mut dyn TrainingState) -> Result<(usize, f64), Error> {
        let _ = (phase, state);
        Ok((0, 0.0))
    }

    /// An epoch of training is over.
    ///
    /// # Errors
    /// Any, which ends the training.
    fn epoch(&self, done: &EpochDone, state: &mut dyn TrainingState) -> Result<(), Error> {
        let _ = (done, state);
        Ok(())
    }

    /// A cell of a sweep is in its store, the `done`-th of `cells`: `result` says which and how it did.
    fn cell(&self, done: usize, cells: usize, result: &dyn Display) {
        let _ = (done, cells, result);
    }

    /// Whether to stop now; asked after every step of training and before every trial, which then end with
    /// [`Error::Stopped`].
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
