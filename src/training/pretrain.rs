//! Pretraining by projected SGD: Algorithm 1 of "Strong Lottery Ticket Hypothesis with ε-perturbation".
//!
//! ΔW ← 0; each step ΔW ← clamp(ΔW − α∇L, ±ε), W ← W₀ + ΔW, elementwise. ε = 0 leaves the weights alone, ε = ∞ is
//! ordinary SGD. Momentum, which the paper does not use, is PyTorch's: no dampening, not Nesterov's.

use slth_kernels::Engine;
use slth_kernels::update::ProjectedStep;

use super::check_fits;
use super::epochs::{Method, Timing, run_epochs};
use super::progress::{Phase, Progress};
use crate::dataset::{Examples, Normalisation, Normaliser, Subset};
use crate::error::Error;
use crate::network::loss::LossSum;
use crate::network::propagation::{DenseWeights, Propagation};
use crate::network::{Architecture, LayerShape};
use crate::random::Purpose;

/// How to pretrain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PretrainSettings {
    /// ε, the largest change of any weight, in [0, ∞].
    pub epsilon: f32,
    /// Times through the training images.
    pub epochs: usize,
    /// Images per step, at least 1.
    pub batch: usize,
    /// α, constant.
    pub learning_rate: f32,
    /// 0 as in the paper.
    pub momentum: f32,
    /// Keys the order of the images.
    pub seed: u64,
}

/// A pretrained network.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained {
    /// Each layer's weights `[outputs, inputs]`, first to last.
    pub weights: Vec<Vec<f32>>,
    /// The largest |ΔW| of any weight, as the step keeps it: at most ε.
    pub max_change: f32,
    /// How long it took.
    pub timing: Timing,
}

/// Pretrains `network` from the weights `initial`. With ε = 0 or no epochs there is nothing to do, and no epoch is
/// counted.
///
/// # Errors
/// When the loss or a weight becomes infinite or NaN, or `initial`, images or batch do not fit `network`.
pub fn pretrain(
    engine: Engine,
    network: &Architecture,
    initial: Vec<Vec<f32>>,
    settings: &PretrainSettings,
    images: Subset<'_>,
    normalisation: Normalisation,
    progress: &mut dyn Progress,
) -> Result<Pretrained, Error> {
    check_fits(network, initial.iter().map(Vec::len), images, settings.batch)?;
    if settings.epsilon == 0.0 || settings.epochs == 0 {
        return Ok(Pretrained { weights: initial, max_change: 0.0, timing: Timing::default() });
    }
    let batch = settings.batch.min(images.len());
    let normaliser = Normaliser::new(normalisation, engine.threads() > 1);
    let widest = network.layers().map(LayerShape::weights).max().unwrap_or(0);
    let mut method = ProjectedSgd {
        engine,
        step: ProjectedStep {
            learning_rate: settings.learning_rate,
            momentum: settings.momentum,
            epsilon: settings.epsilon,
        },
        layers: network
            .layers()
            .zip(initial)
            .map(|(shape, initial)| ProjectedLayer::new(shape, initial))
            .collect(),
        propagation: Propagation::new(engine, network, normaliser, batch, true),
        gradient: vec![0.0; widest],
    };
    let timing = run_epochs(&mut method, images, settings.epochs, batch, settings.seed, progress)?;
    let numbers = |of: fn(&ProjectedLayer) -> &Vec<f32>| method.layers.iter().flat_map(of);
    // The velocities too: the projection makes ±ε of a NaN.
    let all = numbers(|layer| &layer.weights)
        .chain(numbers(|layer| &layer.change))
        .chain(numbers(|layer| &layer.velocity));
    if !all.into_iter().all(|x| x.is_finite()) {
        return Err(Error::Diverged { phase: Phase::Pretrain, epoch: settings.epochs, what: "a weight" });
    }
    let max_change =
        numbers(|layer| &layer.change).fold(0.0, |largest: f32, change| largest.max(change.abs()));
    Ok(Pretrained {
        max_change,
        weights: method.layers.into_iter().map(|layer| layer.weights).collect(),
        timing,
    })
}

struct ProjectedLayer {
    shape: LayerShape,
    initial: Vec<f32>,
    velocity: Vec<f32>,
    change: Vec<f32>,
    weights: Vec<f32>,
}

impl ProjectedLayer {
    fn new(shape: LayerShape, initial: Vec<f32>) -> Self {
        let n = initial.len();
        Self { shape, velocity: vec![0.0; n], change: vec![0.0; n], weights: initial.clone(), initial }
    }

    fn dense(&self) -> DenseWeights<'_> {
        DenseWeights { shape: self.shape, weights: &self.weights }
    }
}

struct ProjectedSgd {
    engine: Engine,
    step: ProjectedStep,
    layers: Vec<ProjectedLayer>,
    propagation: Propagation,
    /// The weight gradient of one layer at a time.
    gradient: Vec<f32>,
}

impl Method for ProjectedSgd {
    const PHASE: Phase = Phase::Pretrain;
    const ORDER: Purpose = Purpose::PretrainOrder;

    fn begin_epoch(&mut self, _epoch: usize) {}

    fn step(&mut self, examples: &Examples, indices: &[u32]) -> Result<LossSum, Error> {
        self.propagation.load(examples, indices);
        for (index, layer) in self.layers.iter().enumerate() {
            self.propagation.forward(index, &layer.dense())?;
        }
        let loss = self.propagation.loss(examples, indices);
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            let gradient = &mut self.gradient[..layer.weights.len()];
            self.propagation.backward(index, &layer.dense(), gradient)?;
            let ProjectedLayer { initial, velocity, change, weights, .. } = layer;
            self.step.apply(self.engine, gradient, initial, velocity, change, weights)?;
        }
        Ok(loss)
    }
}
