//! Engines

use core::ffi::{CStr, c_char};
use std::ffi::CString;
use std::sync::{OnceLock, RwLock};

use slth_kernels::{Backend, Engine};

use crate::handle::{self, Slot, handle};
use crate::status::{guard, slth_status};

/// Where calls run: an instruction set, and threads of the library's own beside the calling one. Neither changes a bit of any
/// result. No call waits for another thread's.
pub struct slth_engine(RwLock<Named>);

/// An engine, and its backend's name with a zero byte at the end.
pub(crate) struct Named {
    pub(crate) engine: Engine<'static>,
    backend: CString,
}

handle!(slth_engine(Named) = "engine");

/// Makes an engine.
///
/// - backend: one of slth_backends; NULL: the one that the environment variable SLTH_BACKEND names, or else the fastest.
/// - threads: the most that a call may use, the calling one among them. 0, or more than the process may use cores: one for each
///   core. Making an engine starts its threads, which all engines of as many threads share. In a forked child the first call
///   starts them anew.
///
/// Returns SLTH_UNKNOWN_BACKEND or SLTH_UNAVAILABLE_BACKEND for a backend that this machine does not have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_engine_new(
    backend: *const c_char,
    threads: usize,
    engine: *mut *mut slth_engine,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let slot = Slot::new("engine", engine)?;
            let backend = if backend.is_null() {
                Backend::detect()?
            } else {
                Backend::named(&CStr::from_ptr(backend).to_string_lossy())?
            };
            let name = CString::new(backend.name()).unwrap_or_default();
            slot.fill(Named { engine: Engine::new(backend).with_threads(threads), backend: name });
        }
        Ok(())
    })
}

/// Has calls share their work among threads where it takes at least so many clock cycles of one core, by a rough estimate;
/// less stays on the calling thread, because waking another one takes as long. 100,000 at first; 0 shares all that can be
/// divided.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_engine_share_from(engine: *mut slth_engine, cycles: usize) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        let mut named = unsafe { handle::write(engine)? };
        named.engine = named.engine.share_from(cycles);
        Ok(())
    })
}

/// The name of the engine's backend, valid until the engine is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_engine_backend(engine: *const slth_engine) -> *const c_char {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::read(engine) }.map_or(core::ptr::null(), |named| named.backend.as_ptr())
}

/// How many threads a call may use; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_engine_threads(engine: *const slth_engine) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(engine, |named| named.engine.threads()) }
}

/// Frees an engine; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_engine_free(engine: *mut slth_engine) {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::free(engine) }
}

/// The backends of this machine, fastest first, separated by commas: "avx512,avx2,scalar". A text that is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn slth_backends() -> *const c_char {
    static NAMES: OnceLock<CString> = OnceLock::new();
    let names = || Backend::available().iter().map(|backend| backend.name()).collect::<Vec<_>>().join(",");
    NAMES.get_or_init(|| CString::new(names()).unwrap_or_default()).as_ptr()
}
