//! How long a phase took.

use serde::Serialize;

/// The time of a phase, without evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Epochs done; 0 if there was nothing to do.
    pub epochs: usize,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Training images per second; 0 if there was nothing to do.
    pub images_per_second: f64,
}
