//! slth for C: products and convolutions with masked weights, from dense to 99 % sparse; exact top-k selection of scores;
//! subset sums. The same inputs give the same bits on every instruction set and every number of threads.
//!
//! Sparsity is the fraction of weights REMOVED. A mask is an array of words: weight i is bit i % 64 of word i / 64, 1 where the
//! weight is KEPT. Bits after the last weight are ignored where a mask is read, and 0 where it is written.
//!
//! What holds for all functions:
//!
//! - Status. What can fail returns a slth_status, SLTH_OK (0) for success. slth_status_message says what a status means,
//!   slth_last_error what was wrong with the call. A call that fails writes nothing, except NULL to the handle that it should
//!   have made (after SLTH_PANIC outputs may hold anything). Nothing unwinds out of the library. When memory runs out, the
//!   process aborts.
//! - Pointers. Each must be aligned, and point to as many elements as the function says. NULL is allowed where that is said
//!   and where there are no elements; elsewhere it is SLTH_NULL_POINTER. What is read must be initialised; what is only
//!   written need not be. Until a call returns, nobody may change what it reads or touch what it writes. No element that
//!   is written may be read too, or be written as another result, but both may be in one array: a call may read some of its
//!   columns and write others. Arrays that overlap are SLTH_ALIASED; single numbers and structures are not checked. The library keeps no pointer to the caller's memory.
//! - Shapes. Activations are `[batch, features]`, weights `[outputs, inputs]`. Strides, counted in elements, tell how they lie
//!   in memory; slth_row_major and similar functions set the usual ones. No layout changes a bit of any result.
//! - Threads. Any number of threads may use a handle at a time in functions that take it as a pointer to const. In functions
//!   that do not, one thread may use it at a time; another gets SLTH_BUSY. So one prepared layer serves many threads, each
//!   with its own workspace. A handle may be freed on any thread, once nobody uses it. A forked child can use its parent's
//!   handles, except those that another thread was using at the fork.
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
pub mod weights;
