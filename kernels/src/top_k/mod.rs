//! The exact k largest of n scores, as a packed mask.
//!
//! Edge-popup removes the int(s · n) weights of lowest |score| in each layer and step. The output is one bit per score, so the
//! selection has to read the scores only once; sorting or partitioning moves 4n to 8n bytes several times.
//!
//! **Order.** Scores are compared by (key, index). The key is an integer that orders as |score| or as the score does ([`Order`]);
//! of equal keys the lower index is removed first. No two scores are equal in this order, so the k largest are one set, on every
//! instruction set, with every thread count and every hint. All comparisons are of integers, so the host's floating-point
//! environment cannot change a result.
//!
//! **Method.** Floyd and Rivest (1975, "Expected time bounds for selection"), with one pass:
//! 1. *Bracket*: two order statistics of a sample of n^⅔ keys enclose the threshold with 2.5 standard deviations on either
//!    side. The threshold of an earlier call gives a narrower bracket.
//! 2. *Split*: one pass writes the mask of the scores above the bracket and collects the few (1 to 4 %) inside.
//! 3. *Settle*: the exact threshold is found among those, and their bits are set.
//!
//! If the bracket was wrong, the pass has still narrowed the range of the threshold. The guesses are, in turn: the hint, a
//! sample, another sample, and a histogram of the keys, which cannot miss. A key shared by many scores becomes a bracket of one
//! key, where counting suffices. Time is linear for all inputs; scores constructed to mislead both samples take several times as
//! long.
//!
//! **Cost.** The pass reads 4 bytes and writes 1/8 byte per score. Figures: docs/tuning.md, "Top-k".

mod bracket;
mod histogram;
mod keys;
mod search;
mod selection;
mod split;
#[cfg(test)]
mod tests;

pub use keys::Order;
pub use search::Selector;
pub use selection::{Selection, Threshold, keep_at};
