//! How products are computed, and what weights are prepared for.

use super::stored::Storage;

/// How products are computed. All ways give equal numbers for finite activations: only the sign of a zero may differ. For
/// infinite activations and NaN the dense product makes NaN of 0 · ∞.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// The faster one for the shape, the fraction kept, [`max_batch`](PrepareOptions::max_batch) and
    /// [`reuse`](PrepareOptions::reuse). Whether that is dense is the same on every CPU; the sparse formats, which give the same bits, differ.
    #[default]
    Auto,
    /// Multiply by the kept weights only.
    Sparse,
    /// Multiply by all weights, zeros for the removed ones.
    Dense,
    /// Multiply by the kept weights only, stored as 4 bytes for each kept weight (2 with bf16) and one bit for each weight: the least
    /// memory while more than 1/16 and less than 15/16 are kept. Fast for up to 8 columns with AVX-512; slow without AVX2.
    Bitmask,
}

/// How many products each mask is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MaskReuse {
    /// Many products for each mask: inference.
    #[default]
    Many,
    /// One product of each kind, before [`rebuild`](crate::PackedWeights::rebuild) sets the next mask: edge-popup.
    /// `Auto` and `Sparse` then store kept weights in the blocked format, which is built fastest, and dense ones row-major;
    /// [`Strategy::Auto`] has other thresholds.
    Once,
}

/// What [`PackedWeights::prepare`](crate::PackedWeights::prepare) prepares for.
///
/// ```
/// use slth_kernels::{PrepareOptions, Strategy};
/// let inference = PrepareOptions::default().max_batch(1).strategy(Strategy::Sparse);
/// assert!(!inference.input_gradient);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrepareOptions {
    /// The most columns that products will have; `usize::MAX`, the default, if unknown or many. Larger batches work too, but
    /// slower. 0 counts as 1.
    pub max_batch: usize,
    /// How many products each mask is for.
    pub reuse: MaskReuse,
    /// Whether [`input_gradient`](crate::matmul::input_gradient) is prepared too: the transpose doubles memory and time, but for
    /// row-major dense weights, which are read across.
    pub input_gradient: bool,
    /// Sparse, dense, or the faster one.
    pub strategy: Strategy,
    /// Whether removed weights stay in memory, which [`rebuild`](crate::PackedWeights::rebuild) needs: 4 bytes per weight, and 4 more
    /// for the input gradient. `true` is the default; `false` is for inference.
    pub keep_source: bool,
    /// The type that weights are stored in; each weight is rounded to it once.
    pub storage: Storage,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        Self {
            max_batch: usize::MAX,
            reuse: MaskReuse::Many,
            input_gradient: false,
            strategy: Strategy::Auto,
            keep_source: true,
            storage: Storage::F32,
        }
    }
}

/// Setters, one for each field.
impl PrepareOptions {
    /// Sets [`max_batch`](Self#structfield.max_batch).
    #[must_use]
    pub fn max_batch(self, max_batch: usize) -> Self {
        Self { max_batch, ..self }
    }

    /// Sets [`reuse`](Self#structfield.reuse).
    #[must_use]
    pub fn reuse(self, reuse: MaskReuse) -> Self {
        Self { reuse, ..self }
    }

    /// Sets [`input_gradient`](Self#structfield.input_gradient).
    #[must_use]
    pub fn input_gradient(self, input_gradient: bool) -> Self {
        Self { input_gradient, ..self }
    }

    /// Sets [`strategy`](Self#structfield.strategy).
    #[must_use]
    pub fn strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// Sets [`keep_source`](Self#structfield.keep_source).
    #[must_use]
    pub fn keep_source(self, keep_source: bool) -> Self {
        Self { keep_source, ..self }
    }

    /// Sets [`storage`](Self#structfield.storage).
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }
}
