//! Pretraining by projected SGD: Algorithm 1 of "Strong Lottery Ticket Hypothesis with ε-perturbation".
//!
//! ΔW ← 0; each step ΔW ← clamp(ΔW − α∇L, ±ε), W ← W₀ + ΔW, elementwise. ε = 0 changes no weight, ε = ∞ is ordinary SGD.
//! Momentum, which the paper does not use, is PyTorch's, without dampening and not Nesterov's.

use slth_kernels::conv2d::PackedConv2d;
use slth_kernels::optimizer::ProjectedStep;
use slth_kernels::{Engine, KernelError, PackedMask, PrepareOptions};

use super::epochs::{Method, Phase};
use super::evaluate::Evaluation;
use super::pruning::PrunedLayer;
use super::schedule::Schedule;
use super::timing::Timing;
use super::trainer::Trainer;
use crate::data::Batch;
use crate::error::Error;
use crate::network::propagation::{Propagation, Weights, prepare_filters, rows};
use crate::network::{LayerShape, LossSum, Stage};
use crate::progress::Progress;

/// Settings of pretraining.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainSettings {
    /// ε, the largest change of any weight, in [0, ∞].
    pub epsilon: f32,
    /// Epochs.
    pub epochs: usize,
    /// Images per step, at least 1.
    pub batch: usize,
    /// α, which `schedule` changes.
    pub learning_rate: f32,
    /// Learning-rate schedule; constant in the paper.
    pub schedule: Schedule,
    /// Momentum; 0 in the paper.
    pub momentum: f32,
    /// Keys the order of the images.
    pub seed: u64,
}

/// A pretrained network.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained {
    /// Each layer's weights `[outputs, inputs]`, then its biases if it has some, first to last.
    pub weights: Vec<Vec<f32>>,
    /// The largest |ΔW| of any weight or bias, as the step keeps it: at most ε.
    pub max_change: f32,
    /// The time of pretraining.
    pub timing: Timing,
}

impl Trainer<'_> {
    /// Pretrains from the weights `initial`, each layer's `[outputs, inputs]`, then its biases if it has some; neither moves
    /// further than ε. With ε = 0 or without epochs nothing is done, and no epoch is counted.
    ///
    /// # Errors
    /// When the loss or a weight becomes infinite or NaN, weights or images do not fit the network, or the batch is 0.
    pub fn pretrain(
        &self,
        initial: Vec<Vec<f32>>,
        settings: &PretrainSettings,
        progress: &dyn Progress,
    ) -> Result<Pretrained, Error> {
        let batch = self.check(initial.iter().map(Vec::len), settings.batch)?;
        if settings.epsilon == 0.0 || settings.epochs == 0 {
            return Ok(Pretrained { weights: initial, max_change: 0.0, timing: Timing::default() });
        }
        let mut method = ProjectedSgd::new(self, Phase::PRETRAINING, initial, vec![], settings, batch)?;
        let timing = self.run_epochs(&mut method, settings.epochs, batch, settings.seed, progress)?;
        method.check(settings.epochs)?;
        let changes = method.layers.iter().flat_map(|layer| &layer.change);
        let max_change = changes.fold(0.0, |largest: f32, change| largest.max(change.abs()));
        Ok(Pretrained { max_change, weights: method.into_weights().collect(), timing })
    }
}

struct ProjectedLayer {
    shape: LayerShape,
    /// Weights and biases, as in `weights`.
    initial: Vec<f32>,
    velocity: Vec<f32>,
    change: Vec<f32>,
    weights: Vec<f32>,
    /// The weights of a convolution, prepared.
    filters: Option<PackedConv2d>,
}

impl ProjectedLayer {
    /// Its weights and its biases.
    fn parameters(&self) -> (Weights<'_>, &[f32]) {
        let (weights, bias) = self.shape.split(&self.weights);
        (Weights::all(weights, self.filters.as_ref()), bias)
    }

    /// To be called when the weights have changed.
    fn prepare(&mut self, engine: Engine) -> Result<(), KernelError> {
        let Some(filters) = &mut self.filters else { return Ok(()) };
        filters.set_weights(engine, rows(self.shape.split(&self.weights).0, self.shape.outputs)?)
    }
}

pub(super) struct ProjectedSgd<'a> {
    phase: Phase,
    engine: Engine<'a>,
    /// Of the current epoch.
    step: ProjectedStep,
    settings: PretrainSettings,
    layers: Vec<ProjectedLayer>,
    /// Of the layers; a removed weight has no gradient. Empty where all are kept.
    pub(super) masks: Vec<PackedMask>,
    propagation: Propagation<'a>,
    /// The gradient of one layer's parameters at a time.
    gradient: Vec<f32>,
}

impl<'a> ProjectedSgd<'a> {
    pub(super) fn new(
        trainer: &Trainer<'a>,
        phase: Phase,
        initial: Vec<Vec<f32>>,
        masks: Vec<PackedMask>,
        settings: &PretrainSettings,
        batch: usize,
    ) -> Result<Self, KernelError> {
        let Trainer { engine, network, .. } = *trainer;
        let options = PrepareOptions::default().max_batch(batch);
        let layer = |(index, ((stage, shape), initial)): (usize, ((Stage, LayerShape), Vec<f32>))| {
            let (n, options) = (initial.len(), options.input_gradient(index > 0));
            Ok::<_, KernelError>(ProjectedLayer {
                shape,
                velocity: vec![0.0; n],
                change: vec![0.0; n],
                weights: initial.clone(),
                filters: prepare_filters(engine, stage, shape.split(&initial).0, &options)?,
                initial,
            })
        };
        let shapes = network.layer_stages().zip(network.layers());
        Ok(Self {
            phase,
            engine,
            masks,
            settings: settings.clone(),
            step: ProjectedStep {
                learning_rate: settings.learning_rate,
                momentum: settings.momentum,
                epsilon: settings.epsilon,
            },
            gradient: vec![0.0; initial.iter().map(Vec::len).max().unwrap_or(0)],
            layers: shapes.zip(initial).enumerate().map(layer).collect::<Result<_, _>>()?,
            propagation: Propagation::new(engine, network, trainer.normaliser(), batch, true),
        })
    }

    /// An error when a weight is infinite or NaN. Velocities are checked too: the projection turns a NaN into ±ε.
    pub(super) fn check(&self, epoch: usize) -> Result<(), Error> {
        let mut numbers =
            self.layers.iter().flat_map(|l| l.weights.iter().chain(&l.change).chain(&l.velocity));
        if numbers.all(|x| x.is_finite()) { Ok(()) } else { Err(self.phase.diverged(epoch, "a weight")) }
    }

    /// Each layer's weights as they are, then its biases.
    pub(super) fn weights(&self) -> impl Iterator<Item = &[f32]> {
        self.layers.iter().map(|layer| layer.weights.as_slice())
    }

    /// Begins again with those weights of `initial` that are kept, and its biases.
    pub(super) fn start_again(&mut self, initial: &[Vec<f32>]) -> Result<(), KernelError> {
        for (layer, (initial, mask)) in self.layers.iter_mut().zip(initial.iter().zip(&self.masks)) {
            layer.initial.copy_from_slice(initial);
            mask.apply(&mut layer.initial[..mask.len()])?;
            layer.weights.copy_from_slice(&layer.initial);
            layer.change.fill(0.0);
            layer.velocity.fill(0.0);
            layer.prepare(self.engine)?;
        }
        Ok(())
    }

    /// Puts the trained weights that are kept, and the biases, into the `layers`.
    pub(super) fn put_into(self, layers: &mut [PrunedLayer]) {
        for (layer, trained) in layers.iter_mut().zip(self.into_weights()) {
            let (trained, bias) = layer.shape.split(&trained);
            layer.mask.kept_indices().for_each(|index| layer.weights[index] = trained[index]);
            layer.bias.copy_from_slice(bias);
        }
    }

    /// Each layer's trained weights, then its biases.
    fn into_weights(self) -> impl Iterator<Item = Vec<f32>> {
        self.layers.into_iter().map(|layer| layer.weights)
    }
}

impl Method for ProjectedSgd<'_> {
    fn phase(&self) -> Phase {
        self.phase
    }

    fn begin_epoch(&mut self, epoch: usize) -> Result<f32, Error> {
        let PretrainSettings { learning_rate, ref schedule, epochs, .. } = self.settings;
        self.step.learning_rate = schedule.rate(learning_rate, epoch, epochs);
        Ok(self.step.learning_rate)
    }

    fn step(&mut self, batch: Batch<'_>) -> Result<LossSum, Error> {
        self.propagation.load(batch);
        for (index, layer) in self.layers.iter().enumerate() {
            let (weights, bias) = layer.parameters();
            self.propagation.forward(index, weights, bias)?;
        }
        let loss = self.propagation.loss(batch);
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            let gradient = &mut self.gradient[..layer.weights.len()];
            self.propagation.backward(index, layer.parameters().0, gradient)?;
            if let Some(mask) = self.masks.get(index) {
                mask.apply(&mut gradient[..mask.len()])?;
            }
            let ProjectedLayer { initial, velocity, change, weights, .. } = layer;
            self.step.apply(self.engine, gradient, initial, velocity, change, weights)?;
            layer.prepare(self.engine)?;
        }
        Ok(loss)
    }

    fn numbers(&mut self) -> Vec<&mut [f32]> {
        let layers = self.layers.iter_mut();
        layers.flat_map(|l| [&mut l.initial[..], &mut l.velocity, &mut l.change, &mut l.weights]).collect()
    }

    fn restored(&mut self, _epochs: usize) -> Result<(), Error> {
        Ok(self.layers.iter_mut().try_for_each(|layer| layer.prepare(self.engine))?)
    }

    fn evaluate(&mut self, trainer: &Trainer<'_>) -> Result<Evaluation, Error> {
        trainer.evaluate_dense(&self.layers.iter().map(|layer| layer.weights.clone()).collect::<Vec<_>>())
    }
}
