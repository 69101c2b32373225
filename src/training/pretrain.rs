//! Pretraining by projected SGD: Algorithm 1 of "Strong Lottery Ticket Hypothesis with ε-perturbation".
//!
//! ΔW ← 0; each step ΔW ← clamp(ΔW − α∇L, ±ε), W ← W₀ + ΔW, elementwise. ε = 0 leaves the weights alone, ε = ∞ is
//! ordinary SGD. Momentum, which the paper does not use, is PyTorch's: no dampening, not Nesterov's.

use slth_kernels::conv2d::PackedConv2d;
use slth_kernels::optimizer::ProjectedStep;
use slth_kernels::{Engine, KernelError, PackedMask, PrepareOptions};

use super::check_fits;
use super::edge_popup::{Pruned, PrunedLayer};
use super::epochs::{Method, Timing, run_epochs};
use super::progress::{Phase, Progress};
use super::schedule::Schedule;
use crate::data::{Examples, Normalisation, Normaliser, Subset};
use crate::error::Error;
use crate::network::loss::LossSum;
use crate::network::propagation::{Propagation, Weights, prepare_filters, rows};
use crate::network::{Architecture, LayerShape, Stage};
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
    /// α, of the first epoch.
    pub learning_rate: f32,
    /// How α changes from epoch to epoch; constant as in the paper.
    pub schedule: Schedule,
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
    let normaliser = Normaliser::new(normalisation);
    let mut method = ProjectedSgd::new(engine, network, initial, settings, normaliser, batch)?;
    let timing = run_epochs(&mut method, images, settings.epochs, batch, settings.seed, progress)?;
    method.check(Phase::Pretrain, settings.epochs)?;
    let changes = method.layers.iter().flat_map(|layer| &layer.change);
    let max_change = changes.fold(0.0, |largest: f32, change| largest.max(change.abs()));
    Ok(Pretrained {
        max_change,
        weights: method.layers.into_iter().map(|layer| layer.weights).collect(),
        timing,
    })
}

/// Trains the kept weights of a pruned network further by SGD, the removed ones staying away; of `settings` ε bounds their
/// change from where they are. The removed weights are as before in the result. Where there is nothing removed, or no
/// epoch, there is nothing to do, and no epoch is counted.
///
/// # Errors
/// When the loss or a weight becomes infinite or NaN, or `pruned` does not fit `network`.
pub fn finetune(
    engine: Engine,
    network: &Architecture,
    mut pruned: Pruned,
    settings: &PretrainSettings,
    images: Subset<'_>,
    normalisation: Normalisation,
    progress: &mut dyn Progress,
) -> Result<Pruned, Error> {
    if settings.epochs == 0 || pruned.layers.iter().all(|layer| layer.mask.removed() == 0) {
        return Ok(pruned);
    }
    let batch = settings.batch.min(images.len());
    let normaliser = Normaliser::new(normalisation);
    let kept = |layer: &PrunedLayer| {
        let mut weights = layer.weights.clone();
        layer.mask.apply(&mut weights).map(|()| weights)
    };
    let initial = pruned.layers.iter().map(kept).collect::<Result<_, _>>()?;
    let sgd = ProjectedSgd::new(engine, network, initial, settings, normaliser, batch)?;
    let masks = pruned.layers.iter().map(|layer| layer.mask.clone()).collect();
    let mut method = Finetuning { sgd, masks };
    pruned.timing = run_epochs(&mut method, images, settings.epochs, batch, settings.seed, progress)?;
    method.sgd.check(Phase::Finetune, settings.epochs)?;
    for (layer, trained) in pruned.layers.iter_mut().zip(method.sgd.layers) {
        layer.mask.kept_indices().for_each(|index| layer.weights[index] = trained.weights[index]);
    }
    Ok(pruned)
}

struct ProjectedLayer {
    shape: LayerShape,
    initial: Vec<f32>,
    velocity: Vec<f32>,
    change: Vec<f32>,
    weights: Vec<f32>,
    /// The weights of a convolution, prepared.
    filters: Option<PackedConv2d>,
}

impl ProjectedLayer {
    fn new(
        engine: Engine,
        stage: Stage,
        shape: LayerShape,
        initial: Vec<f32>,
        options: &PrepareOptions,
    ) -> Result<Self, KernelError> {
        let n = initial.len();
        Ok(Self {
            shape,
            velocity: vec![0.0; n],
            change: vec![0.0; n],
            weights: initial.clone(),
            filters: prepare_filters(engine, stage, &initial, options)?,
            initial,
        })
    }

    fn weights(&self) -> Weights<'_> {
        Weights::all(&self.weights, self.filters.as_ref())
    }
}

struct ProjectedSgd<'a> {
    engine: Engine<'a>,
    /// Of the current epoch.
    step: ProjectedStep,
    settings: PretrainSettings,
    layers: Vec<ProjectedLayer>,
    propagation: Propagation<'a>,
    /// The weight gradient of one layer at a time.
    gradient: Vec<f32>,
}

impl<'a> ProjectedSgd<'a> {
    fn new(
        engine: Engine<'a>,
        network: &Architecture,
        initial: Vec<Vec<f32>>,
        settings: &PretrainSettings,
        normaliser: Normaliser,
        batch: usize,
    ) -> Result<Self, KernelError> {
        let options = PrepareOptions::default().max_batch(batch);
        let layer = |(index, ((stage, shape), initial)): (usize, ((Stage, LayerShape), Vec<f32>))| {
            ProjectedLayer::new(engine, stage, shape, initial, &options.input_gradient(index > 0))
        };
        let shapes = network.layer_stages().zip(network.layers());
        Ok(Self {
            engine,
            settings: *settings,
            step: ProjectedStep {
                learning_rate: settings.learning_rate,
                momentum: settings.momentum,
                epsilon: settings.epsilon,
            },
            layers: shapes.zip(initial).enumerate().map(layer).collect::<Result<_, _>>()?,
            propagation: Propagation::new(engine, network, normaliser, batch, true),
            gradient: vec![0.0; network.layers().map(LayerShape::weights).max().unwrap_or(0)],
        })
    }

    /// A step; `edit` may change the gradient of each layer before it is applied.
    fn learn(
        &mut self,
        examples: &Examples,
        indices: &[u32],
        edit: impl Fn(usize, &mut [f32]) -> Result<(), KernelError>,
    ) -> Result<LossSum, Error> {
        self.propagation.load(examples, indices);
        for (index, layer) in self.layers.iter().enumerate() {
            self.propagation.forward(index, layer.weights())?;
        }
        let loss = self.propagation.loss(examples, indices);
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            let gradient = &mut self.gradient[..layer.weights.len()];
            self.propagation.backward(index, layer.weights(), gradient)?;
            edit(index, gradient)?;
            let ProjectedLayer { shape, initial, velocity, change, weights, filters } = layer;
            self.step.apply(self.engine, gradient, initial, velocity, change, weights)?;
            if let Some(filters) = filters {
                filters.set_weights(self.engine, rows(weights, shape.outputs)?)?;
            }
        }
        Ok(loss)
    }

    /// An error when a weight is infinite or NaN. The velocities tell too: the projection makes ±ε of a NaN.
    fn check(&self, phase: Phase, epoch: usize) -> Result<(), Error> {
        let mut numbers =
            self.layers.iter().flat_map(|l| l.weights.iter().chain(&l.change).chain(&l.velocity));
        if numbers.all(|x| x.is_finite()) {
            return Ok(());
        }
        Err(Error::Diverged { phase: phase.to_string(), epoch, what: "a weight" })
    }
}

impl Method for ProjectedSgd<'_> {
    const PHASE: Phase = Phase::Pretrain;
    const ORDER: Purpose = Purpose::PretrainOrder;

    fn begin_epoch(&mut self, epoch: usize) {
        let PretrainSettings { learning_rate, schedule, epochs, .. } = self.settings;
        self.step.learning_rate = schedule.rate(learning_rate, epoch, epochs);
    }

    fn step(&mut self, examples: &Examples, indices: &[u32]) -> Result<LossSum, Error> {
        self.learn(examples, indices, |_, _| Ok(()))
    }
}

/// The same for the weights that the masks keep; the removed ones have no gradient.
struct Finetuning<'a> {
    sgd: ProjectedSgd<'a>,
    masks: Vec<PackedMask>,
}

impl Method for Finetuning<'_> {
    const PHASE: Phase = Phase::Finetune;
    const ORDER: Purpose = Purpose::PruneOrder;

    fn begin_epoch(&mut self, epoch: usize) {
        self.sgd.begin_epoch(epoch);
    }

    fn step(&mut self, examples: &Examples, indices: &[u32]) -> Result<LossSum, Error> {
        let masks = &self.masks;
        self.sgd.learn(examples, indices, |index, gradient| masks[index].apply(gradient))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::network::Initialisation;
    use crate::training::{NoProgress, Scope, evaluate_pruned, one_shot};

    #[test]
    fn finetuning_moves_the_kept_weights_only_and_helps() {
        let mnist = Dataset::mnist().unwrap();
        let network: Architecture = "784-20-10".parse().unwrap();
        let weights = Initialisation::KaimingNormal.network(&network, 1.0, 3);
        let engine = Engine::detect().unwrap();
        let pruned = one_shot(engine, &network, &weights, 0.8, Scope::PerLayer, None).unwrap();
        let settings = PretrainSettings {
            epsilon: f32::INFINITY,
            epochs: 2,
            batch: 32,
            learning_rate: 0.1,
            schedule: Schedule::Constant,
            momentum: 0.5,
            seed: 1,
        };
        let (images, inputs) = (Subset::new(mnist.train(), 0, 500), Normalisation::MeanStd);
        let tuned =
            finetune(engine, &network, pruned.clone(), &settings, images, inputs, &mut NoProgress).unwrap();
        for (before, after) in pruned.layers.iter().zip(&tuned.layers) {
            assert_eq!((&before.mask, &before.scores), (&after.mask, &after.scores));
            for (index, kept) in before.mask.iter().enumerate() {
                assert!(kept || before.weights[index] == after.weights[index]);
            }
            assert_ne!(before.weights, after.weights);
        }
        let accuracy = |pruned: &Pruned| {
            evaluate_pruned(engine, &network, &pruned.layers, images, inputs).unwrap().accuracy()
        };
        assert!(accuracy(&tuned) > accuracy(&pruned) + 0.3);
        assert_eq!(tuned.timing.epochs, 2);
    }
}
