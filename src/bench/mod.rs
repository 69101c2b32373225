//! Benchmarks: the kernels and the pipeline, beside other people's kernels and the machine's limits.
//!
//! A [`Case`] is one task on one set of inputs, with all its contestants: ours on each backend, peers, and the limit the
//! machine sets. Each contestant's result is checked before anything is timed. Contestants then take turns, so that a change of
//! the clock or other work on the machine meets all of them; the figures are medians of the rounds that were not
//! [disturbed](UNDISTURBED), those of several passes over all cases being [pooled](pool). One thread means the calling one, pinned
//! to a core by [`pin`].
//!
//! Peers other than the standard library are there with the crate's feature `peers`.
//!
//! ```
//! use slth::bench::{Kernel, Machinery, Scale, Sampling, cases, measure};
//! let machinery = Machinery::new(Some(1))?;
//! let all = cases(Kernel::TopK, Scale::Smoke);
//! let measurements = measure(&all[0], &machinery, Sampling { rounds: Some(1), ..Sampling::default() })?;
//! assert!(measurements.iter().all(|row| row.seconds > 0.0));
//! # Ok::<(), slth::Error>(())
//! ```

mod aligned;
mod case;
mod check;
mod compare;
mod conv2d;
mod masked_matmul;
mod measure;
mod measurement;
mod pin;
mod pipeline;
mod plots;
mod recording;
mod subset_sum;
mod tables;
mod top_k;
mod turn;

pub use case::{Case, Contestant, Kernel, Machinery, Scale, cases};
pub use check::WrongResult;
pub use compare::{CERTAIN, Comparison, Pair, TOLERANCE};
pub use measure::{Sampling, measure};
pub use measurement::{Measurement, Role, Task, UNDISTURBED, Unit, pool};
pub use pin::pin;
pub use recording::{Origin, Passes, Recorded, Recording, RecordingError};
pub use tables::{check as check_tables, clock, figure, generate as generate_tables, write as write_tables};
pub use turn::Turn;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every contestant of every kind of case is right, and can be measured.
    #[test]
    fn everything_runs() {
        let machinery = Machinery::new(Some(2)).unwrap();
        for kernel in Kernel::ALL {
            for case in cases(kernel, Scale::Smoke) {
                let sampling = Sampling { rounds: Some(1), ..Sampling::default() };
                let rows = measure(&case, &machinery, sampling).unwrap();
                assert!(rows.iter().any(|row| row.role == Role::Ours), "{}", case.task);
                assert!(rows.iter().all(|row| row.rounds > 0 && row.task == case.task));
            }
        }
    }
}
