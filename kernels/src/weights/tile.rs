//! The tile of activations that stays in cache while all outputs read it. It determines the blocks of the weights' columns.

use super::entry::Entry;
use crate::simd::{Kernel, Simd};

/// Most columns of activations in a tile.
pub(crate) const NC_MAX: usize = 128;

/// Maximum number of columns of weights in a block: a power of two, so that a place within a block needs no bounds check.
pub(crate) const KC_MAX: usize = 512;

/// Most blocks have at most this many columns. Only the low byte of a place in them is used, which saves an instruction.
pub(crate) const KC_USUAL: usize = 256;

/// A tile of activations `[inputs, columns]` that stays in L1, or partly in L2, while all outputs read it.
#[derive(Clone, Copy)]
pub(crate) struct CacheTile {
    /// Columns of activations.
    pub(crate) columns: usize,
    /// Inputs that fill 7/8 of L1.
    fitting: usize,
}

impl CacheTile {
    /// Eight vectors: fewer chains of multiply-adds do not hide their latency, and AVX2 has 16 registers. With 64 columns at most in
    /// 32 KiB, since a tile of few inputs starts on outputs too often.
    #[inline(always)]
    pub(crate) fn of<S: Simd>(s: S) -> Self {
        let l1 = s.l1_bytes();
        let columns = if l1 < 48 << 10 { NC_MAX / 2 } else { NC_MAX }.min(8 * S::LANES);
        Self { columns, fitting: l1 / 8 * 7 / (columns * size_of::<f32>()) }
    }

    /// Inputs of a tile, which are the columns of a block of `weights` of which `kept` are kept.
    ///
    /// As many as fit in L1; more if few weights are kept. For each output, the cost of starts is proportional to 1/inputs and
    /// that of reads beyond L1 to keep · inputs, so the best number is proportional to 1/√keep. Still more if the kept weights do
    /// not stay in L2, because each start waits for them. Measurements: docs/tuning.md, "Sparse products".
    fn inputs(self, weights: usize, kept: usize) -> usize {
        let far = kept * size_of::<Entry>() >= 384 << 10;
        let keep = kept as f64 / weights.max(1) as f64;
        let more = (if far { 0.25 } else { 0.14 } / keep).sqrt().max(1.0);
        ((self.fitting as f64 * more) as usize).clamp(8, KC_MAX)
    }
}

/// Finds the inputs of a backend's tile, see [`CacheTile::inputs`].
pub(super) struct FindInputs {
    pub(super) weights: usize,
    pub(super) kept: usize,
}

impl Kernel for FindInputs {
    type Out = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        CacheTile::of(s).inputs(self.weights, self.kept)
    }
}
