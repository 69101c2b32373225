//! Which instruction set the kernels run on, chosen at run time.

use core::fmt;

use crate::arch;
use crate::arch::float_env;
use crate::error::KernelError;
use crate::simd::Kernel;

/// The environment variable that forces a backend by name, read by [`Backend::detect`].
pub const BACKEND_VARIABLE: &str = "SLTH_BACKEND";

/// An instruction set this CPU has. Results do not depend on the choice, only speed does.
///
/// ```
/// use slth_kernels::Backend;
/// let backend = Backend::best();
/// assert!(Backend::available().contains(&backend));
/// assert_eq!(Backend::named("scalar")?.name(), "scalar");
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Backend(Token);

/// One line per backend, best first: name, token type, how to detect it, where it exists.
macro_rules! backends {
    ($($(#[$condition:meta])* $variant:ident($token:ty) = $name:literal, $detect:expr;)*) => {
        #[derive(Clone, Copy)]
        enum Token { $($(#[$condition])* $variant($token),)* }

        impl Backend {
            /// The backend's name, as [`Backend::named`] takes it.
            pub fn name(self) -> &'static str {
                match self.0 { $($(#[$condition])* Token::$variant(_) => $name,)* }
            }

            /// Names of all backends of this build, whether or not this CPU has them.
            fn known() -> &'static [&'static str] {
                &[$($(#[$condition])* $name,)*]
            }

            /// Every backend this CPU can run, best first; the last is always `scalar`.
            pub fn available() -> Vec<Backend> {
                let all: &[fn() -> Option<Token>] = &[$($(#[$condition])* || $detect.map(Token::$variant),)*];
                all.iter().filter_map(|detect| detect()).map(Backend).collect()
            }

            /// Runs a kernel with this backend's instructions enabled, in the default floating-point environment.
            #[inline]
            pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
                float_env::with_default(|| match self.0 {
                    $($(#[$condition])* Token::$variant(token) => token.run(kernel),)*
                })
            }
        }
    };
}

backends! {
    #[cfg(target_arch = "x86_64")] Avx512(arch::avx512::Avx512) = "avx512", arch::avx512::Avx512::detect();
    #[cfg(target_arch = "x86_64")] Avx2(arch::avx2::Avx2) = "avx2", arch::avx2::Avx2::detect();
    #[cfg(target_arch = "aarch64")] Neon(arch::neon::Neon) = "neon", arch::neon::Neon::detect();
    #[cfg(test)] Portable3(arch::portable::Portable<3>) = "portable3", Some(arch::portable::Portable);
    #[cfg(test)] Portable16(arch::portable::Portable<16>) = "portable16", Some(arch::portable::Portable);
    Scalar(arch::portable::Portable<4>) = "scalar", Some(arch::portable::Portable);
}

impl Backend {
    /// The fastest backend of this CPU.
    pub fn best() -> Backend {
        Self::available()[0]
    }

    /// The portable fallback, which every machine has.
    pub fn scalar() -> Backend {
        Backend(Token::Scalar(arch::portable::Portable))
    }

    /// The backend of that name.
    ///
    /// # Errors
    /// When the name is unknown or this CPU lacks the instructions.
    pub fn named(name: &str) -> Result<Backend, KernelError> {
        let available = Self::available();
        if let Some(&found) = available.iter().find(|b| b.name() == name) {
            return Ok(found);
        }
        let known = Self::known().contains(&name);
        let name = name.to_owned();
        let available = available.iter().map(|b| b.name()).collect::<Vec<_>>().join(", ");
        Err(if known {
            KernelError::UnavailableBackend { name, available }
        } else {
            KernelError::UnknownBackend { name, available }
        })
    }

    /// The backend that the environment variable [`BACKEND_VARIABLE`] names, or the best one where it is unset or
    /// empty.
    ///
    /// # Errors
    /// When the variable names a backend that this CPU does not have.
    pub fn detect() -> Result<Backend, KernelError> {
        match std::env::var_os(BACKEND_VARIABLE) {
            Some(name) if !name.is_empty() => Self::named(&name.to_string_lossy()),
            _ => Ok(Self::best()),
        }
    }
}

impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Backend {}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.name())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn names_lead_to_backends() {
        for backend in Backend::available() {
            assert_eq!(Backend::named(backend.name()), Ok(backend));
        }
        assert_eq!(Backend::available().last(), Some(&Backend::scalar()));
        assert!(matches!(Backend::named("sse9"), Err(KernelError::UnknownBackend { .. })));
    }

    /// `SLTH_REQUIRE=avx2,avx512` makes the absence of a backend an error, so that no test skips it silently.
    #[test]
    fn required_backends_are_present() {
        let available = Backend::available();
        let names = available.iter().map(|b| b.name()).collect::<Vec<_>>().join(", ");
        // Bypasses the test harness, which would capture the output.
        writeln!(std::io::stderr(), "backends under test: {names}").unwrap();
        let required = std::env::var("SLTH_REQUIRE").unwrap_or_default();
        for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            assert!(
                available.iter().any(|b| b.name() == name),
                "SLTH_REQUIRE names `{name}`, which this CPU lacks"
            );
        }
    }
}
