//! The loop of all trainings: epochs of shuffled batches.

use std::time::Instant;

use super::evaluate::Evaluation;
use super::timing::Timing;
use super::trainer::Trainer;
use crate::data::{Batch, Subset};
use crate::error::Error;
use crate::network::LossSum;
use crate::progress::{EpochDone, Progress, Step, TrainingState};
use crate::random::{Purpose, Stream};

/// The name of a training, and what its random numbers are keyed by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) order: Purpose,
}

impl Phase {
    pub(super) const PRETRAINING: Self = Self { name: "pretraining", order: Purpose::PretrainOrder };
    pub(super) const PRUNING: Self = Self { name: "pruning", order: Purpose::PruneOrder };
    pub(super) const FINETUNING: Self = Self { name: "finetuning", order: Purpose::PruneOrder };

    /// The error of `what`, which is infinite or NaN.
    pub(super) fn diverged(self, epoch: usize, what: &'static str) -> Error {
        Error::Diverged { phase: self.name, epoch, what }
    }
}

/// The parts that differ between the trainings.
pub(super) trait Method {
    fn phase(&self) -> Phase;

    /// Called before each epoch, `epoch` from 0; returns its learning rate.
    fn begin_epoch(&mut self, epoch: usize) -> Result<f32, Error>;

    /// Learns from the images of `batch`; the loss is that before the step.
    fn step(&mut self, batch: Batch<'_>) -> Result<LossSum, Error>;

    /// As [`TrainingState::numbers`].
    fn numbers(&mut self) -> Vec<&mut [f32]>;

    /// Called when they were replaced by those after so many `epochs`, at least 1.
    fn restored(&mut self, epochs: usize) -> Result<(), Error> {
        let _ = epochs;
        Ok(())
    }

    /// Evaluates the network on the images of `trainer`.
    fn evaluate(&mut self, trainer: &Trainer<'_>) -> Result<Evaluation, Error>;
}

/// A training as its watcher sees it.
struct Watched<'a, M>(Trainer<'a>, &'a mut M);

impl<M: Method> TrainingState for Watched<'_, M> {
    fn numbers(&mut self) -> Vec<&mut [f32]> {
        self.1.numbers()
    }

    fn evaluate(&mut self, images: &Subset<'_>) -> Result<[f64; 2], Error> {
        let found = self.1.evaluate(&self.0.on(images))?;
        Ok([found.loss, found.accuracy()])
    }
}

impl Trainer<'_> {
    /// Trains for `epochs` over the images, in batches of `batch`; the last batch of an epoch may be smaller.
    pub(super) fn run_epochs<M: Method>(
        &self,
        method: &mut M,
        epochs: usize,
        batch: usize,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Timing, Error> {
        let Self { images, augmentation, .. } = *self;
        let phase = method.phase();
        let mut order = images.indices().to_vec();
        let mut changes = Vec::new();
        progress.begin(phase.name, epochs.saturating_mul(order.len()));
        let (done, mut seconds) = progress.resume(phase.name, &mut Watched(*self, method))?;
        if done > 0 {
            method.restored(done)?;
            progress.advance(done.saturating_mul(order.len()));
        }
        for epoch in done..epochs {
            let start = Instant::now();
            // Each epoch shuffles the file's order, so that its order depends on its key only.
            order.copy_from_slice(images.indices());
            Stream::new(seed, phase.order, 0, epoch).shuffle(&mut order);
            let mut stream = Stream::new(seed, Purpose::Augmentation, phase.order as usize, epoch);
            augmentation.draw(order.len(), &mut stream, &mut changes);
            let learning_rate = method.begin_epoch(epoch)?;
            let (mut sum, mut seen) = (LossSum::default(), 0);
            for indices in order.chunks(batch) {
                let changes = changes.get(seen..seen + indices.len()).unwrap_or_default();
                let batch = Batch { examples: images.examples(), indices, changes };
                let LossSum { loss, correct } = method.step(batch)?;
                if !loss.is_finite() {
                    return Err(phase.diverged(epoch + 1, "the loss"));
                }
                sum.loss += loss;
                sum.correct += correct;
                seen += indices.len();
                progress.step(&Step {
                    epoch: epoch + 1,
                    epochs,
                    images: indices.len(),
                    loss: sum.loss / seen as f64,
                    accuracy: sum.correct as f64 / seen as f64,
                });
                if progress.stopped() {
                    return Err(Error::Stopped);
                }
            }
            let (loss, took) = (sum.loss / seen as f64, start.elapsed().as_secs_f64());
            seconds += took;
            let done = EpochDone { phase: phase.name, epoch: epoch + 1, loss, learning_rate, seconds: took };
            progress.epoch(&done, &mut Watched(*self, method))?;
        }
        progress.end();
        let trained = epochs as f64 * order.len() as f64;
        Ok(Timing { epochs, seconds, images_per_second: if trained > 0.0 { trained / seconds } else { 0.0 } })
    }
}
