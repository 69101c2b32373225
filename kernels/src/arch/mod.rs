//! One file per instruction set: the only places that name intrinsics, and the only ones with unsafe code.

pub(crate) mod emulated;

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "intrinsics")]
pub(crate) mod neon;
