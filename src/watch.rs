//! What experiments that spread over threads tell whoever watches them.

use crate::training::NoProgress;

/// Watches work done in equal pieces, from any thread. Every method does nothing by default.
pub trait Watch: Sync {
    /// Work begins: `total` pieces.
    fn begin(&self, what: &str, total: usize) {
        let _ = (what, total);
    }

    /// So many pieces more are done.
    fn advance(&self, pieces: usize) {
        let _ = pieces;
    }

    /// The work is done.
    fn end(&self) {}
}

impl Watch for NoProgress {}
