//! Shared by the products: their arguments, and storing to a Y whose rows are not contiguous.

use crate::aligned::AlignedBuffer;
use crate::epilogue::Finish;
use crate::panel::{self, Block};
use crate::simd::{Kernel, Simd};
use crate::view::{MatMut, MatRef};

/// A product's arguments, except the weights.
pub(super) struct Call<'a, 's> {
    pub(super) x: MatRef<'a>,
    pub(super) y: MatMut<'a>,
    /// Whether the sums start from the old values of Y.
    pub(super) accumulate: bool,
    pub(super) finish: Finish<'a>,
    pub(super) scratch: &'s mut AlignedBuffer,
}

/// Stores complete sums to a block of a Y whose rows are not contiguous. The sums are rows of `width` elements; the block begins
/// at row `first_row` of all outputs.
pub(super) struct Store<'a> {
    pub(super) sums: &'a mut [f32],
    pub(super) width: usize,
    pub(super) y: MatMut<'a>,
    pub(super) block: Block,
    pub(super) first_row: usize,
    pub(super) finish: Finish<'a>,
}

impl Kernel for Store<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { sums, width, mut y, block, first_row, finish } = self;
        // Along Y's columns if these are contiguous, otherwise along the rows of sums.
        let columns_are_runs = y.row_stride() == 1;
        if !columns_are_runs && !finish.is_none() {
            for (index, sums) in sums.chunks_exact_mut(width).take(block.rows).enumerate() {
                finish.apply(s, &mut sums[..block.cols], first_row + index, block.col);
            }
        }
        panel::unpack(s, sums, width, &mut y, block);
        if columns_are_runs && !finish.is_none() {
            let (mut across, finish) = (y.t(), finish.t());
            for col in block.col..block.col + block.cols {
                finish.apply(s, across.run(col, block.row, block.rows), col, first_row);
            }
        }
    }
}
