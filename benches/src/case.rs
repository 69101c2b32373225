//! Cases and their contestants.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use crate::aligned::Aligned;
use crate::check::{Expected, ensure};
use crate::error::Error;
use crate::machinery::Machinery;
use crate::row::{Unit, Who};
use crate::task::Task;

/// How much there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scale {
    /// Tiny inputs, to see that everything runs.
    Smoke,
    /// The more important cases.
    Quick,
    /// Everything.
    Full,
}

/// One task with all its contestants, not yet made.
pub struct Case {
    /// The task.
    pub task: Task,
    prepare: Prepare,
}

type Prepare = Box<dyn Fn(&Machinery, &Task) -> Result<Vec<Contestant>, Error>>;

impl Case {
    /// `prepare` makes the inputs and the contestants, and checks each one's result.
    pub fn new(
        task: Task,
        prepare: impl Fn(&Machinery, &Task) -> Result<Vec<Contestant>, Error> + 'static,
    ) -> Self {
        Self { task, prepare: Box::new(prepare) }
    }

    /// The contestants, whose results have been checked.
    ///
    /// # Errors
    /// When a result is wrong.
    pub fn prepare(&self, machinery: &Machinery) -> Result<Vec<Contestant>, Error> {
        (self.prepare)(machinery, &self.task)
    }
}

/// Does the task so many times and tells how long that took.
type Run = Box<dyn FnMut(u64) -> Result<Duration, Error> + Send>;

/// One that does the task.
pub struct Contestant {
    /// Its identity.
    pub who: Who,
    /// What `work` is counted in.
    pub unit: Unit,
    /// Work of one run.
    pub work: f64,
    pool: Option<Arc<ThreadPool>>,
    run: Run,
}

impl Contestant {
    /// One that runs in `pool`, or else on the calling thread.
    pub(crate) fn new(
        who: Who,
        unit: Unit,
        work: f64,
        pool: Option<Arc<ThreadPool>>,
        mut run: impl FnMut() -> Result<(), Error> + Send + 'static,
    ) -> Self {
        let timed = move |times| {
            let start = Instant::now();
            (0..times).try_for_each(|_| run())?;
            Ok(start.elapsed())
        };
        Self { who, unit, work, pool, run: Box::new(timed) }
    }

    /// One that takes the time of each run itself.
    pub(crate) fn timing_itself(
        who: Who,
        unit: Unit,
        work: f64,
        mut run: impl FnMut() -> Result<Duration, Error> + Send + 'static,
    ) -> Self {
        let timed = move |times| (0..times).map(|_| run()).sum();
        Self { who, unit, work, pool: None, run: Box::new(timed) }
    }

    /// Runs it so many times and tells how long that took.
    ///
    /// # Errors
    /// When it fails, which its check would have shown.
    pub fn run(&mut self, times: u64) -> Result<Duration, Error> {
        match &self.pool {
            Some(pool) => pool.install(|| (self.run)(times)),
            None => (self.run)(times),
        }
    }
}

/// The contestants of a task whose result is an array of numbers, each checked when it is added.
pub(crate) struct Products<'a> {
    pub(crate) machinery: &'a Machinery,
    pub(crate) task: &'a Task,
    pub(crate) expected: Expected,
    /// Elements of the result.
    pub(crate) len: usize,
    pub(crate) flops: f64,
    pub(crate) contestants: Vec<Contestant>,
}

impl Products<'_> {
    /// `run` writes the result.
    pub(crate) fn add(
        &mut self,
        who: Who,
        mut run: impl FnMut(&mut [f32]) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let mut out = Aligned::filled(self.len, f32::NAN);
        self.machinery.on(&who, || run(&mut out))?;
        ensure(self.expected.is(&out), self.task, &who)?;
        let contestant = self.machinery.contestant(who, Unit::Flop, self.flops, move || run(&mut out));
        self.contestants.push(contestant);
        Ok(())
    }
}
