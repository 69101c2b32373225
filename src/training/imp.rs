//! Iterative magnitude pruning with rewinding: J. Frankle, M. Carbin 2019, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable
//! Neural Networks", arXiv 1803.03635; to a later epoch than 0: J. Frankle et al. 2020, "Linear Mode Connectivity and the Lottery
//! Ticket Hypothesis", arXiv 1912.05671.
//!
//! A round trains, removes some of the smallest weights, and puts the others back to where they were at epoch k. All rounds are one
//! sequence of epochs here; each epoch shuffles the images anew.

use slth_kernels::PackedMask;

use super::epochs::{Method, Phase};
use super::evaluate::Evaluation;
use super::pretrain::{PretrainSettings, ProjectedSgd};
use super::pruning::{Cut, Cutter, Pruned, PrunedLayer, Scope};
use super::trainer::Trainer;
use crate::data::Batch;
use crate::error::Error;
use crate::network::{LayerShape, LossSum};
use crate::progress::Progress;

/// Settings of iterative magnitude pruning.
#[derive(Clone, Debug, PartialEq)]
pub struct ImpSettings {
    /// What is removed after the last round. Round r of R leaves the r/R-th power of what this leaves.
    pub cut: Cut,
    /// R, at least 1.
    pub rounds: usize,
    /// k, the epoch whose weights each round begins with again; less than the epochs of a training.
    pub rewind_epoch: usize,
    /// Whether each round removes half the fraction of the last layer's weights, as published for fully connected networks.
    pub halve_output_rate: bool,
    /// Each training: from epoch 0 the first, from epoch k the others.
    pub training: PretrainSettings,
}

impl ImpSettings {
    /// Epochs of all trainings.
    pub fn epochs(&self) -> usize {
        let again = self.training.epochs.saturating_sub(self.rewind_epoch);
        self.training.epochs.saturating_add(again.saturating_mul(self.rounds))
    }

    /// The round in which epoch `epoch` of all is, 0 before anything is removed, and which epoch of a training it is.
    fn place(&self, epoch: usize) -> (usize, usize) {
        let again = self.training.epochs - self.rewind_epoch;
        match epoch.checked_sub(self.training.epochs) {
            None => (0, epoch),
            Some(since) => (1 + since / again, self.rewind_epoch + since % again),
        }
    }

    /// What is removed after round `round`.
    fn cut(&self, round: usize) -> Cut {
        let Self { cut, rounds, .. } = *self;
        let left = |rounds: f64| libm::pow(1.0 - cut.sparsity, rounds / self.rounds as f64);
        let halved = || 1.0 - libm::pow(0.5 * (1.0 + left(1.0)), round as f64);
        let sparsity = if round == rounds { cut.sparsity } else { 1.0 - left(round as f64) };
        Cut { sparsity, output_sparsity: self.halve_output_rate.then(halved), ..cut }
    }

    /// Checks what the cut does not.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self { cut, rounds, rewind_epoch, halve_output_rate, training } = self;
        Error::check("rounds", *rounds > 0, "be at least 1", rounds)?;
        let single = *rounds == 1 || cut.pattern.is_none();
        Error::check("rounds", single, "be 1 with a pattern", rounds)?;
        let must = format_args!("be less than the {} epochs of a round", training.epochs).to_string();
        Error::check("rewind_epoch", *rewind_epoch < training.epochs, must, rewind_epoch)?;
        let per_layer = !halve_output_rate || (cut.scope == Scope::PerLayer && cut.pattern.is_none());
        Error::check("halve_output_rate", per_layer, "be false with a pattern or a global scope", true)
    }
}

impl Trainer<'_> {
    /// Prunes a network that trains from these `weights`, each layer's `[outputs, inputs]`. In the result the kept weights are
    /// trained, and the removed ones as they were at epoch k; the scores are the magnitudes that the last round ranked, 0 for what
    /// earlier ones had removed.
    ///
    /// # Errors
    /// When the loss or a weight becomes infinite or NaN, weights or images do not fit the network, or the settings make no sense.
    pub fn imp(
        &self,
        weights: &[Vec<f32>],
        settings: &ImpSettings,
        progress: &dyn Progress,
    ) -> Result<Pruned, Error> {
        let training = &settings.training;
        let batch = self.check(weights.iter().map(Vec::len), training.batch)?;
        settings.cut.check(self.network)?;
        settings.check()?;
        let shapes: Vec<_> = self.network.layers().collect();
        let masks = shapes.iter().map(|shape| PackedMask::all_kept(shape.weights())).collect();
        let mut method = Imp {
            trainer: *self,
            settings,
            sgd: ProjectedSgd::new(self, Phase::PRUNING, weights.to_vec(), masks, training, batch)?,
            rewound: weights.to_vec(),
            scores: shapes.iter().map(|shape| vec![0.0; shape.weights()]).collect(),
            shapes,
        };
        let timing = self.run_epochs(&mut method, settings.epochs(), batch, training.seed, progress)?;
        let Imp { sgd, shapes, rewound, scores, .. } = method;
        sgd.check(settings.epochs())?;
        let layers = shapes.into_iter().zip(rewound).zip(scores.into_iter().zip(&sgd.masks));
        let layers = layers.map(|((shape, mut weights), (scores, mask))| {
            let bias = weights.split_off(shape.weights());
            PrunedLayer { shape, weights, scores, mask: mask.clone(), bias }
        });
        let mut layers: Vec<_> = layers.collect();
        sgd.put_into(&mut layers);
        Ok(Pruned { layers, timing })
    }
}

struct Imp<'a> {
    trainer: Trainer<'a>,
    settings: &'a ImpSettings,
    sgd: ProjectedSgd<'a>,
    /// The weights at epoch k.
    rewound: Vec<Vec<f32>>,
    shapes: Vec<LayerShape>,
    /// Of the last cut.
    scores: Vec<Vec<f32>>,
}

impl Imp<'_> {
    /// Makes the masks of a round from the scores.
    fn select(&mut self, round: usize, epoch: usize) -> Result<(), Error> {
        let mut cutter = Cutter::new(&self.shapes, &self.settings.cut(round));
        let scores = self.scores.iter().map(Vec::as_slice);
        let selected = cutter.select(self.trainer.engine, scores, &mut self.sgd.masks);
        selected.map_err(|_| self.phase().diverged(epoch, "a weight"))
    }
}

impl Method for Imp<'_> {
    fn phase(&self) -> Phase {
        self.sgd.phase()
    }

    fn begin_epoch(&mut self, epoch: usize) -> Result<f32, Error> {
        let (round, own) = self.settings.place(epoch);
        if own == self.settings.rewind_epoch && round == 0 {
            self.sgd.weights().zip(&mut self.rewound).for_each(|(now, kept)| kept.copy_from_slice(now));
        } else if own == self.settings.rewind_epoch {
            for ((weights, mask), scores) in self.sgd.weights().zip(&self.sgd.masks).zip(&mut self.scores) {
                scores.iter_mut().zip(weights).for_each(|(score, weight)| *score = weight.abs());
                mask.apply(scores)?;
            }
            self.select(round, epoch)?;
            self.sgd.start_again(&self.rewound)?;
        }
        self.sgd.begin_epoch(own)
    }

    fn step(&mut self, batch: Batch<'_>) -> Result<LossSum, Error> {
        self.sgd.step(batch)
    }

    fn numbers(&mut self) -> Vec<&mut [f32]> {
        let own = self.rewound.iter_mut().chain(&mut self.scores).map(Vec::as_mut_slice);
        self.sgd.numbers().into_iter().chain(own).collect()
    }

    fn restored(&mut self, epochs: usize) -> Result<(), Error> {
        let (round, _) = self.settings.place(epochs - 1);
        if round > 0 {
            self.select(round, epochs)?;
        }
        self.sgd.restored(epochs)
    }

    fn evaluate(&mut self, trainer: &Trainer<'_>) -> Result<Evaluation, Error> {
        self.sgd.evaluate(trainer)
    }
}
