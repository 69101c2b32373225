//! Results are checked before they are timed.

use thiserror::Error;

use super::measurement::Task;
use crate::random::{Purpose, Stream};

/// A contestant does not do what it is timed for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{task}: the result of {who} is wrong")]
pub struct WrongResult {
    /// The task.
    pub task: String,
    /// Whose result.
    pub who: String,
}

/// An error unless `right`.
pub(super) fn ensure(right: bool, task: &Task, who: &str) -> Result<(), WrongResult> {
    if right { Ok(()) } else { Err(WrongResult { task: task.to_string(), who: who.to_owned() }) }
}

/// Some elements of a product, in f64.
pub(super) struct Expected {
    /// Index, value, the sum of the terms' magnitudes.
    elements: Vec<(usize, f64, f64)>,
}

impl Expected {
    /// C `[m, n]` of sums over `k` terms `a(row, l) · b(l, column)`.
    pub(super) fn new(
        [m, k, n]: [usize; 3],
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let mut random = Stream::new(1, Purpose::Benchmark, 99, 0);
        let element = |_| {
            let (i, j) = (random.below(m as u32) as usize, random.below(n as u32) as usize);
            let terms = (0..k).map(|l| f64::from(a(i, l)) * f64::from(b(l, j)));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
            (i * n + j, sum, size)
        };
        Self { elements: (0..64).map(element).collect() }
    }

    /// Whether `found` has them, as far as `f32` goes.
    pub(super) fn is(&self, found: &[f32]) -> bool {
        self.elements.iter().all(|&(at, sum, size)| (f64::from(found[at]) - sum).abs() <= 1e-5 * size + 1e-30)
    }
}
