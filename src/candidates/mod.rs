//! How many random candidates the ε-perturbed subset sum needs.

mod config;
mod report;
mod result;
mod search;

pub use config::{CandidatesConfig, Criterion, SubsetSize};
pub use result::CandidatesResult;
pub use search::{Needed, RequiredCandidates, entropy, paper_candidates, required_candidates};
