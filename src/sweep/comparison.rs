//! How two tables of accuracies differ.

/// The differences of two tables in their common cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Number of common cells; the other numbers are NaN if it is 0.
    pub cells: usize,
    /// Mean difference, first minus second.
    pub mean_difference: f64,
    /// Mean absolute difference.
    pub mean_absolute_difference: f64,
    /// Spearman's rank correlation of the accuracies, ties at their mean rank.
    pub rank_correlation: f64,
    /// Number of cells in which the first accuracy is higher.
    pub ahead: usize,
}

impl Comparison {
    /// Of the pairs of accuracies in the same cells.
    pub(super) fn of(pairs: &[[f64; 2]]) -> Self {
        Self {
            cells: pairs.len(),
            mean_difference: mean(pairs.iter().map(|[a, b]| a - b)),
            mean_absolute_difference: mean(pairs.iter().map(|[a, b]| (a - b).abs())),
            rank_correlation: rank_correlation(pairs),
            ahead: pairs.iter().filter(|[a, b]| a > b).count(),
        }
    }
}

/// NaN without values.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), value| (sum + value, n + 1));
    sum / n as f64
}

/// Spearman's rank correlation of pairs; NaN if all values of one side are equal.
pub fn rank_correlation(pairs: &[[f64; 2]]) -> f64 {
    let ranks = |side: usize| {
        let rank = |pair: &[f64; 2]| {
            let below = pairs.iter().filter(|other| other[side] < pair[side]).count();
            let equal = pairs.iter().filter(|other| other[side] == pair[side]).count();
            below as f64 + 0.5 * equal as f64
        };
        let ranks: Vec<f64> = pairs.iter().map(rank).collect();
        let middle = mean(ranks.iter().copied());
        ranks.into_iter().map(|rank| rank - middle).collect::<Vec<_>>()
    };
    let (a, b) = (ranks(0), ranks(1));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}
