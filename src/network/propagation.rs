//! Forward and backward through the stages of a network, for weights under a mask or not.

use slth_kernels::conv2d::{self, Weights};
use slth_kernels::masked_matmul::{self, Activation, Shape, dense};
use slth_kernels::{Engine, ShapeError};

use super::architecture::{Architecture, Stage};
use super::loss::{LossSum, cross_entropy};
use crate::dataset::{Examples, Normaliser};

/// The activations and gradients of a batch, feature-major; made once, for the largest batch.
#[derive(Debug)]
pub(crate) struct Propagation {
    engine: Engine,
    stages: Vec<Stage>,
    /// Which of the stages have weights.
    layers: Vec<usize>,
    normaliser: Normaliser,
    /// Widths of the input, then of the output of each stage.
    widths: Vec<usize>,
    /// The input, then the output of each stage, each `[width, batch]`.
    activations: Vec<Vec<f32>>,
    /// The gradient with respect to each stage's output, that of a layer before its ReLU.
    gradients: Vec<Vec<f32>>,
    batch: usize,
    products: masked_matmul::Workspace,
    convolutions: conv2d::Workspace,
}

impl Propagation {
    /// For batches of up to `capacity` images. Without `gradients` it can only evaluate.
    pub(crate) fn new(
        engine: Engine,
        network: &Architecture,
        normaliser: Normaliser,
        capacity: usize,
        gradients: bool,
    ) -> Self {
        let stages = network.stages().to_vec();
        let outputs = || stages.iter().map(|stage| stage.outputs());
        let widths: Vec<_> = std::iter::once(network.inputs()).chain(outputs()).collect();
        let gradients = if gradients { &widths[1..] } else { &[] };
        let room = |widths: &[usize]| widths.iter().map(|width| vec![0.0; width * capacity]).collect();
        Self {
            engine,
            layers: (0..stages.len()).filter(|&at| stages[at].weights().is_some()).collect(),
            normaliser,
            activations: room(&widths),
            gradients: room(gradients),
            widths,
            batch: 0,
            products: masked_matmul::Workspace::default(),
            convolutions: conv2d::Workspace::default(),
            stages,
        }
    }

    /// Takes the images `indices` of `examples` as the batch.
    pub(crate) fn load(&mut self, examples: &Examples, indices: &[u32]) {
        self.batch = indices.len();
        let input = &mut self.activations[0][..examples.features() * self.batch];
        self.normaliser.gather(examples, indices, input);
    }

    /// The pooling before layer `index`, and its own stage.
    fn stages_of(&self, index: usize) -> (std::ops::Range<usize>, usize) {
        let first = index.checked_sub(1).map_or(0, |before| self.layers[before] + 1);
        (first..self.layers[index], self.layers[index])
    }

    fn is_parallel(&self) -> bool {
        self.engine.threads() > 1
    }

    /// Computes the output of layer `index` from that of the layer before.
    pub(crate) fn forward<'a>(
        &mut self,
        index: usize,
        weights: impl Into<Weights<'a>>,
    ) -> Result<(), ShapeError> {
        let (engine, batch, parallel) = (self.engine, self.batch, self.is_parallel());
        let (pooling, own) = self.stages_of(index);
        for at in pooling {
            let (before, after) = self.activations.split_at_mut(at + 1);
            let x = &before[at][..self.widths[at] * batch];
            let y = &mut after[0][..self.widths[at + 1] * batch];
            if let Stage::Pool(pool) = self.stages[at] {
                pool.forward(parallel, x, batch, y);
            }
        }
        let (before, after) = self.activations.split_at_mut(own + 1);
        let x = &before[own][..self.widths[own] * batch];
        let y = &mut after[0][..self.widths[own + 1] * batch];
        let last = own + 1 == self.stages.len();
        let activation = if last { Activation::Identity } else { Activation::Relu };
        match (self.stages[own], weights.into()) {
            (Stage::Dense { inputs, outputs }, Weights::Dense(weights)) => {
                let shape = Shape { outputs, inputs, batch };
                dense::forward(engine, shape, weights, x, activation, y, &mut self.products)
            }
            (Stage::Dense { .. }, Weights::Masked(weights)) => {
                masked_matmul::forward(engine, weights, x, batch, activation, y, &mut self.products)
            }
            (Stage::Convolution(shape), weights) => {
                conv2d::forward(engine, &shape, weights, x, batch, activation, y, &mut self.convolutions)
            }
            (Stage::Pool(_), _) => unreachable!("no layer with weights"),
        }
    }

    /// The loss after the last layer; keeps its gradient for [`backward`](Self::backward), where there is room for it.
    pub(crate) fn loss(&mut self, examples: &Examples, indices: &[u32]) -> LossSum {
        let last = self.stages.len();
        let width = self.widths[last] * self.batch;
        let logits = &self.activations[last][..width];
        let labels = indices.iter().map(|&image| examples.labels()[image as usize]);
        cross_entropy(logits, labels, self.gradients.last_mut().map(|gradient| &mut gradient[..width]))
    }

    /// The gradient `dw` `[outputs, inputs]` of layer `index`'s weights, removed ones too; then, except in the first
    /// layer, the gradient at the output of the layer before. Layers are walked last to first.
    pub(crate) fn backward<'a>(
        &mut self,
        index: usize,
        weights: impl Into<Weights<'a>>,
        dw: &mut [f32],
    ) -> Result<(), ShapeError> {
        let (engine, batch, parallel) = (self.engine, self.batch, self.is_parallel());
        let (pooling, own) = self.stages_of(index);
        let (before, after) = self.gradients.split_at_mut(own);
        let dy = &after[0][..self.widths[own + 1] * batch];
        let x = &self.activations[own][..self.widths[own] * batch];
        match self.stages[own] {
            Stage::Dense { inputs, outputs } => {
                let shape = Shape { outputs, inputs, batch };
                masked_matmul::weight_gradient(engine, shape, dy, x, dw, &mut self.products)?;
            }
            Stage::Convolution(shape) => {
                conv2d::weight_gradient(engine, &shape, dy, x, batch, dw, &mut self.convolutions)?;
            }
            Stage::Pool(_) => unreachable!("no layer with weights"),
        }
        if index == 0 {
            return Ok(());
        }
        // Max-pooling passes on what a ReLU lets through: x is positive where the element it came from is.
        let (relu_of, dx) = (Some(x), &mut before[own - 1][..x.len()]);
        match (self.stages[own], weights.into()) {
            (Stage::Dense { inputs, outputs }, Weights::Dense(weights)) => {
                let shape = Shape { outputs, inputs, batch };
                dense::input_gradient(engine, shape, weights, dy, relu_of, dx, &mut self.products)?;
            }
            (Stage::Dense { .. }, Weights::Masked(weights)) => {
                masked_matmul::input_gradient(engine, weights, dy, batch, relu_of, dx, &mut self.products)?;
            }
            (Stage::Convolution(shape), weights) => {
                let workspace = &mut self.convolutions;
                conv2d::input_gradient(engine, &shape, weights, dy, batch, relu_of, dx, workspace)?;
            }
            (Stage::Pool(_), _) => unreachable!("no layer with weights"),
        }
        for at in pooling.rev() {
            let [x, y] = [at, at + 1].map(|at| &self.activations[at][..self.widths[at] * batch]);
            let (before, after) = self.gradients.split_at_mut(at);
            let (dx, dy) = (&mut before[at - 1][..x.len()], &mut after[0][..y.len()]);
            if let Stage::Pool(pool) = self.stages[at] {
                pool.backward(parallel, [x, y], dy, batch, dx);
            }
        }
        Ok(())
    }
}
