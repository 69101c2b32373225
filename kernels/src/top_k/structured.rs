//! N:M structured sparsity: of every m consecutive scores the n largest.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::engine::Engine;
use crate::mask::PackedMask;
use crate::simd::{Kernel, Simd};
use crate::top_k::keys::{INFINITE, keys};
use crate::top_k::{Order, TopKError};

/// Most scores in a group: whole groups have to fit a word of bits.
const MOST: usize = 64;

/// Scores of one word, then as many as its last one may be compared with, then room for the last vector.
const WINDOW: usize = 2 * MOST + 32;

/// Groups that a thread takes at a time: whole words of the mask, whatever the size of the groups.
const GROUPS: usize = 4096;

/// Makes `mask` keep, of each `group` consecutive scores (from index 0 on), the `keep` largest; of equal scores the
/// lower index is removed first. 2:4 sparsity is `keep` = 2, `group` = 4.
///
/// Each pair of scores in a group is compared once: time grows with scores · `group`.
///
/// ```
/// use slth_kernels::{Engine, PackedMask, top_k::{Order, keep_n_of_m}};
/// let scores = [0.1, -0.4, 0.3, 0.2, 1.0, 1.0, 1.0, 1.0];
/// let mut mask = PackedMask::none_kept(8);
/// keep_n_of_m(Engine::detect()?, &scores, 2, 4, Order::Magnitude, &mut mask)?;
/// assert_eq!(mask.kept_indices().collect::<Vec<_>>(), [1, 2, 6, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When a score is NaN (`mask` then keeps nothing), or (`mask` is then unchanged) when it is of another length than the
/// scores, `keep` exceeds `group`, or `group` does not divide the number of scores or is not in 1 to 64.
pub fn keep_n_of_m(
    engine: Engine,
    scores: &[f32],
    keep: usize,
    group: usize,
    order: Order,
    mask: &mut PackedMask,
) -> Result<(), TopKError> {
    if mask.len() != scores.len() {
        return Err(TopKError::MaskLength { layer: 0, scores: scores.len(), mask: mask.len() });
    }
    if !(1..=MOST).contains(&group) || !scores.len().is_multiple_of(group) {
        return Err(TopKError::GroupSize { group, len: scores.len() });
    }
    if keep > group {
        return Err(TopKError::KeepTooLarge { keep, len: group });
    }
    let has_nan = AtomicBool::new(false);
    let length = GROUPS * group;
    engine.for_each_chunk(mask.words_mut(), length / 64, |chunk, words| {
        let scores = &scores[chunk * length..];
        let scores = &scores[..scores.len().min(length)];
        if engine.backend().run(Groups { scores, words, keep, group, order }) {
            has_nan.store(true, Relaxed);
        }
    });
    if has_nan.into_inner() {
        mask.words_mut().fill(0);
        let index = scores.iter().position(|score| score.is_nan()).expect("the kernel has seen it");
        return Err(TopKError::NotANumber { layer: 0, index });
    }
    Ok(())
}

/// Returns whether a score is NaN.
struct Groups<'a> {
    scores: &'a [f32],
    words: &'a mut [u64],
    keep: usize,
    group: usize,
    order: Order,
}

impl Kernel for Groups<'_> {
    type Out = bool;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        match (self.order, self.group) {
            // The common sizes get code of their own: its loops over neighbours and counter digits unroll.
            (Order::Magnitude, 4) => self.rank::<S, false>(s, 4),
            (Order::Magnitude, 8) => self.rank::<S, false>(s, 8),
            (Order::Magnitude, group) => self.rank::<S, false>(s, group),
            (Order::Signed, group) => self.rank::<S, true>(s, group),
        }
    }
}

impl Groups<'_> {
    /// Lane i of a word is kept when fewer than `keep` neighbours in its group are larger. These are counted for all
    /// lanes at once, in counters whose binary digits lie in separate words.
    #[inline(always)]
    fn rank<S: Simd, const SIGNED: bool>(self, s: S, group: usize) -> bool {
        self.words.fill(0);
        let stretch = 64 / group * group;
        let digits = (usize::BITS - group.leading_zeros()) as usize;
        // Lanes that have a neighbour of the same group `d` lanes further up.
        let mut partners = [0_u64; MOST];
        for (d, lanes) in partners.iter_mut().enumerate().take(group) {
            *lanes = (0..stretch).filter(|i| i % group + d < group).fold(0, |bits, i| bits | 1 << i);
        }
        let mut worst = s.splat_i32(0);
        for (at, scores) in self.scores.chunks(stretch).enumerate() {
            let start = at * stretch;
            let mut padded = [0.0; WINDOW];
            let window = match self.scores[start..].first_chunk::<WINDOW>() {
                Some(window) => window,
                None => {
                    padded[..scores.len()].copy_from_slice(scores);
                    &padded
                }
            };
            worst = s.max_i32(worst, largest_magnitude(s, window));
            let larger = &mut [0_u64; 7][..digits];
            for (d, &lanes) in partners.iter().enumerate().take(group).skip(1) {
                let upper = not_below::<S, SIGNED>(s, window, d);
                count(larger, upper & lanes);
                count(larger, (!upper & lanes) << d);
            }
            let kept = below(larger, self.keep) & (u64::MAX >> (64 - scores.len()));
            let (word, shift) = (start / 64, start % 64);
            self.words[word] |= kept << shift;
            if shift + scores.len() > 64 {
                self.words[word + 1] |= kept >> (64 - shift);
            }
        }
        s.mask_bits(s.gt_i32(worst, s.splat_i32(INFINITE))) != 0
    }
}

/// The largest magnitude in each lane of the first 64 scores, as bits.
#[inline(always)]
fn largest_magnitude<S: Simd>(s: S, window: &[f32; WINDOW]) -> S::I32 {
    let mut largest = s.splat_i32(0);
    let mut at = 0;
    while at < 64 {
        largest = s.max_i32(largest, keys::<S, false>(s, s.load(&window[at..])).1);
        at += S::LANES;
    }
    largest
}

/// Bits of the lanes whose `d`-th next key is not below their own, which makes it the larger one.
#[inline(always)]
fn not_below<S: Simd, const SIGNED: bool>(s: S, window: &[f32; WINDOW], d: usize) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < 64 {
        let (own, _) = keys::<S, SIGNED>(s, s.load(&window[at..]));
        let (next, _) = keys::<S, SIGNED>(s, s.load(&window[at + d..]));
        bits |= u64::from(s.mask_bits(s.gt_i32(own, next))) << at;
        at += S::LANES;
    }
    !bits
}

/// Adds 1 to the counters of these lanes.
#[inline(always)]
fn count(digits: &mut [u64], lanes: u64) {
    let mut carry = lanes;
    for digit in digits {
        (*digit, carry) = (*digit ^ carry, *digit & carry);
    }
}

/// The lanes whose counter is below `limit`, which has no more digits.
#[inline(always)]
fn below(digits: &[u64], limit: usize) -> u64 {
    let (mut less, mut equal) = (0, u64::MAX);
    for (place, &digit) in digits.iter().enumerate().rev() {
        let bit = if limit >> place & 1 != 0 { u64::MAX } else { 0 };
        less |= equal & bit & !digit;
        equal &= !(bit ^ digit);
    }
    less
}
