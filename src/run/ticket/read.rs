//! What is read of a ticket, and what can be wrong with it.

use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::input::FileError;
use crate::tensors::{TensorEntry, TensorFile, TensorProblem};

/// The metadata's one entry.
pub(super) const CONFIGURATION: &str = "configuration";

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
    /// The configuration in its metadata cannot be parsed.
    #[error("its configuration cannot be read: {0}")]
    Configuration(String),
    /// A tensor is missing.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// A tensor does not belong to the network.
    #[error("tensor `{0}` does not belong to the network of its configuration")]
    Unexpected(String),
    /// A tensor has another type or shape than the network requires.
    #[error("tensor `{name}` is {found}, expected {expected}")]
    Tensor {
        /// Its name.
        name: String,
        /// The expected type and shape.
        expected: String,
        /// The type and shape found.
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
    /// A mask of bits has a bit for a weight that is not there.
    #[error("tensor `{0}` has bits beyond the last weight")]
    MaskTooLong(String),
    /// A compact ticket leaves out weights that this version does not draw.
    #[error(
        "this version of slth draws other weights from the seed: use the version that wrote the ticket, for example for `slth ticket expand`"
    )]
    DrawnOtherwise,
}

/// The tensor of this name, which must be of this kind and size; it is no longer among those left.
pub(super) fn take<'a>(
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

/// All numbers of a tensor.
pub(super) fn floats(file: &TensorFile, entry: &TensorEntry) -> Result<Vec<f32>, TicketProblem> {
    Ok(file.floats(entry, 0..entry.elements()).map_err(|error| error.problem)?)
}
