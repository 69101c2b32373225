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

    /// Calls `work`, during which the other threads of the pool stay awake.
    ///
    /// For kernels called one after another: a thread of rayon's that finds nothing to do for some microseconds falls asleep, and to
    /// wake it takes longer than many kernels do, on virtual machines above all. Meanwhile the threads look for jobs of the pool
    /// only; while there is none for a millisecond they let the core rest in between. `work` begins once all have come, 10 ms
    /// later at most, and ends up to a tenth of a millisecond late. Without `awake`, too, a thread that waits for the others' share of a
    /// kernel looks on for a millisecond before it sleeps.
    ///
    /// Call it where the pool has nothing else to do, as when it has just been made: what another of its threads had begun, and waits
    /// with, goes on only once `work` is done; so `work` must not wait for it, by a lock or a channel.
    ///
    /// ```
    /// use slth_kernels::{Engine, PackedMask, top_k::{Order, Selector, TopKError}};
    /// let engine = Engine::detect()?.parallel();
    /// let (mut selector, mut mask) = (Selector::default(), PackedMask::none_kept(4));
    /// engine.awake(|| {
    ///     for scores in [[1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 3.5, 0.5]] {
    ///         selector.keep_largest(engine, &scores, 2, Order::Magnitude, &mut mask)?;
    ///     }
    ///     Ok::<(), TopKError>(())
    /// })?;
    /// assert!(mask.get(1) && mask.get(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn awake<T>(self, work: impl FnOnce() -> T) -> T {
        #[cfg(feature = "rayon")]
        if self.threads() > 1 {
            return crate::awake::during(work);
        }
        work()
    }

    /// Runs both, side by side where there are threads for it.
    pub(crate) fn join(self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        #[cfg(feature = "rayon")]
        if self.threads() > 1 {
            return crate::awake::join(a, b);
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
        // At least as many nothings as there are pieces.
        let mut nothing = [(); usize::MAX];
        self.for_each_chunk_with(data, length, &mut nothing, 1, |index, piece, _| work(index, piece));
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
        debug_assert!(data.len().div_ceil(length) <= scratch.len().div_ceil(scratch_length));
        // More tasks than threads, as they need not take the same time; but no more than that is good for.
        let grain = match self.threads() {
            1 => usize::MAX,
            threads => data.len().div_ceil(length).div_ceil(16 * threads).max(1),
        };
        self.halve(0, grain, (data, length), (scratch, scratch_length), &work);
    }

    /// Halves the pieces, those of `data` having the numbers from `first` on, down to `grain` of them.
    fn halve<T: Send, U: Send>(
        self,
        first: usize,
        grain: usize,
        (data, length): (&mut [T], usize),
        (scratch, scratch_length): (&mut [U], usize),
        work: &(impl Fn(usize, &mut [T], &mut [U]) + Sync),
    ) {
        let pieces = data.len().div_ceil(length);
        if pieces <= grain {
            let pieces = data.chunks_mut(length).zip(scratch.chunks_mut(scratch_length));
            pieces.enumerate().for_each(|(at, (piece, scratch))| work(first + at, piece, scratch));
            return;
        }
        let half = pieces / 2;
        let (data, right_data) = data.split_at_mut(half * length);
        let (scratch, right_scratch) = scratch.split_at_mut(half * scratch_length);
        self.join(
            || self.halve(first, grain, (data, length), (scratch, scratch_length), work),
            || self.halve(first + half, grain, (right_data, length), (right_scratch, scratch_length), work),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_consecutive_and_numbered() {
        let check = |engine: Engine| {
            for (len, length) in [(0, 3), (1, 3), (3, 3), (4, 3), (17, 1), (1000, 1), (1000, 7)] {
                let (mut data, pieces) = (vec![0; len], usize::div_ceil(len, length));
                let mut scratch = vec![0; pieces * 2];
                engine.for_each_chunk_with(&mut data, length, &mut scratch, 2, |index, piece, scratch| {
                    assert_eq!((piece.len(), scratch.len()), (length.min(len - index * length), 2));
                    piece.iter_mut().for_each(|x| *x += index + 1);
                    scratch.iter_mut().for_each(|x| *x += index + 1);
                });
                engine.for_each_chunk(&mut data, length, |_, piece| piece.iter_mut().for_each(|x| *x *= 2));
                let expected: Vec<_> = (0..len).map(|i| 2 * (i / length + 1)).collect();
                assert_eq!(data, expected);
                assert_eq!(scratch, (0..pieces * 2).map(|i| i / 2 + 1).collect::<Vec<_>>());
            }
        };
        check(Engine::new(Backend::scalar()));
        #[cfg(feature = "rayon")]
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| check(Engine::new(Backend::scalar()).parallel()));
        }
    }
}
