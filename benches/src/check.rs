//! Checks of results, before anything is timed.

use slth::random::{Purpose, Stream};

use crate::error::Error;
use crate::row::Who;
use crate::task::Task;

/// An error unless `right`.
pub(crate) fn ensure(right: bool, task: &Task, who: &Who) -> Result<(), Error> {
    if right { Ok(()) } else { Err(Error::WrongResult { task: task.to_string(), who: who.label() }) }
}

/// The expected values of some elements of a result, in f64.
pub(crate) struct Expected {
    /// Index, value, the sum of the terms' magnitudes.
    elements: Vec<(usize, f64, f64)>,
}

impl Expected {
    /// The sums for some of `len` elements, each the sum of its terms.
    pub(crate) fn new<I: IntoIterator<Item = f64>>(len: usize, terms: impl Fn(usize) -> I) -> Self {
        let mut random = Stream::new(1, Purpose::Benchmark, 99, 0);
        let element = |_| {
            let at = random.below(len as u32) as usize;
            let add = |(sum, size): (f64, f64), term: f64| (sum + term, size + term.abs());
            let (sum, size) = terms(at).into_iter().fold((0.0, 0.0), add);
            (at, sum, size)
        };
        Self { elements: (0..64).map(element).collect() }
    }

    /// Whether `found` equals them within the precision of `f32`.
    pub(crate) fn is(&self, found: &[f32]) -> bool {
        self.elements.iter().all(|&(at, sum, size)| (f64::from(found[at]) - sum).abs() <= 1e-5 * size + 1e-30)
    }
}
