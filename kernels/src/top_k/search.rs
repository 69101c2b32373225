//! The selection itself: guess, split, settle.

use crate::arch::float_env;
use crate::engine::Engine;
use crate::error::KernelError;
use crate::mask::PackedMask;
use crate::top_k::bracket::{self, Bracket};
use crate::top_k::histogram::Histogram;
use crate::top_k::keys::{Order, key_by, rank, unrank};
use crate::top_k::selection::{Selection, Threshold};
use crate::top_k::split::{Count, Counts, DropFirst, Gather, Split, WORD};

/// Number of keys sampled with a hint. The sample only estimates the density of scores around the hint.
const HINT_SAMPLE: usize = 1024;

/// Half the width of the bracket, in standard deviations of the rank in the sample: one guess in 80 misses.
const DEVIATIONS: f64 = 2.5;

/// The same for the second guess, for scores that are similar to their neighbours, as in the rows of a matrix: their sample has a
/// larger variance. The second sample takes other positions than the first.
const WIDE_DEVIATIONS: f64 = 10.0;
pub(super) const SECOND_SALT: u32 = 0x0100_0000;

/// Up to this many candidates are selected by comparison; more are first narrowed by a histogram.
const SMALL: usize = 512;

/// Number of keys sampled to find the bracket: about n^⅔, which balances the cost of the sample with that of the candidates.
/// Computed with integers, because a platform's cube root may differ in its last bit.
pub(super) fn sample_size(len: usize) -> usize {
    // ⌊len^⅓⌋, bit by bit; no length of 32 bits has a root of 2¹¹.
    let root = (0..11).rev().fold(0_u64, |root, bit| {
        let next = root | 1 << bit;
        if next.pow(3) <= len as u64 { next } else { root }
    });
    (root * root) as usize
}

/// Clock cycles of a pass over this many scores: 0.6 per score.
fn pass_cycles(len: usize) -> usize {
    len / 5 * 3
}

/// Clock cycles that setting a candidate's bit takes.
const CANDIDATE_CYCLES: usize = 4;

/// Maximum number of candidates collected from `len` scores.
fn candidate_limit(len: usize) -> usize {
    (len / 8).max(4096)
}

/// Selects the largest (or smallest) scores; keeps its scratch memory between calls: half the size of the scores of
/// one layer, up to four times the size of all scores for more than eight layers. On one thread, a call like an earlier one (layers of the same
/// lengths) allocates nothing, nor does a call on a single layer after one on a longer layer.
///
/// ```
/// use slth_kernels::{Backend, Engine, PackedMask, top_k::{Order, Selector}};
/// let scores = [0.5, -2.0, 0.5, 0.1];
/// let mut mask = PackedMask::none_kept(4);
/// Selector::default().keep_largest(Engine::new(Backend::best()), &scores, 2, Order::Magnitude, &mut mask)?;
/// assert_eq!(mask, PackedMask::from_fn(4, |i| i == 1 || i == 2)); // the tie removes index 0
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Selector {
    sample: Vec<i32>,
    parts: Vec<Part>,
    histogram: Histogram,
    finalists: Vec<u64>,
}

/// A part of a layer for one thread, and its results.
#[derive(Clone, Debug, Default)]
struct Part {
    len: usize,
    /// Index of its first score, counted through all layers.
    index: u32,
    counts: Counts,
    /// Ranks of the scores inside the bracket, then room.
    candidates: Vec<u64>,
    gathered: usize,
    /// Number of scores to remove, from the first on, inside a bracket of one key.
    drop: usize,
    /// Index of the first one that is kept.
    first_kept: Option<u32>,
}

impl Selector {
    /// Makes `mask` keep exactly the `keep` largest of `scores`; returns the threshold.
    ///
    /// Expected time is linear in the scores, worst time too.
    ///
    /// # Errors
    /// When a score is NaN (`mask` then keeps nothing), `keep` exceeds the number of scores, or `mask` is of another
    /// length (it is then unchanged).
    pub fn keep_largest(
        &mut self,
        engine: Engine,
        scores: &[f32],
        keep: usize,
        order: Order,
        mask: &mut PackedMask,
    ) -> Result<Threshold, KernelError> {
        self.select(engine, &[scores], Selection::largest(keep, order), core::slice::from_mut(mask))
    }

    /// Selects among all scores of several layers together, as if they were one slice; each layer's mask keeps the selected
    /// scores of its layer. Returns the threshold.
    ///
    /// Time as for [`keep_largest`](Self::keep_largest). The indices of the kept are
    /// [`PackedMask::kept_indices`].
    ///
    /// ```
    /// use slth_kernels::{Engine, PackedMask, top_k::{Order, Selection, Selector}};
    /// let layers: [&[f32]; 2] = [&[0.1, -0.7], &[3.0, 0.2, -0.9]];
    /// let mut masks = [PackedMask::none_kept(2), PackedMask::none_kept(3)];
    /// let smallest = Selection::smallest(2, Order::Signed);
    /// let threshold = Selector::default().select(Engine::detect()?, &layers, smallest, &mut masks)?;
    /// assert_eq!(masks[0], PackedMask::from_fn(2, |i| i == 1));
    /// assert_eq!(masks[1], PackedMask::from_fn(3, |i| i == 2));
    /// assert_eq!((threshold.value(), threshold.index()), (Some(0.1), Some(0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When a score is NaN (the masks then keep nothing), or (the masks are then unchanged) more are to be kept than
    /// there are, there are 2³² or more, or the masks do not fit the layers.
    pub fn select(
        &mut self,
        engine: Engine,
        layers: &[&[f32]],
        selection: Selection,
        masks: &mut [PackedMask],
    ) -> Result<Threshold, KernelError> {
        let len = check(layers, selection, masks)?;
        let engine = engine.for_work(pass_cycles(len));
        let keep = if selection.smallest { len - selection.keep } else { selection.keep };
        let parts = self.divide(engine, layers, len);
        let Self { sample, parts: all, histogram, finalists } = self;
        let parts = &mut all[..parts];
        let order = selection.order;
        let mut job = Job { engine, layers, masks, len, keep, order, parts, sample, histogram, finalists };
        let hint = selection.hint.filter(|hint| hint.order == selection.order);
        // Guesses use floats. No guess changes the result, but the host may have enabled traps for inexact operations.
        let rank = float_env::with_default(|| job.run(hint));
        let rank = rank.inspect_err(|_| masks.iter_mut().for_each(|mask| mask.words_mut().fill(0)))?;
        if selection.smallest {
            masks.iter_mut().for_each(PackedMask::invert);
        }
        Ok(Threshold { order: selection.order, rank })
    }

    /// Cuts the layers into parts of at most one thread's share of all scores, each within a layer; returns their number.
    fn divide(&mut self, engine: Engine, layers: &[&[f32]], len: usize) -> usize {
        let most = len.div_ceil(engine.threads()).next_multiple_of(WORD).max(SMALL * WORD);
        let limit = candidate_limit(len);
        let (mut count, mut index, mut room) = (0, 0, 0);
        for scores in layers {
            for piece in scores.chunks(most) {
                if count == self.parts.len() {
                    self.parts.push(Part::default());
                }
                let part = &mut self.parts[count];
                (part.len, part.index) = (piece.len(), index);
                // `Gather` asks for room for a whole word.
                let candidates = piece.len().min(limit) + WORD;
                if part.candidates.len() < candidates {
                    part.candidates.resize(candidates, 0);
                }
                count += 1;
                index = index.wrapping_add(piece.len() as u32);
                room += part.candidates.len();
            }
        }
        self.finalists.clear();
        self.finalists.reserve(room);
        count
    }
}

/// Checks the arguments; returns the number of scores.
fn check(layers: &[&[f32]], selection: Selection, masks: &[PackedMask]) -> Result<usize, KernelError> {
    if layers.len() != masks.len() {
        return Err(KernelError::MaskCount { layers: layers.len(), masks: masks.len() });
    }
    for (layer, (scores, mask)) in layers.iter().zip(masks).enumerate() {
        if scores.len() != mask.len() {
            return Err(KernelError::MaskLength { layer, scores: scores.len(), mask: mask.len() });
        }
    }
    let len = layers.iter().fold(0, |len: usize, scores| len.saturating_add(scores.len()));
    if u32::try_from(len).is_err() {
        return Err(KernelError::TooManyScores { len });
    }
    if selection.keep > len {
        return Err(KernelError::KeepTooLarge { keep: selection.keep, len });
    }
    Ok(len)
}

/// One selection of the `keep` largest of `len` scores.
struct Job<'a> {
    engine: Engine<'a>,
    layers: &'a [&'a [f32]],
    masks: &'a mut [PackedMask],
    len: usize,
    keep: usize,
    order: Order,
    parts: &'a mut [Part],
    sample: &'a mut Vec<i32>,
    histogram: &'a mut Histogram,
    finalists: &'a mut Vec<u64>,
}

impl Job<'_> {
    /// Writes the masks and returns the rank of the threshold, `None` when nothing is kept.
    fn run(&mut self, hint: Option<Threshold>) -> Result<Option<u64>, KernelError> {
        if self.keep == 0 {
            self.split(Bracket::single(i32::MAX))?;
            return Ok(None);
        }
        let hint = hint.and_then(|hint| hint.rank).map(|rank| unrank(rank).0);
        let mut range = Bracket::ALL;
        for attempt in 0.. {
            let guess = match attempt {
                0 => hint.and_then(|key| self.guess_near(key)),
                1 => Some(self.guess()),
                2 => Some(self.guess_again()),
                _ => Some(self.narrow(range)),
            };
            let Some(guess) = guess else { continue };
            let mut guess = guess.clamp_to(range);
            loop {
                let (above, inside) = self.split(guess)?;
                // If very many scores share one key, that key is the next guess.
                let end = if self.keep <= above {
                    range.low = guess.high;
                    guess.high + 1
                } else if self.keep > above + inside {
                    range.high = guess.low;
                    guess.low
                } else if guess.is_single() {
                    return Ok(Some(self.settle_ties(guess.high, above + inside - self.keep)));
                } else if self.gathered() == inside {
                    return Ok(Some(self.settle(guess, self.keep - above)));
                } else {
                    range = guess;
                    break;
                };
                if guess.is_single() || attempt == 0 {
                    break;
                }
                guess = Bracket::single(end);
            }
        }
        unreachable!("a histogram's bracket holds the threshold and has room for all candidates")
    }

    fn guess_near(&mut self, key: i32) -> Option<Bracket> {
        self.draw(HINT_SAMPLE.min(sample_size(self.len)), 0);
        Bracket::from_hint(self.sample, self.keep, self.len, key)
    }

    fn guess(&mut self) -> Bracket {
        self.draw(sample_size(self.len), 0);
        Bracket::from_sample(self.sample, self.keep, self.len, DEVIATIONS)
    }

    fn guess_again(&mut self) -> Bracket {
        self.draw(sample_size(self.len), SECOND_SALT);
        Bracket::from_sample(self.sample, self.keep, self.len, WIDE_DEVIATIONS)
    }

    fn draw(&mut self, count: usize, salt: u32) {
        bracket::draw(self.layers, self.len, count, salt, self.order, self.sample);
    }

    /// Narrows `range`, which holds the threshold, by histograms of all keys, until it is one key or few scores.
    fn narrow(&mut self, mut range: Bracket) -> Bracket {
        let histogram = &mut *self.histogram;
        let biased = |key: i32| rank(key, 0) >> 32;
        loop {
            histogram.reset(biased(range.low) + 1, biased(range.high));
            let mut above = 0;
            for &score in self.layers.iter().copied().flatten() {
                let key = key_by(self.order, score);
                above += usize::from(key > range.high);
                histogram.add(biased(key));
            }
            let bucket = histogram.bucket_of(self.keep - above);
            let unbiased = |key: u64| unrank(key << 32).0;
            range = Bracket { low: unbiased(bucket.first) - 1, high: unbiased(bucket.last) };
            if range.is_single() || bucket.population <= candidate_limit(self.len) {
                return range;
            }
        }
    }

    /// Writes the masks of the scores above the bracket, counts these and those inside, and collects the latter if there
    /// is room.
    fn split(&mut self, bracket: Bracket) -> Result<(usize, usize), KernelError> {
        let (engine, order) = (self.engine, self.order);
        self.for_each_part(engine, |(scores, words, part)| {
            let index = part.index;
            if bracket.is_single() {
                let pass = Split { scores, words, index, order, bracket, visitor: Count };
                part.counts = engine.backend().run(pass).0;
            } else {
                let visitor = Gather { ranks: &mut part.candidates, found: 0 };
                let pass = Split { scores, words, index, order, bracket, visitor };
                let (counts, gather) = engine.backend().run(pass);
                part.counts = counts;
                part.gathered = gather.found;
            }
        });
        let parts = &*self.parts;
        if parts.iter().any(|part| part.counts.has_nan) {
            return Err(self.first_nan());
        }
        Ok(parts.iter().fold((0, 0), |sum, part| (sum.0 + part.counts.above, sum.1 + part.counts.inside)))
    }

    /// The threshold is the `nth` largest of the candidates: finds it and keeps the candidates from it on.
    fn settle(&mut self, bracket: Bracket, nth: usize) -> u64 {
        let Self { parts, histogram, finalists, .. } = self;
        let candidates = || parts.iter().map(|part| &part.candidates[..part.gathered]);
        let mut nth = nth;
        if candidates().map(<[u64]>::len).sum::<usize>() <= SMALL {
            candidates().for_each(|ranks| finalists.extend_from_slice(ranks));
        } else {
            histogram.reset(rank(bracket.low, u32::MAX) + 1, rank(bracket.high, u32::MAX));
            candidates().for_each(|ranks| ranks.iter().for_each(|&rank| histogram.add(rank)));
            let bucket = histogram.bucket_of(nth);
            nth -= bucket.above;
            // One comparison, rarely true: the two of `contains` would be mispredicted for every second candidate.
            let inside = |rank: &u64| rank.wrapping_sub(bucket.first) <= bucket.last - bucket.first;
            candidates().for_each(|ranks| finalists.extend(ranks.iter().filter(|rank| inside(rank))));
        }
        let at = finalists.len() - nth;
        let threshold = *finalists.select_nth_unstable(at).1;
        let engine = self.engine.for_work(self.gathered() * CANDIDATE_CYCLES);
        self.for_each_part(engine, |(_, words, part)| {
            for &rank in &part.candidates[..part.gathered] {
                let at = unrank(rank).1.wrapping_sub(part.index) as usize;
                words[at / WORD] |= u64::from(rank >= threshold) << (at % WORD);
            }
        });
        threshold
    }

    /// The threshold key is the one key of the bracket: keeps all scores with it but the first `drop`.
    fn settle_ties(&mut self, key: i32, drop: usize) -> u64 {
        let mut rest = drop;
        for part in &mut *self.parts {
            part.drop = rest.min(part.counts.inside);
            rest -= part.drop;
        }
        let (engine, order, bracket) = (self.engine, self.order, Bracket::single(key));
        self.for_each_part(engine, |(scores, words, part)| {
            let visitor = DropFirst { drop: part.drop, kept: None };
            let pass = Split { scores, words, index: part.index, order, bracket, visitor };
            part.first_kept = engine.backend().run(pass).1.kept;
        });
        let first_kept = self.parts.iter().find_map(|part| part.first_kept);
        rank(key, first_kept.expect("the threshold is one of the scores with this key"))
    }

    fn gathered(&self) -> usize {
        self.parts.iter().map(|part| part.gathered).sum()
    }

    fn first_nan(&self) -> KernelError {
        let position = |scores: &[f32]| scores.iter().position(|score| score.is_nan());
        let found =
            self.layers.iter().enumerate().find_map(|(layer, scores)| Some((layer, position(scores)?)));
        let (layer, index) = found.expect("a pass has seen it");
        KernelError::NotANumber { layer, index }
    }

    /// Calls `work` for each part, with its scores and its words of the masks.
    fn for_each_part(&mut self, engine: Engine, work: impl Fn(Piece) + Sync) {
        let mut layers = self.layers.iter().copied().zip(self.masks.iter_mut().map(PackedMask::words_mut));
        let (mut scores, mut words): (&[f32], &mut [u64]) = (&[], &mut []);
        let pieces = self.parts.iter_mut().map(move |part| {
            while scores.is_empty() {
                (scores, words) = layers.next().expect("each part is of a layer");
            }
            let (piece, rest) = scores.split_at(part.len);
            let (piece_words, rest_words) = core::mem::take(&mut words).split_at_mut(part.len.div_ceil(WORD));
            (scores, words) = (rest, rest_words);
            (piece, piece_words, part)
        });
        engine.for_each(pieces, work);
    }
}

/// A part with its scores and its words of the masks.
type Piece<'a> = (&'a [f32], &'a mut [u64], &'a mut Part);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;

    #[test]
    fn samples_have_the_square_of_the_cube_root() {
        assert_eq!([0, 1, 7, 8, 26, 27, 999, 1000].map(sample_size), [0, 1, 1, 4, 4, 9, 81, 100]);
        for root in [2_u64, 3, 10, 73, 1000, 1625] {
            let cube = root.pow(3) as usize;
            assert_eq!(sample_size(cube) as u64, root * root);
            assert_eq!(sample_size(cube - 1) as u64, (root - 1) * (root - 1));
        }
        assert_eq!(sample_size(u32::MAX as usize), 1625 * 1625);
    }

    #[test]
    fn warm_calls_reuse_the_memory() {
        let long: Vec<f32> = (0..50_000).map(|i| (i as f32).sin()).collect();
        let ties: Vec<f32> = long.iter().map(|x| (x * 3.0).round()).collect();
        let engine = Engine::new(Backend::best());
        let mut selector = Selector::default();
        let mut select = |scores: &[f32], keep| {
            let mut mask = PackedMask::none_kept(scores.len());
            selector.keep_largest(engine, scores, keep, Order::Magnitude, &mut mask).unwrap();
            let Selector { sample, parts, finalists, .. } = &selector;
            (sample.capacity(), parts.len(), parts[0].candidates.as_ptr(), finalists.as_ptr())
        };
        let first = select(&long, 25_000);
        for (scores, keep) in
            [(&long[..], 100), (&ties, 30_000), (&long[..70], 7), (&ties, 1), (&long, 49_000)]
        {
            assert_eq!(select(scores, keep), first);
        }
    }
}
