//! Where kernels run: an instruction set, on the calling thread or on several.

use std::sync::{Mutex, PoisonError};

use crate::arch::float_env;
#[cfg(feature = "rayon")]
use crate::arch::lend::lend;
use crate::backend::Backend;
use crate::error::KernelError;
use crate::team::{self, Team};

/// The first argument of every kernel: its [`Backend`] and its threads.
///
/// Neither changes a bit of any result. An engine has its own threads ([`with_threads`](Self::with_threads)) or borrows those of
/// a rayon pool ([`on_pool`](Self::on_pool)). It never uses the pool that a call happens to be made from. The calling thread
/// always takes part, and does not wait for threads that have not begun: a call ends even if all other threads are busy or
/// blocked. Work that is too small for a second thread stays on the calling one.
///
/// ```
/// use slth_kernels::{Backend, Engine};
/// let engine = Engine::serial();                       // the best instruction set, the calling thread
/// let everywhere = engine.with_threads(0);             // as many threads as the machine has cores
/// let portable = Engine::new(Backend::scalar());
/// assert_eq!(portable.threads(), 1);
/// # let _ = everywhere;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Engine<'pool> {
    backend: Backend,
    threads: usize,
    helpers: Helpers<'pool>,
    /// Work of at least this many clock cycles is shared.
    least_shared: usize,
}

/// The threads that work beside the calling one.
#[derive(Clone, Copy, Debug)]
enum Helpers<'pool> {
    None,
    Team(&'static Team),
    #[cfg(feature = "rayon")]
    Pool {
        pool: &'pool rayon::ThreadPool,
        /// The process that has the pool's threads.
        process: u32,
    },
    #[cfg(not(feature = "rayon"))]
    #[expect(dead_code, reason = "without rayon nothing has the lifetime")]
    Nobody(core::marker::PhantomData<&'pool ()>),
}

impl Engine<'static> {
    /// Runs on [`Backend::best`], on the calling thread.
    pub fn serial() -> Self {
        Self::new(Backend::best())
    }

    /// Runs on `backend`, on the calling thread.
    pub fn new(backend: Backend) -> Self {
        Self { backend, threads: 1, helpers: Helpers::None, least_shared: LEAST_SHARED }
    }

    /// Runs on [`Backend::detect`], on the calling thread.
    ///
    /// # Errors
    /// When the environment names a backend this machine does not have.
    pub fn detect() -> Result<Self, KernelError> {
        Backend::detect().map(Self::new)
    }
}

impl<'pool> Engine<'pool> {
    /// The same backend on up to `threads` threads: the calling one and threads of this crate. All engines of as many threads
    /// share them; making the first of these engines starts them. 0 means one thread for each core that the process may use. No engine has
    /// more, because further threads would only take turns.
    ///
    /// If the system refuses a thread, the others do its work. A forked child process starts its own threads.
    ///
    /// ```
    /// use slth_kernels::Engine;
    /// assert!(Engine::serial().with_threads(2).threads() <= 2);
    /// ```
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Engine<'static> {
        let threads = if threads == 0 { team::cores() } else { threads.min(team::most_threads()) };
        let helpers = if threads == 1 { Helpers::None } else { Helpers::Team(Team::of(threads)) };
        Engine { backend: self.backend, threads, helpers, least_shared: self.least_shared }
    }

    /// The same backend on the calling thread and the threads of `pool`: at most as many as the pool has, the calling one included, whether
    /// it is one of the pool's or not. Other work of the pool delays no call; its threads help when they are free.
    ///
    /// In a child process that was forked after this call the pool has no threads, and calls run on the calling one. Do not make
    /// an engine on such a pool in the child: its calls finish, but leave jobs in the pool that are never run.
    ///
    /// ```
    /// use slth_kernels::Engine;
    /// let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    /// assert_eq!(Engine::serial().on_pool(&pool).threads(), 2);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[cfg(feature = "rayon")]
    #[must_use]
    pub fn on_pool<'other>(self, pool: &'other rayon::ThreadPool) -> Engine<'other> {
        let helpers = Helpers::Pool { pool, process: std::process::id() };
        Engine {
            backend: self.backend,
            threads: pool.current_num_threads(),
            helpers,
            least_shared: self.least_shared,
        }
    }

    /// The same engine, which shares work of at least `cycles` clock cycles of one core, by a rough estimate; 0 shares all work
    /// that can be divided. Smaller work stays on the calling thread, because waking another one takes as long. The default of
    /// 100,000 suits kernels that follow one another.
    ///
    /// ```
    /// use slth_kernels::Engine;
    /// let impatient = Engine::serial().with_threads(2).share_from(20_000);
    /// # let _ = impatient;
    /// ```
    #[must_use]
    pub fn share_from(self, cycles: usize) -> Self {
        Self { least_shared: cycles, ..self }
    }

    /// The backend.
    pub fn backend(self) -> Backend {
        self.backend
    }

    /// How many threads a call may use.
    pub fn threads(self) -> usize {
        self.threads
    }

    /// This engine, or its calling thread alone if `work`, in clock cycles of one core, is too little to share.
    pub(crate) fn for_work(self, cycles: usize) -> Self {
        if cycles < self.least_shared { Self { threads: 1, helpers: Helpers::None, ..self } } else { self }
    }

    /// Calls `work` once for each item, in any order and on any of the engine's threads.
    ///
    /// The items are parts of the result, for example chunks of slices. All kernels split their work this way.
    ///
    /// ```
    /// use slth_kernels::Engine;
    /// let mut squares = [0; 100];
    /// let chunks = squares.chunks_mut(30).zip((0..).step_by(30));
    /// Engine::serial().with_threads(2).for_each(chunks, |(chunk, first)| {
    ///     chunk.iter_mut().zip(first..).for_each(|(x, i)| *x = i * i);
    /// });
    /// assert_eq!(squares[99], 99 * 99);
    /// ```
    ///
    /// # Panics
    /// When `work` panics, on any thread; the panic continues in the calling one.
    pub fn for_each<T: Send>(self, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        if self.threads == 1 {
            return float_env::with_default(|| items.for_each(work));
        }
        let (_, most) = items.size_hint();
        let others = (self.threads - 1).min(most.unwrap_or(usize::MAX).saturating_sub(1));
        if others == 0 {
            return float_env::with_default(|| items.for_each(work));
        }
        let items = Mutex::new(items);
        let take_all = || {
            // A new thread inherits its creator's floating-point environment, and a pool's threads have whatever their owner set.
            float_env::with_default(|| {
                loop {
                    // A panic in the iterator poisons the lock; the other threads go on with the items that are left.
                    let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(item) = next else { break };
                    work(item);
                }
            });
        };
        match self.helpers {
            Helpers::Team(team) => team.help(others, &take_all),
            #[cfg(feature = "rayon")]
            Helpers::Pool { pool, process } if process == std::process::id() => {
                lend(&take_all, |invitation| {
                    for _ in 0..others {
                        let invitation = invitation.clone();
                        pool.spawn(move || invitation.accept());
                    }
                });
            }
            _ => take_all(),
        }
    }

    /// Calls `work(index, chunk)` for consecutive chunks of `length` elements; the last may be shorter.
    pub(crate) fn for_each_chunk<T: Send>(
        self,
        data: &mut [T],
        length: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        self.for_each(data.chunks_mut(length).enumerate(), |(index, chunk)| work(index, chunk));
    }
}

/// Default of [`Engine::share_from`], in clock cycles; see docs/tuning.md, "Threads".
const LEAST_SHARED: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_taken_once() {
        let check = |engine: Engine| {
            for (len, length) in [(0, 3), (1, 3), (3, 3), (4, 3), (17, 1), (1000, 1), (1000, 7)] {
                let mut data = vec![0; len];
                engine.for_each_chunk(&mut data, length, |index, chunk| {
                    assert_eq!(chunk.len(), length.min(len - index * length));
                    chunk.iter_mut().for_each(|x| *x += index + 1);
                });
                assert_eq!(data, (0..len).map(|i| i / length + 1).collect::<Vec<_>>());
            }
        };
        let serial = Engine::new(Backend::scalar());
        for threads in [1, 2, 3, 7] {
            check(serial.with_threads(threads));
        }
        #[cfg(feature = "rayon")]
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            check(serial.on_pool(&pool));
            pool.install(|| check(serial.on_pool(&pool)));
        }
    }

    #[test]
    fn panics_reach_the_caller() {
        for threads in [1, 2, 3] {
            let engine = Engine::new(Backend::scalar()).with_threads(threads);
            let fails = || engine.for_each(0..100, |i| assert_ne!(i, 50, "on purpose"));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(fails)).is_err());
            engine.for_each(0..100, |_| ());
        }
    }

    #[test]
    fn little_work_stays_on_the_calling_thread() {
        let engine = Engine::serial().with_threads(3);
        assert_eq!(engine.for_work(LEAST_SHARED - 1).threads(), 1);
        assert_eq!(engine.for_work(LEAST_SHARED).threads(), 3);
        assert_eq!(engine.share_from(5).for_work(4).threads(), 1);
        assert_eq!(engine.share_from(5).for_work(5).threads(), 3);
    }
}
