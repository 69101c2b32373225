//! The kept weights of a matrix, in the two forms that the sparse kernels walk.
//!
//! For a slice of the inputs that fits in L1 or nearly, the kernels walk one output after another: so the kept weights are stored
//! slice by slice ("block"), within a block row by row, within a row by ascending column.
//!
//! * Copied: each is one 8-byte entry of value and column. A single integer load brings both, which leaves the machine's two
//!   vector load ports to the activations. (A batch of 1 has loads to spare, and takes them by halves. Two arrays, of values
//!   and of 16-bit columns, were 5 % slower at s = 0.5 for the weights' broadcast loads.)
//! * Listed: of each the column, one byte. Its value is read where it is, in a copy of all weights, block by block, made again
//!   only when the blocks change. For a new mask no weight is touched; but a product waits longer at each start on an output, for
//!   a column and only then for its weight.
//!
//! Listing is for masks that are used once. Emerald Rapids, microseconds for a product with 128 columns + for a new mask:
//!
//! | | AVX-512, copied | listed | AVX2, copied | listed |
//! |---|---|---|---|---|
//! | 784×500, s = 0.5 | 424 + 114 | 468 + 50 | 735 + 118 | 756 + 44 |
//! | s = 0.8 | 208 + 91 | 231 + 49 | 312 + 94 | 350 + 43 |
//! | s = 0.95 | 84 + 88 | 107 + 47 | 114 + 93 | 136 + 42 |
//! | 1024×1024, s = 0.5 | 1190 + 418 | 1301 + 135 | 1983 + 467 | 2041 + 121 |
//! | 2048×2048, s = 0.5 | 5004 + 1850 | 5306 + 574 | 8219 + 1930 | 8684 + 502 |
//!
//! Copying so many weights cannot be fast where they and what is written exceed L2: a plain copy of as many bytes takes 100
//! microseconds there at 784×500 and s = 0.5. What did not help listing: asking for the next rows' weights, the columns by fours,
//! weights broadcast from memory. All weights where they were, row-major: 13 % slower products at 784×500, 35 % at 1024×1024.
//! What did not help copying: rows before blocks, so that weights are read as one stream and entries written as many (0.87 →
//! 1.1 cycles a weight); a table of permutations instead of AVX-512's own packing.

use super::compress::{Compress, Shape};
use super::slice::{BLOCK_USUAL, FindSlice};
use crate::engine::Engine;
use crate::mask::PackedMask;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Most columns of a block where rows are left whole: an entry has 32 bits for one.
const MOST_COLUMNS: usize = 1 << 31;

/// How kept weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Copied, rows left whole.
    WholeRows,
    Copied,
    Listed,
}

/// A kept weight: its value in the high half, its column within the block in the low half.
pub(crate) type Entry = u64;

#[inline(always)]
pub(crate) fn entry(column: usize, value: f32) -> Entry {
    u64::from(value.to_bits()) << 32 | column as u64
}

/// The column of an entry, within its block.
#[inline(always)]
pub(crate) fn column(entry: Entry) -> usize {
    entry as u32 as usize
}

/// The value of an entry.
#[inline(always)]
pub(crate) fn value(entry: Entry) -> f32 {
    f32::from_bits((entry >> 32) as u32)
}

/// The kept weights of one row of a block.
pub(crate) trait KeptRow: Copy + Default {
    fn count(self) -> usize;
    /// The first `count` of them, and the others.
    fn split(self, count: usize) -> (Self, Self);
    /// Column within the block and value of number `i`.
    fn get(self, i: usize) -> (usize, f32);
    /// [`get`](Self::get) for kernels that have loads to spare.
    #[inline(always)]
    fn get_by_halves(self, i: usize) -> (usize, f32) {
        self.get(i)
    }
    /// Where the first value is; what the following rows need is after it.
    fn address(self) -> *const u8;
}

/// The rows of a block, or consecutive ones.
pub(crate) trait KeptRows: Copy {
    type Row: KeptRow;
    fn iter(self) -> impl Iterator<Item = Self::Row>;
    /// Cache lines of a row's values, on average.
    fn lines_of_a_row(self) -> usize;
}

/// One block.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    /// The first of its columns, and how many there are.
    pub(crate) first_input: usize,
    pub(crate) inputs: usize,
    pub(crate) kept: Kept<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Kept<'a> {
    Copied(CopiedRows<'a>),
    Listed(ListedRows<'a>),
}

#[derive(Clone, Copy)]
pub(crate) struct CopiedRows<'a> {
    /// Where each row begins in `entries`, and where the last one ends.
    starts: &'a [usize],
    entries: &'a [Entry],
}

impl<'a> KeptRows for CopiedRows<'a> {
    type Row = CopiedRow<'a>;

    #[inline(always)]
    fn iter(self) -> impl Iterator<Item = CopiedRow<'a>> {
        let (mut start, mut entries) = (self.starts[0], &self.entries[self.starts[0]..]);
        self.starts[1..].iter().map(move |&end| {
            let (row, rest) = entries.split_at(end - start);
            (start, entries) = (end, rest);
            CopiedRow(row)
        })
    }

    fn lines_of_a_row(self) -> usize {
        let rows = self.starts.len() - 1;
        let kept = self.starts[rows] - self.starts[0];
        (kept * size_of::<Entry>()).div_ceil(rows.max(1) * LINE)
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct CopiedRow<'a>(&'a [Entry]);

impl KeptRow for CopiedRow<'_> {
    #[inline(always)]
    fn count(self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn split(self, count: usize) -> (Self, Self) {
        let (first, rest) = self.0.split_at(count);
        (Self(first), Self(rest))
    }
    #[inline(always)]
    fn get(self, i: usize) -> (usize, f32) {
        (column(self.0[i]), value(self.0[i]))
    }
    /// A load for each.
    #[inline(always)]
    fn get_by_halves(self, i: usize) -> (usize, f32) {
        let &[first, second]: &[u32; 2] = bytemuck::cast_ref(&self.0[i]);
        let (column, value) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
        (column as usize, f32::from_bits(value))
    }
    #[inline(always)]
    fn address(self) -> *const u8 {
        self.0.as_ptr().cast()
    }
}

#[derive(Clone, Copy)]
pub(crate) struct ListedRows<'a> {
    /// Where each row begins in `list`, and where the last one ends.
    starts: &'a [usize],
    list: &'a [u8],
    /// All weights `[rows, inputs]` and whatever follows.
    weights: &'a [f32],
    inputs: usize,
}

impl<'a> KeptRows for ListedRows<'a> {
    type Row = ListedRow<'a>;

    #[inline(always)]
    fn iter(self) -> impl Iterator<Item = ListedRow<'a>> {
        let (mut start, mut list, mut weights) = (self.starts[0], &self.list[self.starts[0]..], self.weights);
        self.starts[1..].iter().map(move |&end| {
            let (row, rest) = list.split_at(end - start);
            (start, list) = (end, rest);
            let row = ListedRow { list: row, weights: weights.first_chunk().expect("zeros at the end") };
            weights = &weights[self.inputs..];
            row
        })
    }

    fn lines_of_a_row(self) -> usize {
        (self.inputs * size_of::<f32>()).div_ceil(LINE)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct ListedRow<'a> {
    list: &'a [u8],
    /// The row's, and others that follow: as many as a byte can tell apart.
    weights: &'a [f32; BLOCK_USUAL],
}

impl Default for ListedRow<'_> {
    fn default() -> Self {
        Self { list: &[], weights: &[0.0; BLOCK_USUAL] }
    }
}

impl KeptRow for ListedRow<'_> {
    #[inline(always)]
    fn count(self) -> usize {
        self.list.len()
    }
    #[inline(always)]
    fn split(self, count: usize) -> (Self, Self) {
        let (first, rest) = self.list.split_at(count);
        (Self { list: first, ..self }, Self { list: rest, ..self })
    }
    #[inline(always)]
    fn get(self, i: usize) -> (usize, f32) {
        let column = usize::from(self.list[i]);
        (column, self.weights[column])
    }
    #[inline(always)]
    fn address(self) -> *const u8 {
        self.weights.as_ptr().cast()
    }
}

/// The kept weights of a matrix by block of columns, row and column, ascending.
#[derive(Clone, Debug)]
pub(crate) struct CompressedRows {
    rows: usize,
    columns: usize,
    block: usize,
    layout: Layout,
    /// Where each (block, row) begins among the kept weights, block-major, and where the last one ends.
    starts: Vec<usize>,
    /// The kept weights copied; as many as were ever kept at once.
    entries: Vec<Entry>,
    /// The kept weights' columns within their blocks; likewise.
    list: Vec<u8>,
    /// All weights block by block, each `[rows, inputs of the block]`, and [`BLOCK_USUAL`] zeros; empty until they are needed.
    tiled: Vec<f32>,
    /// The block size of `tiled`.
    tile: usize,
}

impl CompressedRows {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            // All this follows from the first mask; of a matrix without weights there may be any number of rows.
            block: 1,
            layout: Layout::Copied,
            starts: Vec::new(),
            entries: Vec::new(),
            list: Vec::new(),
            tiled: Vec::new(),
            tile: 0,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes that a product reads.
    pub(crate) fn bytes(&self) -> usize {
        let kept = self.starts[self.segments()];
        match self.layout {
            Layout::Listed => kept + self.rows * self.columns * size_of::<f32>(),
            Layout::Copied | Layout::WholeRows => kept * size_of::<Entry>(),
        }
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.columns.div_ceil(self.block)
    }

    /// Whether whole rows are too long for a usual block; no other block has more than [`BLOCK_MOST`] columns.
    pub(crate) fn has_wide_blocks(&self) -> bool {
        self.layout == Layout::WholeRows && self.block > BLOCK_USUAL
    }

    #[cfg(test)]
    pub(super) fn is_listed(&self) -> bool {
        self.layout == Layout::Listed
    }

    fn segments(&self) -> usize {
        self.blocks() * self.rows
    }

    /// The kept weights of `rows` in block `block`.
    pub(crate) fn block_rows(&self, block: usize, rows: core::ops::Range<usize>) -> Block<'_> {
        let first = block * self.rows;
        let first_input = block * self.block;
        let inputs = self.block.min(self.columns - first_input);
        let starts = &self.starts[first + rows.start..=first + rows.end];
        let kept = if self.layout == Layout::Listed {
            let weights = &self.tiled[self.rows * first_input + rows.start * inputs..];
            Kept::Listed(ListedRows { starts, list: &self.list, weights, inputs })
        } else {
            Kept::Copied(CopiedRows { starts, entries: &self.entries })
        };
        Block { first_input, inputs, kept }
    }

    /// Calls `take(column, weight)` for the kept weights of a row, ascending.
    pub(crate) fn for_each_in_row(&self, row: usize, mut take: impl FnMut(usize, f32)) {
        fn in_block(rows: impl KeptRows, take: impl FnMut((usize, f32))) {
            rows.iter().flat_map(|row| (0..row.count()).map(move |i| row.get(i))).for_each(take);
        }
        for block in 0..self.blocks() {
            let Block { first_input, kept, .. } = self.block_rows(block, row..row + 1);
            let take = |(column, value)| take(first_input + column, value);
            match kept {
                Kept::Copied(rows) => in_block(rows, take),
                Kept::Listed(rows) => in_block(rows, take),
            }
        }
    }

    /// Takes the `kept` weights of `weights` `[rows, columns]`.
    pub(super) fn compress(
        &mut self,
        engine: Engine,
        weights: &[f32],
        mask: &PackedMask,
        kept: usize,
        layout: Layout,
    ) {
        self.layout = layout;
        let slice = || engine.backend().run(FindSlice).inputs(weights.len(), kept);
        let most = match layout {
            Layout::WholeRows => self.columns.clamp(1, MOST_COLUMNS),
            Layout::Copied => slice(),
            Layout::Listed => slice().min(BLOCK_USUAL),
        };
        // Blocks of about the same size: a short last one would cost as much as a full one.
        self.block =
            self.columns.div_ceil(self.columns.div_ceil(most).max(1)).next_multiple_of(8).clamp(1, most);
        // Another size would cost a copy of all weights, and follows from how many are kept.
        if layout == Layout::Listed && (most * 3 / 4..=most).contains(&self.tile) {
            self.block = self.tile;
        }
        let segments = self.segments();
        if self.starts.len() <= segments {
            self.starts.resize(segments + 1, 0);
        }
        self.starts[segments] = kept;
        let shape = Shape { rows: self.rows, columns: self.columns, block: self.block };
        if layout == Layout::Listed {
            self.tile(engine, weights);
        }
        let starts = &mut self.starts[..segments];
        let (list, entries) = (&mut self.list, &mut self.entries);
        match layout {
            Layout::Listed => {
                Compress::new(weights, mask, shape, starts, at_least(list, kept)).run_on(engine)
            }
            _ => Compress::new(weights, mask, shape, starts, at_least(entries, kept)).run_on(engine),
        }
    }

    /// Copies all weights block by block, unless that is done.
    fn tile(&mut self, engine: Engine, weights: &[f32]) {
        if self.tile == self.block {
            return;
        }
        let (rows, columns, block) = (self.rows, self.columns, self.block);
        self.tiled.resize(weights.len() + BLOCK_USUAL, 0.0);
        self.tile = block;
        engine.for_each_chunk(&mut self.tiled[..weights.len()], (rows * block).max(1), |index, tile| {
            let first = index * block;
            let inputs = block.min(columns - first);
            for (to, from) in tile.chunks_exact_mut(inputs).zip(weights.chunks_exact(columns)) {
                to.copy_from_slice(&from[first..first + inputs]);
            }
        });
    }
}

/// The first `count` elements, made if there are fewer.
fn at_least<T: bytemuck::Zeroable + Clone>(elements: &mut Vec<T>, count: usize) -> &mut [T] {
    if elements.len() < count {
        elements.resize(count, T::zeroed());
    }
    &mut elements[..count]
}
