//! A given network rebuilt from random numbers: each weight as the sum of a subset of n random candidates.
//!
//! After Experiment 1 of A. Pensia et al., "Optimal Lottery Tickets via SubsetSum" (2020, arXiv 2006.07990), with candidates
//! that may be moved by ε as in "Strong Lottery Ticket Hypothesis with ε-perturbation" (AISTATS 2023). Candidates are
//! uniform between the least and the largest weight of the whole network; every weight gets the subset of least residual.
//! Each draw is keyed by its row or weight: it depends on no thread, n candidates are the first of n + 1, and all ε
//! see the same.
//!
//! [`Construction`] builds the theorem's network itself.

mod check;
mod config;
mod construction;
mod experiment;
mod network;
mod report;
mod result;
mod target;

pub use check::{Check, NotOptimal};
pub use config::{ApproximateConfig, Draw};
pub use construction::Construction;
pub use experiment::ApproximateOutcome;
pub use network::{Approximation, Approximator};
pub use result::{ApproximationResult, ApproximationRow, ConstructionRow, SmallestRow};
pub use target::{Target, TargetError, TargetProblem};
