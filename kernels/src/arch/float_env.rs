//! The floating-point environment of the calling thread.
//!
//! A host program may have set flush-to-zero, denormals-are-zero or another rounding mode on its threads. Kernels run with the
//! default environment (round to nearest, denormals are numbers, no traps) and put the host's back, so that no bit of a result
//! depends on it.

/// Calls `work` with the default environment, and restores the caller's, after a panic too.
#[inline]
pub(crate) fn with_default<T>(work: impl FnOnce() -> T) -> T {
    // The compiler ignores the environment, and could move arithmetic across its changes; a call that is not inlined prevents
    // this.
    #[inline(never)]
    fn opaque<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    let _restore = Restore::default_environment();
    opaque(work)
}

/// Sets the control register back to these bits when dropped.
struct Restore(Option<control::Bits>);

impl Restore {
    #[inline(always)]
    fn default_environment() -> Self {
        let bits = control::get();
        let differs = control::is_other_than_default(bits);
        if differs {
            control::set(control::DEFAULT);
        }
        Self(differs.then_some(bits))
    }
}

impl Drop for Restore {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(bits) = self.0 {
            control::set(bits);
        }
    }
}

/// MXCSR.
#[cfg(target_arch = "x86_64")]
mod control {
    pub(super) type Bits = u32;

    /// All exceptions masked, nothing else set.
    pub(super) const DEFAULT: Bits = 0x1f80;

    /// The lowest six bits only record which exceptions have occurred.
    #[inline(always)]
    pub(super) fn is_other_than_default(bits: Bits) -> bool {
        bits & !0x3f != DEFAULT
    }

    #[inline(always)]
    pub(super) fn get() -> Bits {
        let mut bits: Bits = 0;
        // SAFETY: writes the register to `bits`, and nothing else.
        unsafe {
            core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut bits, options(nostack, preserves_flags));
        }
        bits
    }

    #[inline(always)]
    pub(super) fn set(bits: Bits) {
        // SAFETY: the bits are the default ones, were read from this register, or are those of `HOSTS`, so no reserved one is
        // set. The register decides how floats are rounded; the caller's bits are restored before the caller continues.
        unsafe {
            core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const bits, options(nostack, preserves_flags));
        }
    }
}

/// FPCR.
#[cfg(target_arch = "aarch64")]
mod control {
    pub(super) type Bits = u64;

    pub(super) const DEFAULT: Bits = 0;

    #[inline(always)]
    pub(super) fn is_other_than_default(bits: Bits) -> bool {
        bits != DEFAULT
    }

    #[inline(always)]
    pub(super) fn get() -> Bits {
        let bits: Bits;
        // SAFETY: reads a register that every program may read.
        unsafe {
            core::arch::asm!("mrs {}, fpcr", out(reg) bits, options(nostack, preserves_flags));
        }
        bits
    }

    #[inline(always)]
    pub(super) fn set(bits: Bits) {
        // SAFETY: the bits are the default ones or were read from this register. It decides how floats are rounded; it is the caller's
        // again before the caller goes on.
        unsafe {
            core::arch::asm!("msr fpcr, {}", in(reg) bits, options(nostack, preserves_flags));
        }
    }
}

/// Other processors: the environment is assumed to be the default one.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control {
    pub(super) type Bits = ();
    pub(super) const DEFAULT: Bits = ();
    pub(super) fn is_other_than_default(_: Bits) -> bool {
        false
    }
    pub(super) fn get() -> Bits {}
    pub(super) fn set(_: Bits) {}
}

/// Settings of hosts: flush-to-zero and denormals-are-zero, or one of them; rounding towards zero; traps for every exception.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) const HOSTS: [control::Bits; 5] = [
    control::DEFAULT | 0x8040,
    control::DEFAULT | 0x8000,
    control::DEFAULT | 0x0040,
    control::DEFAULT | 0x6000,
    control::DEFAULT & !0x1f80,
];

/// Calls `work` as a host that has set these bits, one of [`HOSTS`].
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn with_bits_of_host<T>(bits: control::Bits, work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn opaque<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    assert!(HOSTS.contains(&bits));
    let _restore = Restore(Some(control::get()));
    control::set(bits);
    opaque(work)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_the_default_one_inside_and_the_callers_outside() {
        let own = control::get();
        for bits in HOSTS {
            control::set(bits);
            let inside = with_default(control::get);
            let after_panic = std::panic::catch_unwind(|| {
                with_default(|| -> () { std::panic::resume_unwind(Box::new(())) })
            });
            let outside = control::get();
            control::set(own);
            assert!(after_panic.is_err());
            assert_eq!(inside & !0x3f, control::DEFAULT);
            assert_eq!(outside & !0x3f, bits);
        }
    }
}
