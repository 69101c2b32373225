//! Compares every public kernel with its definition on random shapes, densities and values; one module per kernel.
//!
//! Each case runs on every backend of the machine, on one thread and on three. Arguments and results lie between canaries
//! and begin at any multiple of four bytes ([`support::Guarded`]). Scratch memory is passed from call to call with its old
//! content. Results must agree bit by bit, except that any NaN equals any other.
//!
//! `PROPTEST_CASES=5000` runs that many cases of each property instead of a few dozen, which takes minutes.
//! `PROPTEST_RNG_SEED=1` makes the cases reproducible.

mod conv2d;
mod coverage;
mod mask;
mod optimizer;
mod products;
#[cfg(feature = "roofline")]
mod roofline;
mod subset_sum;
mod support;
mod top_k;
mod view;
