//! Cases: a task with the code that prepares its contestants.

use crate::aligned::Aligned;
use crate::check::{Expected, ensure};
use crate::contestant::Contestant;
use crate::error::Error;
use crate::machinery::Machinery;
use crate::row::{Unit, Who};
use crate::task::Task;

/// Which cases are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scale {
    /// Tiny inputs, to test that everything runs.
    Smoke,
    /// The more important cases.
    Quick,
    /// All cases.
    Full,
}

/// One task, and how to prepare its contestants.
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

    /// Prepares the contestants and checks their results.
    ///
    /// # Errors
    /// When a result is wrong.
    pub fn prepare(&self, machinery: &Machinery) -> Result<Vec<Contestant>, Error> {
        (self.prepare)(machinery, &self.task)
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
    /// Adds a contestant. `run` writes the result, which is checked first.
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
