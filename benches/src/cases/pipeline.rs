//! Training: a step of edge-popup and its parts, an epoch of each training, a cell of a sweep.
//!
//! The limit is dense training at the peak rate of multiply-adds in registers: all three products with all weights, without the
//! input gradient of the first layer. Only sparsity can exceed it. Rates of convolutional networks are in images, so that steps
//! and epochs can be compared.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use slth::data::{Augmentation, Dataset, Examples, NormalisationRule, Subset};
use slth::network::{Architecture, Initialisation, LayerShape, Stage};
use slth::progress::NoProgress;
use slth::random::{Purpose, Stream};
use slth::run::{Experiment, RunConfig};
use slth::training::{Cut, EdgePopupSettings, PretrainSettings, PrunedLayer, Schedule, Trainer};
use slth_kernels::matmul::{Activation, Epilogue, Workspace, forward, input_gradient, weight_gradient};
use slth_kernels::optimizer::ScoreStep;
use slth_kernels::top_k::{Order, Selection, Selector, Threshold};
use slth_kernels::{
    Engine, KernelError, MaskReuse, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions,
};

use super::conv2d;
use crate::case::{Case, Scale};
use crate::check::ensure;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::limits::multiply_adds;
use crate::machinery::Machinery;
use crate::row::{Unit, Who};
use crate::task::Phase::{Cell, PretrainingEpoch, PruningEpoch, PruningStep};
use crate::task::{Phase, Task, Training};

const BATCH: usize = 128;
/// A measurement is the mean of this many steps, few enough for a short run.
const STEPS: usize = 8;
const LENET5: &str = "lenet5";
/// Trained on noise in the shape of CIFAR-10, because the content of the images does not affect the time.
const CONV4: &str = "conv4";

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    const FC: &str = "784-500-500-10";
    const NARROW: &str = "784-32-10";
    const TINY: &str = "784-20-10";
    const TINY_CONVOLUTION: &str = "28x28-2@5x5s2-pool2-10";
    let steps = STEPS * BATCH;
    let rows: &[(Phase, &str, usize, Option<f64>)] = match scale {
        Scale::Smoke => &[
            (PruningStep, TINY, 256, Some(0.5)),
            (PruningEpoch, TINY, 256, Some(0.5)),
            (PruningEpoch, TINY_CONVOLUTION, 256, Some(0.5)),
            (PretrainingEpoch, TINY, 256, None),
            (Cell, NARROW, 256, Some(0.4)),
        ],
        Scale::Quick => &[
            (PruningStep, FC, steps, Some(0.5)),
            (PruningEpoch, FC, 60_000, Some(0.5)),
            (PruningStep, LENET5, steps, Some(0.5)),
            (Cell, NARROW, 60_000, Some(0.4)),
        ],
        Scale::Full => &[
            (PruningStep, FC, steps, Some(0.5)),
            (PruningStep, FC, steps, Some(0.8)),
            (PruningStep, FC, steps, Some(0.9)),
            (PruningStep, FC, steps, Some(0.95)),
            (PruningEpoch, FC, 60_000, Some(0.5)),
            (PruningEpoch, FC, 60_000, Some(0.9)),
            (PretrainingEpoch, FC, 60_000, None),
            (PruningStep, LENET5, steps, Some(0.5)),
            (PruningStep, LENET5, steps, Some(0.9)),
            (PruningEpoch, LENET5, 20_000, Some(0.5)),
            (PruningEpoch, CONV4, 2_560, Some(0.5)),
            (Cell, NARROW, 60_000, Some(0.4)),
        ],
    };
    let case = |&(operation, network, images, sparsity): &(Phase, &str, usize, Option<f64>)| {
        let own = Training { operation, network: network.to_owned(), images, sparsity };
        Case::new(Task::Pipeline(own.clone()), move |machinery, task| match operation {
            Cell => cell(machinery, task, &own),
            _ => training(machinery, task, &own),
        })
    };
    rows.iter().map(case).collect()
}

fn network(own: &Training) -> Result<Architecture, Error> {
    own.network.parse().map_err(|problem| Error::flag("case", format!("{}: {problem}", own.network)))
}

fn mnist() -> Result<Dataset, Error> {
    Ok(Dataset::mnist().map_err(slth::Error::from)?)
}

/// Images of noise, of this shape and number, in ten classes.
fn noise(shape: [usize; 3], images: usize) -> Result<Dataset, Error> {
    let mut stream = Stream::new(1, Purpose::Benchmark, 60, 0);
    let mut examples = |images: usize| {
        let pixels = (0..images * shape.iter().product::<usize>()).map(|_| (255.0 * stream.unit()) as u8);
        Examples::new(pixels.collect(), (0..images).map(|i| (i % 10) as u8).collect(), shape)
    };
    let wrong = |problem: &dyn std::fmt::Display| Error::flag("case", problem.to_string());
    let (train, test) = (examples(images), examples(10));
    let (train, test) = train.and_then(|train| Ok((train, test?))).map_err(|problem| wrong(&problem))?;
    Dataset::new("noise".to_owned(), train, test).map_err(|problem| wrong(&problem))
}

/// The inputs of all trainings.
struct Setup {
    network: Architecture,
    data: Dataset,
    weights: Vec<Vec<f32>>,
    own: Training,
}

impl Setup {
    fn new(own: &Training) -> Result<Arc<Self>, Error> {
        let network = network(own)?;
        let weights = Initialisation::KaimingNormal.network(&network, 1.0, 1);
        let data = if own.network == CONV4 { noise([3, 32, 32], own.images)? } else { mnist()? };
        Ok(Arc::new(Self { network, data, weights, own: own.clone() }))
    }

    /// Trains one epoch on this many images; returns the result and the time, without the allocation of buffers.
    fn train(&self, engine: Engine, images: usize) -> Result<(Trained, Duration), Error> {
        let trainer = Trainer {
            engine,
            network: &self.network,
            images: &Subset::first(self.data.train(), images.min(self.data.train().len())),
            normalisation: self.data.normalisation(NormalisationRule::MeanStd),
            augmentation: Augmentation::None,
        };
        let (epochs, batch, learning_rate, seed) = (1, BATCH, 0.1, 1);
        let (trained, seconds) = if let Some(sparsity) = self.own.sparsity {
            let (momentum, weight_decay) = (0.9, 1e-4);
            let settings = EdgePopupSettings {
                cut: Cut { sparsity, ..Cut::default() },
                epochs,
                batch,
                learning_rate,
                schedule: Schedule::COSINE,
                momentum,
                weight_decay,
                seed,
            };
            let pruned = trainer.edge_popup(&self.weights, &settings, &NoProgress)?;
            (Trained::Pruned(pruned.layers), pruned.timing.seconds)
        } else {
            let (epsilon, schedule, momentum) = (0.02, Schedule::CONSTANT, 0.0);
            let settings =
                PretrainSettings { epsilon, epochs, batch, learning_rate, schedule, momentum, seed };
            let trained = trainer.pretrain(self.weights.clone(), &settings, &NoProgress)?;
            (Trained::Dense(trained.weights), trained.timing.seconds)
        };
        Ok((trained, Duration::from_secs_f64(seconds)))
    }

    /// Floating-point operations of the products of dense training over all the images.
    fn dense_flops(&self) -> f64 {
        let terms = self.network.stages().iter().filter_map(|stage| match stage {
            Stage::Dense { inputs, outputs } => Some(inputs * outputs),
            Stage::Convolution(shape) => Some(conv2d::terms(shape, |_| true)),
            Stage::Pool(_) => None,
        });
        let of_layer = |(index, terms): (usize, usize)| if index == 0 { 4 } else { 6 } * terms;
        terms.enumerate().map(of_layer).sum::<usize>() as f64 * self.own.images as f64
    }
}

/// The result of training.
#[derive(PartialEq)]
enum Trained {
    Dense(Vec<Vec<f32>>),
    Pruned(Vec<PrunedLayer>),
}

/// Training on all engines except the scalar one, which takes minutes. All must give the same result.
fn training(machinery: &Machinery, task: &Task, own: &Training) -> Result<Vec<Contestant>, Error> {
    let setup = Setup::new(own)?;
    let (unit, units) = match own.operation {
        _ if [LENET5, CONV4].contains(&own.network.as_str()) => (Unit::Image, own.images as f64),
        PruningStep => (Unit::Step, (own.images / BATCH) as f64),
        _ => (Unit::Epoch, 1.0),
    };
    let mut contestants = multiply_adds(machinery, unit, setup.dense_flops() / units);
    let few = own.images.min(4 * BATCH);
    let mut expected = None;
    for engine in machinery.engines(own.images < 1000) {
        let (found, who) = (setup.train(engine, few)?.0, Who::ours(engine));
        ensure(expected.as_ref().is_none_or(|expected| *expected == found), task, &who)?;
        expected = Some(found);
        let setup = setup.clone();
        let run = move || Ok(setup.train(engine, setup.own.images)?.1);
        contestants.push(Contestant::timing_itself(who, unit, units, run));
    }
    if let (Unit::Step, Some(sparsity)) = (unit, own.sparsity) {
        contestants.extend(parts(machinery, &setup, sparsity)?);
    }
    Ok(contestants)
}

/// A layer as edge-popup holds it.
struct Part {
    outputs: usize,
    inputs: usize,
    weights: Vec<f32>,
    /// Scores of two successive steps, whose thresholds are close to each other.
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

impl Part {
    fn new(
        engine: Engine,
        index: usize,
        layer: LayerShape,
        weights: &[f32],
        sparsity: f64,
    ) -> Result<Self, KernelError> {
        let LayerShape { outputs, inputs, .. } = layer;
        let array = |part: usize, len| {
            let mut stream = Stream::new(1, Purpose::Benchmark, 40 + part, index);
            (0..len).map(|_| stream.symmetric(1.0)).collect::<Vec<f32>>()
        };
        let scores = array(0, weights.len());
        let moved = scores.iter().zip(array(1, weights.len())).map(|(x, z)| x + 0.01 * z).collect();
        let options =
            PrepareOptions::default().max_batch(BATCH).reuse(MaskReuse::Once).input_gradient(index > 0);
        let view = MatRef::row_major(weights, outputs, inputs)?;
        let mut part = Self {
            outputs,
            inputs,
            weights: weights.to_vec(),
            scores: [scores, moved],
            masks: [0, 1].map(|_| PackedMask::all_kept(weights.len())),
            thresholds: [None, None],
            keep: layer.kept(sparsity),
            selector: Selector::default(),
            masked: PackedWeights::prepare(engine, view, None, &options)?,
            velocity: vec![0.0; weights.len()],
            x: array(2, inputs * BATCH),
            y: array(3, outputs * BATCH),
            dx: vec![0.0; inputs * BATCH],
            dw: vec![0.0; weights.len()],
            first: index == 0,
        };
        part.select(engine, 0)?;
        part.select(engine, 1)?;
        part.masked.rebuild(engine, &part.masks[0])?;
        Ok(part)
    }

    fn select(&mut self, engine: Engine, turn: usize) -> Result<(), KernelError> {
        let largest = Selection::largest(self.keep, Order::Magnitude);
        let selection = self.thresholds[1 - turn].map_or(largest, |threshold| largest.near(threshold));
        let masks = std::slice::from_mut(&mut self.masks[turn]);
        self.thresholds[turn] =
            Some(self.selector.select(engine, &[&self.scores[turn]], selection, masks)?);
        Ok(())
    }
}

/// One kernel of a step on one layer: the layer, the engine, which of the two scores to use, the workspace.
type PartOfStep = fn(&mut Part, Engine, usize, &mut Workspace) -> Result<(), KernelError>;

/// The kernels of a step, each over all layers, on the best backend and one thread. The rest of a step gathers images and
/// computes the loss.
fn parts(machinery: &Machinery, setup: &Setup, sparsity: f64) -> Result<Vec<Contestant>, Error> {
    let kernels: [(&str, PartOfStep); 6] = [
        ("selection", |part, engine, turn, _| part.select(engine, turn)),
        ("rebuild", |part, engine, turn, _| part.masked.rebuild(engine, &part.masks[turn])),
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
    let engine = machinery.best();
    let contestant = |(name, kernel): (&str, PartOfStep)| {
        let layers = setup.network.layers().zip(&setup.weights).enumerate();
        let layers =
            layers.map(|(index, (layer, weights))| Part::new(engine, index, layer, weights, sparsity));
        let mut layers = layers.collect::<Result<Vec<_>, _>>()?;
        let (mut turn, mut workspace) = (0, Workspace::default());
        Ok(machinery.contestant(Who::ours(engine).part(name), Unit::Step, 1.0, move || {
            turn = 1 - turn;
            Ok(layers.iter_mut().try_for_each(|layer| kernel(layer, engine, turn, &mut workspace))?)
        }))
    };
    kernels.into_iter().map(contestant).collect()
}

/// Pruning and evaluating one cell, after its pretraining.
fn cell(machinery: &Machinery, task: &Task, own: &Training) -> Result<Vec<Contestant>, Error> {
    let sparsity = own.sparsity.unwrap_or(0.0);
    let config = RunConfig {
        network: network(own)?,
        normalize: NormalisationRule::Unit,
        batch: 64,
        prune_epochs: 1,
        train_images: (own.images < 1000).then_some(own.images),
        ..RunConfig::default()
    };
    let (config, mnist) = (Arc::new(config), Arc::new(mnist()?));
    let first = Experiment::new(&config, &mnist, machinery.best())?;
    let pretrained = Arc::new(first.pretrain(&NoProgress)?.0);
    let mut contestants = Vec::new();
    let mut expected = None;
    for engine in machinery.engines(false).into_iter().filter(|engine| engine.threads() == 1) {
        let (config, mnist, pretrained) = (config.clone(), mnist.clone(), pretrained.clone());
        let prune =
            move || Experiment::new(&config, &mnist, engine)?.prune(&pretrained, sparsity, &NoProgress);
        let (layers, who) = (prune()?.0, Who::ours(engine));
        ensure(*expected.get_or_insert_with(|| layers.clone()) == layers, task, &who)?;
        contestants.push(machinery.contestant(who, Unit::Cell, 1.0, move || {
            black_box(prune()?);
            Ok(())
        }));
    }
    Ok(contestants)
}
