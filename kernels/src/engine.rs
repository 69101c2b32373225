//! Where kernels run: an instruction set, on the calling thread or on rayon's pool.

use crate::backend::{Backend, BackendError};

/// What every kernel takes first: which [`Backend`] it runs on and whether its work is split over threads.
///
/// Neither changes a bit of any result.
///
/// ```
/// use slth_kernels::{Backend, Engine};
/// let engine = Engine::detect()?;                      // best backend, one thread
/// let everywhere = engine.parallel();                  // rayon's current pool
/// let portable = Engine::new(Backend::scalar());
/// assert_eq!(portable.threads(), 1);
/// # let _ = everywhere;
/// # Ok::<(), slth_kernels::BackendError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    backend: Backend,
    parallel: bool,
}

impl Engine {
    /// Runs on `backend`, on the calling thread.
    pub fn new(backend: Backend) -> Self {
        Self { backend, parallel: false }
    }

    /// Runs on [`Backend::detect`], on the calling thread.
    ///
    /// # Errors
    /// When the environment names a backend this machine does not have.
    pub fn detect() -> Result<Self, BackendError> {
        Backend::detect().map(Self::new)
    }

    /// The same, split over the rayon pool the call is made from. Without the crate's `rayon` feature it stays on the
    /// calling thread.
    #[must_use]
    pub fn parallel(self) -> Self {
        Self { parallel: true, ..self }
    }

    /// The backend.
    pub fn backend(self) -> Backend {
        self.backend
    }

    /// How many threads a call made here would use.
    pub fn threads(self) -> usize {
        #[cfg(feature = "rayon")]
        if self.parallel {
            return rayon::current_num_threads();
        }
        1
    }

    /// Runs both, side by side where there are threads for it.
    pub(crate) fn join(self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        #[cfg(feature = "rayon")]
        if self.threads() > 1 {
            rayon::join(a, b);
            return;
        }
        a();
        b();
    }

    /// Calls `work(index, piece)` for consecutive pieces of `length` elements; the last may be shorter.
    pub(crate) fn for_each_chunk<T: Send>(
        self,
        data: &mut [T],
        length: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        #[cfg(feature = "rayon")]
        if self.threads() > 1 && data.len() > length {
            use rayon::prelude::*;
            data.par_chunks_mut(length).enumerate().for_each(|(index, piece)| work(index, piece));
            return;
        }
        data.chunks_mut(length).enumerate().for_each(|(index, piece)| work(index, piece));
    }

    /// The same with a piece of `scratch`, `scratch_length` elements of it, for each piece.
    pub(crate) fn for_each_chunk_with<T: Send, U: Send>(
        self,
        data: &mut [T],
        length: usize,
        scratch: &mut [U],
        scratch_length: usize,
        work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        #[cfg(feature = "rayon")]
        if self.threads() > 1 && data.len() > length {
            use rayon::prelude::*;
            let pieces = data.par_chunks_mut(length).zip(scratch.par_chunks_mut(scratch_length));
            pieces.enumerate().for_each(|(index, (piece, scratch))| work(index, piece, scratch));
            return;
        }
        let pieces = data.chunks_mut(length).zip(scratch.chunks_mut(scratch_length));
        pieces.enumerate().for_each(|(index, (piece, scratch))| work(index, piece, scratch));
    }
}
