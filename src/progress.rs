//! What long work tells whoever watches it.

use std::fmt::Display;

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
