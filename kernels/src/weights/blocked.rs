//! Kept weights by block of columns, row and column: the format of sparse products with wide batches, quick to rebuild.
//!
//! A product computes all outputs for one tile of activations that stays in cache ([`CacheTile`](super::tile)), then the next
//! tile. So kept weights are stored by block, then row, then ascending column; each is one [`Entry`] of 8 bytes, value and
//! column.
//!
//! Cost of a new mask: one pass over weights and mask. Measurements: docs/tuning.md, "Blocked format".

use core::ops::Range;

use super::entry::{Entry, entry, place, value};
use super::tile::FindInputs;
use crate::engine::Engine;
use crate::mask::PackedMaskRef;
use crate::simd::{Kernel, Simd};

/// Floats of a cache line.
const LINE: usize = 16;

/// The kept weights of a matrix `[rows, columns]`.
#[derive(Clone, Debug)]
pub(crate) struct Blocked {
    rows: usize,
    columns: usize,
    /// Columns of a block.
    width: usize,
    /// Where each (block, row) begins in `entries`, block-major, and where the last one ends.
    starts: Vec<usize>,
    /// Its length is the largest number of weights that were kept so far.
    entries: Vec<Entry>,
}

/// Consecutive rows of one block.
#[derive(Clone, Copy)]
pub(crate) struct BlockRows<'a> {
    /// The block's first column, and how many it has.
    pub(crate) first_input: usize,
    pub(crate) inputs: usize,
    /// Where each row begins in `entries`, and where the last one ends.
    starts: &'a [usize],
    entries: &'a [Entry],
}

impl<'a> BlockRows<'a> {
    /// The rows' kept weights, whose places are columns within the block.
    #[inline(always)]
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [Entry]> {
        let (mut start, mut entries) = (self.starts[0], &self.entries[self.starts[0]..]);
        self.starts[1..].iter().map(move |&end| {
            let (row, rest) = entries.split_at(end - start);
            (start, entries) = (end, rest);
            row
        })
    }

    /// Kept weights of a row, on average.
    pub(crate) fn mean_row(self) -> usize {
        let rows = self.starts.len() - 1;
        (self.starts[rows] - self.starts[0]).div_ceil(rows.max(1))
    }
}

impl Blocked {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        // The first mask determines everything except the sizes. A matrix without weights may have any number of rows.
        Self { rows, columns, width: 1, starts: Vec::new(), entries: Vec::new() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Number of kept weights.
    pub(crate) fn kept(&self) -> usize {
        self.starts[self.segments()]
    }

    /// Bytes that a product reads.
    pub(crate) fn bytes_read(&self) -> usize {
        self.kept() * size_of::<Entry>()
    }

    /// Bytes of memory held.
    pub(super) fn bytes_held(&self) -> usize {
        self.starts.capacity() * size_of::<usize>() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    fn segments(&self) -> usize {
        self.count() * self.rows
    }

    /// The kept weights of `rows` in block `block`.
    pub(crate) fn block_rows(&self, block: usize, rows: Range<usize>) -> BlockRows<'_> {
        let first = block * self.rows;
        let first_input = block * self.width;
        BlockRows {
            first_input,
            inputs: self.width.min(self.columns - first_input),
            starts: &self.starts[first + rows.start..=first + rows.end],
            entries: &self.entries,
        }
    }

    /// Calls `take(row, column, weight)` for each kept weight.
    pub(super) fn for_each(&self, mut take: impl FnMut(usize, usize, f32)) {
        for block in 0..self.count() {
            let block = self.block_rows(block, 0..self.rows);
            for (row, entries) in block.iter().enumerate() {
                entries.iter().for_each(|&entry| take(row, block.first_input + place(entry), value(entry)));
            }
        }
    }

    /// Stores the weights of `weights` `[rows, columns]` that `mask` keeps. Reallocates only when nnz or the number of
    /// blocks exceeds its previous maximum.
    pub(super) fn build(&mut self, engine: Engine, weights: &[f32], mask: PackedMaskRef<'_>, kept: usize) {
        let most = engine.backend().run(FindInputs { weights: weights.len(), kept });
        // Blocks have about the same size, because a short last one would cost as much as a full one.
        self.width =
            self.columns.div_ceil(self.columns.div_ceil(most).max(1)).next_multiple_of(8).clamp(1, most);
        let segments = self.segments();
        if self.starts.len() <= segments {
            self.starts.resize(segments + 1, 0);
        }
        self.starts[segments] = kept;
        if self.entries.len() < kept {
            self.entries = vec![0; kept];
        }
        let (rows, columns, width) = (self.rows, self.columns, self.width);
        let engine = engine.for_work(weights.len());
        // Blocks of a thread.
        let share = self.count().div_ceil(engine.threads()).max(1);
        let (mut first, mut base, mut entries) = (0, 0, &mut self.entries[..kept]);
        let shares = self.starts[..segments].chunks_mut((share * rows).max(1)).map(|starts| {
            let end = (first + share * width).min(columns);
            let kept = if end == columns {
                entries.len()
            } else {
                (0..rows).map(|row| mask.kept_in(row * columns + first, end - first)).sum()
            };
            let (own, rest) = core::mem::take(&mut entries).split_at_mut(kept);
            let compress =
                Compress { weights, mask, rows, columns, width, first, base, starts, entries: own };
            (first, base, entries) = (end, base + kept, rest);
            compress
        });
        engine.for_each(shares, |compress| engine.backend().run(compress));
    }
}

/// The kept weights of consecutive blocks.
struct Compress<'a> {
    weights: &'a [f32],
    mask: PackedMaskRef<'a>,
    rows: usize,
    columns: usize,
    /// Columns of a block.
    width: usize,
    /// The first column.
    first: usize,
    /// How many weights are kept before it.
    base: usize,
    /// Where each row of these blocks begins, and what is kept in them.
    starts: &'a mut [usize],
    entries: &'a mut [Entry],
}

impl Kernel for Compress<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, columns, width, .. } = self;
        // Full vectors in the bits of a mask word.
        let group = 64 / S::LANES * S::LANES;
        let mut end = 0;
        for (first, starts) in (self.first..columns).step_by(width).zip(self.starts.chunks_mut(rows.max(1))) {
            let width = width.min(columns - first);
            for (row, start) in starts.iter_mut().enumerate() {
                *start = self.base + end;
                let at = row * columns + first;
                let weights = &self.weights[at..at + width];
                // Full groups have a length known at compile time.
                let groups = weights.chunks_exact(group);
                let rest = groups.remainder();
                for (index, weights) in groups.enumerate() {
                    let (column, room) = (index * group, &mut self.entries[end..]);
                    end += compress(s, weights, self.mask, at, column, 3 * columns, room);
                }
                if !rest.is_empty() {
                    let (column, room) = (width - rest.len(), &mut self.entries[end..]);
                    end += compress(s, rest, self.mask, at, column, 3 * columns, room);
                }
            }
        }
    }
}

/// Writes the kept ones of up to 64 weights to the front of `room` and returns their number; what follows them in `room` is
/// unspecified. The weights start at `column` in a piece of a row whose first bit in the mask is `at`. `ahead`: prefetch
/// distance, in weights.
#[inline(always)]
fn compress<S: Simd>(
    s: S,
    weights: &[f32],
    mask: PackedMaskRef<'_>,
    at: usize,
    column: usize,
    ahead: usize,
    room: &mut [Entry],
) -> usize {
    let word = mask.word(at + column) & (u64::MAX >> (64 - weights.len()));
    match room.first_chunk_mut() {
        Some(room) => compress_word(s, weights, word, column, ahead, room),
        None => compress_last(weights, word, column, room),
    }
    word.count_ones() as usize
}

/// Each vector's entries begin at the number of bits set below them, which the compiler can prove to be within `room`.
#[inline(always)]
fn compress_word<S: Simd>(
    s: S,
    weights: &[f32],
    word: u64,
    column: usize,
    ahead: usize,
    room: &mut [Entry; 64],
) {
    let first = s.splat_i32(column as i32);
    for i in (0..64 / S::LANES * S::LANES).step_by(S::LANES) {
        let Some(weights) = weights.get(i..).filter(|weights| !weights.is_empty()) else { break };
        if i % LINE == 0 {
            // Hardware prefetching does not follow short pieces of rows that are far apart. It follows the entries, yet
            // prefetching as many of their lines as are written at s = 0.5 saves more time (docs/tuning.md, "Blocked format").
            s.prefetch::<true, _>(weights.as_ptr().wrapping_add(ahead));
            s.prefetch::<true, _>(room.as_ptr().wrapping_add(128 + i / 2));
        }
        let values = if weights.len() < S::LANES { s.load_partial(weights) } else { s.load(weights) };
        let bits = (word >> i) as u32 & (u32::MAX >> (32 - S::LANES));
        let before = (word & !(u64::MAX << i)).count_ones() as usize;
        s.compress_entries(s.add_i32(first, s.splat_i32(i as i32)), values, bits, &mut room[before..]);
    }
}

/// The same, but writes only kept weights: at the end of the entries there may be no room for more.
#[cold]
fn compress_last(weights: &[f32], mut word: u64, first: usize, room: &mut [Entry]) {
    for to in room {
        if word == 0 {
            break;
        }
        let column = word.trailing_zeros() as usize;
        *to = entry(first + column, weights[column]);
        word &= word - 1;
    }
}
