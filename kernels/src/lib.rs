//! SIMD kernels for pruning neural networks on a CPU.
//!
//! * [`masked_matmul`]: products with pruned (or dense) weights: forward, input gradient, weight gradient
//! * [`conv2d`]: the same for convolutions
//! * [`top_k`]: the exact k largest scores, as a packed mask
//! * [`subset_sum`]: the subset of candidates whose sum comes nearest to a target
//! * [`update`]: the optimiser steps of pretraining and edge-popup
//!
//! Every kernel takes an [`Engine`] first: the instruction set it runs on, and whether it uses rayon's pool. **The same
//! inputs give the same bits on every instruction set and every thread count.**
//!
//! Matrices are plain slices. Activations are *feature-major*: `[features, batch]`, row-major, so that the batch lies in
//! the vector lanes; weights are `[outputs, inputs]`, row-major.

#![deny(unsafe_code)]

mod aligned;
mod arch;
#[cfg(feature = "rayon")]
mod awake;
mod backend;
pub mod conv2d;
mod engine;
mod error;
pub mod limits;
mod mask;
pub mod masked_matmul;
mod simd;
#[cfg(test)]
mod simd_tests;
mod sparse;
pub mod subset_sum;
pub mod top_k;
pub mod update;

/// The example of the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use backend::{BACKEND_VARIABLE, Backend, BackendError};
pub use engine::Engine;
pub use error::ShapeError;
pub use mask::PackedMask;
pub use sparse::{MaskedWeights, Path};
