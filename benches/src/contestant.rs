//! What does a task, and is timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use crate::error::Error;
use crate::row::{Unit, Who};

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
