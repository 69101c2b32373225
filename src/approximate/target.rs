//! Networks to approximate: read from safetensors, trained, or drawn.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::config::ApproximateConfig;
use crate::data::Dataset;
use crate::error::Error;
use crate::input::FileError;
use crate::network::{Architecture, Initialisation, LayerShape};
use crate::progress::Progress;
use crate::run::{Experiment, RunConfig, start};
use crate::tensors::finite;

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

/// Why a file holds no network to approximate.
pub type TargetError = FileError<TargetProblem>;

/// What is wrong with a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetProblem {
    /// The system refused to read, or it is a directory, a device or a pipe.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is damaged, or of another format.
    #[error("not a valid safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// There is nothing in it.
    #[error("no tensors")]
    Empty,
    /// A tensor is no matrix of weights.
    #[error(
        "tensor `{name}` is {found}; only fully connected layers without biases are approximated, f32 or f64 weights \
         [outputs, inputs]"
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
    /// A weight is infinite or NaN.
    #[error("tensor `{name}`: element {index} is {value}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Which element.
        index: usize,
        /// Its value, in f32.
        value: f32,
    },
}

impl Target {
    /// Reads every tensor of a safetensors file as one layer's weights `[outputs, inputs]`, in the natural order of their
    /// names (`fc2` before `fc10`).
    ///
    /// # Errors
    /// When the file cannot be read, is no safetensors file, has other tensors than f32 or f64 matrices, layers that do not
    /// follow each other, or weights that are not finite.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, TargetError> {
        crate::input::parse(file.as_ref(), Self::parse)
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

    /// The least and the largest weight of all.
    pub fn range(&self) -> [f32; 2] {
        let all = self.weights.iter().flatten();
        all.fold([f32::INFINITY, f32::NEG_INFINITY], |[least, most], &w| [least.min(w), most.max(w)])
    }

    /// A network from the bytes of its file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(bytes: &[u8]) -> Result<Self, TargetProblem> {
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut names: Vec<String> = tensors.names().into_iter().map(ToOwned::to_owned).collect();
        names.sort_by(|a, b| natural(a).cmp(&natural(b)));
        let mut shapes: Vec<LayerShape> = Vec::new();
        let mut weights = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let view = tensors.tensor(name)?;
            let (&[outputs, inputs], Dtype::F32 | Dtype::F64) = (view.shape(), view.dtype()) else {
                let found = format!("{} {:?}", view.dtype(), view.shape());
                return Err(TargetProblem::Tensor { name: name.clone(), found });
            };
            if let Some(before) = shapes.last().filter(|before| before.outputs != inputs) {
                return Err(TargetProblem::Chain {
                    name: name.clone(),
                    inputs,
                    before: names[index - 1].clone(),
                    outputs: before.outputs,
                });
            }
            shapes.push(LayerShape::new(outputs, inputs));
            let numbers = finite(view.dtype(), view.data());
            weights.push(numbers.map_err(|(index, value)| TargetProblem::NotFinite {
                name: name.clone(),
                index,
                value,
            })?);
        }
        let first = shapes.first().ok_or(TargetProblem::Empty)?.inputs;
        let widths = [first].into_iter().chain(shapes.iter().map(|shape| shape.outputs)).collect();
        let network = Architecture::new(widths).map_err(TargetProblem::Size)?;
        Ok(Self { network, names, weights })
    }
}

/// What sorts names naturally: by their bytes, runs of digits as numbers.
fn natural(name: &str) -> impl Ord {
    let runs = name.as_bytes().chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit());
    let parts = runs.map(|run| {
        let zeros = run.iter().take_while(|&&byte| byte == b'0').count();
        if run[0].is_ascii_digit() { (b'0', run.len() - zeros, &run[zeros..]) } else { (run[0], 0, &[][..]) }
    });
    (parts.collect::<Vec<_>>(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_naturally() {
        let mut names =
            ["fc10.weight", "fc2.weight", "fc1.weight", "a", "fc01.weight", "fc", "fc2", "layer.9.w", ""];
        names.sort_by(|a, b| natural(a).cmp(&natural(b)));
        let sorted =
            ["", "a", "fc", "fc01.weight", "fc1.weight", "fc2", "fc2.weight", "fc10.weight", "layer.9.w"];
        assert_eq!(names, sorted);
        assert!(natural("x00000000000000000000000002") > natural("x1"));
    }
}
