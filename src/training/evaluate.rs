//! Loss and accuracy of a network on images it does not learn from.

use slth_kernels::{Engine, PrepareOptions, Strategy};

use super::check_fits;
use super::edge_popup::PrunedLayer;
use crate::data::{Normalisation, Normaliser, Subset};
use crate::error::Error;
use crate::network::Architecture;
use crate::network::propagation::{MaskedLayer, Propagation, Weights, prepare_filters};
use crate::run::RunConfig;

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
    let batch = batch(network, images)?;
    let options = options(batch);
    let filters = network
        .layer_stages()
        .zip(weights)
        .map(|(stage, weights)| prepare_filters(engine, stage, weights, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let all = weights.iter().zip(&filters).map(|(weights, filters)| Weights::all(weights, filters.as_ref()));
    evaluate(engine, network, &all.collect::<Vec<_>>(), images, normalisation, batch)
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
    let batch = batch(network, images)?;
    let options = options(batch).strategy(Strategy::Sparse);
    let masked = network
        .layer_stages()
        .zip(layers)
        .map(|(stage, layer)| MaskedLayer::prepare(engine, stage, &layer.weights, &layer.mask, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let kept: Vec<_> = masked.iter().map(MaskedLayer::weights).collect();
    evaluate(engine, network, &kept, images, normalisation, batch)
}

/// How many of `images` are evaluated at a time: of huge networks fewer, as memory allows.
fn batch(network: &Architecture, images: Subset<'_>) -> Result<usize, Error> {
    match RunConfig::MAX_ACTIVATIONS / network.activations().max(1) {
        0 => Err(Error::config("network", format!("{network} needs too much memory for a single image"))),
        most => Ok(BATCH.min(images.len()).min(most)),
    }
}

fn options(batch: usize) -> PrepareOptions {
    PrepareOptions::default().max_batch(batch).keep_source(false)
}

fn evaluate(
    engine: Engine,
    network: &Architecture,
    layers: &[Weights<'_>],
    images: Subset<'_>,
    normalisation: Normalisation,
    batch: usize,
) -> Result<Evaluation, Error> {
    let normaliser = Normaliser::new(normalisation);
    let mut propagation = Propagation::new(engine, network, normaliser, batch, false);
    let order: Vec<u32> = images.indices().collect();
    let (mut loss, mut correct) = (0.0, 0);
    for indices in order.chunks(batch) {
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
