//! `ticket.safetensors`: a pruned network with its scores.
//!
//! For each layer, I from 1: `layerI.weight` (f32), `layerI.scores` (f32) and `layerI.mask` (u8, 0 removed, 1 kept), each
//! `[outputs, inputs]`, or `[filters, channels, kernel rows, kernel columns]` in a convolution; where the layer has biases,
//! `layerI.bias` (f32) `[outputs]`. The metadata's one entry,
//! `configuration`, is the run's configuration as JSON. Its `normalize` has the constants found in the training data, which
//! are applied to any data that the ticket is evaluated on. The same run gives the same bytes. Scores may be missing, from all layers.
//! Compact tickets have other tensors: [`compact`].

mod compact;
mod read;

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;
use safetensors::Dtype;
use serde::Deserialize;
use slth_kernels::{Backend, PackedMask};

use super::config::{RunConfig, check_network, check_normalisation};
use super::experiment::engine;
use crate::data::{Augmentation, Dataset, Normalisation, NormalisationRule, Subset};
use crate::error::Error;
use crate::input::FileError;
use crate::tensors::{Tensor, TensorEntry, TensorFile, serialize};
use crate::training::{Evaluation, PrunedLayer, Trainer};

use read::{CONFIGURATION, floats, take};
pub use read::{TicketError, TicketProblem};

/// What the file of a ticket has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TicketKind {
    /// Weights, scores and masks
    #[default]
    Full,
    /// Masks as bits, and only those kept weights that training changed; the seed gives the others
    Compact,
}

/// A saved pruned network.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// The configuration of its run, without threads and backend, with the constants of its normalisation.
    pub config: RunConfig,
    /// Its layers, first to last. Those of a compact ticket have no scores; where training changed a layer, the removed weights are 0.
    pub layers: Vec<PrunedLayer>,
}

impl Ticket {
    /// Reads a ticket.
    ///
    /// # Errors
    /// When the file cannot be read, is not a safetensors file, was not written by slth, or its tensors are not those of the
    /// network in its configuration: missing, unexpected, of wrong kind or shape, weights or scores not finite, masks neither 0
    /// nor 1.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, TicketError> {
        let file = TensorFile::open(file).map_err(FileError::convert)?;
        Self::of(&file).map_err(|problem| file.error(problem))
    }

    /// Evaluates the ticket on the test images of `dataset`, multiplying by its kept weights only. `backend` and `threads` as in
    /// [`RunConfig`]; neither changes the result.
    ///
    /// # Errors
    /// When the data does not fit the network, or backend or threads are not available.
    pub fn evaluate(
        &self,
        dataset: &Dataset,
        backend: Option<Backend>,
        threads: Option<usize>,
    ) -> Result<Evaluation, Error> {
        let Self { config, layers } = self;
        check_network("ticket", &config.network, dataset)?;
        check_normalisation(dataset, config.normalize)?;
        let engine = engine(backend, threads)?;
        let images = Subset::all(dataset.test());
        let (network, normalisation) = (&config.network, dataset.normalisation(config.normalize));
        let augmentation = Augmentation::None;
        Trainer { engine, network, images: &images, normalisation, augmentation }.evaluate_pruned(layers)
    }

    /// The bytes of the file.
    pub(crate) fn bytes(
        kind: TicketKind,
        config: &RunConfig,
        normalisation: Normalisation,
        layers: &[PrunedLayer],
    ) -> Vec<u8> {
        let tensors = match kind {
            TicketKind::Full => tensors(layers),
            TicketKind::Compact => compact::tensors(config, layers),
        };
        let config = RunConfig { normalize: NormalisationRule::Given(normalisation), ..config.clone() };
        serialize(&tensors, CONFIGURATION, &config)
    }

    /// The bytes of a full ticket without scores, zeros for the removed weights: what other programs read.
    pub fn expanded(&self) -> Vec<u8> {
        let layer = |layer: &PrunedLayer| {
            let weights = layer.weights.iter().zip(layer.mask.iter());
            let weights = weights.map(|(&weight, keep)| if keep { weight } else { 0.0 }).collect();
            PrunedLayer { weights, scores: Vec::new(), ..layer.clone() }
        };
        let layers: Vec<_> = self.layers.iter().map(layer).collect();
        serialize(&tensors(&layers), CONFIGURATION, &self.config)
    }

    /// A ticket from the bytes of its file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(bytes: &[u8]) -> Result<Self, TicketProblem> {
        Self::of(&TensorFile::parse(bytes.to_vec())?)
    }

    fn of(file: &TensorFile) -> Result<Self, TicketProblem> {
        let json = file.metadata.get(CONFIGURATION).ok_or(TicketProblem::Foreign)?;
        let config: RunConfig =
            serde_json::from_str(json).map_err(|error| TicketProblem::Configuration(error.to_string()))?;
        config.validate().map_err(|error| TicketProblem::Configuration(error.to_string()))?;

        let mut left: BTreeMap<_, _> = file.tensors().iter().map(|entry| (&*entry.name, entry)).collect();
        let layers = if compact::is_compact(&left) {
            compact::layers(file, &mut left, &config)?
        } else {
            layers(file, &mut left, &config)?
        };
        match left.first_key_value() {
            Some((name, _)) => Err(TicketProblem::Unexpected((*name).to_owned())),
            None => Ok(Self { config, layers }),
        }
    }
}

/// The tensors of a full ticket; those without elements are left out.
fn tensors(layers: &[PrunedLayer]) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let ([weight, scores, mask, bias], size) = (names(index), layer.shape.dimensions());
        let floats = |name, size, values: &[f32]| {
            Some(Tensor::floats(name, size, values)).filter(|_| !values.is_empty())
        };
        tensors.extend(floats(weight, size.clone(), &layer.weights));
        tensors.extend(floats(scores, size, &layer.scores));
        tensors.push(Tensor::mask(mask, layer.shape, &layer.mask));
        tensors.extend(floats(bias, vec![layer.bias.len()], &layer.bias));
    }
    tensors
}

/// The layers of a full ticket. The tensors that it has are no longer among those left.
fn layers(
    file: &TensorFile,
    left: &mut BTreeMap<&str, &TensorEntry>,
    config: &RunConfig,
) -> Result<Vec<PrunedLayer>, TicketProblem> {
    let scored = left.contains_key(&*names(0)[1]);
    let mut layers = Vec::new();
    for (index, shape) in config.network.layers().enumerate() {
        let ([weight, scores, mask, bias], size) = (names(index), shape.dimensions());
        let biased = config.bias || left.contains_key(&*bias);
        let mut numbers = |name, size| floats(file, take(left, name, Dtype::F32, size)?);
        let weights = numbers(weight, size.clone())?;
        let scores = if scored { numbers(scores, size.clone())? } else { Vec::new() };
        let bias = if biased { numbers(bias, vec![shape.outputs])? } else { Vec::new() };
        let mask = packed(file, take(left, mask, Dtype::U8, size)?)?;
        layers.push(PrunedLayer { shape, weights, scores, mask, bias });
    }
    Ok(layers)
}

/// The names of a layer's tensors, `index` from 0.
fn names(index: usize) -> [String; 4] {
    ["weight", "scores", "mask", "bias"].map(|what| format!("layer{}.{what}", index + 1))
}

fn packed(file: &TensorFile, entry: &TensorEntry) -> Result<PackedMask, TicketProblem> {
    let bytes = file.bytes(entry).map_err(|error| error.problem)?;
    match bytes.iter().position(|&bit| bit > 1) {
        Some(index) => Err(TicketProblem::NotAMask { name: entry.name.clone(), index, value: bytes[index] }),
        None => Ok(PackedMask::from_fn(bytes.len(), |i| bytes[i] == 1)),
    }
}
