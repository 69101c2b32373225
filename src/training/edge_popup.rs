//! Pruning by edge-popup (Ramanujan et al. 2020, "What's Hidden in a Randomly Weighted Neural Network?", arXiv 1911.13299):
//! weights are frozen, and a score per weight is trained.
//!
//! Each forward removes the int(s·n) weights of lowest |score|, layer by layer or among all. The straight-through gradient
//! ∂L/∂score = sign(score) · w · ∂L/∂w_eff goes to all scores, those of removed weights too. SGD with momentum and
//! weight decay as in PyTorch.

use slth_kernels::optimizer::ScoreStep;
use slth_kernels::{Engine, KernelError, MaskReuse, PackedMask, PrepareOptions};

use super::epochs::{Method, Phase};
use super::evaluate::Evaluation;
use super::pruning::{Cut, Cutter, Pruned, PrunedLayer};
use super::schedule::Schedule;
use super::timing::Timing;
use super::trainer::Trainer;
use crate::data::Batch;
use crate::error::Error;
use crate::network::propagation::{MaskedLayer, Propagation};
use crate::network::{LayerShape, LossSum, Stage};
use crate::progress::Progress;
use crate::random::{Purpose, Stream};

/// Settings of edge-popup.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgePopupSettings {
    /// Which weights go.
    pub cut: Cut,
    /// Epochs; with 0 the random initial scores decide.
    pub epochs: usize,
    /// Images per step, at least 1.
    pub batch: usize,
    /// The learning rate that `schedule` changes.
    pub learning_rate: f32,
    /// How the learning rate changes from epoch to epoch; a cosine as published.
    pub schedule: Schedule,
    /// Momentum on the scores.
    pub momentum: f32,
    /// Weight decay on the scores.
    pub weight_decay: f32,
    /// Keys the initial scores and the order of the images.
    pub seed: u64,
}

impl Trainer<'_> {
    /// Prunes a network with the frozen `weights`, each layer's `[outputs, inputs]`, then its biases if it has some. With s = 0
    /// the scores have no effect: they keep their initial values, and no epoch is counted.
    ///
    /// # Errors
    /// When the loss or a score becomes infinite or NaN, weights or images do not fit the network, the sparsity is outside
    /// [0, 1), or the batch is 0.
    pub fn edge_popup(
        &self,
        weights: &[Vec<f32>],
        settings: &EdgePopupSettings,
        progress: &dyn Progress,
    ) -> Result<Pruned, Error> {
        let batch = self.check(weights.iter().map(Vec::len), settings.batch)?;
        settings.cut.check(self.network)?;
        let mut method = EdgePopup::new(self, weights, settings, batch)?;
        let nothing_to_do = settings.epochs == 0 || method.cutter.keeps_all();
        let timing = if nothing_to_do {
            Timing::default()
        } else {
            self.run_epochs(&mut method, settings.epochs, batch, settings.seed, progress)?
        };
        method.select().map_err(|error| not_a_number(error, settings.epochs))?;
        let layers = method.pruned();
        if !layers.iter().flat_map(|layer| &layer.scores).all(|score| score.is_finite()) {
            return Err(diverged(settings.epochs));
        }
        Ok(Pruned { layers, timing })
    }
}

fn diverged(epoch: usize) -> Error {
    Phase::PRUNING.diverged(epoch, "a score")
}

fn not_a_number(error: KernelError, epoch: usize) -> Error {
    match error {
        KernelError::NotANumber { .. } => diverged(epoch),
        other => unreachable!("scores, mask and keep are of one layer: {other}"),
    }
}

struct ScoredLayer<'a> {
    shape: LayerShape,
    weights: &'a [f32],
    bias: &'a [f32],
    scores: Vec<f32>,
    velocity: Vec<f32>,
    masked: MaskedLayer,
}

struct EdgePopup<'a> {
    engine: Engine<'a>,
    settings: EdgePopupSettings,
    step: ScoreStep,
    epoch: usize,
    layers: Vec<ScoredLayer<'a>>,
    /// Of the layers.
    masks: Vec<PackedMask>,
    cutter: Cutter,
    propagation: Propagation<'a>,
    /// The weight gradient of one layer at a time.
    gradient: Vec<f32>,
}

impl<'a> EdgePopup<'a> {
    fn new(
        trainer: &Trainer<'a>,
        weights: &'a [Vec<f32>],
        settings: &EdgePopupSettings,
        batch: usize,
    ) -> Result<Self, Error> {
        let Trainer { engine, network, .. } = *trainer;
        let options = PrepareOptions::default().max_batch(batch).reuse(MaskReuse::Once);
        let layer = |(index, ((shape, stage), weights)): (usize, ((LayerShape, Stage), &'a Vec<f32>))| {
            let (weights, bias) = shape.split(weights);
            let n = weights.len();
            let bound = (1.0 / libm::sqrt(shape.inputs as f64)) as f32;
            let mut stream = Stream::new(settings.seed, Purpose::Scores, index, 0);
            // The first layer needs no input gradient.
            let options = options.input_gradient(index > 0);
            Ok(ScoredLayer {
                shape,
                weights,
                bias,
                scores: (0..n).map(|_| stream.symmetric(bound)).collect(),
                velocity: vec![0.0; n],
                masked: MaskedLayer::prepare(engine, stage, weights, &PackedMask::all_kept(n), &options)?,
            })
        };
        let shapes = network.layers().zip(network.layer_stages());
        let layers: Vec<_> = shapes.zip(weights).enumerate().map(layer).collect::<Result<_, Error>>()?;
        Ok(Self {
            engine,
            settings: settings.clone(),
            step: ScoreStep {
                learning_rate: settings.learning_rate,
                momentum: settings.momentum,
                weight_decay: settings.weight_decay,
            },
            epoch: 0,
            masks: network.layers().map(|layer| PackedMask::all_kept(layer.weights())).collect(),
            cutter: Cutter::new(&network.layers().collect::<Vec<_>>(), &settings.cut),
            layers,
            propagation: Propagation::new(engine, network, trainer.normaliser(), batch, true),
            gradient: vec![0.0; network.layers().map(LayerShape::weights).max().unwrap_or(0)],
        })
    }
}

impl EdgePopup<'_> {
    /// The layers under the masks that were selected last.
    fn pruned(&self) -> Vec<PrunedLayer> {
        let layer = |(layer, mask): (&ScoredLayer, &PackedMask)| PrunedLayer {
            shape: layer.shape,
            weights: layer.weights.to_vec(),
            scores: layer.scores.clone(),
            mask: mask.clone(),
            bias: layer.bias.to_vec(),
        };
        self.layers.iter().zip(&self.masks).map(layer).collect()
    }

    /// Selects the kept weights of all layers.
    fn select(&mut self) -> Result<(), KernelError> {
        let scores = self.layers.iter().map(|layer| layer.scores.as_slice());
        self.cutter.select(self.engine, scores, &mut self.masks)
    }
}

impl Method for EdgePopup<'_> {
    fn phase(&self) -> Phase {
        Phase::PRUNING
    }

    fn begin_epoch(&mut self, epoch: usize) -> Result<f32, Error> {
        self.epoch = epoch + 1;
        let EdgePopupSettings { learning_rate, ref schedule, epochs, .. } = self.settings;
        self.step.learning_rate = schedule.rate(learning_rate, epoch, epochs);
        Ok(self.step.learning_rate)
    }

    fn step(&mut self, batch: Batch<'_>) -> Result<LossSum, Error> {
        self.propagation.load(batch);
        self.select().map_err(|error| not_a_number(error, self.epoch))?;
        for (index, (layer, mask)) in self.layers.iter_mut().zip(&self.masks).enumerate() {
            layer.masked.rebuild(self.engine, mask)?;
            self.propagation.forward(index, layer.masked.weights(), layer.bias)?;
        }
        let loss = self.propagation.loss(batch);
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            let gradient = &mut self.gradient[..layer.weights.len()];
            self.propagation.backward(index, layer.masked.weights(), gradient)?;
            self.step.apply(self.engine, gradient, layer.weights, &mut layer.velocity, &mut layer.scores)?;
        }
        Ok(loss)
    }

    fn numbers(&mut self) -> Vec<&mut [f32]> {
        self.layers.iter_mut().flat_map(|layer| [&mut layer.scores[..], &mut layer.velocity]).collect()
    }

    fn evaluate(&mut self, trainer: &Trainer<'_>) -> Result<Evaluation, Error> {
        self.select().map_err(|error| not_a_number(error, self.epoch))?;
        trainer.evaluate_pruned(&self.pruned())
    }
}
