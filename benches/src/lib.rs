//! Benchmarks of slth: its kernels and pipeline beside other libraries and the machine's limits.
//!
//! A [`Case`] is one [`Task`] on one set of inputs, with all its contestants: ours on each backend, peers, and the limit the
//! machine sets. Each contestant's result is checked before anything is timed. Contestants are interleaved, so that a change of
//! the clock or other work on the machine affects all of them; a [`Row`] has the least time, the median and the spread. One
//! thread means the calling one, pinned to a core by [`pin`]. Peers other than the standard library need the feature `peers`.
//!
//! ```
//! use slth_bench::{Kernel, Machinery, Sampling, Scale, cases, measure};
//! let machinery = Machinery::new(None, Some(1))?;
//! let all = cases(Kernel::TopK, Scale::Smoke);
//! let sampling = Sampling { seconds: 0.1, least: 1, rounds: None };
//! let rows = measure(&all[0], &machinery, sampling, None)?;
//! assert!(rows.iter().all(|row| row.median > 0.0));
//! # Ok::<(), slth_bench::Error>(())
//! ```
//!
//! Imports run one way: `task`, `row`, `error` ← `machinery`, `case`, `limits` ← `cases` ← `measure`; `row`, `origin` ←
//! `recording` ← `plots`; `recording`, `text` ← `compare`, `tables`.
#![forbid(unsafe_code)]

mod aligned;
mod case;
mod cases;
mod check;
mod compare;
mod contestant;
mod error;
mod limits;
mod machinery;
mod measure;
mod origin;
mod plots;
mod recording;
mod row;
mod tables;
mod task;
mod text;
mod turns;

pub use case::{Case, Scale};
pub use cases::cases;
pub use compare::compare;
pub use contestant::Contestant;
pub use error::Error;
pub use machinery::{Machinery, pin, unpin};
pub use measure::{Sampling, measure};
pub use origin::{Cpu, Origin, Peer};
pub use plots::plots;
pub use recording::{Recording, json, write};
pub use row::{Role, Row, Unit, Who};
pub use tables::{digest, tables};
pub use task::{
    Convolution, Kernel, LayerOperation, Limit, Matmul, Phase, Roofline, Scores, Search, Selection,
    SubsetSum, Task, Training,
};
pub use text::text;
pub use turns::{Turn, Turns};

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// Every contestant of every kind of case passes its check and can be measured.
    #[test]
    fn everything_runs() {
        let machinery = Machinery::new(None, Some(2)).unwrap();
        let sampling = Sampling { seconds: 0.0, least: 1, rounds: Some(1) };
        for &kernel in Kernel::value_variants() {
            for case in cases(kernel, Scale::Smoke) {
                let rows = measure(&case, &machinery, sampling, None).unwrap();
                assert!(kernel == Kernel::Roofline || rows.iter().any(|row| row.who.role == Role::Ours));
                assert!(rows.iter().all(|row| row.samples > 0 && row.task == case.task), "{}", case.task);
                for row in &rows {
                    assert!(rows.iter().filter(|other| other.is_of_same(row)).count() == 1, "{row:?}");
                    assert_eq!(serde_json::from_str::<Row>(&json(row)).unwrap(), *row);
                }
            }
        }
    }
}
