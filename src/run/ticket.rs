//! `ticket.safetensors`: a pruned network with its scores.
//!
//! For each layer, I from 1: `layerI.weight` (f32), `layerI.scores` (f32) and `layerI.mask` (u8, 0 removed, 1 kept), each
//! `[outputs, inputs]`, or `[filters, channels, kernel rows, kernel columns]` in a convolution. The metadata's one entry,
//! `configuration`, is the run's configuration as JSON. Its `normalize` has the constants found in the training data, which
//! are applied to any data that the ticket is evaluated on. The same run gives the same bytes.

use std::collections::HashSet;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use slth_kernels::{Backend, PackedMask};

use super::config::{RunConfig, check_network};
use super::experiment::start;
use crate::data::{Augmentation, Dataset, Normalisation, NormalisationRule, Subset};
use crate::error::Error;
use crate::input::FileError;
use crate::network::LayerShape;
use crate::tensors::{Tensor, finite, serialize};
use crate::training::{Evaluation, PrunedLayer, Trainer};

const CONFIGURATION: &str = "configuration";

/// Why a file is not a ticket.
pub type TicketError = FileError<TicketProblem>;

/// What is wrong with a ticket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketProblem {
    /// The system refused to read, or it is a directory, a device or a pipe.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is damaged, or of another format.
    #[error("not a valid safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// Another program wrote it.
    #[error("not a ticket of slth: its metadata has no `{CONFIGURATION}`")]
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
    /// A weight or score is infinite or NaN.
    #[error("tensor `{name}`: element {index} is {value}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Which element.
        index: usize,
        /// Its value.
        value: f32,
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
        crate::input::parse(file.as_ref(), Self::parse)
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
        let engine = start(backend, threads)?;
        let images = Subset::all(dataset.test());
        let (network, normalisation) = (&config.network, dataset.normalisation(config.normalize));
        let augmentation = Augmentation::None;
        Trainer { engine, network, images: &images, normalisation, augmentation }.evaluate_pruned(layers)
    }

    /// The bytes of the file.
    pub(crate) fn bytes(config: &RunConfig, normalisation: Normalisation, layers: &[PrunedLayer]) -> Vec<u8> {
        let config = RunConfig { normalize: NormalisationRule::Given(normalisation), ..config.clone() };
        let tensors = |(index, layer): (usize, &PrunedLayer)| {
            let [weight, scores, mask] = names(index);
            [
                Tensor::floats(weight, layer.shape, &layer.weights),
                Tensor::floats(scores, layer.shape, &layer.scores),
                Tensor::mask(mask, layer.shape, &layer.mask),
            ]
        };
        let tensors: Vec<_> = layers.iter().enumerate().flat_map(tensors).collect();
        serialize(&tensors, CONFIGURATION, &config)
    }

    /// A ticket from the bytes of its file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(bytes: &[u8]) -> Result<Self, TicketProblem> {
        let tensors = SafeTensors::deserialize(bytes)?;
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let json = header.metadata().as_ref().and_then(|entries| entries.get(CONFIGURATION));
        let json = json.ok_or(TicketProblem::Foreign)?;
        let config: RunConfig =
            serde_json::from_str(json).map_err(|error| TicketProblem::Configuration(error.to_string()))?;
        config.validate().map_err(|error| TicketProblem::Configuration(error.to_string()))?;

        let layers: Vec<_> = config.network.layers().collect();
        let expected: HashSet<_> = (0..layers.len()).flat_map(names).collect();
        let mut found = tensors.names();
        found.sort_unstable();
        if let Some(name) = found.iter().find(|&&name| !expected.contains(name)) {
            return Err(TicketProblem::Unexpected((*name).to_owned()));
        }
        let read = |(index, shape)| {
            let [weight, scores, mask] = names(index);
            Ok(PrunedLayer {
                shape,
                weights: floats(&tensors, weight, shape)?,
                scores: floats(&tensors, scores, shape)?,
                mask: packed(&tensors, mask, shape)?,
            })
        };
        let layers = layers.into_iter().enumerate().map(read).collect::<Result<_, TicketProblem>>()?;
        Ok(Self { config, layers })
    }
}

/// The names of a layer's tensors, `index` from 0.
fn names(index: usize) -> [String; 3] {
    ["weight", "scores", "mask"].map(|what| format!("layer{}.{what}", index + 1))
}

fn tensor<'a>(
    tensors: &SafeTensors<'a>,
    name: &str,
    kind: Dtype,
    shape: LayerShape,
) -> Result<&'a [u8], TicketProblem> {
    let view = tensors.tensor(name).map_err(|_| TicketProblem::Missing(name.to_owned()))?;
    let size = shape.dimensions();
    if view.dtype() != kind || view.shape() != size {
        return Err(TicketProblem::Tensor {
            name: name.to_owned(),
            expected: format!("{kind} {size:?}"),
            found: format!("{} {:?}", view.dtype(), view.shape()),
        });
    }
    Ok(view.data())
}

fn floats(tensors: &SafeTensors<'_>, name: String, shape: LayerShape) -> Result<Vec<f32>, TicketProblem> {
    let bytes = tensor(tensors, &name, Dtype::F32, shape)?;
    finite(Dtype::F32, bytes).map_err(|(index, value)| TicketProblem::NotFinite { name, index, value })
}

fn packed(tensors: &SafeTensors<'_>, name: String, shape: LayerShape) -> Result<PackedMask, TicketProblem> {
    let bytes = tensor(tensors, &name, Dtype::U8, shape)?;
    match bytes.iter().position(|&bit| bit > 1) {
        Some(index) => Err(TicketProblem::NotAMask { name, index, value: bytes[index] }),
        None => Ok(PackedMask::from_fn(bytes.len(), |i| bytes[i] == 1)),
    }
}
