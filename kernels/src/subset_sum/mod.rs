//! The subset of candidates whose sum comes nearest to a target.
//!
//! Given candidates x₁ … x_n, each of which may be moved by up to ε, and a target z, the residual of a subset S is
//!
//! > max(0, |Σ_S x − z| − ε |S|)
//!
//! (the best perturbation is spread evenly over S: "Strong Lottery Ticket Hypothesis with ε-perturbation", AISTATS 2023).
//! [`Search`] finds the subset of least residual, [`Coverage`] decides whether *every* target of an interval is met within η, and
//! [`sums`] lists all sums. Search and coverage can restrict the [`Sizes`] of subsets: random fixed-size subset sums ("On the
//! Sparsity of the Strong Lottery Ticket Hypothesis", 2024).
//!
//! **The answer is defined in fixed point**, where sums are exact. Candidates, target and ε are rounded to multiples of a power
//! of two, the smallest for which Σ|x| takes 30 bits (n > 30: Σ|x| + 2nε takes 38). The answer is the least (residual, subset) of
//! the rounded problem, subsets compared as numbers: the same on every instruction set, with every thread count and by every
//! [`Method`]. Its true residual is within 2⁻²³ Σ|x| of the true optimum, for every ε. A target beyond all sums is answered in
//! `f64` without a search. The residual reported is computed from the unrounded numbers in `f64`.
//!
//! Figures: docs/tuning.md, "Subset sums".

mod bitonic;
mod brute_force;
mod coverage;
mod fixed;
mod low_sums;
mod search;
mod subset;
mod two_pointer;

use crate::arch::float_env;
use crate::error::KernelError;

pub use coverage::Coverage;
pub use search::{Method, Search};
pub use subset::{BRUTE_FORCE_LIMIT, MEET_IN_THE_MIDDLE_LIMIT, Sizes, Subset};

/// Maximum number of candidates of [`sums`].
pub const SUMS_LIMIT: usize = 30;

/// All 2ⁿ sums and sizes: `sums[S]` is the sum of subset S (bit i of S: candidate i), added up by ascending
/// index in `f32`; `sizes[S]` the number of its candidates.
///
/// ```
/// use slth_kernels::subset_sum::sums;
/// let (mut all, mut sizes) = ([0.0; 4], [0; 4]);
/// sums(&[1.0, 0.5], &mut all, &mut sizes)?;
/// assert_eq!((all, sizes), ([0.0, 1.0, 0.5, 1.5], [0, 1, 1, 2]));
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
///
/// # Errors
/// When there are more than [`SUMS_LIMIT`] candidates, one is not finite, or an output is not 2ⁿ long.
pub fn sums(candidates: &[f32], sums: &mut [f32], sizes: &mut [u8]) -> Result<(), KernelError> {
    let n = candidates.len();
    if n > SUMS_LIMIT {
        return Err(KernelError::TooManyCandidates { found: n, limit: SUMS_LIMIT });
    }
    if let Some(index) = candidates.iter().position(|x| !x.is_finite()) {
        return Err(KernelError::NotFinite { what: "candidate", index });
    }
    KernelError::check_len("sums", &[1 << n], sums.len())?;
    KernelError::check_len("sizes", &[1 << n], sizes.len())?;
    float_env::with_default(|| {
        sums[0] = 0.0;
        sizes[0] = 0;
        for (i, &x) in candidates.iter().enumerate() {
            let (done, next) = sums.split_at_mut(1 << i);
            next.iter_mut().zip(&*done).for_each(|(next, &sum)| *next = sum + x);
            let (done, next) = sizes.split_at_mut(1 << i);
            next.iter_mut().zip(&*done).for_each(|(next, &size)| *next = size + 1);
        }
    });
    Ok(())
}

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
