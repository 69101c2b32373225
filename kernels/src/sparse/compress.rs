//! From weights and mask to the kept weights of each block and row.

use super::rows::{Entry, LINE, entry};
use crate::engine::Engine;
use crate::mask::PackedMask;
use crate::simd::{Kernel, POSITIONS, Simd};

/// What is stored of a kept weight.
pub(super) trait Form: Copy + Send {
    fn new(column: usize, weight: f32) -> Self;
    /// Puts the kept ones of up to 64 weights, whose bits in `word` are set, to the front of `room`. May write anything after them.
    /// `column` is the first one's within its block, `ahead` how many weights further on those are that are needed soon.
    fn compress<S: Simd>(
        s: S,
        weights: &[f32],
        word: u64,
        column: usize,
        ahead: usize,
        room: &mut [Self; 64],
    );
}

/// `[rows, columns]` in blocks of so many columns.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) block: usize,
}

/// The compression of consecutive blocks.
pub(super) struct Compress<'a, F> {
    weights: &'a [f32],
    mask: &'a PackedMask,
    shape: Shape,
    /// The first column.
    first: usize,
    /// How many weights are kept before it.
    base: usize,
    /// Where each row of these blocks begins, and what is kept in them.
    starts: &'a mut [usize],
    kept: &'a mut [F],
}

impl<'a, F: Form> Compress<'a, F> {
    /// The compression of all blocks.
    pub(super) fn new(
        weights: &'a [f32],
        mask: &'a PackedMask,
        shape: Shape,
        starts: &'a mut [usize],
        kept: &'a mut [F],
    ) -> Self {
        Self { weights, mask, shape, first: 0, base: 0, starts, kept }
    }

    /// Splits the blocks in two as long as there are threads for both halves.
    pub(super) fn run_on(self, engine: Engine) {
        let Shape { rows, columns, block } = self.shape;
        let blocks = self.starts.len() / rows.max(1);
        if engine.threads() == 1 || blocks < 2 {
            return engine.backend().run(self);
        }
        let middle = self.first + blocks / 2 * block;
        let kept: usize =
            (0..rows).map(|row| self.mask.kept_in(row * columns + self.first, middle - self.first)).sum();
        let (starts, right_starts) = self.starts.split_at_mut(blocks / 2 * rows);
        let base = self.base + kept;
        let (kept, right_kept) = self.kept.split_at_mut(kept);
        let left = Compress { starts, kept, ..self };
        let right = Compress { first: middle, base, starts: right_starts, kept: right_kept, ..left };
        engine.join(|| left.run_on(engine), || right.run_on(engine));
    }
}

impl<F: Form> Kernel for Compress<'_, F> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Shape { rows, columns, block } = self.shape;
        // As many whole vectors as a word of the mask has bits for.
        let group = 64 / S::LANES * S::LANES;
        let mut end = 0;
        for (first, starts) in (self.first..columns).step_by(block).zip(self.starts.chunks_mut(rows.max(1))) {
            let width = block.min(columns - first);
            for (row, start) in starts.iter_mut().enumerate() {
                *start = self.base + end;
                let at = row * columns + first;
                let weights = &self.weights[at..at + width];
                // Whole groups have a length that the compiler knows.
                let groups = weights.chunks_exact(group);
                let rest = groups.remainder();
                for (index, weights) in groups.enumerate() {
                    let (column, room) = (index * group, &mut self.kept[end..]);
                    end += compress(s, weights, self.mask, at, column, 3 * columns, room);
                }
                if !rest.is_empty() {
                    let (column, room) = (width - rest.len(), &mut self.kept[end..]);
                    end += compress(s, rest, self.mask, at, column, 3 * columns, room);
                }
            }
        }
    }
}

/// [`Form::compress`], and returns how many are kept. The weights are those from `column` on of a piece of a row whose first bit
/// in the mask is `at`.
#[inline(always)]
fn compress<S: Simd, F: Form>(
    s: S,
    weights: &[f32],
    mask: &PackedMask,
    at: usize,
    column: usize,
    ahead: usize,
    room: &mut [F],
) -> usize {
    let word = mask.word(at + column) & (u64::MAX >> (64 - weights.len()));
    match room.first_chunk_mut() {
        Some(room) => F::compress(s, weights, word, column, ahead, room),
        None => compress_last(weights, word, column, room),
    }
    word.count_ones() as usize
}

/// [`Form::compress`], without writing more than what is kept: at the end of all there may be no room.
#[cold]
fn compress_last<F: Form>(weights: &[f32], mut word: u64, first: usize, room: &mut [F]) {
    for to in room {
        if word == 0 {
            break;
        }
        let column = word.trailing_zeros() as usize;
        *to = F::new(first + column, weights[column]);
        word &= word - 1;
    }
}

/// A copy of it.
impl Form for Entry {
    #[inline(always)]
    fn new(column: usize, weight: f32) -> Self {
        entry(column, weight)
    }

    /// Two things count. One is the number of instructions: all of a word's entries begin at the number of bits set below them,
    /// which the compiler knows to be within `room`. With a check for each vector 784×100 weights took 0.79 cycles each, this
    /// 0.68 (AVX-512, a Xeon with 2 MiB of L2). The other is what lies in L2 and beyond. Short pieces of rows far apart are no
    /// stream to the processor's prefetching: Zen 4, cycles a weight at 784×500 and 4096×4096, s = 0.5, weights three rows ahead
    /// into L1 0.73 and 1.53, two 0.75 and 1.64, two into L2 0.79 and 1.92. Entries are a stream, yet asking for a line of them
    /// per line of weights, which is what is written at s = 0.5, saves more: on that Xeon, 784×500, s = 0.3 / 0.5 / 0.8, 1.39 /
    /// 1.04 / 0.84 instead of 1.51 / 1.24 / 0.84, be they 32 or 1024 entries ahead. (Without both 1.56 / 1.31 / 1.03.)
    #[inline(always)]
    fn compress<S: Simd>(
        s: S,
        weights: &[f32],
        word: u64,
        column: usize,
        ahead: usize,
        room: &mut [Self; 64],
    ) {
        let first = s.splat_i32(column as i32);
        for i in (0..64 / S::LANES * S::LANES).step_by(S::LANES) {
            let Some(weights) = weights.get(i..).filter(|weights| !weights.is_empty()) else { break };
            if i % (LINE / size_of::<f32>()) == 0 {
                s.prefetch::<true, _>(weights.as_ptr().wrapping_add(ahead));
                s.prefetch::<true, _>(room.as_ptr().wrapping_add(128 + i / 2));
            }
            let values = if weights.len() < S::LANES { s.load_partial(weights) } else { s.load(weights) };
            let bits = (word >> i) as u32 & (u32::MAX >> (32 - S::LANES));
            let before = (word & !(u64::MAX << i)).count_ones() as usize;
            s.compress_entries(s.add_i32(first, s.splat_i32(i as i32)), values, bits, &mut room[before..]);
        }
    }
}

/// Its column within a block of up to 256.
impl Form for u8 {
    #[inline(always)]
    fn new(column: usize, _: f32) -> Self {
        column as u8
    }

    /// Eight columns at once, from a table, as one integer. The weights are not looked at.
    #[inline(always)]
    fn compress<S: Simd>(_: S, weights: &[f32], word: u64, column: usize, _: usize, room: &mut [Self; 64]) {
        for i in (0..weights.len()).step_by(8) {
            let positions = u64::from_le_bytes(POSITIONS[usize::from((word >> i) as u8)]);
            let columns = positions + (column + i) as u64 * (u64::MAX / 0xff);
            let before = (word & !(u64::MAX << i)).count_ones() as usize;
            room[before..][..8].copy_from_slice(&columns.to_le_bytes());
        }
    }
}
