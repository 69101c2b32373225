//! slth for C: products and convolutions with masked weights, from dense to 99 % sparse; exact top-k selection of scores;
//! subset sums. The same inputs give the same bits on every instruction set and every number of threads.
//!
//! Sparsity is the fraction of weights REMOVED; a mask's bit is 1 where a weight is KEPT. What holds for all functions:
//!
//! - Status. What can fail returns a slth_status: 0 (SLTH_OK) for success. slth_status_message says what another one means,
//!   slth_last_error what was wrong with the call. A call that fails writes nothing, except NULL to the handle that it should
//!   have made. Nothing unwinds out of the library. Without memory the process is aborted.
//! - Pointers. Each must be aligned, and point to as many elements as the function says. NULL is allowed where that is said
//!   and where there are no elements; elsewhere it is SLTH_NULL_POINTER. What is read must be initialised; what is only
//!   written need not be. Until a call returns nobody may change what it reads or touch what it writes. What is written must
//!   not overlap what is read (SLTH_ALIASED), but may lie in its gaps: a call may read some columns of an array and write
//!   others. The library keeps no pointer of the caller's.
//! - Shapes. Activations are `[batch, features]`, weights `[outputs, inputs]`. Strides, counted in elements, tell how they lie
//!   in memory: slth_row_major and its kin make the usual ones. No layout changes a bit of any result.
//! - Threads. A handle that functions take as a pointer to const is for any number of threads at a time. One that they take
//!   otherwise is for one, and a second gets SLTH_BUSY. So one prepared layer serves many threads, each with its own workspace.
//!   A handle may move between threads; free it once nobody uses it. A forked child can use its parent's handles, but for
//!   those that another thread was using when it was forked.
//! - Structures that begin with `size` may grow in later versions. Set `size` to sizeof and clear the rest: 0 is every field's
//!   default. `slth_epilogue relu = {.size = sizeof relu, .activation = SLTH_RELU};`

// scripts/check-header makes include/slth.h of the documentation, from the text above on. A call has three steps: it turns
// pointers into handles, views and options, in one block of unsafe code; calls the kernel; and turns the outcome into a
// status.

#![expect(non_camel_case_types, reason = "the names that C has")]
#![expect(clippy::missing_safety_doc, reason = "stated above once for all functions")]

mod handle;
mod memory;

pub mod conv2d;
pub mod engine;
pub mod mask;
pub mod matmul;
pub mod status;
pub mod subset_sum;
pub mod top_k;
pub mod views;
