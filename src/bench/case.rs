//! Cases and their contestants.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};
use slth_kernels::{Backend, Engine, roofline};

use super::aligned::Aligned;
use super::measurement::{Role, Task, Unit};
use super::pin::{pin_helpers, pin_to};
use super::{conv2d, masked_matmul, pipeline, subset_sum, top_k};
use crate::error::Error;
use crate::run::{start, start_pool};

/// What there are benchmarks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// Products with masked weights.
    MaskedMatmul,
    /// Convolutions with masked weights.
    Conv2d,
    /// Exact top-k selection.
    TopK,
    /// Nearest subset sums and coverage.
    SubsetSum,
    /// Training: a step, an epoch, a cell of a sweep.
    Pipeline,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::MaskedMatmul, Self::Conv2d, Self::TopK, Self::SubsetSum, Self::Pipeline];

    /// The name of its command-line value and of its table.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaskedMatmul => "masked-matmul",
            Self::Conv2d => "conv2d",
            Self::TopK => "top-k",
            Self::SubsetSum => "subset-sum",
            Self::Pipeline => "pipeline",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|k| k.name() == text).ok_or_else(|| format!("must be one of {}", known()))
    }
}

/// How much there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scale {
    /// Tiny inputs, to see that everything runs.
    Smoke,
    /// What one wants to know first.
    Quick,
    /// Everything.
    Full,
}

/// What contestants run on: the backends, and threads.
#[derive(Debug)]
pub struct Machinery {
    pub(super) backends: Vec<Backend>,
    pub(super) threads: usize,
    /// For those of others; ours have the threads of their engines.
    pool: Arc<ThreadPool>,
}

impl Machinery {
    /// All backends of this machine, and up to `threads` threads, by default as many as it has cores, which is the most. To be made before the calling
    /// thread is [pinned](super::pin()): threads inherit that.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<Self, Error> {
        let engine = start(None, threads)?;
        let threads = engine.threads();
        let (_, pool) = start_pool(None, Some(threads))?;
        // Each on a core of its own, where there are enough: two on one core would look like a bad kernel.
        pool.broadcast(|thread| {
            pin_to(|cores| cores.get(thread.index()).copied().filter(|_| threads <= cores.len()))
        });
        pin_helpers(engine);
        Ok(Self { backends: Backend::available(), threads, pool: Arc::new(pool) })
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The fastest backend.
    pub(super) fn best(&self) -> Backend {
        self.backends[0]
    }

    /// The numbers of threads to measure: 1, and all where there are more.
    pub(super) fn one_and_all(&self) -> impl Iterator<Item = usize> + use<> {
        [1, self.threads].into_iter().take(if self.threads > 1 { 2 } else { 1 })
    }

    /// Every backend on one thread and on all; the scalar one not on all, as it is there for nothing but to work anywhere.
    pub(super) fn engines(&self) -> Vec<(Engine<'static>, usize)> {
        let of = |threads| {
            let backends = self.backends.iter().map(|&backend| Engine::new(backend));
            let used = backends.filter(move |engine| threads == 1 || engine.backend() != Backend::scalar());
            used.map(move |engine| (engine.with_threads(threads), threads))
        };
        self.one_and_all().flat_map(of).collect()
    }

    /// Does `work` where one of this role does something on so many threads: on the calling thread, or in the pool.
    pub(super) fn on<T: Send>(&self, role: Role, threads: usize, work: impl FnOnce() -> T + Send) -> T {
        if threads > 1 && role != Role::Ours { self.pool.install(work) } else { work() }
    }
}

/// One task with all its contestants, not yet made.
pub struct Case {
    /// The task.
    pub task: Task,
    prepare: Prepare,
}

type Prepare = Box<dyn Fn(&Machinery, &Task) -> Result<Vec<Contestant>, Error>>;

impl Case {
    pub(super) fn new(
        task: Task,
        prepare: impl Fn(&Machinery, &Task) -> Result<Vec<Contestant>, Error> + 'static,
    ) -> Self {
        Self { task, prepare: Box::new(prepare) }
    }

    /// Makes the inputs and the contestants, and checks each one's result.
    ///
    /// # Errors
    /// When a result is wrong.
    pub fn prepare(&self, machinery: &Machinery) -> Result<Vec<Contestant>, Error> {
        (self.prepare)(machinery, &self.task)
    }
}

/// One that does the task.
pub struct Contestant {
    /// As in [`Measurement`](super::Measurement).
    pub who: String,
    /// Ours, a peer or a limit.
    pub role: Role,
    /// The instruction set, where it was chosen by us.
    pub backend: Option<&'static str>,
    /// Threads.
    pub threads: usize,
    /// What `work` is counted in.
    pub unit: Unit,
    /// Work of one run.
    pub work: f64,
    pool: Option<Arc<ThreadPool>>,
    run: Box<dyn FnMut(u64) -> Duration + Send>,
}

impl Contestant {
    /// One thread, nobody's.
    pub(super) fn new(
        who: impl Into<String>,
        role: Role,
        unit: Unit,
        work: f64,
        mut run: impl FnMut() + Send + 'static,
    ) -> Self {
        Self::timing_itself(who, role, unit, work, move |times| {
            let start = Instant::now();
            for _ in 0..times {
                run();
            }
            start.elapsed()
        })
    }

    /// One that takes its own time, of so many runs.
    pub(super) fn timing_itself(
        who: impl Into<String>,
        role: Role,
        unit: Unit,
        work: f64,
        run: impl FnMut(u64) -> Duration + Send + 'static,
    ) -> Self {
        Self { who: who.into(), role, backend: None, threads: 1, unit, work, pool: None, run: Box::new(run) }
    }

    /// The same run, taken for other work.
    pub(super) fn doing(self, who: impl Into<String>, unit: Unit, work: f64) -> Self {
        Self { who: who.into(), unit, work, ..self }
    }

    pub(super) fn on(self, backend: Backend) -> Self {
        Self { backend: Some(backend.name()), ..self }
    }

    /// On so many threads: those of its engine where it is ours, or else those of the pool.
    pub(super) fn with_threads(self, machinery: &Machinery, threads: usize) -> Self {
        let pool = (threads > 1 && self.role != Role::Ours).then(|| machinery.pool.clone());
        Self { threads, pool, ..self }
    }

    /// Runs it so many times and tells how long that took.
    pub fn run(&mut self, times: u64) -> Duration {
        match &self.pool {
            Some(pool) => pool.install(|| (self.run)(times)),
            None => (self.run)(times),
        }
    }
}

/// The limit `who` on one thread, and on all; `run` is told which of how many it is, `work` is that of all together.
fn limit(
    machinery: &Machinery,
    who: &str,
    unit: Unit,
    work: f64,
    run: impl Fn(usize, usize) + Clone + Send + Sync + 'static,
) -> Vec<Contestant> {
    let contestant = |threads: usize| {
        let run = run.clone();
        let on_all = move || match threads {
            1 => run(0, 1),
            _ => drop(rayon::broadcast(|thread| run(thread.index(), threads))),
        };
        let limit = Contestant::new(who, Role::Limit, unit, work, on_all).on(machinery.best());
        limit.with_threads(machinery, threads)
    };
    machinery.one_and_all().map(contestant).collect()
}

/// Multiply-adds in registers at the rate the machine has for them; on one thread, and on all.
pub(super) fn fma_peak(machinery: &Machinery) -> Vec<Contestant> {
    // 0.4 to 2 ms.
    const ROUNDS: u64 = 200_000;
    let engine = Engine::new(machinery.best());
    let flops = roofline::fma_peak(engine, 1) as f64 * ROUNDS as f64;
    let run = move |_, _| {
        roofline::fma_peak(engine, ROUNDS);
    };
    let both = limit(machinery, "FMA peak", Unit::Flop, flops, run);
    let of_all = |peak: Contestant| Contestant { work: flops * peak.threads as f64, ..peak };
    both.into_iter().map(of_all).collect()
}

/// One pass over `data` that does next to nothing; by one thread, and by all, each having its part.
pub(super) fn read(machinery: &Machinery, data: &Arc<Aligned>, unit: Unit, work: f64) -> Vec<Contestant> {
    let (engine, data) = (Engine::new(machinery.best()), data.clone());
    limit(machinery, "read", unit, work, move |thread, threads| {
        let part = data.len() * thread / threads..data.len() * (thread + 1) / threads;
        black_box(roofline::read(engine, black_box(&data[part])));
    })
}

/// All cases of a kernel, in the order of the tables.
pub fn cases(kernel: Kernel, scale: Scale) -> Vec<Case> {
    match kernel {
        Kernel::MaskedMatmul => masked_matmul::cases(scale),
        Kernel::Conv2d => conv2d::cases(scale),
        Kernel::TopK => top_k::cases(scale),
        Kernel::SubsetSum => subset_sum::cases(scale),
        Kernel::Pipeline => pipeline::cases(scale),
    }
}
