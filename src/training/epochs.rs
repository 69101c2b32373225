//! The loop both trainings share: epochs of shuffled batches.

use std::time::Instant;

use super::progress::{Phase, Progress, Step};
use crate::data::{Examples, Subset};
use crate::error::Error;
use crate::network::loss::LossSum;
use crate::random::{Purpose, Stream};

/// How long a phase took, evaluation not included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    const PHASE: Phase;
    const ORDER: Purpose;

    /// Called before each epoch, `epoch` from 0.
    fn begin_epoch(&mut self, epoch: usize);

    /// Learns from the images `indices`; the loss is that before the step.
    fn step(&mut self, examples: &Examples, indices: &[u32]) -> Result<LossSum, Error>;
}

/// Trains for `epochs` over `images`, in batches of `batch`, the last of an epoch shorter where they do not divide.
pub(super) fn run_epochs<M: Method>(
    method: &mut M,
    images: Subset<'_>,
    epochs: usize,
    batch: usize,
    seed: u64,
    progress: &mut dyn Progress,
) -> Result<Timing, Error> {
    let mut order: Vec<u32> = images.indices().collect();
    progress.begin(M::PHASE, epochs, order.len());
    let start = Instant::now();
    for epoch in 0..epochs {
        // From the file's order each time: an epoch's order depends on its key alone.
        order.iter_mut().zip(images.indices()).for_each(|(slot, index)| *slot = index);
        Stream::new(seed, M::ORDER, 0, epoch).shuffle(&mut order);
        method.begin_epoch(epoch);
        let (mut sum, mut seen) = (LossSum::default(), 0);
        for indices in order.chunks(batch) {
            let LossSum { loss, correct } = method.step(images.examples(), indices)?;
            if !loss.is_finite() {
                return Err(Error::Diverged {
                    phase: M::PHASE.to_string(),
                    epoch: epoch + 1,
                    what: "the loss",
                });
            }
            sum.loss += loss;
            sum.correct += correct;
            seen += indices.len();
            progress.step(&Step {
                epoch: epoch + 1,
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
    progress.end(M::PHASE);
    let trained = epochs as f64 * order.len() as f64;
    Ok(Timing { epochs, seconds, images_per_second: if trained > 0.0 { trained / seconds } else { 0.0 } })
}
