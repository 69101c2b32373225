//! Subsets, and their allowed sizes.

use crate::arch::float_env;

/// Maximum number of candidates of a brute-force search.
pub const BRUTE_FORCE_LIMIT: usize = 30;

/// Maximum number of candidates of a search by meet in the middle (400 MB).
pub const MEET_IN_THE_MIDDLE_LIMIT: usize = 48;

/// A subset of the candidates, and its distance from the target.
///
/// ```
/// use slth_kernels::subset_sum::Subset;
/// let subset = Subset { bits: 0b101, residual: 0.0 };
/// assert_eq!((subset.size(), subset.contains(1)), (2, false));
/// assert_eq!(subset.sum(&[1.0, 2.0, 4.0]), 5.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Subset {
    /// Bit i is set when candidate i belongs to the subset.
    pub bits: u64,
    /// max(0, |Σ − z| − ε · size), in `f64` from the unrounded inputs, summed by ascending index.
    pub residual: f64,
}

impl Subset {
    /// Number of candidates chosen.
    pub fn size(self) -> u32 {
        self.bits.count_ones()
    }

    /// Whether candidate `index` is chosen.
    pub fn contains(self, index: usize) -> bool {
        index < 64 && self.bits >> index & 1 != 0
    }

    /// The sum of the chosen candidates, by ascending index.
    ///
    /// # Panics
    /// When the index of a chosen candidate is not below the length of `candidates`.
    pub fn sum(self, candidates: &[f32]) -> f64 {
        float_env::with_default(|| self.add_up(candidates))
    }

    fn add_up(self, candidates: &[f32]) -> f64 {
        let mut left = self.bits;
        let mut sum = 0.0;
        while left != 0 {
            sum += f64::from(candidates[left.trailing_zeros() as usize]);
            left &= left - 1;
        }
        sum
    }

    pub(super) fn new(bits: u64, candidates: &[f32], target: f32, epsilon: f32) -> Self {
        let mut subset = Self { bits, residual: 0.0 };
        let distance = (subset.add_up(candidates) - f64::from(target)).abs();
        subset.residual = (distance - f64::from(epsilon) * f64::from(subset.size())).max(0.0);
        subset
    }

    /// The answer for a target beyond all sums, see [`Fixed::is_beyond`](super::fixed::Fixed::is_beyond). O(n · size).
    ///
    /// Mirrored where the target is below the sums, the residual of S is max(0, z − Σ_S (x + ε)): least for the candidates of
    /// largest x + ε. The least subset with this residual omits the last candidate if possible, then the last but one, and so on.
    pub(super) fn beyond(candidates: &[f32], target: f32, epsilon: f32, sizes: Sizes) -> Self {
        const ROOM: usize = MEET_IN_THE_MIDDLE_LIMIT + 1;
        let n = candidates.len();
        let least: f64 = candidates.iter().map(|&x| f64::from(x).min(0.0)).sum();
        let sign = if f64::from(target) <= least { -1.0 } else { 1.0 };
        let (all, exactly) = (sizes == Sizes::Any, matches!(sizes, Sizes::Exactly(_)));
        let reach = |x: f32| sign * f64::from(x) + f64::from(epsilon);
        // most[i][j]: the largest sum of j of the candidates before i; of j or fewer, unless the size is exact.
        let mut most = [[0.0_f64; ROOM]; ROOM];
        if exactly {
            most[0][1..].fill(f64::NEG_INFINITY);
        }
        for (i, &x) in candidates.iter().enumerate() {
            for j in 1..=n {
                most[i + 1][j] = most[i][j].max(most[i][j - 1] + reach(x));
            }
        }
        let mut left = sizes.most().unwrap_or(n);
        let goal = most[n][left].min(sign * f64::from(target));
        let (mut bits, mut reached) = (0, 0.0);
        for (i, &x) in candidates.iter().enumerate().rev() {
            if left == 0 || reached + most[i][left] >= goal {
                continue;
            }
            // Rounding can make the others fall short even if x adds nothing, or less than the one whose place it would take.
            let helps = if all { reach(x) > 0.0 } else { most[i][left - 1] + reach(x) > most[i][left] };
            if helps {
                bits |= 1 << i;
                reached += reach(x);
                left -= 1;
            }
        }
        Self::new(bits, candidates, target, epsilon)
    }
}

/// How many candidates a subset may have.
///
/// ```
/// use slth_kernels::{Engine, subset_sum::{Search, Sizes}};
/// let search = Search { sizes: Sizes::Exactly(2), ..Search::default() };
/// let found = search.nearest(Engine::detect()?, &[1.0, 0.5, 0.25], 1.0)?; // 0.5 + 0.25, not 1
/// assert_eq!((found.bits, found.residual), (0b101, 0.25));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sizes {
    /// Any number, including none.
    #[default]
    Any,
    /// At most this many.
    AtMost(usize),
    /// Exactly this many.
    Exactly(usize),
}

impl Sizes {
    /// Whether a subset may have `size` candidates.
    pub fn allows(self, size: usize) -> bool {
        match self {
            Self::Any => true,
            Self::AtMost(most) => size <= most,
            Self::Exactly(exactly) => size == exactly,
        }
    }

    /// The largest size allowed, unless all are.
    pub(super) fn most(self) -> Option<usize> {
        match self {
            Self::Any => None,
            Self::AtMost(most) | Self::Exactly(most) => Some(most),
        }
    }

    /// How many of `n` ≤ 48 candidates' subsets are allowed.
    pub(super) fn subsets(self, n: usize) -> u64 {
        let (mut subsets, mut of_size) = (0, 1);
        for size in 0..=n {
            subsets += if self.allows(size) { of_size } else { 0 };
            of_size = of_size * (n - size) as u64 / (size as u64 + 1);
        }
        subsets
    }
}
