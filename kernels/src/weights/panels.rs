//! All weights by panels of 16 rows, zeros for the removed ones: the format of dense products with up to 32 columns.
//!
//! With few columns the lanes of a product run over outputs. So the 16 weights of each column of a panel are contiguous, column
//! after column: a panel is one stream, and a product reads several panels at once. 4 bytes per weight, 2 with bf16. Rows of
//! zeros fill the last panel; their sums are discarded.
//!
//! Cost of a new mask: one pass over weights and mask.

use super::stored::{Storage, Stored, Values};
use crate::aligned::AlignedVec;
use crate::engine::Engine;
use crate::mask::PackedMaskRef;
use crate::panel::{self, Block};
use crate::simd::{Kernel, Simd};
use crate::tiles::PANEL;
use crate::view::MatRef;

/// All weights of a matrix `[rows, columns]`.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    rows: usize,
    columns: usize,
    /// `[panel][column][row]`
    values: Values,
}

impl Panels {
    pub(super) fn new(rows: usize, columns: usize, storage: Storage) -> Self {
        Self { rows, columns, values: Values::new(storage) }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The weights, panel after panel, each `[columns][PANEL]`.
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// Bytes of memory held.
    pub(super) fn bytes_held(&self) -> usize {
        self.values.bytes_held()
    }

    /// Calls `take(row, column, weight)` for each weight.
    pub(super) fn for_each(&self, take: impl FnMut(usize, usize, f32)) {
        match &self.values {
            Values::F32(values) => self.for_each_of(values, take),
            Values::Bf16(values) => self.for_each_of(values, take),
        }
    }

    fn for_each_of<T: Stored>(&self, values: &[T], mut take: impl FnMut(usize, usize, f32)) {
        for (index, values) in values.as_chunks::<PANEL>().0.iter().enumerate() {
            let (first_row, column) = (index / self.columns * PANEL, index % self.columns);
            for (row, value) in (first_row..self.rows).zip(values) {
                take(row, column, value.widen());
            }
        }
    }

    /// Stores the weights of `weights` `[rows, columns]` that `mask` keeps, or all without a mask. Allocates only the first time.
    pub(super) fn build(&mut self, engine: Engine, weights: MatRef<'_>, mask: Option<PackedMaskRef<'_>>) {
        match &mut self.values {
            Values::F32(values) => build(engine, weights, mask, values),
            Values::Bf16(values) => build(engine, weights, mask, values),
        }
    }
}

fn build<T: Stored>(
    engine: Engine,
    weights: MatRef<'_>,
    mask: Option<PackedMaskRef<'_>>,
    values: &mut AlignedVec<T>,
) {
    let (rows, columns) = (weights.rows(), weights.cols());
    // Without columns there may be any number of rows.
    if rows == 0 || columns == 0 {
        return;
    }
    let len = rows.div_ceil(PANEL) * PANEL * columns;
    values.resize(len, len);
    let engine = engine.for_work(len);
    engine.for_each_chunk(&mut values[..], PANEL * columns, |panel, values| {
        let first_row = panel * PANEL;
        let count = PANEL.min(rows - first_row);
        engine.backend().run(BuildPanel { weights, mask, first_row, rows: count, values });
    });
}

struct BuildPanel<'a, T> {
    weights: MatRef<'a>,
    mask: Option<PackedMaskRef<'a>>,
    first_row: usize,
    rows: usize,
    values: &'a mut [T],
}

/// Columns of a panel that are transposed at a time.
const STRIP: usize = 64;

impl<T: Stored> Kernel for BuildPanel<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, mask, first_row, rows, values } = self;
        let columns = weights.cols();
        let mut strip = [0.0; STRIP * PANEL];
        for (first, values) in (0..columns).step_by(STRIP).zip(values.chunks_mut(STRIP * PANEL)) {
            let count = STRIP.min(columns - first);
            let block = Block { row: first, rows: count, col: first_row, cols: rows };
            panel::pack(s, weights.t(), block, &mut strip, PANEL);
            let strip = &mut strip[..count * PANEL];
            if let Some(mask) = mask {
                for row in 0..rows {
                    let word = mask.word((first_row + row) * columns + first);
                    for (i, column) in strip.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                        column[row] = if word >> i & 1 != 0 { column[row] } else { 0.0 };
                    }
                }
            }
            for (value, &weight) in values.iter_mut().zip(&*strip) {
                *value = T::of(weight);
            }
        }
    }
}
