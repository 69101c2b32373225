//! Sizes of register tiles: how many sums the products keep in registers, one table for each backend.
//!
//! Sizes decide speed and no result. They follow the number of registers and of lanes: a tile needs so many independent chains of
//! multiply-adds that these hide the latency of an instruction (4 cycles, two a cycle), and must leave registers for the operands.
//! Sizes that are the same on every backend are constants here.

/// Sizes that depend on the backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    /// Dense products: vectors of columns of a tile of [`MR`] rows.
    pub(crate) nr_vectors: usize,
    /// Dense products with one column: tiles of `LANES` outputs side by side.
    pub(crate) column_tiles: usize,
    /// Dense panels: most columns of a tile.
    pub(crate) panel_columns: usize,
    /// Interleaved weights: most columns of a panel of activations.
    pub(crate) interleaved_columns: usize,
    /// The weight gradient of a convolution: outputs of a tile of up to [`CONV_TAPS`] taps.
    pub(crate) conv_outputs: usize,
}

impl Tiles {
    /// 10 to 12 sums of 16 registers; 15 to 24 of 32. More sums are slower in the weight gradient of a convolution: 20 of them reach
    /// half of what 15 do (`slth-bench --case "conv"`, Zen 4, AVX-512).
    pub(crate) const fn of(registers: usize, lanes: usize) -> Self {
        let wide = registers > 16;
        Self {
            nr_vectors: if wide { 4 } else { 2 },
            // More rows of weights at once are more streams than hardware prefetching follows.
            column_tiles: if lanes >= 16 { 1 } else { 2 },
            // With 8 columns and panels of several vectors no register is left for the weights.
            panel_columns: if wide && lanes == 16 { 8 } else { 4 },
            // No more than four vectors, with which the sums of enough outputs fit the registers.
            interleaved_columns: if lanes >= 16 { 2 * lanes } else { 4 * lanes },
            conv_outputs: if wide { 3 } else { 2 },
        }
    }
}

/// Dense products: rows of a tile.
pub(crate) const MR: usize = 6;

/// Sparse products with one column: outputs side by side, as many as a multiply-add takes cycles.
pub(crate) const CHAINS: usize = 4;

/// Dense products with one column whose weights lie column by column: vectors of outputs side by side.
pub(crate) const COLUMN_VECTORS: usize = 8;

/// Convolutions: vectors of a strip of positions and images.
pub(crate) const CONV_STRIP: usize = 8;

/// The weight gradient of a convolution: most taps of a tile.
pub(crate) const CONV_TAPS: usize = 5;
