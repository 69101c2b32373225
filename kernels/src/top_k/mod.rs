//! The exact k largest of n scores, as a packed mask.
//!
//! **Purpose.** Edge-popup removes, in each layer and each step, the int(s · n) weights of lowest |score|: a selection
//! among all scores whose only output is one bit each. Sorting or partitioning moves 4n to 8n bytes several times; the
//! selection proper needs to read the scores once.
//!
//! **Order.** Scores are compared by (key, index). The key is an integer that orders as |score| or as the score does
//! ([`Order`]); of equal keys the one at the lower index is removed first. No two scores are equal in this order, so the
//! k largest are one set, whatever the instruction set, the number of threads or the hint.
//!
//! **Method.** As Floyd and Rivest (1975, "Expected time bounds for selection"), with one pass:
//! 1. *Bracket*: two order statistics of a small sample enclose the threshold key with 2.5 standard deviations on either
//!    side; with the threshold of an earlier call the bracket lies around that, and is narrower.
//! 2. *Split*: one pass writes the mask of the scores above the bracket and collects the few (1 to 4 %) inside.
//! 3. *Settle*: the exact threshold is found among those, and their bits are set.
//!
//! A pass that shows the bracket to be wrong narrows the range that the threshold can lie in, and the next guess is
//! taken from there: hint, sample, another sample, and then a histogram of the key bits, which cannot miss. A key shared by
//! many scores becomes a bracket of its own, where only counting is left to do. So the time is linear for all inputs. The
//! samples' places are fixed, so that the same input takes the same time: scores made to differ at just these places cost
//! the passes of two wrong guesses and the histogram, and take several times as long.
//!
//! **Cost.** The pass reads 4 bytes and writes 1/8 byte per score. At n = 392,000 on one Zen 4 core: pass 0.07 ns per
//! score, gathering 3 % of the scores 0.03, the sample of 5,400 keys 0.05, settling 0.06 (1.8 ns per candidate); together
//! 0.21, of which a mere read is 0.04. With a hint: 0.14. All but the pass grow with n^⅔: at 10 M, 0.2, and memory sets
//! the pace.

use thiserror::Error;

mod bracket;
mod histogram;
mod keys;
mod search;
mod split;
mod structured;
#[cfg(test)]
mod tests;

pub use search::Selector;
pub use structured::keep_n_of_m;

/// What scores are ordered by. Equal keys are ordered by index: of two, the one at the higher index counts as larger,
/// so that the lower index is removed first.
///
/// ±∞ are the largest magnitudes, and the ends of the signed order. Denormals are numbers like all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// |score|, as in edge-popup; −0 equals +0.
    Magnitude,
    /// The score itself; −0 below +0.
    Signed,
}

/// What [`Selector::select`] keeps.
///
/// ```
/// use slth_kernels::top_k::{Order, Selection};
/// let tenth = Selection::largest(100, Order::Magnitude);
/// assert_ne!(tenth, Selection::smallest(100, Order::Magnitude));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    keep: usize,
    order: Order,
    smallest: bool,
    hint: Option<Threshold>,
}

impl Selection {
    /// The `keep` largest.
    pub const fn largest(keep: usize, order: Order) -> Self {
        Self { keep, order, smallest: false, hint: None }
    }

    /// The `keep` smallest: those that remain without the n − `keep` largest. Of equal scores the lower index is kept.
    pub const fn smallest(keep: usize, order: Order) -> Self {
        Self { keep, order, smallest: true, hint: None }
    }

    /// The same, starting from the threshold of an earlier selection. The result is the same whatever it is; when the
    /// scores have moved little since, it takes about a third less time.
    ///
    /// ```
    /// use slth_kernels::{Engine, PackedMask, top_k::{Order, Selection, Selector}};
    /// let engine = Engine::detect()?;
    /// let mut selector = Selector::default();
    /// let mut masks = [PackedMask::none_kept(1000)];
    /// let mut scores: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
    /// let keep_half = Selection::largest(500, Order::Magnitude);
    /// let mut threshold = selector.select(engine, &[&scores], keep_half, &mut masks)?;
    /// for step in 0..3 {
    ///     scores[step] += 0.01;
    ///     threshold = selector.select(engine, &[&scores], keep_half.near(threshold), &mut masks)?;
    ///     assert_eq!(masks[0].kept(), 500);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn near(self, threshold: Threshold) -> Self {
        Self { hint: Some(threshold), ..self }
    }
}

/// Where a selection has cut the order by (key, index): at the first score of the upper part, which is the smallest one
/// kept by [`Selection::largest`], or the smallest one removed by [`Selection::smallest`].
///
/// ```
/// use slth_kernels::{Engine, PackedMask, top_k::{Order, Selector}};
/// let scores = [0.5, -2.0, 0.5, 0.1];
/// let mut mask = PackedMask::none_kept(4);
/// let threshold =
///     Selector::default().keep_largest(Engine::detect()?, &scores, 2, Order::Magnitude, &mut mask)?;
/// assert_eq!((threshold.value(), threshold.index()), (Some(0.5), Some(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threshold {
    order: Order,
    /// Rank of that score; `None` when the upper part is empty.
    rank: Option<u64>,
}

impl Threshold {
    /// The score at the cut, in [`Order::Magnitude`] its magnitude; `None` when nothing lies above the cut.
    pub fn value(self) -> Option<f32> {
        self.rank.map(|rank| keys::score(self.order, keys::unrank(rank).0))
    }

    /// Its index; over several layers, counted through all of them.
    pub fn index(self) -> Option<usize> {
        self.rank.map(|rank| keys::unrank(rank).1 as usize)
    }
}

/// Why a selection cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopKError {
    /// A score is not a number.
    #[error("score {index} of layer {layer} is NaN")]
    NotANumber {
        /// Its layer; 0 in a selection over one slice.
        layer: usize,
        /// Its index in the layer.
        index: usize,
    },
    /// More scores are to be kept than there are.
    #[error("cannot keep {keep} of {len} scores")]
    KeepTooLarge {
        /// How many should be kept.
        keep: usize,
        /// How many there are.
        len: usize,
    },
    /// The mask is over another number of weights than there are scores.
    #[error("layer {layer} has {scores} scores, but a mask over {mask}")]
    MaskLength {
        /// Which layer; 0 in a selection over one slice.
        layer: usize,
        /// Number of scores.
        scores: usize,
        /// Length of the mask.
        mask: usize,
    },
    /// There is not one mask for each layer.
    #[error("{layers} layers of scores, but {masks} masks")]
    MaskCount {
        /// Number of layers.
        layers: usize,
        /// Number of masks.
        masks: usize,
    },
    /// Indices do not fit 32 bits.
    #[error("{len} scores are more than the 2^32 - 1 that can be selected from")]
    TooManyScores {
        /// How many there are.
        len: usize,
    },
    /// The scores cannot be divided into groups of this size.
    #[error("cannot divide {len} scores into groups of {group}; the size must divide it, and be 1 to 64")]
    GroupSize {
        /// Scores in a group.
        group: usize,
        /// How many scores there are.
        len: usize,
    },
}
