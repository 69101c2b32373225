//! Forward and backward through the layers, for weights under a mask or not.

use slth_kernels::masked_matmul::{self, Activation, Shape, Workspace, dense};
use slth_kernels::{Engine, MaskedWeights, ShapeError};

use super::loss::{LossSum, cross_entropy};
use super::{Architecture, LayerShape};
use crate::dataset::{Examples, Normaliser};

/// A layer's two products with its weights; the third, the weight gradient, needs no weights.
pub(crate) trait Layer {
    /// y = activation(W · x)
    fn forward(
        &self,
        engine: Engine,
        x: &[f32],
        batch: usize,
        activation: Activation,
        y: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), ShapeError>;

    /// dx = Wᵀ · dy, and 0 where the ReLU that made x gave 0.
    fn input_gradient(
        &self,
        engine: Engine,
        dy: &[f32],
        batch: usize,
        relu_of: &[f32],
        dx: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), ShapeError>;
}

impl Layer for MaskedWeights {
    fn forward(
        &self,
        engine: Engine,
        x: &[f32],
        batch: usize,
        activation: Activation,
        y: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), ShapeError> {
        masked_matmul::forward(engine, self, x, batch, activation, y, workspace)
    }

    fn input_gradient(
        &self,
        engine: Engine,
        dy: &[f32],
        batch: usize,
        relu_of: &[f32],
        dx: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), ShapeError> {
        masked_matmul::input_gradient(engine, self, dy, batch, Some(relu_of), dx, workspace)
    }
}

/// Weights without a mask.
#[derive(Clone, Debug)]
pub(crate) struct DenseWeights<'a> {
    pub(crate) shape: LayerShape,
    pub(crate) weights: &'a [f32],
}

impl DenseWeights<'_> {
    fn with_batch(&self, batch: usize) -> Shape {
        Shape { outputs: self.shape.outputs, inputs: self.shape.inputs, batch }
    }
}

impl Layer for DenseWeights<'_> {
    fn forward(
        &self,
        engine: Engine,
        x: &[f32],
        batch: usize,
        activation: Activation,
        y: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), ShapeError> {
        dense::forward(engine, self.with_batch(batch), self.weights, x, activation, y, workspace)
    }

    fn input_gradient(
        &self,
        engine: Engine,
        dy: &[f32],
        batch: usize,
        relu_of: &[f32],
        dx: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), ShapeError> {
        dense::input_gradient(engine, self.with_batch(batch), self.weights, dy, Some(relu_of), dx, workspace)
    }
}

/// The activations and gradients of a batch, feature-major; made once, for the largest batch.
#[derive(Debug)]
pub(crate) struct Propagation {
    engine: Engine,
    shapes: Vec<LayerShape>,
    normaliser: Normaliser,
    /// The input, then the output of each layer, each `[width, batch]`.
    activations: Vec<Vec<f32>>,
    /// The gradient with respect to each layer's output before its ReLU.
    gradients: Vec<Vec<f32>>,
    batch: usize,
    workspace: Workspace,
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
        let shapes: Vec<_> = network.layers().collect();
        let outputs = || shapes.iter().map(|shape| vec![0.0; shape.outputs * capacity]);
        Self {
            engine,
            normaliser,
            activations: std::iter::once(vec![0.0; network.inputs() * capacity]).chain(outputs()).collect(),
            gradients: if gradients { outputs().collect() } else { Vec::new() },
            batch: 0,
            workspace: Workspace::default(),
            shapes,
        }
    }

    /// Takes the images `indices` of `examples` as the batch.
    pub(crate) fn load(&mut self, examples: &Examples, indices: &[u32]) {
        self.batch = indices.len();
        let input = &mut self.activations[0][..examples.features() * self.batch];
        self.normaliser.gather(examples, indices, input);
    }

    /// Computes the output of layer `index` from that of the layer before.
    pub(crate) fn forward(&mut self, index: usize, layer: &impl Layer) -> Result<(), ShapeError> {
        let (batch, shape) = (self.batch, self.shapes[index]);
        let (before, after) = self.activations.split_at_mut(index + 1);
        let x = &before[index][..shape.inputs * batch];
        let y = &mut after[0][..shape.outputs * batch];
        let last = index + 1 == self.shapes.len();
        let activation = if last { Activation::Identity } else { Activation::Relu };
        layer.forward(self.engine, x, batch, activation, y, &mut self.workspace)
    }

    /// The loss after the last layer; keeps its gradient for [`backward`](Self::backward), where there is room for it.
    pub(crate) fn loss(&mut self, examples: &Examples, indices: &[u32]) -> LossSum {
        let width = self.shapes.last().map_or(0, |shape| shape.outputs) * self.batch;
        let logits = &self.activations[self.shapes.len()][..width];
        let labels = indices.iter().map(|&image| examples.labels()[image as usize]);
        cross_entropy(logits, labels, self.gradients.last_mut().map(|gradient| &mut gradient[..width]))
    }

    /// The gradient `dw` `[outputs, inputs]` of layer `index`'s weights, removed ones too; then, except in the first
    /// layer, the gradient at the output of the layer before. Layers are walked last to first.
    pub(crate) fn backward(
        &mut self,
        index: usize,
        layer: &impl Layer,
        dw: &mut [f32],
    ) -> Result<(), ShapeError> {
        let (batch, LayerShape { outputs, inputs }) = (self.batch, self.shapes[index]);
        let (before, own) = self.gradients.split_at_mut(index);
        let dy = &own[0][..outputs * batch];
        let x = &self.activations[index][..inputs * batch];
        let shape = Shape { outputs, inputs, batch };
        masked_matmul::weight_gradient(self.engine, shape, dy, x, dw, &mut self.workspace)?;
        match before.last_mut() {
            Some(dx) => {
                let dx = &mut dx[..inputs * batch];
                layer.input_gradient(self.engine, dy, batch, x, dx, &mut self.workspace)
            }
            None => Ok(()),
        }
    }
}
