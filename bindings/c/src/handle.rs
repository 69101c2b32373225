//! Handles: what C holds a pointer to and never sees into.
//!
//! Each is behind a lock that is tried and never waited for: two threads in a handle that one thread at a time may use get
//! [`SLTH_BUSY`](crate::status::SLTH_BUSY) instead of undefined behaviour, at the cost of one atomic operation a call.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use crate::memory::check_pointer;
use crate::status::Failure;

/// A type whose pointers C holds.
pub(crate) trait Handle: Sized + Send + Sync + 'static {
    type Inner;
    /// What a failure calls it.
    const NAME: &'static str;
    fn new(inner: Self::Inner) -> Self;
    fn lock(&self) -> &RwLock<Self::Inner>;
}

/// Makes a handle of a structure of one field.
macro_rules! handle {
    ($handle:ident($inner:ty) = $name:literal) => {
        impl $crate::handle::Handle for $handle {
            type Inner = $inner;
            const NAME: &'static str = $name;
            fn new(inner: $inner) -> Self {
                Self(std::sync::RwLock::new(inner))
            }
            fn lock(&self) -> &std::sync::RwLock<$inner> {
                &self.0
            }
        }
    };
}
pub(crate) use handle;

/// Where a call writes the handle that it makes; NULL until then.
pub(crate) struct Slot<H: Handle>(*mut *mut H);

impl<H: Handle> Slot<H> {
    /// The place that parameter `name` points to.
    ///
    /// # Safety
    /// `at` must be NULL, or a pointer that the caller may write a pointer to until the call ends.
    pub(crate) unsafe fn new(name: &'static str, at: *mut *mut H) -> Result<Self, Failure> {
        check_pointer(name, at)?;
        // SAFETY: as promised.
        unsafe { at.write(core::ptr::null_mut()) };
        Ok(Self(at))
    }

    pub(crate) fn fill(self, inner: H::Inner) {
        // SAFETY: `new` was promised that it may be written to.
        unsafe { self.0.write(into_raw(inner)) };
    }
}

pub(crate) fn into_raw<H: Handle>(inner: H::Inner) -> *mut H {
    Box::into_raw(Box::new(H::new(inner)))
}

/// The handle, to be read by any number of threads.
///
/// # Safety
/// `handle` must be NULL or a handle that nobody frees for as long as `'a`.
pub(crate) unsafe fn read<'a, H: Handle>(handle: *const H) -> Result<RwLockReadGuard<'a, H::Inner>, Failure> {
    check_pointer(H::NAME, handle)?;
    // SAFETY: as promised; all access is through its lock.
    let handle: &'a H = unsafe { &*handle };
    handle.lock().try_read().map_err(refusal::<H, _>)
}

/// The handle, to be changed by this thread.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn write<'a, H: Handle>(handle: *mut H) -> Result<RwLockWriteGuard<'a, H::Inner>, Failure> {
    check_pointer(H::NAME, handle)?;
    // SAFETY: as promised; all access is through its lock.
    let handle: &'a H = unsafe { &*handle };
    handle.lock().try_write().map_err(refusal::<H, _>)
}

fn refusal<H: Handle, Guard>(error: TryLockError<Guard>) -> Failure {
    match error {
        TryLockError::WouldBlock => Failure::Busy { what: H::NAME },
        TryLockError::Poisoned(_) => Failure::Broken { what: H::NAME },
    }
}

/// What `get` finds in the handle; `T::default()` without one.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn get<H: Handle, T: Default>(handle: *const H, get: impl FnOnce(&H::Inner) -> T) -> T {
    // SAFETY: as promised.
    unsafe { read(handle) }.map_or_else(|_| T::default(), |inner| get(&inner))
}

/// # Safety
/// `handle` must be NULL or a handle that is used by nobody, now or later.
pub(crate) unsafe fn free<H: Handle>(handle: *mut H) {
    if !handle.is_null() {
        // SAFETY: handles are made by `into_raw` alone, and nobody uses this one any more.
        drop(unsafe { Box::from_raw(handle) });
    }
}
