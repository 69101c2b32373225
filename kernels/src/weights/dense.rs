//! All weights, row-major, zeros for the removed ones: the format of dense products.

use crate::engine::Engine;
use crate::mask::PackedMaskRef;

/// The weights, if a mask makes them differ from the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dense {
    weights: Vec<f32>,
}

impl Dense {
    /// Stores the weights that `mask` keeps. Allocates only the first time.
    pub(super) fn build(&mut self, engine: Engine, weights: &[f32], mask: PackedMaskRef<'_>) {
        self.weights.clear();
        self.weights.reserve_exact(weights.len());
        self.weights.extend_from_slice(weights);
        mask.apply_on(engine, &mut self.weights);
    }

    /// Row-major.
    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Bytes of memory held.
    pub(super) fn bytes_held(&self) -> usize {
        self.weights.capacity() * size_of::<f32>()
    }
}
