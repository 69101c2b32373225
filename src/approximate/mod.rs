//! Rebuilds a given network from random numbers: each weight becomes the sum of a subset of n random candidates.
//!
//! After Experiment 1 of A. Pensia et al., "Optimal Lottery Tickets via SubsetSum" (2020, arXiv 2006.07990), with candidates that
//! may be moved by ε as in "Strong Lottery Ticket Hypothesis with ε-perturbation" (AISTATS 2023). The tensors of any safetensors
//! file are rebuilt, whatever their layers (R. Burkholz, ICML 2022, does so with convolutions and residual blocks). Candidates
//! are uniform between the least and the largest weight of all tensors. If η is relative, they are uniform on [−2m, 2m) with each
//! tensor's largest |weight| m, which is the theorem's setting. Every weight gets the subset of least residual. Each draw is
//! keyed by its row or weight: it does not depend on threads, n candidates are the first of n + 1, and all ε use the same.
//!
//! With many rows, n candidates fail in some: a few draws have too few of one sign for the largest weights. A weight that fails
//! can get more candidates of its draw ([`ApproximateConfig::candidates_most`]).
//!
//! A weight is within η when its subset's sum, perturbed, is. Written to a file that sum is rounded to the tensor's type;
//! [`ApproximationRow::failed_as_written`] counts what is further than η after that.
//!
//! [`Construction`] builds the theorem's network itself.

mod check;
mod config;
mod construction;
mod experiment;
mod network;
mod report;
mod result;
mod rewrite;
mod target;

pub use check::{Check, NotOptimal, check};
pub use config::{ApproximateConfig, Draw};
pub use construction::Construction;
pub use experiment::ApproximateOutcome;
pub use network::{Approximator, Rebuilt};
pub use result::{ApproximationResult, ApproximationRow, ConstructionRow, SmallestRow};
pub use target::Target;
