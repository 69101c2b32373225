//! The workers of a sweep.
//!
//! Cells run in parallel, each on one thread. This is faster than one cell on all threads, because layers are small, and changes
//! no bit. A thread prunes the network that it pretrained, and idle threads help, so that few pretrained networks are in memory
//! at a time. Each cell is stored in the [`Store`] when it is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::ThreadPool;
use rayon::prelude::*;
use slth_kernels::Engine;

use super::cell::{Cell, CellConfig, CellOutcome, CellTiming};
use super::store::Store;
use crate::data::Dataset;
use crate::error::Error;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::run::{Experiment, RunConfig};
use crate::training::Pretrained;

/// The end of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// Cells of this shard.
    pub cells: usize,
    /// Number of these cells that were in the store already.
    pub known: usize,
    /// Number of cells computed by this sweep.
    pub computed: usize,
    /// The names and errors of those that failed, now or before.
    pub failed: Vec<String>,
}

impl SweepSummary {
    /// Whether all cells are in the store: no, if the sweep was stopped.
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
    /// Number of images of its trainings, each counted as often as it is used.
    pub(super) fn work(&self, images: usize) -> usize {
        let pretrained = if self.pretraining.epsilon > 0.0 { self.pretraining.pretrain_epochs } else { 0 };
        let pruned = self.cells.iter().map(|cell| cell.run.pruning_epochs());
        let epochs = pruned.fold(pretrained, usize::saturating_add);
        epochs.saturating_mul(images)
    }
}

/// Where and how cells are computed.
pub(super) struct Workshop<'a> {
    dataset: &'a Dataset,
    engine: Engine<'static>,
    /// Set when the caller wants to stop.
    stop: &'a AtomicBool,
    progress: &'a dyn Progress,
    /// Set when the sweep cannot continue: running cells are abandoned.
    broken: AtomicBool,
    state: Mutex<State>,
    template: CellTiming,
}

struct State {
    store: Store,
    summary: SweepSummary,
    error: Option<Error>,
}

/// Ends the sweep if a cell panics.
struct EndOnPanic<'a>(&'a AtomicBool);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(std::thread::panicking(), Ordering::Relaxed);
    }
}

impl<'a> Workshop<'a> {
    /// For cells that go to `store` and are counted in `summary`, on `engine`, `threads` of them side by side.
    pub(super) fn new(
        dataset: &'a Dataset,
        (engine, threads): (Engine<'static>, usize),
        (store, summary): (Store, SweepSummary),
        stop: &'a AtomicBool,
        progress: &'a dyn Progress,
    ) -> Self {
        let template = CellTiming {
            pretrain_seconds: 0.0,
            prune_seconds: 0.0,
            finished: 0,
            backend: engine.backend().name().to_owned(),
            threads,
            data_name: dataset.name().to_owned(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            machine: Machine::current(),
        };
        let (broken, state) = (AtomicBool::new(false), Mutex::new(State { store, summary, error: None }));
        Self { dataset, engine, stop, progress, broken, state, template }
    }

    /// Computes the cells of `groups` on the threads of `pool`, and counts them. Ends early when the caller wants to stop.
    pub(super) fn compute(self, pool: &ThreadPool, groups: Vec<Group>) -> Result<SweepSummary, Error> {
        pool.install(|| groups.into_par_iter().with_max_len(1).for_each(|group| self.compute_group(group)));
        let State { summary, error, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        error.map_or(Ok(summary), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn experiment<'b>(&'b self, config: &'b RunConfig) -> Result<Experiment<'b>, Error> {
        Experiment::new(config, self.dataset, self.engine)
    }

    fn compute_group(&self, Group { pretraining, cells }: Group) {
        let _guard = EndOnPanic(&self.broken);
        if self.stopped() {
            return;
        }
        match self.experiment(&pretraining).and_then(|experiment| experiment.pretrain(self)) {
            Ok((pretrained, _)) => {
                cells.into_par_iter().with_max_len(1).for_each(|config| self.prune(config, &pretrained));
            }
            Err(error) => cells.into_iter().for_each(|config| self.record_failure(config, &error, 0.0)),
        }
    }

    fn prune(&self, config: CellConfig, pretrained: &Pretrained) {
        let _guard = EndOnPanic(&self.broken);
        if self.stopped() {
            return;
        }
        let experiment = self.experiment(&config.run);
        let seconds = pretrained.timing.seconds;
        match experiment.and_then(|experiment| experiment.prune(pretrained, config.run.sparsity, self)) {
            Ok((layers, outcome)) => {
                let timing = self.timing(seconds, outcome.timing.seconds);
                self.record(&Cell::done(config, &layers, &outcome, timing));
            }
            Err(error) => self.record_failure(config, &error, seconds),
        }
    }

    /// An abandoned cell did not fail.
    fn record_failure(&self, config: CellConfig, error: &Error, pretrain_seconds: f64) {
        if !matches!(error, Error::Stopped) {
            self.record(&Cell::failed(config, error.to_string(), self.timing(pretrain_seconds, 0.0)));
        }
    }

    fn record(&self, cell: &Cell) {
        let mut state = self.lock();
        // Nothing is appended after a line that could not be written.
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = state.store.append(cell) {
            state.error = Some(error.into());
            self.broken.store(true, Ordering::Relaxed);
            return;
        }
        state.summary.computed += 1;
        state.summary.failed.extend(cell.failure());
        let SweepSummary { cells, known, computed, .. } = state.summary;
        drop(state);
        let result = match &cell.outcome {
            CellOutcome::Done(result) => format!("test accuracy {:.2} %", 100.0 * result.test_accuracy),
            CellOutcome::Failed { error } => format!("failed: {error}"),
        };
        self.progress.cell(known + computed, cells, &format_args!("{}: {result}", cell.name()));
    }

    fn timing(&self, pretrain_seconds: f64, prune_seconds: f64) -> CellTiming {
        let finished = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        CellTiming { pretrain_seconds, prune_seconds, finished, ..self.template.clone() }
    }
}

/// Training as a part of the sweep.
impl Progress for Workshop<'_> {
    fn advance(&self, images: usize) {
        self.progress.advance(images);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.broken.load(Ordering::Relaxed)
    }
}
