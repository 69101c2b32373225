//! The pass over the scores, which separates those above a bracket from those inside.

use crate::simd::{Kernel, Simd};
use crate::top_k::bracket::Bracket;
use crate::top_k::keys::{INFINITE, Order, key, keys, rank};

/// Scores of one mask word.
pub(super) const WORD: usize = 64;

/// What is done with the scores inside the bracket.
pub(super) trait Visitor {
    /// Takes those of one word, given by their bits; returns the bits to keep already.
    fn take<const SIGNED: bool>(&mut self, scores: &[f32; WORD], index: u32, bits: u64) -> u64;
}

/// Counts them and no more.
pub(super) struct Count;

impl Visitor for Count {
    #[inline(always)]
    fn take<const SIGNED: bool>(&mut self, _: &[f32; WORD], _: u32, _: u64) -> u64 {
        0
    }
}

/// Collects their ranks, as long as there is room for a whole word of them.
pub(super) struct Gather<'a> {
    pub(super) ranks: &'a mut [u64],
    pub(super) found: usize,
}

/// Ranks are written in steps of this many: with 1 to 4 % of the scores inside, a word rarely holds more, so the number of steps
/// is nearly always 1 and predicted.
const STEP: usize = 4;

impl Visitor for Gather<'_> {
    #[inline(always)]
    fn take<const SIGNED: bool>(&mut self, scores: &[f32; WORD], index: u32, bits: u64) -> u64 {
        let Some(free) = self.ranks.get_mut(self.found..).and_then(|free| free.first_chunk_mut::<WORD>())
        else {
            return 0;
        };
        let count = bits.count_ones() as usize;
        let mut rest = bits;
        for group in free.chunks_exact_mut(STEP) {
            for place in group {
                let lane = rest.trailing_zeros() as usize % WORD;
                write_rank(place, key::<SIGNED>(scores[lane]), index.wrapping_add(lane as u32));
                rest &= rest.wrapping_sub(1);
            }
            if rest == 0 {
                break;
            }
        }
        self.found += count;
        0
    }
}

/// Sets `place` to the rank, as two 32-bit halves.
///
/// With 64-bit ranks the compiler vectorises: it replaces four trailing-zero counts and loads by an emulation and a gather, which
/// is slower (docs/tuning.md, "Top-k").
#[inline(always)]
fn write_rank(place: &mut u64, key: i32, index: u32) {
    const HIGH: usize = cfg!(target_endian = "little") as usize;
    let halves: &mut [u32; 2] = bytemuck::cast_mut(place);
    halves[HIGH] = (rank(key, 0) >> 32) as u32;
    halves[1 - HIGH] = index;
}

/// Keeps all but the first `drop`; for brackets of one key, where the rank is the index.
pub(super) struct DropFirst {
    pub(super) drop: usize,
    /// The index of the first one kept.
    pub(super) kept: Option<u32>,
}

impl Visitor for DropFirst {
    #[inline(always)]
    fn take<const SIGNED: bool>(&mut self, _: &[f32; WORD], index: u32, bits: u64) -> u64 {
        let count = bits.count_ones() as usize;
        if self.drop >= count {
            self.drop -= count;
            return 0;
        }
        let mut keep = bits;
        for _ in 0..self.drop {
            keep &= keep - 1;
        }
        self.drop = 0;
        self.kept.get_or_insert(index.wrapping_add(keep.trailing_zeros()));
        keep
    }
}

/// Writes the mask of the scores above the bracket, and hands those inside to `visitor`.
pub(super) struct Split<'a, V> {
    pub(super) scores: &'a [f32],
    /// The mask's words for these scores.
    pub(super) words: &'a mut [u64],
    /// Index of the first score.
    pub(super) index: u32,
    pub(super) order: Order,
    pub(super) bracket: Bracket,
    pub(super) visitor: V,
}

/// How many scores lie where.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Number of scores above the bracket.
    pub(super) above: usize,
    /// Number of scores inside.
    pub(super) inside: usize,
    pub(super) has_nan: bool,
}

impl<V: Visitor> Kernel for Split<'_, V> {
    type Out = (Counts, V);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (Counts, V) {
        match self.order {
            Order::Magnitude => self.pass::<S, false>(s),
            Order::Signed => self.pass::<S, true>(s),
        }
    }
}

impl<V: Visitor> Split<'_, V> {
    #[inline(always)]
    fn pass<S: Simd, const SIGNED: bool>(mut self, s: S) -> (Counts, V) {
        let (blocks, tail) = self.scores.as_chunks::<WORD>();
        let (words, last) = self.words.split_at_mut(blocks.len());
        let mut index = self.index;
        let mut worst = s.splat_i32(0);
        let mut counts = Counts::default();
        for (block, word) in blocks.iter().zip(words) {
            let (upper, lower) = compare::<S, SIGNED>(s, block, self.bracket, &mut worst);
            let inside = lower & !upper;
            counts.above += upper.count_ones() as usize;
            counts.inside += inside.count_ones() as usize;
            *word = upper | self.visitor.take::<SIGNED>(block, index, inside);
            index = index.wrapping_add(WORD as u32);
        }
        if let Some(word) = last.first_mut() {
            let mut block = [0.0; WORD];
            block[..tail.len()].copy_from_slice(tail);
            let valid = u64::MAX >> (WORD - tail.len());
            let (upper, lower) = compare::<S, SIGNED>(s, &block, self.bracket, &mut worst);
            let inside = lower & !upper & valid;
            counts.above += (upper & valid).count_ones() as usize;
            counts.inside += inside.count_ones() as usize;
            *word = upper & valid | self.visitor.take::<SIGNED>(&block, index, inside);
        }
        counts.has_nan = s.mask_bits(s.gt_i32(worst, s.splat_i32(INFINITE))) != 0;
        (counts, self.visitor)
    }
}

/// Bits of the keys above `bracket.high` and of those above `bracket.low`; `worst` takes the largest magnitudes.
#[inline(always)]
fn compare<S: Simd, const SIGNED: bool>(
    s: S,
    block: &[f32; WORD],
    bracket: Bracket,
    worst: &mut S::I32,
) -> (u64, u64) {
    let ends = (s.splat_i32(bracket.high), s.splat_i32(bracket.low));
    let (mut upper, mut lower) = (0, 0);
    let mut at = 0;
    while at + 4 * S::LANES <= WORD {
        let a = compare_vector::<S, SIGNED>(s, s.load(&block[at..]), ends, worst);
        let b = compare_vector::<S, SIGNED>(s, s.load(&block[at + S::LANES..]), ends, worst);
        let c = compare_vector::<S, SIGNED>(s, s.load(&block[at + 2 * S::LANES..]), ends, worst);
        let d = compare_vector::<S, SIGNED>(s, s.load(&block[at + 3 * S::LANES..]), ends, worst);
        upper |= s.mask_bits_of_4([a.0, b.0, c.0, d.0]) << at;
        lower |= s.mask_bits_of_4([a.1, b.1, c.1, d.1]) << at;
        at += 4 * S::LANES;
    }
    // The rest, if the number of lanes does not divide a word.
    while at < WORD {
        let bits = compare_vector::<S, SIGNED>(s, s.load_partial(&block[at..]), ends, worst);
        upper |= u64::from(s.mask_bits(bits.0)) << at;
        lower |= u64::from(s.mask_bits(bits.1)) << at;
        at += S::LANES;
    }
    (upper, lower)
}

#[inline(always)]
fn compare_vector<S: Simd, const SIGNED: bool>(
    s: S,
    scores: S::F32,
    (high, low): (S::I32, S::I32),
    worst: &mut S::I32,
) -> (S::Mask, S::Mask) {
    let (keys, magnitudes) = keys::<S, SIGNED>(s, scores);
    // Otherwise the compiler delays the maxima of a word until after the visitor and spills the word's scores, which is slow
    // where the stack crosses a page (docs/tuning.md, "Top-k").
    *worst = s.schedule_barrier(s.max_i32(*worst, magnitudes));
    (s.gt_i32(keys, high), s.gt_i32(keys, low))
}
