//! A grid of ε, sparsities and seeds: its cells computed, stored, resumed, merged and reported.
//!
//! [`Sweep`] computes the cells of a [`Grid`] that a [`Store`] lacks. [`Study`] is what the cells show, beside the published
//! table; [`report`](report()) writes it down. [`calibrate`](calibrate()) tells how near many ways of pruning come to that table.

mod calibrate;
mod cell;
mod lines;
mod merge;
mod plan;
mod report;
mod schedule;
mod shard;
mod store;
mod study;

pub use calibrate::{Prunings, Trial, calibrate};
pub use cell::{Cell, CellConfig, CellOutcome, CellResult, CellTiming};
pub use lines::LineFile;
pub use merge::merge;
pub use plan::Plan;
pub use report::{report, report_texts};
pub use schedule::{Grid, Sweep, SweepProgress, SweepSummary};
pub use shard::Shard;
pub(crate) use store::known_cells;
pub use store::{Store, StoreError, parse_cells, read_cells};
pub use study::{Comparison, Finding, Study, Summary};
