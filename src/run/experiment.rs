//! One run: draw, pretrain, prune, evaluate.

use std::path::Path;

use rayon::{ThreadPool, ThreadPoolBuilder};
use slth_kernels::{Backend, Engine};

use super::checkpoint::{Checkpoint, Recorder};
use super::config::{RunConfig, Split, check_threads};
use super::history::EpochRecord;
use crate::data::{Dataset, Normalisation, Subset};
use crate::error::Error;
use crate::progress::Progress;
use crate::training::{Evaluation, Pretrained, PrunedLayer, Timing, Trainer};

/// The network after pretraining, with all weights.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseOutcome {
    /// The largest change of any weight, at most ε.
    pub max_change: f32,
    /// Time of pretraining.
    pub timing: Timing,
    /// On the images held out; `None` when there are none.
    pub validation: Option<Evaluation>,
    /// On the test images.
    pub test: Evaluation,
}

/// The network after pruning.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunedOutcome {
    /// Time of pruning.
    pub timing: Timing,
    /// On the images held out; `None` when there are none.
    pub validation: Option<Evaluation>,
    /// On the test images.
    pub test: Evaluation,
}

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The configuration.
    pub config: RunConfig,
    /// The instruction set it ran on.
    pub backend: Backend,
    /// The threads it ran on.
    pub threads: usize,
    /// The [name](Dataset::name) of the data set.
    pub data_name: String,
    /// How pixels became inputs.
    pub normalisation: Normalisation,
    /// The pretrained network.
    pub pretrain: DenseOutcome,
    /// The pruned network.
    pub prune: PrunedOutcome,
    /// Weights, scores and masks, layer by layer.
    pub layers: Vec<PrunedLayer>,
    /// How each epoch went.
    pub history: Vec<EpochRecord>,
}

/// Pretrains and prunes on `config.threads` threads.
///
/// # Errors
/// When the configuration is invalid (by itself or for `dataset`), a backend or threads are not available, or training diverges.
///
/// ```no_run
/// use slth::{data::Dataset, run::{RunConfig, run}, progress::NoProgress};
/// let config = RunConfig { epsilon: 0.0, prune_epochs: 1, ..RunConfig::default() };
/// let outcome = run(&config, &Dataset::mnist()?, &NoProgress)?;
/// assert_eq!(outcome.pretrain.max_change, 0.0);
/// # Ok::<(), slth::Error>(())
/// ```
pub fn run(config: &RunConfig, dataset: &Dataset, progress: &dyn Progress) -> Result<Outcome, Error> {
    recorded(config, dataset, None, progress)
}

/// As [`run`]; with a `file` its state is written there after every epoch, and where the file exists the run goes on from it.
pub(super) fn recorded(
    config: &RunConfig,
    dataset: &Dataset,
    file: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    config.validate()?;
    let engine = engine(config.backend, config.threads)?;
    let experiment = Experiment::new(config, dataset, engine)?;
    let data = file.map(|_| config.data_hash(dataset)).transpose()?.unwrap_or_default();
    let recorder =
        Recorder::new(progress, &experiment.split.validation, file, Checkpoint::new(config, data))?;
    let (pretrained, dense) = experiment.pretrain(&recorder)?;
    let (layers, pruned) = experiment.prune(&pretrained, config.sparsity, &recorder)?;
    Ok(Outcome {
        config: config.clone(),
        backend: engine.backend(),
        threads: engine.threads(),
        data_name: dataset.name().to_owned(),
        normalisation: experiment.normalisation,
        pretrain: dense,
        prune: pruned,
        layers,
        history: recorder.into_history(),
    })
}

/// The engine for work on `threads` threads; `None` means all cores.
///
/// # Errors
/// When `threads` is 0 or more than [`RunConfig::MAX_THREADS`], or the backend is not to be had.
pub fn engine(backend: Option<Backend>, threads: Option<usize>) -> Result<Engine<'static>, Error> {
    Ok(serial(backend, threads)?.with_threads(threads.unwrap_or(0)))
}

/// For independent parallel work: the engine of each part, and a pool of `threads` threads to run them.
pub(crate) fn start_pool(
    backend: Option<Backend>,
    threads: Option<usize>,
) -> Result<(Engine<'static>, ThreadPool), Error> {
    let engine = serial(backend, threads)?;
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
    Ok((engine, pool))
}

fn serial(backend: Option<Backend>, threads: Option<usize>) -> Result<Engine<'static>, Error> {
    check_threads(threads)?;
    Ok(Engine::new(backend.map_or_else(Backend::detect, Ok)?))
}

/// The parts of a run, on the given engine; `threads` and `backend` of the configuration are ignored.
///
/// ```
/// use slth::{data::Dataset, run::{Experiment, RunConfig}, progress::NoProgress};
/// use slth_kernels::Engine;
/// let config = RunConfig {
///     network: "784-10".parse().unwrap(), train_images: Some(300), validation: 100, prune_epochs: 1,
///     ..RunConfig::default()
/// };
/// let mnist = Dataset::mnist()?;
/// let experiment = Experiment::new(&config, &mnist, Engine::detect()?)?;
/// let (pretrained, dense) = experiment.pretrain(&NoProgress)?;
/// for sparsity in [0.0, 0.5] {
///     let (layers, pruned) = experiment.prune(&pretrained, sparsity, &NoProgress)?;
///     assert_eq!(layers[0].mask.removed(), (sparsity * 7840.0) as usize);
///     if sparsity == 0.0 {
///         assert_eq!(pruned.test, dense.test);
///     }
/// }
/// # Ok::<(), slth::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Experiment<'a> {
    config: &'a RunConfig,
    split: Split<'a>,
    normalisation: Normalisation,
    engine: Engine<'a>,
}

impl<'a> Experiment<'a> {
    /// Checks `config` against `dataset`.
    ///
    /// # Errors
    /// [`Error::Config`] when they do not fit.
    pub fn new(config: &'a RunConfig, dataset: &'a Dataset, engine: Engine<'a>) -> Result<Self, Error> {
        let normalisation = dataset.normalisation(config.normalize);
        Ok(Self { config, split: config.split(dataset)?, normalisation, engine })
    }

    fn trainer(&self) -> Trainer<'_> {
        Trainer {
            engine: self.engine,
            network: &self.config.network,
            images: &self.split.train,
            normalisation: self.normalisation,
            augmentation: self.config.augment,
        }
    }

    /// Draws the weights, or reads those of a trained network, and pretrains them. With `scale_by_keep` the
    /// scale of drawn weights is that of the configuration's sparsity.
    ///
    /// # Errors
    /// When a file of weights cannot be read or does not fit, or training diverges.
    pub fn pretrain(&self, progress: &dyn Progress) -> Result<(Pretrained, DenseOutcome), Error> {
        let Self { config, split, .. } = self;
        let trainer = self.trainer();
        let pretrained = trainer.pretrain(config.initial()?, &config.pretrain_settings(), progress)?;
        let evaluate = |images| trainer.on(images).evaluate_dense(&pretrained.weights);
        let outcome = DenseOutcome {
            max_change: pretrained.max_change,
            timing: pretrained.timing,
            validation: if_any(&split.validation, evaluate)?,
            test: evaluate(&split.test)?,
        };
        Ok((pretrained, outcome))
    }

    /// Prunes the pretrained network at `sparsity`, which replaces the configuration's.
    ///
    /// # Errors
    /// When `sparsity` is outside [0, 1) or training diverges.
    pub fn prune(
        &self,
        pretrained: &Pretrained,
        sparsity: f64,
        progress: &dyn Progress,
    ) -> Result<(Vec<PrunedLayer>, PrunedOutcome), Error> {
        let Self { config, split, .. } = self;
        RunConfig { sparsity, ..(*config).clone() }.validate()?;
        let (settings, retraining) = (config.edge_popup_settings(sparsity), config.imp_settings(sparsity));
        let trainer = self.trainer();
        let pruned = trainer.prune(config.method, &pretrained.weights, &settings, &retraining, progress)?;
        let evaluate = |images| trainer.on(images).evaluate_pruned(&pruned.layers);
        let outcome = PrunedOutcome {
            timing: pruned.timing,
            validation: if_any(&split.validation, evaluate)?,
            test: evaluate(&split.test)?,
        };
        Ok((pruned.layers, outcome))
    }
}

fn if_any<'a>(
    images: &'a Subset<'a>,
    evaluate: impl FnOnce(&'a Subset<'a>) -> Result<Evaluation, Error>,
) -> Result<Option<Evaluation>, Error> {
    if images.is_empty() { Ok(None) } else { evaluate(images).map(Some) }
}
