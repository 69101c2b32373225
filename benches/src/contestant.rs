//! A contestant: one implementation of a task, which is timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use crate::error::Error;
use crate::row::{Unit, Who};

/// Does the task this many times and returns the time taken.
type Run = Box<dyn FnMut(u64) -> Result<Duration, Error> + Send>;

/// A contestant.
pub struct Contestant {
    /// Its identity.
    pub who: Who,
    /// The unit of `work`.
    pub unit: Unit,
    /// Work of one run.
    pub work: f64,
    pool: Option<Arc<ThreadPool>>,
    run: Run,
}

impl Contestant {
    /// A contestant that runs in `pool`, or else on the calling thread.
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

    /// A contestant that measures the time of each run itself.
    pub(crate) fn timing_itself(
        who: Who,
        unit: Unit,
        work: f64,
        mut run: impl FnMut() -> Result<Duration, Error> + Send + 'static,
    ) -> Self {
        let timed = move |times| (0..times).map(|_| run()).sum();
        Self { who, unit, work, pool: None, run: Box::new(timed) }
    }

    /// Does the task this many times and returns the time taken.
    ///
    /// # Errors
    /// When it fails; its check should have shown this.
    pub fn run(&mut self, times: u64) -> Result<Duration, Error> {
        match &self.pool {
            Some(pool) => pool.install(|| (self.run)(times)),
            None => (self.run)(times),
        }
    }
}
