//! N:M sparsity: of every m consecutive scores the n of largest magnitude.

use std::fmt;
use std::str::FromStr;

use slth_kernels::PackedMask;
use thiserror::Error;

/// How many of every so many consecutive weights are kept; as text `2:4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pattern {
    /// N, at least 1.
    pub keep: usize,
    /// M, more than N.
    pub group: usize,
}

impl Pattern {
    /// The largest M that text is taken for.
    const MOST: usize = 1 << 16;

    /// The fraction removed.
    pub fn sparsity(self) -> f64 {
        (self.group - self.keep) as f64 / self.group as f64
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.keep, self.group)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(':').and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
        let pattern = numbers.map(|(keep, group)| Self { keep, group });
        let fits = |pattern: &Self| (1..pattern.group).contains(&pattern.keep) && pattern.group <= Self::MOST;
        pattern
            .filter(fits)
            .ok_or_else(|| format!("`{text}` is no pattern N:M with 0 < N < M <= {}, as 2:4 is", Self::MOST))
    }
}

crate::flags::serde_by_text!(Pattern);

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
    fill(scores, keep, group, &mut mask, &mut Vec::new());
    Ok(mask)
}

/// As [`n_of_m`], of scores that fit, into a `mask` of as many bits; `order` is room to work in.
pub(super) fn fill(
    scores: &[f32],
    keep: usize,
    group: usize,
    mask: &mut PackedMask,
    order: &mut Vec<(u32, usize)>,
) {
    for (first, scores) in (0..).step_by(group).zip(scores.chunks_exact(group)) {
        // Bit patterns without the sign order as magnitudes do.
        order.clear();
        order.extend(scores.iter().zip(first..).map(|(score, index)| (score.abs().to_bits(), index)));
        order.sort_unstable();
        order.iter().enumerate().for_each(|(rank, &(_, index))| mask.set(index, rank >= group - keep));
    }
}
