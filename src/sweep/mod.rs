//! A grid of ε, sparsities and seeds: its cells computed, stored, resumed, merged and reported.
//!
//! [`Sweep`] computes the cells of a [`Grid`] that a [`Store`] lacks. [`Study`] is what the cells show, beside the published
//! table; [`report`](report()) writes it down. [`calibrate`](calibrate()) tells how near many ways of pruning come to that table.

mod calibrate;
mod cell;
mod comparison;
mod error;
mod findings;
mod grid;
mod lines;
mod merge;
mod plan;
mod report;
mod schedule;
mod shard;
mod store;
mod study;
mod workshop;

pub use calibrate::{Prunings, Trial, TrialLog, calibrate};
pub use cell::{Cell, CellConfig, CellOutcome, CellResult, CellTiming};
pub use comparison::{Comparison, rank_correlation};
pub use error::StoreError;
pub use findings::{Finding, findings_by_seed};
pub use grid::Grid;
pub use merge::{Merged, merge};
pub use plan::Plan;
pub use report::{report, report_texts};
pub use schedule::Sweep;
pub use shard::Shard;
pub use store::{Store, parse_cells, read_cells};
pub use study::{Choice, Study, Summary};
pub use workshop::SweepSummary;
