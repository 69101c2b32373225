//! Algorithm 1 of the paper over a grid: pretrain once per (ε, seed), prune at every sparsity.
//!
//! Cells run side by side, each on one thread: that is faster than one cell on all threads, whose layers are small, and
//! changes no bit. A worker takes the prunings of networks already pretrained before it pretrains another, so that few
//! pretrained networks are held at a time. Each cell goes to the [`Store`] when it is done; cells found there are not
//! computed again, nor is a network pretrained whose cells are all there.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use slth_kernels::{Backend, Engine};

use super::shard::Shard;
use crate::data::Dataset;
use crate::error::Error;
use crate::machine::Machine;
use crate::run::config::{RunConfig, check_threads};
use crate::run::dataset_hash;
use crate::run::experiment::Experiment;
use crate::sweep::{Cell, CellConfig, CellOutcome, CellTiming, Plan, Store, known_cells};
use crate::training::{Pretrained, Progress, PruneMethod, Step};

/// The values a sweep combines. Each list ascends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// ε, in [0, ∞].
    #[serde(with = "crate::run::config::numbers_or_inf")]
    pub epsilons: Vec<f32>,
    /// s, the fraction of weights REMOVED, in [0, 1). 0 is the dense pretrained network.
    pub sparsities: Vec<f64>,
    /// Seeds.
    pub seeds: Vec<u64>,
}

impl Grid {
    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.epsilons.len() * self.sparsities.len() * self.seeds.len()
    }

    /// Checks the lists: not empty, ascending, no value twice. Values are checked by [`RunConfig::validate`].
    ///
    /// # Errors
    /// [`Error::Config`] for the first list that makes no sense.
    ///
    /// ```
    /// use slth::sweep::Grid;
    /// let grid = Grid { epsilons: vec![0.0, 0.1], sparsities: vec![0.5, 0.5], seeds: vec![1] };
    /// assert_eq!(grid.validate().unwrap_err().to_string(), "sparsity: 0.5 is listed twice");
    /// ```
    pub fn validate(&self) -> Result<(), Error> {
        ascending("epsilon", &self.epsilons)?;
        ascending("sparsity", &self.sparsities)?;
        ascending("seeds", &self.seeds)
    }
}

fn ascending<T: PartialOrd + std::fmt::Display>(field: &'static str, list: &[T]) -> Result<(), Error> {
    if list.is_empty() {
        return Err(Error::config(field, "the list is empty"));
    }
    for pair in list.windows(2) {
        if pair[0] == pair[1] {
            return Err(Error::config(field, format!("{} is listed twice", pair[0])));
        }
        if pair[0] > pair[1] {
            return Err(Error::config(field, format!("must ascend, but {} follows {}", pair[1], pair[0])));
        }
    }
    Ok(())
}

/// Watches a sweep. Calls come from all its threads.
pub trait SweepProgress: Sync {
    /// The sweep begins: `known` of `cells` cells are there already, `images` are to be trained on, each counted as
    /// often as it is seen.
    fn begin(&self, cells: usize, known: usize, images: u64) {
        let _ = (cells, known, images);
    }

    /// So many images were trained on.
    fn images(&self, images: u64) {
        let _ = images;
    }

    /// A cell is done, and in the store.
    fn cell(&self, cell: &Cell) {
        let _ = cell;
    }
}

impl SweepProgress for crate::training::NoProgress {}

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

/// A grid and what its runs share.
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// use slth::data::Dataset;
/// use slth::run::RunConfig;
/// use slth::sweep::{Grid, Shard, Sweep};
/// use slth::sweep::read_cells;
/// use slth::training::NoProgress;
///
/// let sweep = Sweep {
///     config: RunConfig {
///         network: "784-10".parse()?, train_images: Some(300), validation: 100, prune_epochs: 1,
///         ..RunConfig::default()
///     },
///     grid: Grid { epsilons: vec![0.0, 0.1], sparsities: vec![0.0, 0.5], seeds: vec![1] },
///     shard: Shard::ALL,
///     retry_failed: false,
/// };
/// let (mnist, directory) = (Dataset::mnist()?, tempfile::tempdir()?);
/// let stop = AtomicBool::new(false);
/// let summary = sweep.run(&mnist, directory.path(), &stop, &NoProgress)?;
/// assert_eq!((summary.known, summary.computed), (0, 4));
/// assert_eq!(read_cells(directory.path())?.len(), 4);
/// let again = sweep.run(&mnist, directory.path(), &stop, &NoProgress)?;
/// assert_eq!((again.known, again.computed), (4, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The configuration of every cell but for ε, sparsity and seed, whose values here are not looked at. `threads` is
    /// how many cells run side by side.
    pub config: RunConfig,
    /// ε, sparsities, seeds.
    pub grid: Grid,
    /// The part to compute. Parts differ in (ε, seed), so that none repeats another's pretraining.
    pub shard: Shard,
    /// Computes cells again that failed. Without it they count as known: they would fail again, unless the machine was
    /// at fault.
    pub retry_failed: bool,
}

/// The cells that share a pretrained network.
struct Group {
    pretraining: RunConfig,
    cells: Vec<CellConfig>,
}

impl Sweep {
    /// Checks everything that can be checked before the work starts.
    ///
    /// # Errors
    /// [`Error::Config`] for what makes no sense, by itself or for `dataset`.
    pub fn check(&self, dataset: &Dataset) -> Result<(), Error> {
        self.grid.validate()?;
        for &epsilon in &self.grid.epsilons {
            RunConfig { epsilon, ..self.config.clone() }.validate()?;
        }
        for &sparsity in &self.grid.sparsities {
            RunConfig { sparsity, ..self.config.clone() }.validate()?;
        }
        self.config.check(dataset)
    }

    /// Computes the cells of the shard that the stores in `directory` lack, and appends them to the shard's store there.
    /// When `stop` becomes true the cells under way are given up, and the summary is not complete.
    ///
    /// # Errors
    /// When the configuration makes no sense, the backend or threads cannot be had, or the store cannot be used. A cell
    /// that fails is no error: it is recorded, and the others go on.
    pub fn run(
        &self,
        dataset: &Dataset,
        directory: &Path,
        stop: &AtomicBool,
        progress: &dyn SweepProgress,
    ) -> Result<SweepSummary, Error> {
        self.check(dataset)?;
        check_threads(self.config.threads)?;
        let backend = self.config.backend.map_or_else(Backend::detect, Ok)?;
        let plan = Plan {
            grid: self.grid.clone(),
            config: CellConfig::new(self.config.clone(), &dataset_hash(dataset)),
        };
        let store = Store::open(directory, self.shard)?;
        let known = known_cells(directory, &plan.config)?;
        plan.write(directory)?;

        let mut summary = SweepSummary::default();
        let groups = self.missing(&plan, &known, &mut summary);
        let split = self.config.split(dataset)?;
        let work = groups.iter().map(|group| group.work(split.train.len())).fold(0, u64::saturating_add);
        progress.begin(summary.cells, summary.known, work);

        let tasks: usize = groups.iter().map(|group| group.cells.len()).sum();
        let threads = self.config.threads.unwrap_or_else(|| Machine::current().cores).min(tasks);
        let workshop = Workshop {
            dataset,
            engine: Engine::new(backend),
            stop,
            broken: AtomicBool::new(false),
            progress,
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
                backend: backend.name().to_owned(),
                threads,
                host: gethostname::gethostname().to_string_lossy().into_owned(),
                machine: Machine::current(),
            },
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let started = std::thread::Builder::new().spawn_scoped(scope, || workshop.work());
                if let Err(error) = started {
                    workshop.fail(Error::Threads { threads, reason: error.to_string() });
                    break;
                }
            }
        });
        let State { summary, error, .. } =
            workshop.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        error.map_or(Ok(summary), Err)
    }

    /// The shard's cells that are not among `known`, by the network they start from; counts the others.
    fn missing(&self, plan: &Plan, known: &[Cell], summary: &mut SweepSummary) -> Vec<Group> {
        let known: std::collections::HashMap<_, _> = known.iter().map(|cell| (&cell.id, cell)).collect();
        let mut groups: Vec<Group> = Vec::new();
        let per_network = self.grid.sparsities.len();
        for (index, config) in plan.cells().enumerate() {
            if !self.shard.takes(index / per_network) {
                continue;
            }
            summary.cells += 1;
            match known.get(&config.id()) {
                Some(cell) if cell.result().is_some() || !self.retry_failed => {
                    summary.known += 1;
                    summary.failed.extend(failure(cell));
                }
                _ => {
                    let pretraining = config.run.pretraining();
                    match groups.last_mut().filter(|group| group.pretraining == pretraining) {
                        Some(group) => group.cells.push(config),
                        None => groups.push(Group { pretraining, cells: vec![config] }),
                    }
                }
            }
        }
        groups
    }
}

impl Group {
    /// How many images it trains on, each counted as often as it is seen.
    fn work(&self, images: usize) -> u64 {
        let pretrained = if self.pretraining.epsilon > 0.0 { self.pretraining.pretrain_epochs } else { 0 };
        let pruned = |CellConfig { run, .. }: &CellConfig| match run.method {
            PruneMethod::EdgePopup | PruneMethod::MagnitudeThenFinetune if run.sparsity > 0.0 => {
                run.prune_epochs
            }
            _ => 0,
        };
        let epochs = self.cells.iter().map(pruned).fold(pretrained, usize::saturating_add);
        (epochs as u64).saturating_mul(images as u64)
    }
}

fn failure(cell: &Cell) -> Option<String> {
    match &cell.outcome {
        CellOutcome::Failed { error } => Some(format!("{}: {error}", cell.name())),
        CellOutcome::Done(_) => None,
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

/// What the workers share.
struct Workshop<'a> {
    dataset: &'a Dataset,
    engine: Engine<'static>,
    stop: &'a AtomicBool,
    /// Set when the sweep cannot go on.
    broken: AtomicBool,
    progress: &'a dyn SweepProgress,
    state: Mutex<State>,
    changed: Condvar,
    template: CellTiming,
}

impl Workshop<'_> {
    fn work(&self) {
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
        self.stop.load(Ordering::Relaxed) || self.broken.load(Ordering::Relaxed)
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
        let pretrained = Experiment::new(&pretraining, self.dataset, self.engine)
            .and_then(|experiment| experiment.pretrain(&mut self.watch()));
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
        let pruned = Experiment::new(&config.run, self.dataset, self.engine)
            .and_then(|experiment| experiment.prune(pretrained, config.run.sparsity, &mut self.watch()));
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

    fn record(&self, cell: Cell) {
        let appended = {
            let mut state = self.lock();
            // Not after a line that could not be written.
            if self.broken.load(Ordering::Relaxed) {
                return;
            }
            let appended = state.store.append(&cell);
            if appended.is_ok() {
                state.summary.computed += 1;
                state.summary.failed.extend(failure(&cell));
            }
            appended
        };
        match appended {
            Ok(()) => self.progress.cell(&cell),
            Err(error) => self.fail(error.into()),
        }
    }

    /// Ends the sweep with `error`.
    fn fail(&self, error: Error) {
        self.broken.store(true, Ordering::Relaxed);
        self.lock().error.get_or_insert(error);
        self.changed.notify_all();
    }

    fn watch(&self) -> Watch<'_> {
        Watch { workshop: self }
    }

    fn timing(&self, pretrain_seconds: f64, prune_seconds: f64) -> CellTiming {
        let finished = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        CellTiming { pretrain_seconds, prune_seconds, finished, ..self.template.clone() }
    }
}

/// A worker's training, seen by the sweep.
struct Watch<'a> {
    workshop: &'a Workshop<'a>,
}

impl Progress for Watch<'_> {
    fn step(&mut self, step: &Step) {
        self.workshop.progress.images(step.images as u64);
    }

    fn stopped(&self) -> bool {
        self.workshop.is_stopped()
    }
}
