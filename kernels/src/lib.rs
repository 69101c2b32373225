//! SIMD kernels for pruned neural networks on a CPU.
//!
//! Every kernel takes an [`Engine`] first: the instruction set it runs on, and its threads. **The same inputs give the same bits
//! on every instruction set and every thread count.**
//!
//! # A tour
//! Choose the mask, prepare the layer once, and multiply:
//! ```
//! use slth_kernels::matmul::{Activation, Epilogue, Workspace, forward};
//! use slth_kernels::top_k::{Order, Selector};
//! use slth_kernels::{Engine, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions};
//!
//! let engine = Engine::detect()?.with_threads(2); // the best instruction set of this CPU, up to two threads
//! let weights = [0.5, -1.0, 2.0, 0.25, 1.0, -0.5]; // [2 outputs, 3 inputs]
//!
//! // Sparsity 0.5 by magnitude: exactly three weights are kept.
//! let mut mask = PackedMask::none_kept(6);
//! Selector::default().keep_largest(engine, &weights, 3, Order::Magnitude, &mut mask)?;
//! assert_eq!(mask, PackedMask::from_fn(6, |i| [1, 2, 4].contains(&i)));
//!
//! let options = PrepareOptions::default().max_batch(2);
//! let mut layer = PackedWeights::prepare(engine, MatRef::row_major(&weights, 2, 3)?, Some(&mask), &options)?;
//!
//! let x = [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]; // [batch of 2, 3 inputs]
//! let mut y = [0.0; 4]; // [batch of 2, 2 outputs]
//! let mut workspace = Workspace::default(); // scratch memory, reused by later calls
//! let relu = Epilogue { bias: Some(&[0.5, -3.5]), activation: Activation::Relu, ..Epilogue::default() };
//! let (input, output) = (MatRef::row_major(&x, 2, 3)?.t(), MatMut::row_major(&mut y, 2, 2)?.t());
//! forward(engine, &layer, input, &relu, output, &mut workspace)?;
//! assert_eq!(y, [7.5, 0.0, 8.5, 0.5]);
//!
//! // Another mask over the same weights.
//! layer.rebuild(engine, &PackedMask::from_fn(6, |i| i == 0))?;
//! assert_eq!(layer.kept(), 1);
//! # Ok::<(), slth_kernels::KernelError>(())
//! ```
//!
//! * [`matmul`]: products with [`PackedWeights`]: forward, input gradient, weight gradient, score gradient
//! * [`conv2d`]: the same for convolutions
//! * [`top_k`]: the exact k largest scores, as a packed mask
//! * [`subset_sum`]: the subset of candidates whose sum comes nearest to a target
//! * [`optimizer`]: the steps of pretraining and edge-popup
//!
//! Matrices are views ([`MatRef`], [`MatMut`]): a slice, rows, columns and two strides. Weights are `[outputs, inputs]`,
//! activations `[inputs, batch]`. An array that is `[batch, inputs]` in memory is passed as its transpose [`t`](MatRef::t), which
//! costs nothing. Calls check their arguments and return a [`KernelError`]; they do not panic.

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
