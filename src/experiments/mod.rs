//! From a configuration to an outcome.
//!
//! [`run`](run()) does all of it. [`Experiment`] does it in parts, so that a network can be pretrained once and pruned
//! at many sparsities. [`Sweep`] does so over a grid of ε, sparsities and seeds, and keeps what it found in a
//! [`Store`](crate::results::Store).
//! [`calibrate`](calibrate()) tells how near many ways of pruning come to the published table.
//!
//! The theory: [`required_candidates`] measures how many candidates a subset sum needs, [`Approximator`] rebuilds a network
//! by subset sums.

mod approximate;
mod calibrate;
mod candidates;
mod config;
mod run;
mod shard;
mod study;
mod sweep;
mod watch;

pub use approximate::{
    ApproximateConfig, Approximation, Approximator, Check, Construction, Draw, Target, TargetError,
    TargetProblem,
};
pub use calibrate::{Prunings, Trial, calibrate};
pub use candidates::{
    CandidatesConfig, Criterion, Needed, RequiredCandidates, paper_candidates, required_candidates,
};
pub use config::RunConfig;
pub(crate) use config::{check_network, number_or_inf};
pub use run::{DenseOutcome, Experiment, Outcome, PrunedOutcome, run};
pub(crate) use run::{start, start_pool};
pub use shard::Shard;
pub use study::{Comparison, Finding, Study, Summary};
pub use sweep::{Grid, Sweep, SweepProgress, SweepSummary};
pub use watch::Watch;
