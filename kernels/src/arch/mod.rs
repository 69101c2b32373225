//! All unsafe code of this crate: one file per instruction set, the only ones that name intrinsics, and files for strided memory,
//! closures lent to threads, and the floating-point environment.

#[expect(unsafe_code, reason = "the control register")]
pub(crate) mod float_env;
#[cfg(all(test, unix))]
#[expect(unsafe_code, reason = "fork")]
mod fork_tests;
#[expect(unsafe_code, reason = "a lifetime that a door guards")]
pub(crate) mod lend;
pub(crate) mod portable;
#[expect(unsafe_code, reason = "callers' promises")]
mod raw_parts;
#[expect(unsafe_code, reason = "pointers, checked once for all rows")]
pub(crate) mod rows;
#[expect(unsafe_code, reason = "pointers, checked against sizes")]
pub(crate) mod strided;

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "intrinsics")]
pub(crate) mod neon;
