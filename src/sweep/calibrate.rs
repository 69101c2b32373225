//! Measures how near settings come to the published table: many ways of pruning, tried on the same pretrained networks.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use slth_kernels::Engine;

use super::error::StoreError;
use super::grid::Grid;
use super::lines::{LineFile, parse_lines, whole_lines};
use super::study::{SeedOutcome, Study, key};
use crate::data::Dataset;
use crate::error::Error;
use crate::progress::NoProgress;
use crate::run::{
    BITS_REVISION, DenseOutcome, Experiment, PrunedOutcome, RunConfig, dataset_hash, start_pool,
};
use crate::training::{Evaluation, Pretrained};

/// The values that pruning is tried with, in every combination.
#[derive(Clone, Debug, PartialEq)]
pub struct Prunings {
    /// Epochs of edge-popup.
    pub epochs: Vec<usize>,
    /// Its learning rates.
    pub learning_rates: Vec<f32>,
    /// Its momenta.
    pub momenta: Vec<f32>,
    /// Its weight decays.
    pub weight_decays: Vec<f32>,
}

impl Prunings {
    /// `config` with each combination; ε, sparsity and seed are ignored.
    pub fn settings(&self, config: &RunConfig) -> Vec<RunConfig> {
        let mut settings = Vec::new();
        for (&prune_epochs, &prune_lr) in pairs(&self.epochs, &self.learning_rates) {
            for (&momentum, &weight_decay) in pairs(&self.momenta, &self.weight_decays) {
                settings.push(RunConfig { prune_epochs, prune_lr, momentum, weight_decay, ..config.clone() });
            }
        }
        settings
    }
}

/// Every combination.
fn pairs<'a, A, B>(a: &'a [A], b: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    a.iter().flat_map(move |a| b.iter().map(move |b| (a, b)))
}

/// A tried setting: a line of the calibration's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The setting; its ε, sparsity and seed are ignored.
    pub config: RunConfig,
    /// The [`BITS_REVISION`] of the version that tried it.
    pub bits_revision: u32,
    /// The [`dataset_hash`] of the data.
    pub data: String,
    /// Where it was tried.
    pub grid: Grid,
    /// The distance to minimise: the mean absolute difference plus (1 − rank correlation) / 10.
    pub distance: f64,
    /// Mean absolute difference between the test accuracies and the published ones, over the grid.
    pub mean_absolute_difference: f64,
    /// Spearman's rank correlation with the published accuracies; 0 if all accuracies are equal.
    pub rank_correlation: f64,
    /// Which of the paper's findings hold, (a) to (e).
    pub findings: Vec<Option<bool>>,
    /// Mean test accuracies over the seeds, a row for each sparsity, a column for each ε. A network that diverged counts as
    /// chance.
    pub accuracies: Vec<Vec<f64>>,
}

/// The log of a calibration: a file of trials, one JSON object a line, as safe as a [store](super::Store).
#[derive(Debug)]
pub struct TrialLog {
    file: LineFile,
    trials: Vec<Trial>,
}

impl TrialLog {
    /// Opens `path`, or creates it, reads it and removes an incomplete last line, which a kill can leave.
    ///
    /// # Errors
    /// When it cannot be written to, is locked by another process, or has lines that are not trials.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        const BEGIN: &[u8] = b"{\"config\":";
        let (mut file, text) = LineFile::open(path)?;
        let whole = whole_lines(&text);
        let torn = &text[whole.len()..];
        let parse = |line: &[u8]| serde_json::from_slice(line).map_err(|error| error.to_string());
        let trials = parse_lines(path, whole, parse)?;
        if !torn.starts_with(BEGIN) && !BEGIN.starts_with(torn) {
            let problem = "not a line of slth calibrate".to_owned();
            return Err(StoreError::Line { file: path.to_owned(), line: trials.len() + 1, problem });
        }
        file.mend()?;
        Ok(Self { file, trials })
    }

    /// Whether `config` was tried over `grid` on the data of hash `data`, by a version that gives the same bits.
    pub fn holds(&self, config: &RunConfig, grid: &Grid, data: &str) -> bool {
        // As JSON, which omits fields that change no result.
        let json = |config| serde_json::to_value(config).ok();
        self.trials.iter().any(|trial| {
            trial.bits_revision == BITS_REVISION
                && trial.data == data
                && trial.grid == *grid
                && json(&trial.config) == json(config)
        })
    }

    /// Appends `trial`; when this returns it is on the disk.
    ///
    /// # Errors
    /// When the system refuses; the file is then as it was.
    pub fn append(&mut self, trial: Trial) -> Result<(), StoreError> {
        self.file
            .append(&(serde_json::to_string(&trial).expect("no map with keys other than strings") + "\n"))?;
        self.trials.push(trial);
        Ok(())
    }
}

/// Pretrains once per ε and seed, prunes under each of `settings` over `grid`, and hands each trial to `done`. Cells are computed
/// in parallel, on a pool of the first setting's `threads`, which also calls `done`.
///
/// # Errors
/// When a setting or the grid is invalid, settings differ in more than pruning, or threads or backend are not available; or the
/// error of `done`.
///
/// ```
/// use slth::data::Dataset;
/// use slth::run::RunConfig;
/// use slth::sweep::{Grid, Prunings, calibrate};
/// let config = RunConfig {
///     network: "784-10".parse()?, train_images: Some(300), validation: 100, ..RunConfig::default()
/// };
/// let prunings =
///     Prunings { epochs: vec![1], learning_rates: vec![0.1, 1.0], momenta: vec![0.0], weight_decays: vec![0.0] };
/// let grid = Grid { epsilons: vec![0.0, 0.1], sparsities: vec![0.0, 0.5], seeds: vec![1] };
/// let mut trials = Vec::new();
/// calibrate(&prunings.settings(&config), &grid, &Dataset::mnist()?, |trial| Ok(trials.push(trial)))?;
/// assert_eq!(trials.len(), 2);
/// assert_eq!(trials[0].accuracies[0], trials[1].accuracies[0]); // s = 0
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn calibrate(
    settings: &[RunConfig],
    grid: &Grid,
    dataset: &Dataset,
    done: impl FnMut(Trial) -> Result<(), Error> + Send,
) -> Result<(), Error> {
    grid.validate()?;
    let Some(first) = settings.first() else { return Ok(()) };
    let (engine, pool) = start_pool(first.backend, first.threads)?;
    for setting in settings {
        setting.check(dataset)?;
        if !setting.pretrains_like(first) {
            return Err(Error::config("pretrain_lr", "the settings differ in more than pruning"));
        }
    }
    pool.install(|| try_all(settings, grid, dataset, engine, done))
}

fn try_all(
    settings: &[RunConfig],
    grid: &Grid,
    dataset: &Dataset,
    engine: Engine,
    mut done: impl FnMut(Trial) -> Result<(), Error>,
) -> Result<(), Error> {
    let first = &settings[0];
    // With `scale_by_keep` the pretrained weights depend on the sparsity of the pruning.
    let scales = if first.scale_by_keep { &grid.sparsities[..] } else { &[0.0] };
    let mut networks = Vec::new();
    for (&epsilon, &seed) in pairs(&grid.epsilons, &grid.seeds) {
        let network = |&sparsity| RunConfig { epsilon, seed, sparsity, ..first.clone() };
        networks.extend(scales.iter().map(network));
    }
    let pretrain = |network: &RunConfig| {
        diverged_is_none(Experiment::new(network, dataset, engine)?.pretrain(&NoProgress))
    };
    let pretrained = networks.par_iter().map(pretrain).collect::<Result<Vec<_>, Error>>()?;
    let mut cells = Vec::new();
    for (network, pretrained) in networks.iter().zip(&pretrained) {
        let own = grid.sparsities.iter().filter(|&&s| !network.scale_by_keep || network.sparsity == s);
        cells.extend(own.map(|&sparsity| (network.epsilon, network.seed, sparsity, pretrained)));
    }
    let (published, data) = (Study::published(), dataset_hash(dataset));
    for setting in settings {
        let failed = |seed| SeedOutcome::failed(seed, setting.network.outputs(), setting.validation > 0);
        let prune =
            |&(epsilon, seed, sparsity, pretrained): &(_, _, _, &Option<(Pretrained, DenseOutcome)>)| {
                let Some((pretrained, dense)) = pretrained else { return Ok(failed(seed)) };
                if sparsity == 0.0 {
                    return Ok(outcome(seed, dense.test, dense.validation));
                }
                let config = RunConfig { epsilon, seed, sparsity, ..setting.clone() };
                let pruned =
                    Experiment::new(&config, dataset, engine)?.prune(pretrained, sparsity, &NoProgress);
                let done = |(_, pruned): (_, PrunedOutcome)| outcome(seed, pruned.test, pruned.validation);
                Ok(diverged_is_none(pruned)?.map_or_else(|| failed(seed), done))
            };
        let outcomes = cells.par_iter().map(prune).collect::<Result<Vec<_>, Error>>()?;
        let mut by_place: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (&(epsilon, _, sparsity, _), outcome) in cells.iter().zip(outcomes) {
            by_place.entry(key(epsilon, sparsity)).or_default().push(outcome);
        }
        let study = Study::of_outcomes("calibration".to_owned(), &by_place);
        let found = study.compare(&published);
        let rank_correlation = if found.rank_correlation.is_nan() { 0.0 } else { found.rank_correlation };
        let row = |&s: &f64| grid.epsilons.iter().filter_map(|&e| study.accuracy(e, s)).collect();
        done(Trial {
            config: setting.clone(),
            bits_revision: BITS_REVISION,
            data: data.clone(),
            grid: grid.clone(),
            distance: found.mean_absolute_difference + 0.1 * (1.0 - rank_correlation),
            mean_absolute_difference: found.mean_absolute_difference,
            rank_correlation,
            findings: study.findings().iter().map(|finding| finding.holds).collect(),
            accuracies: grid.sparsities.iter().map(row).collect(),
        })?;
    }
    Ok(())
}

fn outcome(seed: u64, test: Evaluation, validation: Option<Evaluation>) -> SeedOutcome {
    SeedOutcome {
        seed,
        failed: false,
        test: test.accuracy(),
        validation: validation.map(|validation| validation.accuracy()),
        loss: validation.map(|validation| validation.loss),
    }
}

fn diverged_is_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Err(Error::Diverged { .. } | Error::NotFinite) => Ok(None),
        other => other.map(Some),
    }
}
