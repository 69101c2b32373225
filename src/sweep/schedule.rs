//! Algorithm 1 of the paper over a grid: pretrain once per (ε, seed), prune at every sparsity.
//!
//! Cells found in the [`Store`] are not computed again, nor is a network pretrained whose cells are all there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use slth_kernels::Backend;

use super::cell::{Cell, CellConfig};
use super::grid::Grid;
use super::plan::Plan;
use super::shard::Shard;
use super::store::{Store, known_cells};
use super::workshop::{Group, SweepSummary, Workshop};
use crate::data::Dataset;
use crate::error::Error;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::run::{RunConfig, start_pool};

/// A grid, and the configuration that its runs share.
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// use slth::data::Dataset;
/// use slth::run::RunConfig;
/// use slth::sweep::{Grid, Shard, Sweep, read_cells};
/// use slth::progress::NoProgress;
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
    /// The configuration of every cell, except ε, sparsity and seed, whose values here are ignored. `threads` is the number of
    /// cells that run in parallel.
    pub config: RunConfig,
    /// ε, sparsities, seeds.
    pub grid: Grid,
    /// The part to compute. Parts differ in (ε, seed), so that none repeats another's pretraining.
    pub shard: Shard,
    /// Computes failed cells again. Without it they count as known: they would fail again, unless the machine was at fault.
    pub retry_failed: bool,
}

impl Sweep {
    /// Checks everything that can be checked before the work starts.
    ///
    /// # Errors
    /// [`Error::Config`] for invalid fields, by themselves or for `dataset`.
    pub fn check(&self, dataset: &Dataset) -> Result<(), Error> {
        self.grid.validate()?;
        let shared = self.shared();
        for &epsilon in &self.grid.epsilons {
            RunConfig { epsilon, ..shared.clone() }.validate()?;
        }
        for &sparsity in &self.grid.sparsities {
            RunConfig { sparsity, ..self.config.clone() }.validate()?;
        }
        shared.check(dataset)
    }

    /// The configuration with a sparsity that no pattern is at odds with.
    fn shared(&self) -> RunConfig {
        RunConfig { sparsity: 0.0, ..self.config.clone() }
    }

    /// Computes the cells of the shard that the stores in `directory` lack, and appends them to the shard's store there. When
    /// `stop` becomes true the running cells are abandoned, and the summary is not complete.
    ///
    /// # Errors
    /// When the configuration is invalid, the backend or threads are not available, or the store cannot be used. A failing cell
    /// is not an error: it is recorded, and the others continue.
    pub fn run(
        &self,
        dataset: &Dataset,
        directory: &Path,
        stop: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<SweepSummary, Error> {
        self.check(dataset)?;
        let backend = self.config.backend.map_or_else(Backend::detect, Ok)?;
        let plan = Plan {
            grid: self.grid.clone(),
            config: CellConfig::new(&self.config, &self.config.data_hash(dataset)?),
        };
        let store = Store::open(directory, self.shard)?;
        let known = known_cells(directory, &plan.config)?;
        plan.write(directory)?;

        let mut summary = SweepSummary::default();
        let groups = self.missing(&plan, &known, &mut summary);
        let shared = self.shared();
        let images = shared.split(dataset)?.train.len();
        let work = groups.iter().map(|group| group.work(images)).fold(0, usize::saturating_add);
        progress.begin("sweep", work);

        let tasks: usize = groups.iter().map(|group| group.cells.len()).sum();
        let threads = self.config.threads.unwrap_or_else(|| Machine::current().cores).min(tasks).max(1);
        let (engine, pool) = start_pool(Some(backend), Some(threads))?;
        let workshop = Workshop::new(dataset, (engine, threads), (store, summary), stop, progress);
        let summary = workshop.compute(&pool, groups)?;
        progress.end();
        Ok(summary)
    }

    /// The shard's cells that are not among `known`, by the network they start from; counts the others.
    fn missing(&self, plan: &Plan, known: &[Cell], summary: &mut SweepSummary) -> Vec<Group> {
        let known: HashMap<_, _> = known.iter().map(|cell| (&cell.id, cell)).collect();
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
                    summary.failed.extend(cell.failure());
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
