//! Whether every target of an interval can be met: the union over all subsets S, or those of the sizes allowed, of
//! [Σ_S − ε|S| − η, Σ_S + ε|S| + η] covers it.
//!
//! The line is cut into buckets no wider than 2η, and an interval belongs to the bucket its lower end lies
//! in. Every interval is at least 2η long, so all intervals of a bucket contain the bucket's upper end: their
//! union is one interval, from the least lower to the largest upper end. Two numbers per bucket thus describe
//! the union exactly, and one sweep over the buckets finds its first gap. A new candidate x only adds the
//! subsets that contain it, so all pushes together look at each of the 2ⁿ subsets once.
//!
//! Inputs are rounded to multiples of 2⁻²⁵ (for candidates in [−1, 1] made of 24 random bits: exact) and
//! decided exactly as rounded.
//!
//! The sums are computed as in the brute-force search, low sums in L1 plus an offset per row. Intervals outside of the uncovered
//! range are dropped in the lanes; the others are compressed and put into their buckets one by one. Memory: 8 bytes per bucket,
//! at most (to − from) / η of them.

use crate::arch::float_env;
use crate::engine::Engine;
use crate::error::KernelError;
use crate::simd::{Kernel, Simd};

use super::brute_force::{Row, row_steps, rows};
use super::fixed::round;
use super::low_sums::{LOW_BITS, LowSums};
use super::subset::{BRUTE_FORCE_LIMIT, Sizes};

/// Units per 1.
const UNITS: f64 = (1_u64 << 25) as f64;

/// Maximum number of buckets: 256 MiB.
const BUCKET_LIMIT: i64 = 1 << 25;

/// The targets of an interval that the candidates given so far can meet.
///
/// ```
/// use slth_kernels::{Engine, subset_sum::Coverage};
/// let engine = Engine::detect()?;
/// // Every target in [-1/2, 1/2] within 0.25?
/// let mut coverage = Coverage::new(-0.5, 0.5, 0.0, 0.25)?;
/// assert!(!coverage.push(engine, 0.4)?); // sums 0, 0.4
/// assert_eq!(coverage.first_gap().map(|gap| gap.start), Some(-0.5));
/// assert!(coverage.push(engine, -0.4)?); // and -0.4
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Coverage {
    candidates: Vec<i64>,
    sizes: Sizes,
    epsilon: i64,
    eta: i64,
    from: i64,
    /// to − from.
    width: i64,
    /// log₂ of the bucket width.
    shift: u32,
    /// Least lower and largest upper end; bucket 0 is for lower ends below `from`. Relative to `from`, as all
    /// that follow.
    buckets: Vec<[i32; 2]>,
    /// The end of the covered part, from the left; −1 when the first target is not covered.
    reach: i32,
    /// Where the first gap ends; beyond `width` when the gap reaches the end.
    gap_end: i32,
    /// Σ (|x| + ε), to bound all sums.
    extent: i64,
}

impl Coverage {
    /// No candidates yet: only the empty subset, whose sum 0 meets targets within η.
    ///
    /// # Errors
    /// When an input is not finite, `from > to`, ε is negative, η is less than 2⁻²⁵ or so small that it takes
    /// more than 2²⁵ buckets, or a magnitude exceeds 16.
    pub fn new(from: f32, to: f32, epsilon: f32, eta: f32) -> Result<Self, KernelError> {
        Self::with_sizes(from, to, epsilon, eta, Sizes::Any)
    }

    /// The same where only subsets of some sizes count.
    ///
    /// ```
    /// use slth_kernels::{Engine, subset_sum::{Coverage, Sizes}};
    /// let engine = Engine::detect()?;
    /// let mut coverage = Coverage::with_sizes(0.25, 0.25, 0.0, 0.01, Sizes::Exactly(2))?;
    /// assert!(!coverage.push(engine, 0.25)?); // by one candidate
    /// assert!(!coverage.push(engine, 0.5)?);
    /// assert!(coverage.push(engine, -0.25)?); // 0.5 - 0.25
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_sizes(from: f32, to: f32, epsilon: f32, eta: f32, sizes: Sizes) -> Result<Self, KernelError> {
        float_env::with_default(|| Self::of_interval(from, to, epsilon, eta, sizes))
    }

    fn of_interval(from: f32, to: f32, epsilon: f32, eta: f32, sizes: Sizes) -> Result<Self, KernelError> {
        for (what, value) in [("from", from), ("to", to), ("epsilon", epsilon), ("eta", eta)] {
            if !value.is_finite() {
                return Err(KernelError::NotFinite { what, index: 0 });
            }
            if value.abs() > 16.0 {
                return Err(KernelError::out_of_range(what, "between -16 and 16", value));
            }
        }
        let units = |x: f32| round(f64::from(x) * UNITS);
        let (from_units, width, eta_units) = (units(from), units(to) - units(from), units(eta));
        if width < 0 {
            return Err(KernelError::out_of_range("to", "at least `from`", to));
        }
        if epsilon < 0.0 {
            return Err(KernelError::out_of_range("epsilon", "at least 0", epsilon));
        }
        if eta_units < 1 || width / eta_units > BUCKET_LIMIT / 2 {
            let allowed = "at least 2^-25, and so large that the buckets take at most 256 MiB";
            return Err(KernelError::out_of_range("eta", allowed, eta));
        }
        let (from, eta) = (from_units, eta_units);
        let shift = (2 * eta).ilog2();
        let mut coverage = Self {
            candidates: Vec::new(),
            sizes,
            epsilon: units(epsilon),
            eta,
            from,
            width,
            shift,
            buckets: vec![[i32::MAX, i32::MIN]; (width >> shift) as usize + 2],
            reach: -1,
            gap_end: 0,
            extent: 0,
        };
        // The empty subset.
        if sizes.allows(0) {
            put(&mut coverage.buckets, shift, width as i32, (-eta - from) as i32, (eta - from) as i32);
        }
        coverage.sweep();
        Ok(coverage)
    }

    /// Adds a candidate, and returns whether the candidates of all pushes together cover the interval. Once the interval is
    /// covered, further candidates are only counted. 2^(candidates before) steps; one thread.
    ///
    /// # Errors
    /// When the candidate is not finite, it is the 31st, or sums could exceed the fixed-point range (Σ(|x| +
    /// ε) plus the interval's own numbers must stay below 64). Nothing is changed then.
    pub fn push(&mut self, engine: Engine, candidate: f32) -> Result<bool, KernelError> {
        let n = self.candidates.len();
        if !candidate.is_finite() {
            return Err(KernelError::NotFinite { what: "candidate", index: n });
        }
        if n == BRUTE_FORCE_LIMIT {
            return Err(KernelError::TooManyCandidates { found: n + 1, limit: BRUTE_FORCE_LIMIT });
        }
        let x = float_env::with_default(|| round((f64::from(candidate) * UNITS).clamp(-1e12, 1e12)));
        let extent = self.extent + x.abs() + self.epsilon;
        if extent + self.eta + self.from.abs() + self.width >= i64::from(i32::MAX) {
            let allowed = "so small that all sums stay below 64 with the interval's numbers";
            return Err(KernelError::out_of_range("candidate", allowed, candidate));
        }
        self.extent = extent;
        if !self.is_covered() {
            engine.backend().run(Insert { coverage: self, x });
            self.sweep();
        }
        self.candidates.push(x);
        Ok(self.is_covered())
    }

    /// Whether every target is met.
    pub fn is_covered(&self) -> bool {
        i64::from(self.reach) >= self.width
    }

    /// The first gap: targets that are not met. Its ends are met, or are those of the interval.
    pub fn first_gap(&self) -> Option<core::ops::Range<f64>> {
        if self.is_covered() {
            return None;
        }
        let value = |x: i64| (self.from + x) as f64 / UNITS;
        Some(float_env::with_default(|| {
            value(i64::from(self.reach.max(0)))..value(i64::from(self.gap_end).min(self.width))
        }))
    }

    /// Finds the first gap.
    fn sweep(&mut self) {
        self.gap_end = i32::MAX;
        // Bucket 0 holds the intervals that begin before the first target.
        let mut reach = self.buckets[0][1].max(-1);
        for &[lower, upper] in &self.buckets[1..] {
            if lower == i32::MAX {
                continue;
            }
            if lower > reach.max(0) {
                self.gap_end = lower;
                break;
            }
            reach = reach.max(upper);
        }
        self.reach = reach;
    }
}

#[inline(always)]
fn put(buckets: &mut [[i32; 2]], shift: u32, width: i32, lower: i32, upper: i32) {
    if upper < 0 || lower > width {
        return;
    }
    let [least, largest] = &mut buckets[((lower.max(-1) >> shift) + 1) as usize];
    *least = lower.min(*least);
    *largest = upper.max(*largest);
}

/// Puts the intervals of all subsets that contain x, and otherwise only earlier candidates, into their
/// buckets.
struct Insert<'a> {
    coverage: &'a mut Coverage,
    x: i64,
}

impl Kernel for Insert<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Coverage { candidates, sizes, epsilon, eta, from, width, shift, buckets, reach, .. } =
            self.coverage;
        let (sizes, epsilon, width, shift) = (*sizes, *epsilon, *width as i32, *shift);
        let (first, others) = candidates.split_at(candidates.len().min(LOW_BITS));
        // Vectors may be filled with copies, because adding an interval twice changes nothing.
        let low = LowSums::new(first, epsilon as i32, i32::MAX, sizes, S::LANES);
        let [least, largest] = low.ends();
        let mut lowers = [0; LowSums::LEN + 32];
        let mut uppers = [0; LowSums::LEN + 32];

        let wanted_from = (*reach).max(0);
        let (wanted_lower, wanted_upper) = (s.splat_i32(width + 1), s.splat_i32(wanted_from - 1));
        let steps = row_steps(others);
        let mut row = Row::new(others, 0, self.x - *from);
        loop {
            let size = row.size() + 1;
            let half = (epsilon * size + *eta) as i32;
            let (below, above) = (row.offset - half, row.offset + half);
            let groups = sizes.groups_beside(size as usize, first.len());
            if !groups.is_empty() && least + below <= width && largest + above >= wanted_from {
                let (sums, allowances) = low.of(groups);
                let (below, above) = (s.splat_i32(below), s.splat_i32(above));
                let mut kept = 0;
                for (low, allowance) in sums.chunks_exact(S::LANES).zip(allowances.chunks_exact(S::LANES)) {
                    let (low, allowance) = (s.load_i32(low), s.load_i32(allowance));
                    let lower = s.add_i32(s.sub_i32(low, allowance), below);
                    let upper = s.add_i32(s.add_i32(low, allowance), above);
                    let wanted = s.and_mask(s.gt_i32(wanted_lower, lower), s.gt_i32(upper, wanted_upper));
                    let bits = s.mask_bits(wanted);
                    s.compress_i32(lower, bits, &mut lowers[kept..]);
                    s.compress_i32(upper, bits, &mut uppers[kept..]);
                    kept += bits.count_ones() as usize;
                }
                for (&lower, &upper) in lowers[..kept].iter().zip(&uppers[..kept]) {
                    put(buckets, shift, width, lower, upper);
                }
            }
            if row.index + 1 == rows(candidates.len()) {
                break;
            }
            row = row.next(&steps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    /// Whether all targets are covered, by a sweep over the sorted intervals.
    fn oracle(candidates: &[f32], from: f32, to: f32, epsilon: f32, eta: f32, sizes: Sizes) -> bool {
        let units = |x: f32| (f64::from(x) * UNITS).round_ties_even() as i64;
        let mut intervals: Vec<[i64; 2]> = (0..1_u64 << candidates.len())
            .filter(|subset| sizes.allows(subset.count_ones() as usize))
            .map(|subset| {
                let chosen = candidates.iter().enumerate().filter(|&(i, _)| subset >> i & 1 != 0);
                let (sum, size) = chosen.fold((0, 0), |(sum, size), (_, &x)| (sum + units(x), size + 1));
                let half = size * units(epsilon) + units(eta);
                [sum - half, sum + half]
            })
            .collect();
        intervals.sort_unstable();
        let mut reach = None;
        for [lower, upper] in intervals {
            if upper >= units(from) && lower <= reach.unwrap_or(units(from)) {
                reach = reach.max(Some(upper));
            }
        }
        reach.is_some_and(|reach| reach >= units(to))
    }

    #[test]
    fn agrees_with_sorting() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut covered = 0;
        for trial in 0..400 {
            let eta = [0.3, 0.05, 0.01, 1e-3, 0.007][trial % 5];
            let epsilon = eta * [0.0, 1.0, 0.3, 10.0][trial / 5 % 4];
            let (from, to) = [(-0.5, 0.5), (0.1, 0.1), (-0.03, 1.7), (0.2, 0.3)][trial / 20 % 4];
            let candidates: Vec<f32> = (0..14).map(|_| random.random_range(-1.0..1.0)).collect();
            let sizes =
                [Sizes::Any, Sizes::Exactly(trial % 7), Sizes::Any, Sizes::AtMost(trial % 8)][trial / 80 % 4];
            for backend in Backend::available() {
                let mut coverage = Coverage::with_sizes(from, to, epsilon, eta, sizes).unwrap();
                assert_eq!(
                    coverage.is_covered(),
                    oracle(&[], from, to, epsilon, eta, sizes),
                    "trial {trial}"
                );
                for n in 1..=candidates.len() {
                    let before = coverage.is_covered();
                    let now = coverage.push(Engine::new(backend), candidates[n - 1]).unwrap();
                    if !before {
                        let expected = oracle(&candidates[..n], from, to, epsilon, eta, sizes);
                        assert_eq!(now, expected, "trial {trial}, n = {n}, {backend}");
                        assert_eq!(now, coverage.first_gap().is_none());
                    }
                    assert!(now || !before);
                }
                covered += usize::from(coverage.is_covered());
            }
        }
        assert!(covered > 100, "{covered}");
    }

    #[test]
    fn touching_intervals_cover() {
        let engine = Engine::new(Backend::best());
        let unit = 1.0 / UNITS as f32;
        // [-1/4, 1/4] and [1/4, 3/4] touch; with η one unit smaller they do not.
        let mut coverage = Coverage::new(-0.25, 0.75, 0.0, 0.25).unwrap();
        assert_eq!(coverage.first_gap(), Some(0.25..0.75));
        assert!(coverage.push(engine, 0.5).unwrap());
        let mut coverage = Coverage::new(-0.125, 0.5, 0.0, 0.25 - unit).unwrap();
        assert!(!coverage.push(engine, 0.5).unwrap());
        let unit = f64::from(unit);
        assert_eq!(coverage.first_gap(), Some(0.25 - unit..0.25 + unit));
    }

    #[test]
    fn hostile_input() {
        let new = |from, to, epsilon, eta| Coverage::new(from, to, epsilon, eta).map(|_| ());
        let refused = |from, to, epsilon, eta| match new(from, to, epsilon, eta) {
            Err(KernelError::OutOfRange { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert!(matches!(new(f32::NAN, 0.5, 0.0, 0.1), Err(KernelError::NotFinite { .. })));
        assert_eq!(refused(0.5, -0.5, 0.0, 0.1), "to");
        assert_eq!(refused(-0.5, 0.5, -0.1, 0.1), "epsilon");
        assert_eq!(refused(-0.5, 0.5, 0.0, 0.0), "eta");
        assert_eq!(refused(-16.0, 16.0, 0.0, 3e-8), "eta");
        assert_eq!(refused(-0.5, 1e9, 0.0, 0.1), "to");
        let engine = Engine::new(Backend::best());
        let mut coverage = Coverage::new(-0.5, 0.5, 0.0, 1e-6).unwrap();
        assert!(coverage.push(engine, f32::INFINITY).is_err());
        assert!(coverage.push(engine, f32::MAX).is_err());
        assert!(coverage.push(engine, 62.0).is_ok());
        assert!(coverage.push(engine, 2.0).is_err());
        let mut coverage = Coverage::new(2.0, 3.0, 0.0, 1e-3).unwrap();
        coverage.candidates = vec![0; BRUTE_FORCE_LIMIT];
        assert!(matches!(coverage.push(engine, 0.0), Err(KernelError::TooManyCandidates { .. })));
    }
}
