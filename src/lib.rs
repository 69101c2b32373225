//! Pretrain-then-prune on a CPU: strong lottery tickets with ε-perturbation.
//!
//! A randomly initialised network is trained a little, no weight moving further than ε from its initial value
//! (projected SGD), and is then pruned by edge-popup at a given sparsity, its weights frozen. With ε = 0 that is the
//! strong lottery ticket hypothesis proper, with ε = ∞ ordinary training followed by pruning. After Z. Xiong, F. Liao,
//! A. Kyrillidis, "Strong Lottery Ticket Hypothesis with ε-perturbation", AISTATS 2023 (arXiv 2210.16589).
//!
//! **Sparsity is the fraction of weights REMOVED**, everywhere in this crate.
//!
//! # A tour
//! A [`RunConfig`](run::RunConfig) and a [`Dataset`](data::Dataset) become an [`Outcome`](run::Outcome): accuracies, weights,
//! masks, timings.
//! ```no_run
//! use slth::{data::Dataset, run::{RunConfig, run}, progress::NoProgress};
//!
//! let config = RunConfig { epsilon: 0.0, sparsity: 0.7, ..RunConfig::default() };
//! let outcome = run(&config, &Dataset::mnist()?, &NoProgress)?;
//! println!("dense {:.4}, pruned {:.4}", outcome.pretrain.test.accuracy(), outcome.prune.test.accuracy());
//! # Ok::<(), slth::Error>(())
//! ```
//!
//! * [`data`]: data sets (MNIST is built in), their files, normalisation and augmentation; a crate of its own
//! * [`network`]: architectures, initialisations, the loss
//! * [`training`]: projected SGD, edge-popup and other pruning methods, evaluation
//! * [`run`](mod@run): one run; its `result.json` and `ticket.safetensors`
//! * [`sweep`]: a grid of runs, stored, continued and reported
//! * [`candidates`], [`approximate`]: the theory, measured
//! * [`prune`]: safetensors files pruned without data
//! * [`tensors`]: safetensors files of any size, read in pieces
//! * [`plot`]: charts as SVG and PNG, a crate of its own
//! * [`progress`]: reports of long work to its caller; [`flags`]: numbers and lists as the command line takes them
//! * [`random`]: the keyed random streams
//!
//! The same configuration and seed give the same bits on every instruction set and every number of threads. The kernels are in
//! the crate `slth_kernels`.
#![forbid(unsafe_code)]

pub mod approximate;
pub mod candidates;
mod error;
pub mod flags;
pub mod machine;
pub mod network;
pub mod output;
mod page;
pub mod progress;
pub mod prune;
pub mod run;
pub mod sweep;
pub mod tensors;
pub mod training;

pub use error::Error;
pub use run::BITS_REVISION;
use slth_data::input;
pub use slth_data::{self as data, FileError, random};
pub use slth_plot as plot;

/// The examples of the README, tested as they stand.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
