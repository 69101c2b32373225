//! SIMD kernels for pruned neural networks on a CPU.
//!
//! * [`PackedWeights`], [`matmul`]: weights prepared once, and products with them: forward, input gradient, weight gradient, score gradient
//! * [`conv2d`]: the same for convolutions
//! * [`top_k`]: the exact k largest scores, as a packed mask
//! * [`subset_sum`]: the subset of candidates whose sum comes nearest to a target
//! * [`optimizer`]: the steps of pretraining and edge-popup
//!
//! Every kernel takes an [`Engine`] first: the instruction set it runs on, and its threads. **The same inputs give the same bits
//! on every instruction set and every thread count.**
//!
//! Matrices are views ([`MatRef`], [`MatMut`]): a slice, rows, columns and two strides. Weights are `[outputs, inputs]`, activations
//! `[inputs, batch]`; where the caller has `[batch, inputs]`, its transpose [`t`](MatRef::t) is handed over, which costs nothing.

#![deny(unsafe_code)]

mod aligned;
mod arch;
mod backend;
mod bf16;
pub mod conv2d;
mod conv_shape;
mod engine;
mod epilogue;
mod error;
#[cfg(all(test, target_arch = "x86_64"))]
mod float_env_tests;
mod mask;
pub mod matmul;
pub mod optimizer;
mod panel;
#[cfg(feature = "roofline")]
pub mod roofline;
mod simd;
#[cfg(test)]
mod simd_tests;
pub mod subset_sum;
mod team;
mod tiles;
pub mod top_k;
mod view;
mod weights;

/// The example of the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use backend::{BACKEND_VARIABLE, Backend};
pub use engine::Engine;
pub use epilogue::{Activation, Epilogue};
pub use error::KernelError;
pub use mask::{PackedMask, PackedMaskRef};
pub use view::{ImagesMut, ImagesRef, MatMut, MatRef};
pub use weights::{Format, MaskReuse, PackedWeights, PrepareOptions, Storage, Strategy};
