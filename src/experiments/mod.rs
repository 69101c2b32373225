//! From a configuration to an outcome.
//!
//! [`run`](run()) does all of it. [`Experiment`] does it in parts, so that a network can be pretrained once and pruned
//! at many sparsities.

mod config;
mod run;

pub use config::RunConfig;
pub(crate) use config::{check_network, number_or_inf};
pub(crate) use run::start;
pub use run::{DenseOutcome, Experiment, Outcome, PrunedOutcome, run};
