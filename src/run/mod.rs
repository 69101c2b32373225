//! One run: a configuration becomes an outcome, and an outcome becomes files.
//!
//! [`run`](run()) draws, pretrains, prunes and evaluates. [`Experiment`] does it in parts, so that a network can be
//! pretrained once and pruned at many sparsities. A run leaves `result.json` ([`RunResult`]) and `ticket.safetensors`
//! ([`Ticket`]), each written whole or not at all.
//!
//! ```
//! use slth::data::Dataset;
//! use slth::output::OutputDirectory;
//! use slth::run::{Outcome, RunConfig, RunResult, Ticket, TicketKind, mask_hash, run};
//! use slth::progress::NoProgress;
//!
//! let config = RunConfig {
//!     network: "784-10".parse()?, train_images: Some(300), validation: 100, prune_epochs: 1,
//!     ..RunConfig::default()
//! };
//! let mnist = Dataset::mnist()?;
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let out = OutputDirectory::prepare(directory, &Outcome::FILES, false)?; // before the work
//! let outcome = run(&config, &mnist, &NoProgress)?;
//! out.write(&outcome.files(TicketKind::Full))?;
//! assert!(RunResult::new(&outcome).to_json().contains(&mask_hash(&outcome.layers)));
//!
//! let ticket = Ticket::read(directory.join("ticket.safetensors"))?;
//! assert_eq!(ticket.layers, outcome.layers);
//! assert_eq!(ticket.evaluate(&mnist, None, None)?, outcome.prune.test);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compact;
pub(crate) mod config;
pub(crate) mod experiment;
pub(crate) mod hash;
pub(crate) mod infinity;
mod result;
mod state_dict;
mod ticket;

pub use config::RunConfig;
pub(crate) use config::check_network;
pub(crate) use experiment::start_pool;
pub use experiment::{DenseOutcome, Experiment, Outcome, PrunedOutcome, engine, run};
pub use hash::{BITS_REVISION, dataset_hash, mask_hash, weights_hash};
pub(crate) use infinity::{number_or_inf, numbers_or_inf};
pub use result::RunResult;
pub use state_dict::{StateDict, StateDictError, StateDictProblem};
pub use ticket::{Ticket, TicketError, TicketKind, TicketProblem};
