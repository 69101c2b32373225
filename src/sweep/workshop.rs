//! The workers of a sweep.
//!
//! Cells run side by side, each on one thread: that is faster than one cell on all threads, whose layers are small, and
//! changes no bit. A worker takes the prunings of networks already pretrained before it pretrains another, so that few
//! pretrained networks are held at a time. Each cell goes to the [`Store`] when it is done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use slth_kernels::Engine;

use super::cell::{Cell, CellConfig, CellOutcome, CellTiming};
use super::store::Store;
use crate::data::Dataset;
use crate::error::Error;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::run::{Experiment, RunConfig};
use crate::training::Pretrained;

/// How a sweep ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// Cells of this shard.
    pub cells: usize,
    /// How many of them were in the store before.
    pub known: usize,
    /// How many were computed now.
    pub computed: usize,
    /// The names and errors of those that failed, now or before.
    pub failed: Vec<String>,
}

impl SweepSummary {
    /// Whether all cells are in the store. They are not when the sweep was stopped.
    pub fn is_complete(&self) -> bool {
        self.known + self.computed == self.cells
    }
}

/// The cells that share a pretrained network.
pub(super) struct Group {
    pub(super) pretraining: RunConfig,
    pub(super) cells: Vec<CellConfig>,
}

impl Group {
    /// How many images it trains on, each counted as often as it is seen.
    pub(super) fn work(&self, images: usize) -> usize {
        let pretrained = if self.pretraining.epsilon > 0.0 { self.pretraining.pretrain_epochs } else { 0 };
        let pruned = |CellConfig { run, .. }: &CellConfig| {
            if run.sparsity == 0.0 || run.method.ignores("prune_epochs") { 0 } else { run.prune_epochs }
        };
        let epochs = self.cells.iter().map(pruned).fold(pretrained, usize::saturating_add);
        epochs.saturating_mul(images)
    }
}

/// Where and how cells are computed.
pub(super) struct Workshop<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) engine: Engine<'static>,
    pub(super) threads: usize,
    pub(super) stop: &'a AtomicBool,
    pub(super) progress: &'a dyn Progress,
}

impl Workshop<'_> {
    /// Computes the cells of `groups` into `store`, and counts them in `summary`. When `stop` becomes true it ends early.
    pub(super) fn compute(
        &self,
        store: Store,
        groups: Vec<Group>,
        summary: SweepSummary,
    ) -> Result<SweepSummary, Error> {
        let threads = self.threads;
        let crew = Crew {
            workshop: self,
            broken: AtomicBool::new(false),
            state: Mutex::new(State {
                store,
                queue: groups.into_iter().map(Task::Pretrain).collect(),
                pretraining: 0,
                summary,
                error: None,
            }),
            changed: Condvar::new(),
            template: CellTiming {
                pretrain_seconds: 0.0,
                prune_seconds: 0.0,
                finished: 0,
                backend: self.engine.backend().name().to_owned(),
                threads,
                host: gethostname::gethostname().to_string_lossy().into_owned(),
                machine: Machine::current(),
            },
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let started = std::thread::Builder::new().spawn_scoped(scope, || crew.work());
                if let Err(error) = started {
                    crew.fail(Error::Threads { threads, reason: error.to_string() });
                    break;
                }
            }
        });
        let State { summary, error, .. } = crew.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        error.map_or(Ok(summary), Err)
    }
}

enum Task {
    Pretrain(Group),
    Prune(CellConfig, Arc<Pretrained>),
}

struct State {
    store: Store,
    queue: VecDeque<Task>,
    /// Workers that pretrain, and will put prunings into the queue.
    pretraining: usize,
    summary: SweepSummary,
    error: Option<Error>,
}

/// The workers, and what they share.
struct Crew<'a> {
    workshop: &'a Workshop<'a>,
    /// Set when the sweep cannot go on.
    broken: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    template: CellTiming,
}

/// Ends the sweep if its worker panics, so that no other waits for what that one would have brought.
struct EndOnPanic<'a>(&'a Crew<'a>);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}

impl Crew<'_> {
    fn work(&self) {
        let _guard = EndOnPanic(self);
        while let Some(task) = self.next() {
            match task {
                Task::Pretrain(group) => self.pretrain(group),
                Task::Prune(config, pretrained) => self.prune(config, &pretrained),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.workshop.stop.load(Ordering::Relaxed) || self.broken.load(Ordering::Relaxed)
    }

    /// The next task; waits while others may bring some. `None` when there is nothing left to do.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(task) = state.queue.pop_front() {
                state.pretraining += usize::from(matches!(task, Task::Pretrain(_)));
                return Some(task);
            }
            if state.pretraining == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pretrain(&self, Group { pretraining, cells }: Group) {
        let pretrained =
            self.experiment(&pretraining).and_then(|experiment| experiment.pretrain(&Training(self)));
        match pretrained {
            Ok((pretrained, _)) => {
                let pretrained = Arc::new(pretrained);
                let mut state = self.lock();
                for config in cells.into_iter().rev() {
                    state.queue.push_front(Task::Prune(config, Arc::clone(&pretrained)));
                }
            }
            Err(Error::Stopped) => {}
            Err(error) => {
                let reason = error.to_string();
                for config in cells {
                    self.record(Cell::failed(config, reason.clone(), self.timing(0.0, 0.0)));
                }
            }
        }
        self.lock().pretraining -= 1;
        self.changed.notify_all();
    }

    fn prune(&self, config: CellConfig, pretrained: &Pretrained) {
        let pruned = self
            .experiment(&config.run)
            .and_then(|experiment| experiment.prune(pretrained, config.run.sparsity, &Training(self)));
        let seconds = pretrained.timing.seconds;
        match pruned {
            Ok((layers, outcome)) => {
                self.record(Cell::done(
                    config,
                    &layers,
                    &outcome,
                    self.timing(seconds, outcome.timing.seconds),
                ));
            }
            Err(Error::Stopped) => {}
            Err(error) => self.record(Cell::failed(config, error.to_string(), self.timing(seconds, 0.0))),
        }
    }

    fn experiment<'b>(&'b self, config: &'b RunConfig) -> Result<Experiment<'b>, Error> {
        Experiment::new(config, self.workshop.dataset, self.workshop.engine)
    }

    fn record(&self, cell: Cell) {
        let mut state = self.lock();
        // Not after a line that could not be written.
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = state.store.append(&cell) {
            drop(state);
            return self.fail(error.into());
        }
        state.summary.computed += 1;
        state.summary.failed.extend(cell.failure());
        let SweepSummary { cells, known, computed, .. } = state.summary;
        drop(state);
        let result = match &cell.outcome {
            CellOutcome::Done(result) => format!("test accuracy {:.2} %", 100.0 * result.test_accuracy),
            CellOutcome::Failed { error } => format!("failed: {error}"),
        };
        self.workshop.progress.cell(known + computed, cells, &format_args!("{}: {result}", cell.name()));
    }

    /// Ends the sweep with `error`.
    fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(error);
        self.end();
    }

    /// Ends the sweep.
    fn end(&self) {
        self.broken.store(true, Ordering::Relaxed);
        // A worker that found nothing broken holds the lock until it waits: after this it hears the call.
        drop(self.lock());
        self.changed.notify_all();
    }

    fn timing(&self, pretrain_seconds: f64, prune_seconds: f64) -> CellTiming {
        let finished = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        CellTiming { pretrain_seconds, prune_seconds, finished, ..self.template.clone() }
    }
}

/// A worker's training, as a part of the sweep.
struct Training<'a>(&'a Crew<'a>);

impl Progress for Training<'_> {
    fn advance(&self, images: usize) {
        self.0.workshop.progress.advance(images);
    }

    fn stopped(&self) -> bool {
        self.0.is_stopped()
    }
}
