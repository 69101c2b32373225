//! `ticket.safetensors`: a pruned network with its scores.
//!
//! For each layer, I from 1: `layerI.weight` (f32), `layerI.scores` (f32) and `layerI.mask` (u8, 0 removed, 1 kept), each
//! `[outputs, inputs]`, or `[filters, channels, kernel rows, kernel columns]` in a convolution; where the layer has biases,
//! `layerI.bias` (f32) `[outputs]`. The metadata's one entry,
//! `configuration`, is the run's configuration as JSON. Its `normalize` has the constants found in the training data, which
//! are applied to any data that the ticket is evaluated on. The same run gives the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use slth_kernels::{Backend, PackedMask};

use super::config::{RunConfig, check_network};
use super::experiment::engine;
use crate::data::{Augmentation, Dataset, Normalisation, NormalisationRule, Subset};
use crate::error::Error;
use crate::input::FileError;
use crate::tensors::{Tensor, TensorEntry, TensorFile, TensorProblem, serialize};
use crate::training::{Evaluation, PrunedLayer, Trainer};

const CONFIGURATION: &str = "configuration";

/// Why a file is not a ticket.
pub type TicketError = FileError<TicketProblem>;

/// What is wrong with a ticket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketProblem {
    /// It is no safetensors file, or a weight or score is infinite or NaN.
    #[error(transparent)]
    File(#[from] TensorProblem),
    /// Another program wrote it.
    #[error(
        "not a ticket of slth: its metadata has no `{CONFIGURATION}`; evaluate other networks by --weights"
    )]
    Foreign,
    /// The configuration in its metadata cannot be understood.
    #[error("its configuration cannot be read: {0}")]
    Configuration(String),
    /// A tensor is missing.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// A tensor that does not belong there.
    #[error("tensor `{0}` does not belong to the network of its configuration")]
    Unexpected(String),
    /// A tensor is of another kind or shape than the network asks for.
    #[error("tensor `{name}` is {found}, expected {expected}")]
    Tensor {
        /// Its name.
        name: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A mask has another value than 0 and 1.
    #[error("tensor `{name}`: element {index} is {value}, neither 0 nor 1")]
    NotAMask {
        /// The tensor.
        name: String,
        /// Which element.
        index: usize,
        /// Its value.
        value: u8,
    },
}

/// A saved pruned network.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// The configuration of its run, without threads and backend, with the constants of its normalisation.
    pub config: RunConfig,
    /// Its layers, first to last.
    pub layers: Vec<PrunedLayer>,
}

impl Ticket {
    /// Reads a ticket.
    ///
    /// # Errors
    /// When the file cannot be read, is no safetensors file, was not written by slth, or its tensors are not those of
    /// the network in its configuration: missing, unexpected, of wrong kind or shape, weights or scores not finite, masks
    /// neither 0 nor 1.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, TicketError> {
        let file = TensorFile::open(file).map_err(FileError::convert)?;
        Self::of(&file).map_err(|problem| file.error(problem))
    }

    /// Evaluates the ticket on the test images of `dataset`, walking its kept weights only. `backend` and `threads` as
    /// in [`RunConfig`]; neither changes the result.
    ///
    /// # Errors
    /// When the data does not fit the network, or backend or threads cannot be had.
    pub fn evaluate(
        &self,
        dataset: &Dataset,
        backend: Option<Backend>,
        threads: Option<usize>,
    ) -> Result<Evaluation, Error> {
        let Self { config, layers } = self;
        check_network("ticket", &config.network, dataset)?;
        let engine = engine(backend, threads)?;
        let images = Subset::all(dataset.test());
        let (network, normalisation) = (&config.network, dataset.normalisation(config.normalize));
        let augmentation = Augmentation::None;
        Trainer { engine, network, images: &images, normalisation, augmentation }.evaluate_pruned(layers)
    }

    /// The bytes of the file.
    pub(crate) fn bytes(config: &RunConfig, normalisation: Normalisation, layers: &[PrunedLayer]) -> Vec<u8> {
        let config = RunConfig { normalize: NormalisationRule::Given(normalisation), ..config.clone() };
        let tensors = |(index, layer): (usize, &PrunedLayer)| {
            let [weight, scores, mask, bias] = names(index);
            let floats = |name, values: &[f32]| Tensor::floats(name, layer.shape.dimensions(), values);
            [
                floats(weight, &layer.weights),
                floats(scores, &layer.scores),
                Tensor::mask(mask, layer.shape, &layer.mask),
            ]
            .into_iter()
            .chain(
                (!layer.bias.is_empty()).then(|| Tensor::floats(bias, vec![layer.bias.len()], &layer.bias)),
            )
        };
        let tensors: Vec<_> = layers.iter().enumerate().flat_map(tensors).collect();
        serialize(&tensors, CONFIGURATION, &config)
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
        let floats = |entry: &TensorEntry| {
            file.floats(entry, 0..entry.elements()).map_err(|error| TicketProblem::from(error.problem))
        };
        let mut layers = Vec::new();
        for (index, shape) in config.network.layers().enumerate() {
            let ([weight, scores, mask, bias], size) = (names(index), shape.dimensions());
            let biased = config.bias || left.contains_key(&*bias);
            let mut take = |name, kind, size| take(&mut left, name, kind, size);
            layers.push(PrunedLayer {
                shape,
                weights: floats(take(weight, Dtype::F32, size.clone())?)?,
                scores: floats(take(scores, Dtype::F32, size.clone())?)?,
                mask: packed(file, take(mask, Dtype::U8, size)?)?,
                bias: if biased { floats(take(bias, Dtype::F32, vec![shape.outputs])?)? } else { Vec::new() },
            });
        }
        match left.first_key_value() {
            Some((name, _)) => Err(TicketProblem::Unexpected((*name).to_owned())),
            None => Ok(Self { config, layers }),
        }
    }
}

/// The names of a layer's tensors, `index` from 0.
fn names(index: usize) -> [String; 4] {
    ["weight", "scores", "mask", "bias"].map(|what| format!("layer{}.{what}", index + 1))
}

/// The tensor of this name, which must be of this kind and size; it is no longer among those left.
fn take<'a>(
    left: &mut BTreeMap<&str, &'a TensorEntry>,
    name: String,
    kind: Dtype,
    size: Vec<usize>,
) -> Result<&'a TensorEntry, TicketProblem> {
    match left.remove(&*name) {
        None => Err(TicketProblem::Missing(name)),
        Some(TensorEntry { info, .. }) if info.dtype != kind || info.shape != size => {
            let found = format!("{} {:?}", info.dtype, info.shape);
            Err(TicketProblem::Tensor { name, expected: format!("{kind} {size:?}"), found })
        }
        Some(entry) => Ok(entry),
    }
}

fn packed(file: &TensorFile, entry: &TensorEntry) -> Result<PackedMask, TicketProblem> {
    let bytes = file.bytes(entry).map_err(|error| error.problem)?;
    match bytes.iter().position(|&bit| bit > 1) {
        Some(index) => Err(TicketProblem::NotAMask { name: entry.name.clone(), index, value: bytes[index] }),
        None => Ok(PackedMask::from_fn(bytes.len(), |i| bytes[i] == 1)),
    }
}
