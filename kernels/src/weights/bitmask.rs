//! Kept weights by panels of 16 rows, with 16 bits for each column: the format of least memory while more than 1/16 and less than
//! 15/16 of the weights are kept.
//!
//! A panel is two streams. For each column of the panel 16 bits say which rows keep their weight, and the values of these rows
//! follow each other, column after column. So a kept weight takes 4 bytes, or 2 with bf16, and each weight one bit. A product
//! moves the next values to the lanes of their rows; lanes run over outputs, as in [`panels`](super::panels).
//!
//! A removed weight is never multiplied: its lane keeps its sum. Rows without weights fill the last panel.
//!
//! Cost of a new mask: one pass over the mask to count, one over weights and mask to fill.

use super::stored::{Storage, Stored, Values};
use crate::aligned::AlignedVec;
use crate::engine::Engine;
use crate::mask::PackedMaskRef;
use crate::panel::{self, Block};
use crate::simd::{Kernel, Simd};
use crate::tiles::PANEL;
use crate::view::MatRef;

/// The kept weights of a matrix `[rows, columns]`.
#[derive(Clone, Debug)]
pub(crate) struct Bitmask {
    rows: usize,
    columns: usize,
    /// `[panel][column]`: bit r is row r of the panel.
    bits: Vec<u16>,
    /// Where the values of each panel begin, and where the last ones end.
    starts: Vec<usize>,
    /// By panel, column and row; then [`PANEL`] more, so that a vector can be read at the place of each.
    values: Values,
}

/// The kept weights of a panel.
#[derive(Clone, Copy)]
pub(crate) struct BitmaskPanel<'a, T> {
    /// The rows of each column that keep their weight.
    pub(crate) bits: &'a [u16],
    /// Their values, and at least [`PANEL`] more.
    pub(crate) values: &'a [T],
}

impl Bitmask {
    pub(super) fn new(rows: usize, columns: usize, storage: Storage) -> Self {
        Self { rows, columns, bits: Vec::new(), starts: Vec::new(), values: Values::new(storage) }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The values of the kept weights, for [`panel`](Self::panel).
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// Panel `index`; `values` are those of the whole matrix.
    #[inline(always)]
    pub(crate) fn panel<'a, T>(&'a self, values: &'a [T], index: usize) -> BitmaskPanel<'a, T> {
        let bits = &self.bits[index * self.columns..][..self.columns];
        BitmaskPanel { bits, values: &values[self.starts[index]..] }
    }

    /// Bytes of memory held.
    pub(super) fn bytes_held(&self) -> usize {
        size_of::<u16>() * self.bits.capacity()
            + size_of::<usize>() * self.starts.capacity()
            + self.values.bytes_held()
    }

    /// Calls `take(row, column, weight)` for each kept weight, each row's in ascending order of columns.
    pub(super) fn for_each(&self, take: impl FnMut(usize, usize, f32)) {
        match &self.values {
            Values::F32(values) => self.for_each_of(values, take),
            Values::Bf16(values) => self.for_each_of(values, take),
        }
    }

    fn for_each_of<T: Stored>(&self, values: &[T], mut take: impl FnMut(usize, usize, f32)) {
        let mut values = values.iter();
        for (index, &bits) in self.bits.iter().enumerate() {
            let (first_row, column) = (index / self.columns * PANEL, index % self.columns);
            for row in (0..PANEL).filter(|row| bits >> row & 1 != 0) {
                take(first_row + row, column, values.next().expect("as many as bits").widen());
            }
        }
    }

    /// Stores the weights of `weights` `[rows, columns]` that `mask` keeps. Reallocates only when nnz exceeds its previous
    /// maximum.
    pub(super) fn build(
        &mut self,
        engine: Engine,
        weights: MatRef<'_>,
        mask: PackedMaskRef<'_>,
        kept: usize,
    ) {
        let (rows, columns) = (self.rows, self.columns);
        // Without columns there may be any number of rows.
        if rows == 0 || columns == 0 {
            return;
        }
        let panels = rows.div_ceil(PANEL);
        self.bits.resize(panels * columns, 0);
        self.starts.resize(panels + 1, 0);
        let (mut start, starts) = (0, &mut self.starts);
        for (index, at) in starts[1..].iter_mut().enumerate() {
            let first = index * PANEL * columns;
            start += mask.kept_in(first, PANEL.min(rows - index * PANEL) * columns);
            *at = start;
        }
        let parts = self.starts.windows(2).zip(self.bits.chunks_mut(columns)).enumerate();
        let parts = parts.map(|(index, (ends, bits))| {
            let rows = PANEL.min(rows - index * PANEL);
            (BuildPanel { weights, mask, first_row: index * PANEL, rows, bits }, ends[1] - ends[0])
        });
        match &mut self.values {
            Values::F32(values) => fill(engine, parts, values, kept),
            Values::Bf16(values) => fill(engine, parts, values, kept),
        }
    }
}

/// Fills panels with their values, as many as said for each.
fn fill<'a, T: Stored>(
    engine: Engine,
    parts: impl Iterator<Item = (BuildPanel<'a>, usize)> + Send,
    values: &mut AlignedVec<T>,
    kept: usize,
) {
    values.resize(kept + PANEL, kept + PANEL);
    values[kept..].fill(T::default());
    let mut rest = &mut values[..kept];
    let parts = parts.map(|(panel, count)| {
        let values = rest.split_off_mut(..count).expect("as many as were counted");
        Fill { panel, values }
    });
    engine.for_work(kept).for_each(parts, |fill| engine.backend().run(fill));
}

struct BuildPanel<'a> {
    weights: MatRef<'a>,
    mask: PackedMaskRef<'a>,
    first_row: usize,
    rows: usize,
    bits: &'a mut [u16],
}

/// Stores the bits and values of a panel.
struct Fill<'a, T> {
    panel: BuildPanel<'a>,
    values: &'a mut [T],
}

/// Columns of a panel that are transposed at a time.
const STRIP: usize = 64;

impl<T: Stored> Kernel for Fill<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if PANEL.is_multiple_of(S::LANES) {
            self.fill(s);
        } else {
            self.fill(s.narrow());
        }
    }
}

impl<T: Stored> Fill<'_, T> {
    #[inline(always)]
    fn fill<S: Simd>(self, s: S) {
        let Self { panel: BuildPanel { weights, mask, first_row, rows, bits }, values } = self;
        let columns = weights.cols();
        let mut strip = [0.0; STRIP * PANEL];
        let mut packed = [0; STRIP * PANEL + PANEL];
        let mut done = 0;
        for (first, bits) in (0..columns).step_by(STRIP).zip(bits.chunks_mut(STRIP)) {
            let block = Block { row: first, rows: bits.len(), col: first_row, cols: rows };
            panel::pack(s, weights.t(), block, &mut strip, PANEL);
            bits.fill(0);
            for row in 0..rows {
                let word = mask.word((first_row + row) * columns + first);
                for (i, bits) in bits.iter_mut().enumerate() {
                    *bits |= ((word >> i & 1) as u16) << row;
                }
            }
            let mut count = 0;
            for (&bits, weights) in bits.iter().zip(strip.as_chunks::<PANEL>().0) {
                for (i, weights) in weights.chunks_exact(S::LANES).enumerate() {
                    let bits = u32::from(bits) >> (i * S::LANES) & ((1 << S::LANES) - 1);
                    s.compress_i32(s.to_bits(s.load(weights)), bits, &mut packed[count..]);
                    count += bits.count_ones() as usize;
                }
            }
            for (value, &weight) in values[done..][..count].iter_mut().zip(&packed) {
                *value = T::of(f32::from_bits(weight as u32));
            }
            done += count;
        }
    }
}
