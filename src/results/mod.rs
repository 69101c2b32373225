//! What a run leaves behind: `result.json` and `ticket.safetensors`, each written whole or not at all; what a sweep does: a
//! [`Store`] of cells, and a [report](report()) of it.
//!
//! ```
//! use slth::dataset::Dataset;
//! use slth::experiments::{RunConfig, run};
//! use slth::results::{OutputDirectory, RunResult, Ticket, mask_hash};
//! use slth::training::NoProgress;
//!
//! let config = RunConfig {
//!     network: "784-10".parse()?, train_images: Some(300), validation: 100, prune_epochs: 1,
//!     ..RunConfig::default()
//! };
//! let mnist = Dataset::mnist()?;
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let out = OutputDirectory::prepare(directory, false)?; // before the work
//! let outcome = run(&config, &mnist, &mut NoProgress)?;
//! out.write(&outcome)?;
//! assert!(RunResult::new(&outcome).to_json().contains(&mask_hash(&outcome.layers)));
//!
//! let ticket = Ticket::read(directory.join("ticket.safetensors"))?;
//! assert_eq!(ticket.layers, outcome.layers);
//! assert_eq!(ticket.evaluate(&mnist, None, None)?, outcome.prune.test);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod approximation;
mod candidates;
mod cell;
mod hash;
mod lines;
mod machine;
mod merge;
mod output;
mod plan;
mod report;
mod store;
mod summary;
mod ticket;

pub use approximation::{ApproximationResult, ApproximationRow, ConstructionRow, SmallestRow};
pub use candidates::CandidatesResult;
pub use cell::{Cell, CellConfig, CellOutcome, CellResult, CellTiming};
pub use hash::{dataset_hash, mask_hash, weights_hash};
pub use lines::LineFile;
pub use machine::Machine;
pub use merge::merge;
pub use output::{OutputDirectory, OutputError, between_writes};
pub use plan::Plan;
pub use report::{report, report_texts};
pub(crate) use store::known_cells;
pub use store::{Store, StoreError, parse_cells, read_cells};
pub use summary::RunResult;
pub use ticket::{Ticket, TicketError, TicketProblem};
