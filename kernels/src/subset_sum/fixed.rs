//! Candidates, target and ε in fixed point, where sums are exact in any order.
//!
//! One unit is 2⁻ᵏ, with the largest k for which Σ|x| < 2³⁰ units. Above [`BRUTE_FORCE_LIMIT`] candidates, where the two-pointer
//! search is the only one, it is the largest for which Σ|x| + 2nε < 2³⁸. An ε above Σ|x| is reduced to Σ|x|: with either, one
//! candidate reaches every target between the least and the largest sum, and targets beyond are not searched for (see
//! [`Subset::beyond`](super::Subset)). Rounding moves a sum by n / 2 units at most, a target by 1/2, an allowance ε|S| by n / 2:
//! the subset that is best in fixed point is within 2n + 1 units, less than 2⁻²³ Σ|x|, of the true optimum.

use super::subset::BRUTE_FORCE_LIMIT;

/// A candidate set in fixed point.
#[derive(Clone, Debug, Default)]
pub(super) struct Fixed {
    /// The candidates.
    pub(super) candidates: Vec<i64>,
    /// ε.
    pub(super) epsilon: i64,
    /// Units per 1: a power of two.
    factor: f64,
    /// The least and the largest sum, unrounded and not perturbed.
    ends: [f64; 2],
}

impl Fixed {
    /// Rounds a set of finite candidates and a finite ε ≥ 0.
    pub(super) fn new(candidates: &[f32], epsilon: f32) -> Self {
        let mut fixed = Self::default();
        fixed.set(candidates, epsilon);
        fixed
    }

    /// The same, reusing memory.
    pub(super) fn set(&mut self, candidates: &[f32], epsilon: f32) {
        let n = candidates.len();
        self.ends = candidates
            .iter()
            .map(|&x| f64::from(x))
            .fold([0.0, 0.0], |[least, most], x| [least + x.min(0.0), most + x.max(0.0)]);
        let width = self.ends[1] - self.ends[0];
        let epsilon = f64::from(epsilon).min(width);
        let (bits, total) =
            if n <= BRUTE_FORCE_LIMIT { (30, width) } else { (38, width + 2.0 * n as f64 * epsilon) };
        // Slightly more than the total, so that rounding n terms up cannot reach 2ᵇ.
        self.factor = power_of_two(bits - 1 - exponent(total * (1.0 + 1.0 / 1_048_576.0)));
        self.epsilon = round(epsilon * self.factor);
        self.candidates.clear();
        self.candidates.extend(candidates.iter().map(|&x| round(f64::from(x) * self.factor)));
    }

    /// Whether no sum lies beyond the target.
    pub(super) fn is_beyond(&self, target: f32) -> bool {
        let target = f64::from(target);
        target <= self.ends[0] || target >= self.ends[1]
    }

    /// The target in units; one beyond the sums becomes the last of them.
    pub(super) fn target(&self, target: f32) -> i64 {
        round(f64::from(target).clamp(self.ends[0], self.ends[1]) * self.factor)
    }
}

/// ⌊log₂ x⌋ of a positive x; −200 for 0 and for numbers smaller than every positive `f32`.
fn exponent(x: f64) -> i32 {
    ((x.to_bits() >> 52) as i32 - 1023).max(-200)
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// To the nearest integer, ties to even, for |x| < 2⁵¹.
#[inline(always)]
pub(super) fn round(x: f64) -> i64 {
    const SHIFT: f64 = 1.5 * (1_u64 << 52) as f64;
    ((x + SHIFT) - SHIFT) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_fits() {
        for (candidates, epsilon) in [
            (vec![1.0; 30], 0.0),
            (vec![1.0 - f32::EPSILON; 30], 0.999),
            (vec![f32::MAX; 30], 0.0),
            (vec![-f32::MAX; 48], f32::MAX),
            (vec![1.0; 48], 1e-3),
            (vec![f32::from_bits(1); 3], 0.0),
            (vec![0.0; 5], 0.0),
            (vec![0.0; 5], 1e-3),
            (vec![64.0], 0.0),
            (vec![64.0], f32::MAX),
        ] {
            let n = candidates.len() as i64;
            let fixed = Fixed::new(&candidates, epsilon);
            let sums: i64 = fixed.candidates.iter().map(|x| x.abs()).sum();
            let (limit, total) =
                if n <= 30 { (1_i64 << 30, sums) } else { (1 << 38, sums + 2 * n * fixed.epsilon) };
            assert!(total < limit - 64, "{total} of {limit}");
            assert!(total == 0 || total > limit / 2 - (1 << 20), "{total} of {limit}");
            assert!(fixed.epsilon <= sums + n / 2);
            for target in [f32::MAX, -f32::MAX, 0.0, 1.0] {
                assert!(fixed.target(target).abs() <= sums + n / 2);
            }
        }
        assert_eq!([round(2.5), round(-2.5), round(3.5), round(-0.4)], [2, -2, 4, 0]);
    }

    #[test]
    fn dyadic_candidates_are_exact() {
        let fixed = Fixed::new(&[0.5, 0.25, -0.125], 0.0);
        assert_eq!(fixed.candidates[0], 2 * fixed.candidates[1]);
        assert_eq!(fixed.candidates[1], -2 * fixed.candidates[2]);
    }
}
