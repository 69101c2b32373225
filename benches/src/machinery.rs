//! The backends, threads and cores that contestants run on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use slth_kernels::{Backend, Engine};

use crate::contestant::Contestant;
use crate::error::Error;
use crate::row::{Role, Unit, Who};

/// The backends of this machine and its threads. Each thread is pinned to a separate core if there are enough cores: two threads
/// on one core would look like a slow kernel.
#[derive(Debug)]
pub struct Machinery {
    backends: Vec<Backend>,
    threads: usize,
    /// The thread pool of peers and limits; our kernels use the threads of their engines.
    pool: Arc<ThreadPool>,
}

impl Machinery {
    /// `backend`, or all backends of this machine, and up to `threads` threads; `None` takes all cores. Call this before the
    /// calling thread is [pinned](pin()), because new threads inherit the pinning.
    ///
    /// # Errors
    /// When the threads cannot be started, or `threads` is not between 1 and 1024.
    pub fn new(backend: Option<Backend>, threads: Option<usize>) -> Result<Self, Error> {
        if let Some(threads) = threads.filter(|threads| !(1..=1024).contains(threads)) {
            return Err(Error::flag("threads", format!("must be between 1 and 1024, not {threads}")));
        }
        let backends = backend.map_or_else(Backend::available, |backend| vec![backend]);
        let engine = Engine::new(backends[0]).with_threads(threads.unwrap_or(0));
        let threads = engine.threads();
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.broadcast(|thread| {
            pin_to(|cores| cores.get(thread.index()).copied().filter(|_| threads <= cores.len()))
        });
        pin_helpers(engine);
        Ok(Self { backends, threads, pool: Arc::new(pool) })
    }

    /// The backends, fastest first.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The fastest backend, on one thread.
    pub fn best(&self) -> Engine<'static> {
        Engine::new(self.backends[0])
    }

    /// The numbers of threads to measure: 1, and all if there are more.
    pub fn one_and_all(&self) -> impl Iterator<Item = usize> + use<> {
        [1, self.threads].into_iter().take(if self.threads > 1 { 2 } else { 1 })
    }

    /// Every backend on one thread and on all. The scalar one, unless it is the only one, runs on one thread only, and only if
    /// `scalar` is set: some cases would take minutes.
    pub fn engines(&self, scalar: bool) -> Vec<Engine<'static>> {
        let alone = self.backends.len() == 1;
        let of = |threads| {
            let backends = self
                .backends
                .iter()
                .filter(move |&&backend| backend != Backend::scalar() || alone || (scalar && threads == 1));
            backends.map(move |&backend| Engine::new(backend).with_threads(threads))
        };
        self.one_and_all().flat_map(of).collect()
    }

    /// Runs `work` on the threads of `who`: the calling one or the pool.
    pub fn on<T: Send>(&self, who: &Who, work: impl FnOnce() -> T + Send) -> T {
        if in_pool(who) { self.pool.install(work) } else { work() }
    }

    /// A contestant that does `work` units in each run.
    pub fn contestant(
        &self,
        who: Who,
        unit: Unit,
        work: f64,
        run: impl FnMut() -> Result<(), Error> + Send + 'static,
    ) -> Contestant {
        let pool = in_pool(&who).then(|| self.pool.clone());
        Contestant::new(who, unit, work, pool, run)
    }
}

fn in_pool(who: &Who) -> bool {
    who.threads > 1 && !matches!(who.role, Role::Ours | Role::Part)
}

/// Pins the calling thread, and threads that it starts later, to the last core that it may use: the first core handles interrupts
/// on most machines. Returns the core; `None` if the system cannot pin.
pub fn pin() -> Option<usize> {
    pin_to(|cores| cores.last().copied())
}

/// Lets the calling thread, and threads and programs that it starts later, use any core again.
pub fn unpin() {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut all = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|core| all.set(core));
        // The system takes those of the set that the process may use at all.
        let _ = sched_setaffinity(None, &all);
    }
}

/// Pins the helping threads of `engine` to the first cores, each to a separate one.
fn pin_helpers(engine: Engine) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let (threads, caller) = (engine.threads(), thread::current().id());
    if thread::available_parallelism().map_or(1, usize::from) < threads {
        return;
    }
    let (arrived, helpers) = (AtomicUsize::new(0), AtomicUsize::new(0));
    engine.for_each(0..threads, |_| {
        if thread::current().id() != caller {
            let own = helpers.fetch_add(1, Ordering::Relaxed);
            pin_to(|cores| cores.get(own).copied());
        }
        arrived.fetch_add(1, Ordering::Relaxed);
        // Each thread must take one item; a thread that took two would leave another without. The system may have refused a
        // thread.
        let start = Instant::now();
        while arrived.load(Ordering::Relaxed) < threads && start.elapsed() < PATIENCE {
            thread::yield_now();
        }
    });
}

/// Pins the calling thread to one of the cores it may use.
fn pin_to(choose: impl Fn(&[usize]) -> Option<usize>) -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let allowed = sched_getaffinity(None).ok()?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
        let core = choose(&cores)?;
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only).ok()?;
        Some(core)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = choose;
        None
    }
}
