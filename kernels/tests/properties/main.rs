//! Every public function that computes against its definition, on drawn shapes, densities and values: one module a kernel.
//!
//! Each case runs on every backend of the machine, on one thread and on three. Arguments and results lie between
//! canaries and begin at any multiple of four bytes ([`support::Guarded`]); scratch memory is handed from call to call,
//! with what the last one left in it. Results are compared bit by bit; of a NaN it only counts that it is one.
//!
//! `PROPTEST_CASES=5000` is the long mode (minutes), in place of the few dozen cases of each property;
//! `PROPTEST_RNG_SEED=1` draws the same ones again.

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
