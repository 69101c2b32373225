//! Checks every subset against the true optimum, in f64 and by a separate algorithm.

use slth_kernels::subset_sum::{Search, Sizes, Subset as Chosen};

use crate::error::Error;

/// The distance of the subsets from the true optima.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Check {
    /// Number of subsets checked.
    pub subsets: usize,
    /// The largest residual beyond the optimum.
    pub max_excess: f64,
    /// Number of subsets that are further from the optimum than 2⁻²² · max(1, Σ|x|), have a size that is not allowed, or differ
    /// from their reported residual.
    pub beyond: usize,
}

/// Subsets are further from the optimum than allowed.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{} of {} subsets are not optimal in f64, the worst by {:e}", .0.beyond, .0.subsets, .0.max_excess)]
pub struct NotOptimal(pub Check);

impl From<NotOptimal> for Error {
    fn from(error: NotOptimal) -> Self {
        Self::failed(error)
    }
}

impl Check {
    /// # Errors
    /// When a subset is not optimal.
    pub fn passed(self) -> Result<Self, NotOptimal> {
        if self.beyond == 0 { Ok(self) } else { Err(NotOptimal(self)) }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            subsets: self.subsets + other.subsets,
            max_excess: self.max_excess.max(other.max_excess),
            beyond: self.beyond + other.beyond,
        }
    }
}

/// Checks the `subsets` of `targets`, each with `own` candidates, which successive ones may share, against the optimum for which
/// `search`, given the number of candidates, looks. 2^(n/2) · n/2 steps each.
pub fn check<'c>(
    search: impl Fn(usize) -> Search,
    own: impl Fn(usize) -> &'c [f32],
    targets: &[f32],
    subsets: &[Chosen],
) -> Check {
    let mut halves: Option<(&[f32], Halves)> = None;
    let mut check = Check { subsets: targets.len(), ..Check::default() };
    for (i, (&target, subset)) in targets.iter().zip(subsets).enumerate() {
        let own = own(i);
        let search = search(own.len());
        halves = halves.filter(|(of, _)| *of == own);
        let (_, halves) = halves.get_or_insert_with(|| (own, Halves::new(own, search)));
        let optimum = halves.nearest(target);
        let found = residual(own, subset.bits, target, search.epsilon);
        let total: f64 = own.iter().map(|x| f64::from(x.abs())).sum();
        let excess = found - optimum;
        let bound = f64::max(1.0, total) / f64::from(1 << 22);
        check.max_excess = check.max_excess.max(excess);
        let wrong = excess > bound
            || (found - subset.residual).abs() > 1e-12 * bound.max(found)
            || !search.sizes.allows(subset.size() as usize);
        check.beyond += usize::from(wrong);
    }
    check
}

fn residual(candidates: &[f32], bits: u64, target: f32, epsilon: f32) -> f64 {
    let chosen = || candidates.iter().enumerate().filter(|&(i, _)| bits >> i & 1 != 0);
    let sum: f64 = chosen().map(|(_, &x)| f64::from(x)).sum();
    ((sum - f64::from(target)).abs() - f64::from(epsilon) * chosen().count() as f64).max(0.0)
}

/// Both halves' subsets as (Σ (x − ε), Σ (x + ε)): the residual of two together is max(0, lower − z, z − upper).
struct Halves {
    /// Of the first half by size; where any size will do, all in the first list. Ascending by the lower sum, the upper one
    /// replaced by the largest so far.
    sorted: Vec<Vec<[f64; 2]>>,
    /// Subsets of the other half, with the list of the first half that they combine with.
    other: Vec<([f64; 2], usize)>,
}

impl Halves {
    fn new(candidates: &[f32], search: Search) -> Self {
        let (first, second) = candidates.split_at(candidates.len() / 2);
        let epsilon = f64::from(search.epsilon);
        let ends = |candidates: &[f32]| {
            let mut ends = vec![([0.0, 0.0], 0)];
            for &x in candidates {
                let [low, high] = [f64::from(x) - epsilon, f64::from(x) + epsilon];
                let with =
                    |&([lower, upper], size): &([f64; 2], usize)| ([lower + low, upper + high], size + 1);
                ends.extend(ends.iter().map(with).collect::<Vec<_>>());
            }
            ends
        };
        let exactly = if let Sizes::Exactly(size) = search.sizes { Some(size) } else { None };
        let mut sorted = vec![Vec::new(); exactly.map_or(1, |_| first.len() + 1)];
        ends(first).into_iter().for_each(|(sums, size)| sorted[exactly.map_or(0, |_| size)].push(sums));
        for list in &mut sorted {
            list.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]));
            let mut farthest = f64::NEG_INFINITY;
            for [_, upper] in list {
                farthest = farthest.max(*upper);
                *upper = farthest;
            }
        }
        let list = |size: usize| exactly.map_or(Some(0), |exactly| exactly.checked_sub(size));
        let other = ends(second).into_iter().filter_map(|(sums, size)| Some((sums, list(size)?)));
        Self { other: other.filter(|&(_, list)| list < sorted.len()).collect(), sorted }
    }

    /// The least residual.
    fn nearest(&self, target: f32) -> f64 {
        let target = f64::from(target);
        let of = |&([lower, upper], list): &([f64; 2], usize)| {
            let sorted = &self.sorted[list];
            let border = sorted.partition_point(|entry| entry[0] + lower <= target);
            let above = sorted.get(border).map_or(f64::INFINITY, |entry| entry[0] + lower - target);
            let below = match border {
                0 => f64::INFINITY,
                border => target - upper - sorted[border - 1][1],
            };
            above.min(below.max(0.0))
        };
        self.other.iter().map(of).fold(f64::INFINITY, f64::min)
    }
}
