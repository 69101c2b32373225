//! Cases and their contestants.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};
use slth_kernels::{Backend, Engine, limits};

use super::measurement::{Role, Task, Unit};
use super::pin::pin_to;
use super::{masked_matmul, pipeline, subset_sum, top_k};
use crate::error::Error;
use crate::experiments::start;

/// What there are benchmarks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// Products with masked weights.
    MaskedMatmul,
    /// Exact top-k selection.
    TopK,
    /// Nearest subset sums and coverage.
    SubsetSum,
    /// Training: a step, an epoch, a cell of a sweep.
    Pipeline,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::MaskedMatmul, Self::TopK, Self::SubsetSum, Self::Pipeline];

    /// Whether [`cases`] has this task; scripts for peers may measure others.
    pub fn measures(task: &Task) -> bool {
        cases(task.kernel, Scale::Full).iter().any(|case| case.task == *task)
    }

    /// The name of its command-line value and of its table.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaskedMatmul => "masked-matmul",
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

/// What contestants run on: the backends, and a pool for more than one thread.
#[derive(Debug)]
pub struct Machinery {
    pub(super) backends: Vec<Backend>,
    pub(super) threads: usize,
    pub(super) pool: Arc<ThreadPool>,
}

impl Machinery {
    /// All backends of this machine, and a pool of `threads` threads, by default as many as it has cores. To be made before
    /// the calling thread is [pinned](super::pin()): threads inherit that.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<Self, Error> {
        let (_, pool) = start(None, threads)?;
        let threads = pool.current_num_threads();
        // Each on a core of its own, where there are enough: two on one core would look like a bad kernel.
        pool.broadcast(|thread| {
            pin_to(|cores| cores.get(thread.index()).copied().filter(|_| threads <= cores.len()))
        });
        Ok(Self { backends: Backend::available(), threads, pool: Arc::new(pool) })
    }

    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The fastest backend.
    pub(super) fn best(&self) -> Backend {
        self.backends[0]
    }

    /// Every backend on one thread, then the best one on all threads where there are more.
    pub(super) fn engines(&self) -> Vec<(Engine, usize)> {
        let mut engines: Vec<_> = self.backends.iter().map(|&backend| (Engine::new(backend), 1)).collect();
        if self.threads > 1 {
            engines.push((Engine::new(self.best()).parallel(), self.threads));
        }
        engines
    }

    /// `work` in the pool where `threads` is more than one.
    pub(super) fn on(
        &self,
        threads: usize,
        mut work: impl FnMut() + Send + 'static,
    ) -> impl FnMut() + 'static {
        let pool = (threads > 1).then(|| self.pool.clone());
        move || match &pool {
            Some(pool) => pool.install(&mut work),
            None => work(),
        }
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
    run: Box<dyn FnMut(u64) -> Duration>,
}

impl Contestant {
    /// One thread, nobody's.
    pub(super) fn new(
        who: impl Into<String>,
        role: Role,
        unit: Unit,
        work: f64,
        mut run: impl FnMut() + 'static,
    ) -> Self {
        let timed = move |times| {
            let start = Instant::now();
            for _ in 0..times {
                run();
            }
            start.elapsed()
        };
        Self { who: who.into(), role, backend: None, threads: 1, unit, work, run: Box::new(timed) }
    }

    /// One that takes its own time, of so many runs.
    pub(super) fn timing_itself(self, run: impl FnMut(u64) -> Duration + 'static) -> Self {
        Self { run: Box::new(run), ..self }
    }

    /// The same run, taken for other work.
    pub(super) fn doing(self, who: impl Into<String>, unit: Unit, work: f64) -> Self {
        Self { who: who.into(), unit, work, ..self }
    }

    pub(super) fn on(self, backend: Backend, threads: usize) -> Self {
        Self { backend: Some(backend.name()), threads, ..self }
    }

    pub(super) fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Runs it so many times and tells how long that took.
    pub fn run(&mut self, times: u64) -> Duration {
        (self.run)(times)
    }
}

/// Multiply-adds in registers at the rate the machine has for them; on one thread, and on all where `parallel`.
pub(super) fn fma_peak(machinery: &Machinery, parallel: bool) -> Vec<Contestant> {
    // 0.4 to 2 ms.
    const ROUNDS: u64 = 200_000;
    let engine = Engine::new(machinery.best());
    let flops = limits::fma_peak_work(engine, 1) as f64 * ROUNDS as f64;
    let one = move || {
        limits::fma_peak_work(engine, ROUNDS);
    };
    let new = |threads: usize, run: Box<dyn FnMut()>| {
        Contestant::new("FMA peak", Role::Limit, Unit::Flop, flops * threads as f64, run)
            .on(engine.backend(), threads)
    };
    let mut both = vec![new(1, Box::new(one))];
    if parallel && machinery.threads > 1 {
        let pool = machinery.pool.clone();
        both.push(new(machinery.threads, Box::new(move || drop(pool.broadcast(|_| one())))));
    }
    both
}

/// All cases of a kernel, in the order of the tables.
pub fn cases(kernel: Kernel, scale: Scale) -> Vec<Case> {
    match kernel {
        Kernel::MaskedMatmul => masked_matmul::cases(scale),
        Kernel::TopK => top_k::cases(scale),
        Kernel::SubsetSum => subset_sum::cases(scale),
        Kernel::Pipeline => pipeline::cases(scale),
    }
}
