//! How many random candidates the ε-perturbed subset sum needs.

mod config;
mod published;
mod report;
mod result;
mod search;

pub use config::{CandidatesConfig, Criterion};
pub use published::paper_candidates;
pub use result::CandidatesResult;
pub use search::{Needed, RequiredCandidates, required_candidates};
