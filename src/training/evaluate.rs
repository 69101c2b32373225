//! Loss and accuracy of a network on images it does not learn from.

use slth_kernels::conv2d::Weights;
use slth_kernels::{Engine, MaskedWeights, Path};

use super::check_fits;
use super::edge_popup::PrunedLayer;
use crate::dataset::{Normalisation, Normaliser, Subset};
use crate::error::Error;
use crate::experiments::RunConfig;
use crate::network::Architecture;
use crate::network::propagation::Propagation;

/// How a network did on a set of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Number of images, at least 1.
    pub images: usize,
    /// How many of them it got right.
    pub correct: usize,
    /// Mean cross-entropy.
    pub loss: f64,
}

impl Evaluation {
    /// The fraction it got right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }
}

/// Images evaluated at a time; no result depends on it.
const BATCH: usize = 256;

/// Evaluates a network with each layer's `weights` `[outputs, inputs]` on `images`.
///
/// # Errors
/// When weights or images do not fit `network`, there are no images, or its outputs are infinite or NaN.
pub fn evaluate_dense(
    engine: Engine,
    network: &Architecture,
    weights: &[Vec<f32>],
    images: Subset<'_>,
    normalisation: Normalisation,
) -> Result<Evaluation, Error> {
    check_fits(network, weights.iter().map(Vec::len), images, BATCH)?;
    let layers: Vec<_> = weights.iter().map(|weights| Weights::Dense(weights)).collect();
    evaluate(engine, network, &layers, images, normalisation)
}

/// Evaluates a pruned network on `images`, walking its kept weights only.
///
/// # Errors
/// When layers or images do not fit `network`, there are no images, or its outputs are infinite or NaN.
pub fn evaluate_pruned(
    engine: Engine,
    network: &Architecture,
    layers: &[PrunedLayer],
    images: Subset<'_>,
    normalisation: Normalisation,
) -> Result<Evaluation, Error> {
    check_fits(network, layers.iter().map(|layer| layer.weights.len()), images, BATCH)?;
    let masked = |layer: &PrunedLayer| {
        let masked = MaskedWeights::new(engine, &layer.weights, layer.shape.outputs, layer.shape.inputs)?;
        let mut masked = masked.with_path(Path::Sparse);
        masked.set_mask(engine, &layer.mask)?;
        Ok(masked)
    };
    let layers = layers.iter().map(masked).collect::<Result<Vec<_>, Error>>()?;
    let layers: Vec<_> = layers.iter().map(Weights::Masked).collect();
    evaluate(engine, network, &layers, images, normalisation)
}

fn evaluate(
    engine: Engine,
    network: &Architecture,
    layers: &[Weights<'_>],
    images: Subset<'_>,
    normalisation: Normalisation,
) -> Result<Evaluation, Error> {
    let normaliser = Normaliser::new(normalisation, engine.threads() > 1);
    // Of huge networks fewer at a time, as memory allows.
    let most = RunConfig::MAX_ACTIVATIONS / network.activations().max(1);
    if most == 0 {
        return Err(Error::config("network", format!("{network} needs too much memory for a single image")));
    }
    let capacity = BATCH.min(images.len()).min(most);
    let mut propagation = Propagation::new(engine, network, normaliser, capacity, false);
    let order: Vec<u32> = images.indices().collect();
    let (mut loss, mut correct) = (0.0, 0);
    for indices in order.chunks(capacity) {
        propagation.load(images.examples(), indices);
        for (index, &layer) in layers.iter().enumerate() {
            propagation.forward(index, layer)?;
        }
        let sum = propagation.loss(images.examples(), indices);
        loss += sum.loss;
        correct += sum.correct;
    }
    if !loss.is_finite() {
        return Err(Error::NotFinite);
    }
    Ok(Evaluation { images: order.len(), correct, loss: loss / order.len() as f64 })
}
