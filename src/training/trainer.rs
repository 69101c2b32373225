//! The inputs of every training and evaluation.

use slth_kernels::Engine;

use super::pruning::check_weights;
use crate::data::{Augmentation, Normalisation, Normaliser, Subset};
use crate::error::Error;
use crate::network::Architecture;

/// Trains a network on images, and evaluates it. The methods are in the files of their subjects.
#[derive(Clone, Copy, Debug)]
pub struct Trainer<'a> {
    /// The engine, which changes no bit of any result.
    pub engine: Engine<'a>,
    /// The layers.
    pub network: &'a Architecture,
    /// The images to train or evaluate on.
    pub images: &'a Subset<'a>,
    /// How their pixels become inputs.
    pub normalisation: Normalisation,
    /// How training changes them. Evaluation does not change them.
    pub augmentation: Augmentation,
}

impl<'a> Trainer<'a> {
    /// The same for other images.
    pub fn on(self, images: &'a Subset<'a>) -> Self {
        Self { images, ..self }
    }

    pub(super) fn normaliser(&self) -> Normaliser {
        Normaliser::new(self.normalisation)
    }

    /// Checks that layers of this many `weights` and the images fit the network, and that there are images. Returns the number of
    /// images per step: `batch`, or all if there are fewer.
    pub(super) fn check(
        &self,
        weights: impl ExactSizeIterator<Item = usize>,
        batch: usize,
    ) -> Result<usize, Error> {
        let Self { network, images, .. } = *self;
        check_weights(network, weights)?;
        let (inputs, pixels) = (network.inputs(), images.examples().features());
        if inputs != pixels {
            let problem = format!("{network} takes {inputs} inputs, but the images have {pixels} pixels");
            return Err(Error::config("network", problem));
        }
        let outputs = network.outputs();
        if let Some(label) = images.labels().max().filter(|&label| usize::from(label) >= outputs) {
            let problem = format!("{network} has {outputs} outputs, too few for an image of label {label}");
            return Err(Error::config("network", problem));
        }
        if images.is_empty() {
            return Err(Error::config("images", "there are none"));
        }
        Error::check("batch", batch > 0, "be at least 1", batch)?;
        Ok(batch.min(images.len()))
    }
}
