//! Sizes of register tiles: how many sums the products keep in registers, one table for each backend.
//!
//! Sizes change speed but no result. They follow from the number of registers and lanes: a tile needs enough independent chains
//! of multiply-adds to hide the latency of an instruction (4 cycles, two per cycle), and must leave registers for the operands.
//! Sizes that are the same on every backend are constants here.

/// Sizes that depend on the backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    /// Dense products: vectors of columns of a tile of [`MR`] rows.
    pub(crate) nr_vectors: usize,
    /// Dense products with one column: tiles of `LANES` outputs at once.
    pub(crate) column_tiles: usize,
    /// Dense panels: most columns of a tile.
    pub(crate) panel_columns: usize,
    /// Whether one instruction expands lanes, which makes the format with a bit mask fast.
    pub(crate) expands: bool,
    /// Interleaved weights: most columns of a panel of activations.
    pub(crate) interleaved_columns: usize,
    /// The weight gradient of a convolution: outputs of a tile of up to [`CONV_TAPS`] taps.
    pub(crate) conv_outputs: usize,
    /// Whether all taps of a 3×3 kernel are one tile.
    pub(crate) conv_squares: bool,
}

impl Tiles {
    /// Dense tiles and the weight gradient of convolutions hold 10 to 12 sums with 16 registers, 15 to 27 with 32. In the weight
    /// gradient of a convolution 20 sums (4 outputs × 5 taps)
    /// are half as fast as 15 (`slth-bench --case "conv"`, Zen 4, AVX-512).
    pub(crate) const fn of(registers: usize, lanes: usize) -> Self {
        let wide = registers > 16;
        Self {
            nr_vectors: if wide { 4 } else { 2 },
            // 16 rows at a time: hardware prefetching does not follow more streams of weights.
            column_tiles: if lanes >= 16 { 1 } else { 2 },
            // 8 columns of panels of several vectors leave no register for the weights.
            panel_columns: if wide && lanes == 16 { 8 } else { 4 },
            // AVX-512: no other backend has such an instruction.
            expands: wide && lanes == 16,
            // At most four vectors, so that the sums of enough outputs fit the registers.
            interleaved_columns: if lanes >= 16 { 2 * lanes } else { 4 * lanes },
            conv_outputs: if wide { 3 } else { 2 },
            conv_squares: wide,
        }
    }
}

/// Dense products: rows of a tile.
pub(crate) const MR: usize = 6;

/// Panels of weights, dense or with a bit mask: rows.
pub(crate) const PANEL: usize = 16;

/// Sparse products with one column: outputs at once, as many as a multiply-add takes cycles.
pub(crate) const CHAINS: usize = 4;

/// Dense products with one column and column-major weights: vectors of outputs at once.
pub(crate) const COLUMN_VECTORS: usize = 8;

/// Convolutions: vectors of a strip of positions and images.
pub(crate) const CONV_STRIP: usize = 8;

/// The weight gradient of a convolution: most taps of a tile.
pub(crate) const CONV_TAPS: usize = 5;
