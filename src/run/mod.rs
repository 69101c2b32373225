//! One run: a configuration becomes an outcome, and an outcome becomes files.
//!
//! [`run`](run()) draws, pretrains, prunes and evaluates. [`Experiment`] does it in parts, so that a network can be pretrained
//! once and pruned at many sparsities. A run leaves `result.json` ([`RunResult`]), `ticket.safetensors` ([`Ticket`]),
//! `history.csv` ([`EpochRecord`]) and its curves, each written completely or not at all. [`RunDirectory`] does all that, and can
//! keep a [`Checkpoint`] meanwhile.
//!
//! ```
//! use slth::data::Dataset;
//! use slth::run::{RunConfig, RunDirectory, Ticket};
//! use slth::progress::NoProgress;
//!
//! let config = RunConfig {
//!     network: "784-10".parse()?, train_images: Some(300), validation: 100, prune_epochs: 1,
//!     ..RunConfig::default()
//! };
//! let mnist = Dataset::mnist()?;
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let out = RunDirectory::prepare(directory, false, None)?; // before the work
//! let outcome = out.run(&config, &mnist, &NoProgress)?;
//! assert_eq!(outcome.history[1].phase, "pruning");
//!
//! let ticket = Ticket::read(directory.join("ticket.safetensors"))?;
//! assert_eq!(ticket.layers, outcome.layers);
//! assert_eq!(ticket.evaluate(&mnist, None, None)?, outcome.prune.test);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
pub(crate) mod config;
pub(crate) mod experiment;
pub(crate) mod hash;
mod history;
pub(crate) mod infinity;
mod options;
mod report;
mod result;
mod settings;
mod state_dict;
mod ticket;

pub use checkpoint::{Checkpoint, CheckpointError, CheckpointProblem};
pub use config::RunConfig;
pub(crate) use config::check_network;
pub(crate) use experiment::start_pool;
pub use experiment::{DenseOutcome, Experiment, Outcome, PrunedOutcome, engine, run};
pub use hash::{BITS_REVISION, dataset_hash, mask_hash, weights_hash};
pub use history::EpochRecord;
pub(crate) use infinity::{number_or_inf, numbers_or_inf};
pub(crate) use options::{Setting, differences};
pub use report::report;
pub use result::{Checkpoints, RunDirectory, RunResult};
pub use state_dict::{StateDict, StateDictError, StateDictProblem};
pub use ticket::{Ticket, TicketError, TicketKind, TicketProblem};
