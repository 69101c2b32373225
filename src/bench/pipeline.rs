//! Training: a step of edge-popup and its parts, an epoch of each training, a cell of a sweep.
//!
//! The limit is the arithmetic of dense training, at the rate of multiply-adds in registers: all three products with all
//! weights, without the input gradient of the first layer. Sparsity alone can pass it.
//!
//! LeNet-5 is measured in images, so that its steps and epochs can be compared.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use slth_kernels::matmul::{Activation, Epilogue, Workspace, forward, input_gradient, weight_gradient};
use slth_kernels::optimizer::ScoreStep;
use slth_kernels::top_k::{Order, Selection, Selector, Threshold};
use slth_kernels::{
    Backend, Engine, KernelError, MaskReuse, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions,
};

use super::case::{Case, Contestant, Kernel, Machinery, Scale, fma_peak};
use super::check::ensure;
use super::conv2d;
use super::measurement::{Role, Task, Unit};
use crate::data::{Dataset, NormalisationRule, Subset};
use crate::error::Error;
use crate::network::{Architecture, Initialisation, LayerShape, Stage};
use crate::random::{Purpose, Stream};
use crate::run::{Experiment, RunConfig};
use crate::training::{
    EdgePopupSettings, NoProgress, PretrainSettings, PrunedLayer, Schedule, Scope, Trainer,
};

const BATCH: usize = 128;
const SPARSITY: f64 = 0.5;
/// Steps of which one is the mean: few, for long runs are seldom undisturbed.
const STEPS: usize = 8;

/// Epochs of LeNet-5 are of so many images.
const LENET5_IMAGES: usize = 20_000;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let (widths, lenet5, images): (&[usize], &str, usize) = match scale {
        Scale::Smoke => (&[784, 20, 10], "28x28-2@5x5s2-pool2-10", 256),
        Scale::Quick | Scale::Full => (&[784, 500, 500, 10], "lenet5", 60_000),
    };
    let case = |operation: &str, shape: &[usize], sparsity: Option<f64>, prepare: Prepare, images: usize| {
        let task = Task {
            kernel: Kernel::Pipeline,
            operation: operation.to_owned(),
            shape: shape.to_vec(),
            sparsity,
            epsilon: None,
        };
        Case::new(task, move |machinery, task| prepare(machinery, task, images))
    };
    let step = |sparsity| case("pruning step", widths, Some(sparsity), step, images);
    let epoch = |sparsity| case("pruning epoch", widths, Some(sparsity), pruning_epoch, images);
    let cell = || case("cell of a sweep", &[784, 32, 10], Some(0.4), cell, images);
    let pretraining = || case("pretraining epoch", widths, None, pretraining_epoch, images);
    // The network is no row of widths: it stands in the name.
    let name = |operation: &str| format!("{operation} {lenet5}");
    let lenet5_step = |sparsity| {
        case(&name("pruning step"), &[], Some(sparsity), lenet5_pruning, STEPS.min(images / BATCH) * BATCH)
    };
    let lenet5_epoch =
        || case(&name("pruning epoch"), &[], Some(SPARSITY), lenet5_pruning, images.min(LENET5_IMAGES));
    match scale {
        Scale::Smoke => {
            vec![step(SPARSITY), epoch(SPARSITY), pretraining(), cell(), lenet5_step(SPARSITY)]
        }
        Scale::Quick => vec![step(SPARSITY), epoch(SPARSITY), cell(), lenet5_step(SPARSITY)],
        Scale::Full => {
            let mut cases: Vec<_> = [0.5, 0.8, 0.9, 0.95].into_iter().map(step).collect();
            cases.extend([0.5, 0.9].into_iter().map(epoch));
            cases.extend([pretraining(), cell()]);
            cases.extend([0.5, 0.9].into_iter().map(lenet5_step));
            cases.push(lenet5_epoch());
            cases
        }
    }
}

type Prepare = fn(&Machinery, &Task, usize) -> Result<Vec<Contestant>, Error>;

/// What all trainings start from.
struct Setup {
    network: Architecture,
    mnist: Dataset,
    weights: Vec<Vec<f32>>,
    images: usize,
}

impl Setup {
    fn new(task: &Task, images: usize) -> Result<Arc<Self>, Error> {
        let network = if task.shape.is_empty() {
            task.operation.rsplit(' ').next().unwrap_or_default().parse()
        } else {
            Architecture::new(task.shape.clone())
        };
        let network = network.map_err(|problem| Error::config("network", problem))?;
        let weights = Initialisation::KaimingNormal.network(&network, 1.0, 1);
        Ok(Arc::new(Self { network, mnist: Dataset::mnist()?, weights, images }))
    }

    /// The same for fewer images.
    fn of(&self, images: usize) -> Self {
        Self {
            images: images.min(self.images),
            network: self.network.clone(),
            mnist: self.mnist.clone(),
            weights: self.weights.clone(),
        }
    }

    /// Calls `train` with a trainer on the images.
    fn with_trainer<T>(&self, engine: Engine, train: impl FnOnce(Trainer<'_>) -> T) -> T {
        let images = Subset::first(self.mnist.train(), self.images);
        let normalisation = self.mnist.normalisation(NormalisationRule::MeanStd);
        train(Trainer { engine, network: &self.network, images: &images, normalisation })
    }

    /// An epoch, and how long it took once the buffers were made.
    fn prune(&self, engine: Engine, sparsity: f64) -> Result<(Vec<PrunedLayer>, Duration), Error> {
        let settings = EdgePopupSettings {
            sparsity,
            scope: Scope::PerLayer,
            epochs: 1,
            batch: BATCH,
            learning_rate: 0.1,
            momentum: 0.9,
            weight_decay: 1e-4,
            seed: 1,
        };
        let pruned =
            self.with_trainer(engine, |trainer| trainer.edge_popup(&self.weights, &settings, &NoProgress))?;
        Ok((pruned.layers, Duration::from_secs_f64(pruned.timing.seconds)))
    }

    /// Likewise.
    fn pretrain(&self, engine: Engine) -> Result<(Vec<Vec<f32>>, Duration), Error> {
        let settings = PretrainSettings {
            epsilon: 0.02,
            epochs: 1,
            batch: BATCH,
            learning_rate: 0.1,
            schedule: Schedule::Constant,
            momentum: 0.0,
            seed: 1,
        };
        let trained = self
            .with_trainer(engine, |trainer| trainer.pretrain(self.weights.clone(), &settings, &NoProgress))?;
        Ok((trained.weights, Duration::from_secs_f64(trained.timing.seconds)))
    }

    /// Floating-point operations of the products of dense training over all the images.
    fn dense_flops(&self) -> f64 {
        let terms = self.network.stages().iter().filter_map(|stage| match stage {
            Stage::Dense { inputs, outputs } => Some(inputs * outputs),
            Stage::Convolution(shape) => Some(conv2d::terms(shape, |_| true)),
            Stage::Pool(_) => None,
        });
        let of_layer = |(index, terms): (usize, usize)| if index == 0 { 4 } else { 6 } * terms;
        terms.enumerate().map(of_layer).sum::<usize>() as f64 * self.images as f64
    }
}

/// The arithmetic of a unit that takes `flops`, a small part of it being run.
fn arithmetic(machinery: &Machinery, unit: Unit, flops: f64) -> Vec<Contestant> {
    let of_unit = |peak: Contestant| {
        let work = peak.work / flops;
        peak.doing("dense arithmetic at FMA peak", unit, work)
    };
    fma_peak(machinery).into_iter().map(of_unit).collect()
}

/// Ours on all engines but the scalar fallback, which takes minutes; each is checked to give what the first gives.
/// `units` is what the images of `setup` make.
fn trainings<T: PartialEq + Send>(
    machinery: &Machinery,
    task: &Task,
    setup: &Arc<Setup>,
    (unit, units): (Unit, f64),
    train: impl Fn(&Setup, Engine) -> Result<(T, Duration), Error> + Clone + Send + Sync + 'static,
) -> Result<Vec<Contestant>, Error> {
    let mut contestants = arithmetic(machinery, unit, setup.dense_flops() / units);
    let few = setup.of(4 * BATCH);
    let mut expected = None;
    for (engine, threads) in machinery.engines() {
        if engine.backend() == Backend::scalar() && setup.images > 1000 {
            continue;
        }
        let (setup, train) = (setup.clone(), train.clone());
        let found = train(&few, engine)?.0;
        ensure(expected.as_ref().is_none_or(|expected| *expected == found), task, "slth")?;
        expected = Some(found);
        // It has been seen to work above.
        let timed =
            move |times| (0..times).filter_map(|_| train(&setup, engine).ok()).map(|(_, time)| time).sum();
        let contestant = Contestant::timing_itself("slth", Role::Ours, unit, units, timed);
        contestants.push(contestant.on(engine.backend()).with_threads(machinery, threads));
    }
    Ok(contestants)
}

fn pruning_epoch(machinery: &Machinery, task: &Task, images: usize) -> Result<Vec<Contestant>, Error> {
    let setup = Setup::new(task, images)?;
    let sparsity = task.sparsity.unwrap_or(SPARSITY);
    trainings(machinery, task, &setup, (Unit::Piece, 1.0), move |setup, engine| setup.prune(engine, sparsity))
}

fn pretraining_epoch(machinery: &Machinery, task: &Task, images: usize) -> Result<Vec<Contestant>, Error> {
    let setup = Setup::new(task, images)?;
    trainings(machinery, task, &setup, (Unit::Piece, 1.0), Setup::pretrain)
}

fn lenet5_pruning(machinery: &Machinery, task: &Task, images: usize) -> Result<Vec<Contestant>, Error> {
    let setup = Setup::new(task, images)?;
    let (sparsity, units) = (task.sparsity.unwrap_or(SPARSITY), (Unit::Image, images as f64));
    trainings(machinery, task, &setup, units, move |setup, engine| setup.prune(engine, sparsity))
}

fn step(machinery: &Machinery, task: &Task, images: usize) -> Result<Vec<Contestant>, Error> {
    let steps = STEPS.min(images / BATCH);
    let setup = Setup::new(task, steps * BATCH)?;
    let sparsity = task.sparsity.unwrap_or(SPARSITY);
    let units = (Unit::Step, steps as f64);
    let mut all =
        trainings(machinery, task, &setup, units, move |setup, engine| setup.prune(engine, sparsity))?;
    all.extend(parts(machinery, &setup, sparsity)?);
    Ok(all)
}

/// A layer as edge-popup holds it.
struct Part {
    outputs: usize,
    inputs: usize,
    weights: Vec<f32>,
    /// Scores of two steps, each near the other's threshold.
    scores: [Vec<f32>; 2],
    masks: [PackedMask; 2],
    thresholds: [Option<Threshold>; 2],
    keep: usize,
    selector: Selector,
    masked: PackedWeights,
    velocity: Vec<f32>,
    x: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    first: bool,
}

/// What a step does with all the layers, kernel by kernel, on the best backend and one thread. The rest of a step is
/// gathering the images and the loss.
fn parts(machinery: &Machinery, setup: &Setup, sparsity: f64) -> Result<Vec<Contestant>, Error> {
    let engine = Engine::new(machinery.best());
    let layers = || -> Result<Vec<Part>, Error> {
        setup
            .network
            .layers()
            .zip(&setup.weights)
            .enumerate()
            .map(|(index, (layer, weights))| {
                let LayerShape { outputs, inputs, .. } = layer;
                let array = |part: usize, len| {
                    let mut stream = Stream::new(1, Purpose::Benchmark, 40 + part, index);
                    (0..len).map(|_| stream.symmetric(1.0)).collect::<Vec<f32>>()
                };
                let scores = array(0, weights.len());
                let moved = scores.iter().zip(array(1, weights.len())).map(|(x, z)| x + 0.01 * z).collect();
                let keep = layer.kept(sparsity);
                let options = PrepareOptions::default()
                    .max_batch(BATCH)
                    .reuse(MaskReuse::Once)
                    .input_gradient(index > 0);
                let view = MatRef::row_major(weights, outputs, inputs)?;
                let mut part = Part {
                    outputs,
                    inputs,
                    weights: weights.clone(),
                    scores: [scores, moved],
                    masks: [0, 1].map(|_| PackedMask::all_kept(weights.len())),
                    thresholds: [None, None],
                    keep,
                    selector: Selector::default(),
                    masked: PackedWeights::prepare(engine, view, None, &options)?,
                    velocity: vec![0.0; weights.len()],
                    x: array(2, inputs * BATCH),
                    y: array(3, outputs * BATCH),
                    dx: vec![0.0; inputs * BATCH],
                    dw: vec![0.0; weights.len()],
                    first: index == 0,
                };
                part.select(engine, 0);
                part.select(engine, 1);
                part.masked.rebuild(engine, &part.masks[0])?;
                Ok(part)
            })
            .collect()
    };
    let (mut all, mut workspace) = (Vec::new(), Workspace::default());
    let kernels: [(&str, Kernels); 6] = [
        ("selection", |part, engine, turn, _| {
            part.select(engine, turn);
            Ok(())
        }),
        ("compression", |part, engine, turn, _| part.masked.rebuild(engine, &part.masks[turn])),
        ("forward", |part, engine, _, workspace| {
            let Part { outputs, inputs, masked, x, y, .. } = part;
            let (x, y) = (MatRef::row_major(x, *inputs, BATCH)?, MatMut::row_major(y, *outputs, BATCH)?);
            let epilogue = Epilogue { activation: Activation::Relu, ..Epilogue::default() };
            forward(engine, masked, x, &epilogue, y, workspace)
        }),
        ("input gradient", |part, engine, _, workspace| {
            let Part { outputs, inputs, masked, x, y, dx, first, .. } = part;
            if *first {
                return Ok(());
            }
            let (x, dy) = (MatRef::row_major(x, *inputs, BATCH)?, MatRef::row_major(y, *outputs, BATCH)?);
            input_gradient(engine, masked, dy, Some(x), MatMut::row_major(dx, *inputs, BATCH)?, workspace)
        }),
        ("weight gradient", |part, engine, _, workspace| {
            let Part { outputs, inputs, x, y, dw, .. } = part;
            let (x, dy) = (MatRef::row_major(x, *inputs, BATCH)?, MatRef::row_major(y, *outputs, BATCH)?);
            weight_gradient(engine, dy, x, None, MatMut::row_major(dw, *outputs, *inputs)?, workspace)
        }),
        ("update of scores", |Part { weights, scores, velocity, dw, .. }, engine, turn, _| {
            let step = ScoreStep { learning_rate: 0.0, momentum: 0.9, weight_decay: 1e-4 };
            step.apply(engine, dw, weights, velocity, &mut scores[turn])
        }),
    ];
    for (who, kernel) in kernels {
        let mut layers = layers()?;
        let (mut turn, mut workspace) = (0, std::mem::take(&mut workspace));
        let run = move || {
            turn = 1 - turn;
            // Sizes that would be refused are refused above, in a step of training.
            let _ = layers.iter_mut().try_for_each(|layer| kernel(layer, engine, turn, &mut workspace));
        };
        let contestant = Contestant::new(format!("slth, of it {who}"), Role::Ours, Unit::Step, 1.0, run);
        all.push(contestant.on(machinery.best()));
    }
    Ok(all)
}

type Kernels = fn(&mut Part, Engine, usize, &mut Workspace) -> Result<(), KernelError>;

impl Part {
    fn select(&mut self, engine: Engine, turn: usize) {
        let largest = Selection::largest(self.keep, Order::Magnitude);
        let selection = self.thresholds[1 - turn].map_or(largest, |threshold| largest.near(threshold));
        let masks = std::slice::from_mut(&mut self.masks[turn]);
        self.thresholds[turn] = self.selector.select(engine, &[&self.scores[turn]], selection, masks).ok();
    }
}

/// Pruning and measuring one cell, after its pretraining.
fn cell(machinery: &Machinery, task: &Task, images: usize) -> Result<Vec<Contestant>, Error> {
    let sparsity = task.sparsity.unwrap_or(SPARSITY);
    let config = RunConfig {
        network: Architecture::new(task.shape.clone())
            .map_err(|problem| Error::config("network", problem))?,
        normalize: NormalisationRule::Unit,
        batch: 64,
        prune_epochs: 1,
        train_images: (images < 1000).then_some(images),
        ..RunConfig::default()
    };
    let (config, mnist) = (Arc::new(config), Arc::new(Dataset::mnist()?));
    let first = Experiment::new(&config, &mnist, Engine::new(machinery.best()))?;
    let pretrained = Arc::new(first.pretrain(&NoProgress)?.0);
    let mut contestants = Vec::new();
    let mut expected = None;
    for &backend in machinery.backends.iter().filter(|&&b| b != Backend::scalar()) {
        let (config, mnist, pretrained) = (config.clone(), mnist.clone(), pretrained.clone());
        let prune = move || {
            Experiment::new(&config, &mnist, Engine::new(backend))?.prune(&pretrained, sparsity, &NoProgress)
        };
        let layers = prune()?.0;
        ensure(*expected.get_or_insert_with(|| layers.clone()) == layers, task, "slth")?;
        let run = move || drop(black_box(prune()));
        contestants.push(Contestant::new("slth", Role::Ours, Unit::Piece, 1.0, run).on(backend));
    }
    Ok(contestants)
}
