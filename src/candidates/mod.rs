//! How many random candidates the ε-perturbed subset sum needs.

mod result;
mod search;

pub use result::CandidatesResult;
pub use search::{
    CandidatesConfig, Criterion, Needed, RequiredCandidates, paper_candidates, required_candidates,
};
