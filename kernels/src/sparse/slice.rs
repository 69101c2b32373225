//! How many activations lie in L1 while outputs walk over them: the blocks of the weights' columns follow from it.

use super::rows::Entry;
use crate::simd::{Kernel, Simd};

/// No slice has more columns of activations.
pub(crate) const PANEL_MOST: usize = 128;

/// No block has more columns, unless rows are left whole: a power of two, so that a column within a block needs no check.
pub(crate) const BLOCK_MOST: usize = 512;

/// Most blocks of AVX2 and AVX-512 have no more columns: of a column within them the byte it is stored in is all that counts.
pub(crate) const BLOCK_USUAL: usize = 256;

/// A slice of activations, which the sparse products keep in L1, or partly in L2, while all outputs walk over it.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    /// Columns of activations.
    pub(crate) columns: usize,
    /// Inputs that fill 7/8 of L1.
    fitting: usize,
}

impl Slice {
    /// Eight vectors: with fewer chains of multiply-adds their latency shows, and there are 16 registers. But a short slice
    /// starts on outputs too often: no more than 64 columns in 32 KiB. (Measured on Zen 4, where four chains do for 512-bit
    /// vectors; not on CPUs with 32 KiB and two 512-bit multiply-adds per cycle, as Skylake-SP.)
    #[inline(always)]
    pub(crate) fn of<S: Simd>(s: S) -> Self {
        let l1 = s.l1_bytes();
        let columns = if l1 < 48 << 10 { PANEL_MOST / 2 } else { PANEL_MOST }.min(8 * S::LANES);
        Self { columns, fitting: l1 / 8 * 7 / (columns * size_of::<f32>()) }
    }

    /// Inputs, one block of the weights, of `weights` of which `kept` are kept.
    ///
    /// As many as fit in L1; more where few weights are kept, since a start on an output, of which there is one per block,
    /// then costs more than reading part of the slice from L2. For each output, starts cost in proportion to 1/inputs, and reads
    /// beyond L1 to keep · inputs, about; so the best number is in inverse proportion to √keep. More still where kept
    /// weights are too many to stay in L2 beside the rest: a start waits for them.
    ///
    /// Measured on Zen 4 (64 columns, L1 of 32 KiB), fraction of FMA peak by inputs, AVX-512 / AVX2:
    ///
    /// | | 112 | 136 | 160 | 200 | 264 |
    /// |---|---|---|---|---|---|
    /// | 128×784×500, s = 0.9 | 0.67 / 0.63 | 0.67 / 0.62 | 0.67 / 0.61 | 0.65 / 0.58 | 0.59 / 0.54 |
    /// | 128×784×500, s = 0.95 | 0.55 / 0.51 | 0.56 / 0.52 | 0.57 / 0.52 | 0.56 / 0.50 | 0.52 / 0.48 |
    /// | 512×784×500, s = 0.95 | 0.53 / 0.50 | 0.54 / 0.50 | 0.55 / 0.50 | 0.54 / 0.49 | 0.51 / 0.46 |
    /// | 512×784×500, s = 0.98 | 0.33 / 0.32 | 0.35 / 0.33 | 0.35 / 0.34 | 0.36 / 0.34 | 0.35 / 0.34 |
    ///
    /// | 256×4096×4096 | 112 | 128 | 152 | 176 | 208 | 248 | 320 | 456 |
    /// |---|---|---|---|---|---|---|---|---|
    /// | s = 0.8 | 0.59 / 0.55 | 0.62 / 0.57 | 0.56 / 0.54 | 0.58 / 0.54 | 0.56 / 0.53 | 0.50 / 0.50 | 0.44 / 0.47 | 0.38 / 0.39 |
    /// | s = 0.9 | 0.56 / 0.51 | 0.55 / 0.52 | 0.55 / 0.53 | 0.57 / 0.52 | 0.53 / 0.52 | 0.51 / 0.51 | 0.45 / 0.49 | 0.40 / 0.46 |
    /// | s = 0.95 | 0.39 / 0.38 | 0.42 / 0.41 | 0.46 / 0.43 | 0.49 / 0.42 | 0.50 / 0.45 | 0.51 / 0.45 | 0.48 / 0.45 | 0.44 / 0.44 |
    /// | s = 0.98 | 0.20 / 0.20 | 0.22 / 0.23 | 0.25 / 0.25 | 0.27 / 0.27 | 0.30 / 0.31 | 0.34 / 0.33 | 0.39 / 0.36 | 0.41 / 0.39 |
    ///
    /// On Sapphire Rapids (48 KiB, 128 columns), 128×784×500, s = 0.5 / 0.8 / 0.95: 80 → 0.56 / 0.51 / 0.31, 96 → 0.55 / 0.51 /
    /// 0.31, 128 → 0.50 / 0.48 / 0.34, 160 → 0.37 / 0.44 / 0.34, where this says 84 / 93 / 140. AVX2
    /// there, s = 0.8: 0.64 with 168 inputs, 0.70 with 256, where this says 187. Not measured: NEON, scalar, and there what is
    /// sparser or larger.
    ///
    /// Listed weights are taken to be as many bytes as copied ones.
    pub(super) fn inputs(self, weights: usize, kept: usize) -> usize {
        let far = kept * size_of::<Entry>() >= 384 << 10;
        let keep = kept as f64 / weights.max(1) as f64;
        let more = (if far { 0.25 } else { 0.14 } / keep).sqrt().max(1.0);
        ((self.fitting as f64 * more) as usize).clamp(8, BLOCK_MOST)
    }
}

/// Finds the slice for a backend.
pub(super) struct FindSlice;

impl Kernel for FindSlice {
    type Out = Slice;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Slice {
        Slice::of(s)
    }
}
