//! Fully connected networks to approximate: read from safetensors, trained, or drawn.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use super::config::ApproximateConfig;
use crate::data::Dataset;
use crate::error::Error;
use crate::input::FileError;
use crate::network::{Architecture, Initialisation};
use crate::progress::Progress;
use crate::run::{Experiment, RunConfig, start};
use crate::tensors::{TensorEntry, TensorFile, TensorProblem, header, little_endian};

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

/// Why a file holds no such network.
pub type TargetError = FileError<TargetProblem>;

/// What is wrong with a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetProblem {
    /// It is no safetensors file, or has numbers that are not finite.
    #[error(transparent)]
    File(#[from] TensorProblem),
    /// There is nothing in it.
    #[error("no tensors")]
    Empty,
    /// A tensor is no matrix of weights.
    #[error(
        "tensor `{name}` is {found}; accuracy is measured of fully connected layers without biases alone, matrices \
         [outputs, inputs] of floating-point numbers"
    )]
    Tensor {
        /// Its name.
        name: String,
        /// What it is.
        found: String,
    },
    /// Two layers do not follow each other.
    #[error(
        "tensor `{name}` takes {inputs} inputs, but `{before}` before it (in natural order of the names) has {outputs} \
         outputs"
    )]
    Chain {
        /// The later layer.
        name: String,
        /// Its inputs.
        inputs: usize,
        /// The layer before it.
        before: String,
        /// The outputs of that.
        outputs: usize,
    },
    /// A network of a size that is not handled.
    #[error("{0}")]
    Size(String),
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
    /// When training diverges, or a backend or threads cannot be had.
    pub fn train(
        config: &ApproximateConfig,
        dataset: &Dataset,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let engine = start(config.backend, config.threads)?;
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

    /// Takes every tensor as one layer's weights `[outputs, inputs]`, in the natural order of their names (`fc2` before
    /// `fc10`). Reads no numbers unless all types and sizes are those of a network.
    ///
    /// # Errors
    /// When there is another tensor than a matrix of F16, BF16, F32 or F64, layers do not follow each other, or weights are not
    /// finite.
    pub fn of(file: &TensorFile) -> Result<Self, TargetError> {
        let mut tensors: Vec<_> = file.tensors().iter().collect();
        tensors.sort_by_key(|tensor| tensor.rank);
        let mut widths: Vec<usize> = Vec::new();
        for (index, tensor) in tensors.iter().enumerate() {
            let (&[outputs, inputs], true) = (&*tensor.info.shape, tensor.is_float()) else {
                let found = format!("{} {:?}", tensor.info.dtype, tensor.info.shape);
                return Err(file.error(TargetProblem::Tensor { name: tensor.name.clone(), found }));
            };
            if let Some(&before) = widths.last().filter(|&&before| before != inputs) {
                let (name, earlier) = (tensor.name.clone(), tensors[index - 1].name.clone());
                return Err(file.error(TargetProblem::Chain {
                    name,
                    inputs,
                    before: earlier,
                    outputs: before,
                }));
            }
            widths.extend(if index == 0 { vec![inputs, outputs] } else { vec![outputs] });
        }
        if widths.is_empty() {
            return Err(file.error(TargetProblem::Empty));
        }
        let network =
            Architecture::new(widths).map_err(|problem| file.error(TargetProblem::Size(problem)))?;
        let layer = |tensor: &&TensorEntry| file.floats(tensor, 0..tensor.elements());
        let weights = tensors.iter().map(layer).collect::<Result<_, _>>();
        let weights =
            weights.map_err(|FileError { file, problem }| FileError { file, problem: problem.into() })?;
        Ok(Self { network, names: tensors.iter().map(|tensor| tensor.name.clone()).collect(), weights })
    }

    /// Checks that it takes the images of `dataset` and tells its classes apart.
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
