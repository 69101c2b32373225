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
use crate::data::{Dataset, Normalisation, NormalisationRule, Subset};
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
        // The network is the ticket's, not one asked for.
        check_network(&config.network, dataset).map_err(|error| match error {
            Error::Config { problem, .. } => Error::config("ticket", problem),
            other => other,
        })?;
        let engine = start(backend, threads)?;
        let images = Subset::all(dataset.test());
        let normalisation = dataset.normalisation(config.normalize);
        Trainer { engine, network: &config.network, images: &images, normalisation }.evaluate_pruned(layers)
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;

    use super::*;

    fn ticket() -> Ticket {
        let normalize = NormalisationRule::Given(Normalisation::new(0.25, 0.5).unwrap());
        let config = RunConfig { network: "3-2-2".parse().unwrap(), normalize, ..RunConfig::default() };
        let layer = |shape: LayerShape| PrunedLayer {
            shape,
            weights: (0..shape.weights()).map(|i| i as f32 - 1.5).collect(),
            scores: (0..shape.weights()).map(|i| i as f32 * 0.1).collect(),
            mask: PackedMask::from_fn(shape.weights(), |i| i % 2 == 0),
        };
        let layers = config.network.layers().map(layer).collect();
        Ticket { config, layers }
    }

    fn bytes(ticket: &Ticket) -> Vec<u8> {
        let NormalisationRule::Given(normalisation) = ticket.config.normalize else { unreachable!() };
        Ticket::bytes(&ticket.config, normalisation, &ticket.layers)
    }

    fn parse(change: impl FnOnce(&mut Ticket)) -> Result<Ticket, TicketProblem> {
        let mut ticket = ticket();
        change(&mut ticket);
        Ticket::parse(&bytes(&ticket))
    }

    #[test]
    fn bytes_lead_back() {
        assert_eq!(parse(|_| ()).unwrap(), ticket());
        assert_eq!(bytes(&ticket()), bytes(&ticket()));
    }

    #[test]
    fn every_cut_and_flip_is_an_error_or_harmless() {
        let bytes = bytes(&ticket());
        for cut in 0..bytes.len() {
            assert!(Ticket::parse(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let _ = Ticket::parse(&damaged); // must not panic
            }
        }
    }

    #[test]
    fn foreign_tensors_are_refused() {
        type P = TicketProblem;
        assert!(matches!(parse(|t| drop(t.layers.pop())), Err(P::Missing(name)) if name == "layer2.weight"));
        assert!(matches!(
            parse(|t| t.layers.push(t.layers[0].clone())),
            Err(P::Unexpected(name)) if name == "layer3.mask"
        ));
        assert!(matches!(
            parse(|t| t.config.network = "3-4-2".parse().unwrap()),
            Err(P::Tensor { name, .. }) if name == "layer1.weight"
        ));
        assert!(matches!(parse(|t| t.layers[1].weights[3] = f32::NAN), Err(P::NotFinite { index: 3, .. })));
        assert!(matches!(
            parse(|t| t.layers[0].scores[2] = f32::INFINITY),
            Err(P::NotFinite { index: 2, .. })
        ));
        assert!(matches!(parse(|t| t.config.sparsity = 2.0), Err(P::Configuration(_))));
    }

    #[test]
    fn other_files_are_refused() {
        let shape = || vec![1, 2];
        let view = TensorView::new(Dtype::F32, shape(), &[0; 8]).unwrap();
        let bytes = safetensors::serialize([("fc1.weight", view)], None).unwrap();
        assert!(matches!(Ticket::parse(&bytes), Err(TicketProblem::Foreign)));
        assert!(matches!(Ticket::parse(b"PK\x03\x04 something else"), Err(TicketProblem::Format(_))));
        assert!(matches!(Ticket::parse(&[0xff; 100]), Err(TicketProblem::Format(_))));

        let json =
            serde_json::to_string(&RunConfig { network: "2-1".parse().unwrap(), ..RunConfig::default() });
        let metadata = || Some(HashMap::from([(CONFIGURATION.to_owned(), json.as_ref().unwrap().clone())]));
        let with_mask = |kind, bytes: &[u8]| {
            let floats = || TensorView::new(Dtype::F32, shape(), &[0; 8]).unwrap();
            let mask = TensorView::new(kind, shape(), bytes).unwrap();
            let [weight, scores, name] = names(0);
            let all = [(weight, floats()), (scores, floats()), (name, mask)];
            Ticket::parse(&safetensors::serialize(all, metadata()).unwrap())
        };
        assert!(with_mask(Dtype::U8, &[0, 1]).is_ok());
        assert!(matches!(
            with_mask(Dtype::U8, &[1, 2]),
            Err(TicketProblem::NotAMask { index: 1, value: 2, .. })
        ));
        assert!(matches!(with_mask(Dtype::I8, &[0, 1]), Err(TicketProblem::Tensor { .. })));
    }
}
