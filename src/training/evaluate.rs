//! Loss and accuracy of a network.

use slth_kernels::{PrepareOptions, Strategy};

use super::pruning::PrunedLayer;
use super::trainer::Trainer;
use crate::data::Batch;
use crate::error::Error;
use crate::network::Architecture;
use crate::network::propagation::{MaskedLayer, Propagation, Weights, prepare_filters};

/// The loss and accuracy of a network on a set of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Number of images, at least 1.
    pub images: usize,
    /// Number of images classified correctly.
    pub correct: usize,
    /// Mean cross-entropy.
    pub loss: f64,
}

impl Evaluation {
    /// The fraction classified correctly.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }
}

/// Images evaluated at a time; no result depends on it.
const BATCH: usize = 256;

impl Trainer<'_> {
    /// Evaluates a network with each layer's `weights` `[outputs, inputs]`, then biases if it has some, on the images.
    ///
    /// # Errors
    /// When weights or images do not fit the network, there are no images, or the network's outputs are infinite or NaN.
    pub fn evaluate_dense(&self, weights: &[Vec<f32>]) -> Result<Evaluation, Error> {
        let options = self.options(weights.iter().map(Vec::len))?;
        let layers = self.network.layers().zip(weights).map(|(shape, weights)| shape.split(weights));
        let layers: Vec<_> = layers.collect();
        let prepare =
            |(stage, (weights, _)): (_, &(&[f32], _))| prepare_filters(self.engine, stage, weights, &options);
        let filters = self.network.layer_stages().zip(&layers).map(prepare).collect::<Result<Vec<_>, _>>()?;
        let layers = layers.into_iter().zip(&filters);
        let layers = layers.map(|((weights, bias), own)| (Weights::all(weights, own.as_ref()), bias));
        self.evaluate(&layers.collect::<Vec<_>>())
    }

    /// Evaluates a pruned network on the images, multiplying by its kept weights only.
    ///
    /// # Errors
    /// When layers or images do not fit the network, there are no images, or the network's outputs are infinite or NaN.
    pub fn evaluate_pruned(&self, layers: &[PrunedLayer]) -> Result<Evaluation, Error> {
        let options =
            self.options(layers.iter().map(|layer| layer.weights.len()))?.strategy(Strategy::Sparse);
        let prepare = |(stage, PrunedLayer { weights, mask, .. }): (_, &PrunedLayer)| {
            MaskedLayer::prepare(self.engine, stage, weights, mask, &options)
        };
        let masked = self.network.layer_stages().zip(layers).map(prepare).collect::<Result<Vec<_>, _>>()?;
        let layers = masked.iter().zip(layers).map(|(masked, layer)| (masked.weights(), &*layer.bias));
        self.evaluate(&layers.collect::<Vec<_>>())
    }

    /// The options for layers of this many `weights`, after the checks.
    fn options(&self, weights: impl ExactSizeIterator<Item = usize>) -> Result<PrepareOptions, Error> {
        self.check(weights, BATCH)?;
        Ok(PrepareOptions::default().max_batch(self.evaluation_batch()?).keep_source(false))
    }

    /// Number of images evaluated at a time: fewer in huge networks, as memory allows.
    fn evaluation_batch(&self) -> Result<usize, Error> {
        let network = self.network;
        match Architecture::MAX_ACTIVATIONS / network.activations().max(1) {
            0 => Err(Error::config("network", format!("{network} needs too much memory for a single image"))),
            most => Ok(BATCH.min(self.images.len()).min(most)),
        }
    }

    /// Evaluates layers of these weights and biases.
    fn evaluate(&self, layers: &[(Weights<'_>, &[f32])]) -> Result<Evaluation, Error> {
        let Self { engine, network, images, .. } = *self;
        let batch = self.evaluation_batch()?;
        let mut propagation = Propagation::new(engine, network, self.normaliser(), batch, false);
        let (mut loss, mut correct) = (0.0, 0);
        for indices in images.indices().chunks(batch) {
            let batch = Batch { examples: images.examples(), indices, changes: &[] };
            propagation.load(batch);
            for (index, &(weights, bias)) in layers.iter().enumerate() {
                propagation.forward(index, weights, bias)?;
            }
            let sum = propagation.loss(batch);
            loss += sum.loss;
            correct += sum.correct;
        }
        if !loss.is_finite() {
            return Err(Error::NotFinite);
        }
        Ok(Evaluation { images: images.len(), correct, loss: loss / images.len() as f64 })
    }
}
