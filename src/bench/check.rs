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

impl From<WrongResult> for crate::Error {
    fn from(error: WrongResult) -> Self {
        Self::failed(error)
    }
}

/// An error unless `right`.
pub(super) fn ensure(right: bool, task: &Task, who: &str) -> Result<(), WrongResult> {
    if right { Ok(()) } else { Err(WrongResult { task: task.to_string(), who: who.to_owned() }) }
}

/// Some elements of a result, in f64.
pub(super) struct Expected {
    /// Index, value, the sum of the terms' magnitudes.
    elements: Vec<(usize, f64, f64)>,
}

impl Expected {
    /// Of `len` elements, each the sum of its terms.
    pub(super) fn new<I: IntoIterator<Item = f64>>(len: usize, terms: impl Fn(usize) -> I) -> Self {
        let mut random = Stream::new(1, Purpose::Benchmark, 99, 0);
        let element = |_| {
            let at = random.below(len as u32) as usize;
            let add = |(sum, size): (f64, f64), term: f64| (sum + term, size + term.abs());
            let (sum, size) = terms(at).into_iter().fold((0.0, 0.0), add);
            (at, sum, size)
        };
        Self { elements: (0..64).map(element).collect() }
    }

    /// Whether `found` has them, as far as `f32` goes.
    pub(super) fn is(&self, found: &[f32]) -> bool {
        self.elements.iter().all(|&(at, sum, size)| (f64::from(found[at]) - sum).abs() <= 1e-5 * size + 1e-30)
    }
}
