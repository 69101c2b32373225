//! Fully connected networks to approximate: read from safetensors, trained, or drawn.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use super::config::ApproximateConfig;
use crate::data::Dataset;
use crate::error::Error;
use crate::network::{Architecture, Initialisation};
use crate::progress::Progress;
use crate::run::{Experiment, RunConfig, StateDict, StateDictError, StateDictProblem, engine};
use crate::tensors::{TensorEntry, TensorFile, header, little_endian};

/// A fully connected network without biases, ReLU between its layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its widths.
    pub network: Architecture,
    /// The name of each layer's tensor.
    pub names: Vec<String>,
    /// Each layer's weights `[outputs, inputs]`, first to last.
    pub weights: Vec<Vec<f32>>,
}

impl Target {
    /// Reads every tensor of a safetensors file as one layer's weights, see [`of`](Self::of).
    ///
    /// # Errors
    /// When the file cannot be read, or as `of`.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self::of(&TensorFile::open(file)?)?)
    }

    /// Trains features-500-classes (784-500-10 for MNIST) on all training images of `dataset`, five epochs of SGD with
    /// momentum 0.9; with the configuration's normalisation, seed, threads and backend.
    ///
    /// # Errors
    /// When training diverges, or a backend or threads are not available.
    pub fn train(
        config: &ApproximateConfig,
        dataset: &Dataset,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let engine = engine(config.backend, config.threads)?;
        let network = Architecture::new(vec![dataset.features(), 500, dataset.classes()])
            .map_err(|problem| Error::config("data", problem))?;
        let training = RunConfig {
            network: network.clone(),
            normalize: config.normalize,
            epsilon: f32::INFINITY,
            pretrain_epochs: 5,
            pretrain_momentum: 0.9,
            pretrain_lr: 0.05,
            validation: 0,
            seed: config.seed,
            ..RunConfig::default()
        };
        let experiment = Experiment::new(&training, dataset, engine)?;
        let (trained, _) = experiment.pretrain(progress)?;
        Ok(Self::named(network, trained.weights))
    }

    /// A network of weights uniform on [−1/2, 1/2), the targets of the theorem.
    pub fn draw(network: Architecture, seed: u64) -> Self {
        let weights = Initialisation::Uniform.network(&network, 0.5, seed);
        Self::named(network, weights)
    }

    fn named(network: Architecture, weights: Vec<Vec<f32>>) -> Self {
        let names = (1..=weights.len()).map(|layer| format!("layer{layer}.weight")).collect();
        Self { network, names, weights }
    }

    /// Takes every tensor as one layer's weights, see [`StateDict::of`].
    ///
    /// # Errors
    /// As `StateDict::of`, and when there is anything but fully connected layers without biases.
    pub fn of(file: &TensorFile) -> Result<Self, StateDictError> {
        let StateDict { network, names, parameters: weights } = StateDict::of(file, None, None)?;
        match file.tensors().iter().find(|tensor| !names.contains(&tensor.name)) {
            None => Ok(Self { network, names, weights }),
            Some(TensorEntry { name, .. }) => Err(file.error(StateDictProblem::Misfit(vec![format!(
                "tensor `{name}`: accuracy needs a network of fully connected layers without biases; leave --data out to rebuild without it"
            )]))),
        }
    }

    /// Checks that it takes the images of `dataset` and has an output for each class.
    ///
    /// # Errors
    /// [`Error::Config`] of the field `target` when not.
    pub fn fits(&self, dataset: &Dataset) -> Result<(), Error> {
        crate::run::check_network("target", &self.network, dataset)
    }

    /// Its file, f32 `[outputs, inputs]` each, in memory.
    ///
    /// # Panics
    /// When two layers have one name, or one has not as many weights as the network says.
    pub fn to_tensors(&self) -> TensorFile {
        let layers = self.network.layers().zip(&self.names);
        let layers = layers.map(|(shape, name)| (&**name, Dtype::F32, shape.dimensions()));
        let mut bytes = header(layers, &BTreeMap::new());
        self.weights.iter().for_each(|weights| bytes.extend(little_endian(weights)));
        TensorFile::parse(bytes).expect("layers of distinct names, with as many weights as the network says")
    }
}
