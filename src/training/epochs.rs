//! The loop all trainings share: epochs of shuffled batches.

use std::time::Instant;

use serde::Serialize;

use super::trainer::Trainer;
use crate::data::Batch;
use crate::error::Error;
use crate::network::loss::LossSum;
use crate::progress::{Progress, Step};
use crate::random::{Purpose, Stream};

/// How long a phase took, evaluation not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Epochs done; 0 where there was nothing to do.
    pub epochs: usize,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Training images per second; 0 where there was nothing to do.
    pub images_per_second: f64,
}

/// What differs between the trainings.
pub(super) trait Method {
    /// What it is called.
    const PHASE: &'static str;
    const ORDER: Purpose;

    /// Called before each epoch, `epoch` from 0.
    fn begin_epoch(&mut self, epoch: usize);

    /// Learns from the images of `batch`; the loss is that before the step.
    fn step(&mut self, batch: Batch<'_>) -> Result<LossSum, Error>;
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
        let mut order = images.indices().to_vec();
        let mut changes = Vec::new();
        progress.begin(M::PHASE, epochs.saturating_mul(order.len()));
        let start = Instant::now();
        for epoch in 0..epochs {
            // From the file's order each time, so that an epoch's order depends on its key alone.
            order.copy_from_slice(images.indices());
            Stream::new(seed, M::ORDER, 0, epoch).shuffle(&mut order);
            let mut stream = Stream::new(seed, Purpose::Augmentation, M::ORDER as usize, epoch);
            augmentation.draw(order.len(), &mut stream, &mut changes);
            method.begin_epoch(epoch);
            let (mut sum, mut seen) = (LossSum::default(), 0);
            for indices in order.chunks(batch) {
                let changes = changes.get(seen..seen + indices.len()).unwrap_or_default();
                let batch = Batch { examples: images.examples(), indices, changes };
                let LossSum { loss, correct } = method.step(batch)?;
                if !loss.is_finite() {
                    return Err(Error::Diverged { phase: M::PHASE, epoch: epoch + 1, what: "the loss" });
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
        }
        let seconds = start.elapsed().as_secs_f64();
        progress.end();
        let trained = epochs as f64 * order.len() as f64;
        Ok(Timing { epochs, seconds, images_per_second: if trained > 0.0 { trained / seconds } else { 0.0 } })
    }
}
