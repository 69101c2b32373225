//! N:M sparsity: of every m consecutive scores the n of largest magnitude.

use slth_kernels::PackedMask;
use thiserror::Error;

/// Why an N:M mask cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NOfMError {
    /// The scores cannot be divided into groups of this size.
    #[error("cannot divide {len} scores into groups of {group}; the size of a group must divide {len}")]
    Group {
        /// Scores in a group.
        group: usize,
        /// Number of scores.
        len: usize,
    },
    /// More scores are to be kept in a group than it has.
    #[error("cannot keep {keep} of every {group} scores")]
    Keep {
        /// Number of scores to keep.
        keep: usize,
        /// Scores in a group.
        group: usize,
    },
    /// The score of this index is NaN.
    #[error("score {0} is NaN")]
    NotANumber(usize),
}

/// The mask that keeps, of each `group` consecutive scores (from index 0 on), the `keep` of largest |score|. Of equal magnitudes
/// the lower index is removed first. 2:4 sparsity is `keep` = 2, `group` = 4.
///
/// For comparisons of accuracy: no kernel is faster with such a mask. O(scores · log(group)).
///
/// ```
/// use slth::training::n_of_m;
/// let scores = [0.1, -0.4, 0.3, 0.2, 1.0, 1.0, 1.0, 1.0];
/// let mask = n_of_m(&scores, 2, 4)?;
/// assert_eq!(mask.kept_indices().collect::<Vec<_>>(), [1, 2, 6, 7]);
/// # Ok::<(), slth::training::NOfMError>(())
/// ```
///
/// # Errors
/// When `group` is 0 or does not divide the number of scores, `keep` exceeds `group`, or a score is NaN.
pub fn n_of_m(scores: &[f32], keep: usize, group: usize) -> Result<PackedMask, NOfMError> {
    if group == 0 || !scores.len().is_multiple_of(group) {
        return Err(NOfMError::Group { group, len: scores.len() });
    }
    if keep > group {
        return Err(NOfMError::Keep { keep, group });
    }
    if let Some(index) = scores.iter().position(|score| score.is_nan()) {
        return Err(NOfMError::NotANumber(index));
    }
    let mut mask = PackedMask::none_kept(scores.len());
    let mut order = Vec::new();
    for (first, scores) in (0..).step_by(group).zip(scores.chunks_exact(group)) {
        // Bit patterns without the sign order as magnitudes do.
        order.clear();
        order.extend(scores.iter().zip(first..).map(|(score, index)| (score.abs().to_bits(), index)));
        order.sort_unstable();
        order[group - keep..].iter().for_each(|&(_, index)| mask.set(index, true));
    }
    Ok(mask)
}
