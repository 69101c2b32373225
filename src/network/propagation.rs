//! Forward and backward through the stages of a network, for weights under a mask or not.

use slth_kernels::conv2d::{self, PackedConv2d};
use slth_kernels::matmul::{self, Activation, Epilogue, dense};
use slth_kernels::{
    Engine, ImagesMut, ImagesRef, KernelError, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions,
};

use super::architecture::Architecture;
use super::loss::{LossSum, cross_entropy};
use super::stage::Stage;
use crate::data::{Batch, Normaliser};

/// What a layer multiplies by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weights<'a> {
    /// Those of a fully connected layer as they are, none of them removed.
    Plain(&'a [f32]),
    /// Those of a fully connected layer, prepared.
    Packed(&'a PackedWeights),
    /// Those of a convolution, prepared.
    Filters(&'a PackedConv2d),
}

impl<'a> Weights<'a> {
    /// All weights of a layer: the `filters` of a convolution, or else `weights`.
    pub(crate) fn all(weights: &'a [f32], filters: Option<&'a PackedConv2d>) -> Self {
        filters.map_or(Self::Plain(weights), Self::Filters)
    }
}

/// All weights of a convolution, prepared. `None` for a fully connected layer, which multiplies by plain weights.
pub(crate) fn prepare_filters(
    engine: Engine,
    stage: Stage,
    weights: &[f32],
    options: &PrepareOptions,
) -> Result<Option<PackedConv2d>, KernelError> {
    let Stage::Convolution(shape) = stage else { return Ok(None) };
    let weights = rows(weights, shape.outputs)?;
    PackedConv2d::prepare(engine, &shape, weights, None, options).map(Some)
}

/// A layer's weights under a mask, prepared.
#[derive(Debug)]
pub(crate) enum MaskedLayer {
    Dense(Box<PackedWeights>),
    Convolution(PackedConv2d),
}

impl MaskedLayer {
    pub(crate) fn prepare(
        engine: Engine,
        stage: Stage,
        weights: &[f32],
        mask: &PackedMask,
        options: &PrepareOptions,
    ) -> Result<Self, KernelError> {
        match stage {
            Stage::Dense { outputs, .. } => {
                let weights = rows(weights, outputs)?;
                PackedWeights::prepare(engine, weights, Some(mask), options).map(Box::new).map(Self::Dense)
            }
            Stage::Convolution(shape) => {
                let weights = rows(weights, shape.outputs)?;
                PackedConv2d::prepare(engine, &shape, weights, Some(mask), options).map(Self::Convolution)
            }
            Stage::Pool(_) => unreachable!("no layer with weights"),
        }
    }

    /// Puts another mask over the weights.
    pub(crate) fn rebuild(&mut self, engine: Engine, mask: &PackedMask) -> Result<(), KernelError> {
        match self {
            Self::Dense(weights) => weights.rebuild(engine, mask),
            Self::Convolution(filters) => filters.rebuild(engine, mask),
        }
    }

    pub(crate) fn weights(&self) -> Weights<'_> {
        match self {
            Self::Dense(weights) => Weights::Packed(weights),
            Self::Convolution(filters) => Weights::Filters(filters),
        }
    }
}

/// Weights `[outputs, inputs]`.
pub(crate) fn rows(weights: &[f32], outputs: usize) -> Result<MatRef<'_>, KernelError> {
    MatRef::row_major(weights, outputs, weights.len() / outputs)
}

fn rows_mut(weights: &mut [f32], outputs: usize) -> Result<MatMut<'_>, KernelError> {
    let inputs = weights.len() / outputs;
    MatMut::row_major(weights, outputs, inputs)
}

/// Planes of a convolution's input, their rows and columns.
fn input_planes(shape: &conv2d::Shape) -> [usize; 3] {
    [shape.channels, shape.height, shape.width]
}

/// Activations `[channels, height, width, batch]`.
fn images(x: &[f32], [channels, height, width]: [usize; 3]) -> Result<ImagesRef<'_>, KernelError> {
    let batch = x.len() / (channels * height * width);
    ImagesRef::batch_innermost(x, batch, channels, height, width)
}

fn images_mut(x: &mut [f32], [channels, height, width]: [usize; 3]) -> Result<ImagesMut<'_>, KernelError> {
    let batch = x.len() / (channels * height * width);
    ImagesMut::batch_innermost(x, batch, channels, height, width)
}

/// The activations and gradients of a batch, feature-major; made once, for the largest batch.
#[derive(Debug)]
pub(crate) struct Propagation<'a> {
    engine: Engine<'a>,
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
    products: matmul::Workspace,
    convolutions: conv2d::Workspace,
}

impl<'a> Propagation<'a> {
    /// For batches of up to `capacity` images. Without `gradients` it can only evaluate.
    pub(crate) fn new(
        engine: Engine<'a>,
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
            products: matmul::Workspace::default(),
            convolutions: conv2d::Workspace::default(),
            stages,
        }
    }

    /// Takes the images of `batch`.
    pub(crate) fn load(&mut self, batch: Batch<'_>) {
        self.batch = batch.indices.len();
        let input = &mut self.activations[0][..batch.examples.features() * self.batch];
        self.normaliser.gather(self.engine, batch, input);
    }

    /// The pooling before layer `index`, and its own stage.
    fn stages_of(&self, index: usize) -> (std::ops::Range<usize>, usize) {
        let first = index.checked_sub(1).map_or(0, |before| self.layers[before] + 1);
        (first..self.layers[index], self.layers[index])
    }

    /// Computes the output of layer `index` from that of the layer before; `bias` is empty where it has none.
    pub(crate) fn forward(
        &mut self,
        index: usize,
        weights: Weights<'_>,
        bias: &[f32],
    ) -> Result<(), KernelError> {
        let (engine, batch) = (self.engine, self.batch);
        let (pooling, own) = self.stages_of(index);
        for at in pooling {
            let (before, after) = self.activations.split_at_mut(at + 1);
            let x = &before[at][..self.widths[at] * batch];
            let y = &mut after[0][..self.widths[at + 1] * batch];
            if let Stage::Pool(pool) = self.stages[at] {
                pool.forward(engine, x, batch, y);
            }
        }
        let [inputs, outputs] = [self.widths[own], self.widths[own + 1]];
        let (before, after) = self.activations.split_at_mut(own + 1);
        let (x, y) = (&before[own][..inputs * batch], &mut after[0][..outputs * batch]);
        let last = own + 1 == self.stages.len();
        let activation = if last { Activation::Identity } else { Activation::Relu };
        let bias = Some(bias).filter(|bias| !bias.is_empty());
        let epilogue = Epilogue { bias, activation, ..Epilogue::default() };
        match weights {
            Weights::Plain(weights) => {
                let (x, y) = (MatRef::row_major(x, inputs, batch)?, MatMut::row_major(y, outputs, batch)?);
                dense::forward(engine, rows(weights, outputs)?, x, &epilogue, y, &mut self.products)
            }
            Weights::Packed(weights) => {
                let (x, y) = (MatRef::row_major(x, inputs, batch)?, MatMut::row_major(y, outputs, batch)?);
                matmul::forward(engine, weights, x, &epilogue, y, &mut self.products)
            }
            Weights::Filters(filters) => {
                let (from, to) = (input_planes(&filters.shape()), self.stages[own].output_planes());
                let (x, y) = (images(x, from)?, images_mut(y, to)?);
                conv2d::forward(engine, filters, x, &epilogue, y, &mut self.convolutions)
            }
        }
    }

    /// The loss after the last layer; keeps its gradient for [`backward`](Self::backward), where there is room for it.
    pub(crate) fn loss(&mut self, Batch { examples, indices, .. }: Batch<'_>) -> LossSum {
        let last = self.stages.len();
        let width = self.widths[last] * self.batch;
        let logits = &self.activations[last][..width];
        let labels = indices.iter().map(|&image| examples.labels()[image as usize]);
        cross_entropy(logits, labels, self.gradients.last_mut().map(|gradient| &mut gradient[..width]))
    }

    /// The gradient `dw` `[outputs, inputs]` of layer `index`'s weights, removed ones too, and behind it that of its biases, where
    /// `dw` has room for them; then, except in the first layer, the gradient at the output of the layer before. Layers are walked
    /// last to first.
    pub(crate) fn backward(
        &mut self,
        index: usize,
        weights: Weights<'_>,
        dw: &mut [f32],
    ) -> Result<(), KernelError> {
        let (engine, batch) = (self.engine, self.batch);
        let (pooling, own) = self.stages_of(index);
        let [inputs, outputs] = [self.widths[own], self.widths[own + 1]];
        let (before, after) = self.gradients.split_at_mut(own);
        let (x, dy) = (&self.activations[own][..inputs * batch], &after[0][..outputs * batch]);
        // Max-pooling passes on what a ReLU lets through: x is positive where the element it came from is.
        let dx = before.last_mut().filter(|_| index > 0).map(|dx| &mut dx[..inputs * batch]);
        let shape = self.stages[own].weights().expect("a layer");
        let (dw, db) = dw.split_at_mut(shape.weights());
        if !db.is_empty() {
            // A bias is a weight whose input is 1, in every image and at every place of a plane. Lanes run over the outputs.
            let places = dy.len() / shape.outputs;
            let (ones, dy) =
                (MatRef::new(&[1.0], 1, places, 0, 0)?, MatRef::row_major(dy, shape.outputs, places)?);
            let db = MatMut::row_major(db, 1, shape.outputs)?;
            matmul::weight_gradient(engine, ones, dy, None, db, &mut self.products)?;
        }
        if let Weights::Filters(filters) = weights {
            let (shape, workspace) = (filters.shape(), &mut self.convolutions);
            let from = input_planes(&shape);
            let (x, dy) = (images(x, from)?, images(dy, self.stages[own].output_planes())?);
            conv2d::weight_gradient(engine, &shape, dy, x, rows_mut(dw, shape.outputs)?, workspace)?;
            if let Some(dx) = dx {
                let dx = images_mut(dx, from)?;
                conv2d::input_gradient(engine, filters, dy, Some(x), dx, workspace)?;
            }
        } else {
            let workspace = &mut self.products;
            let (x, dy) = (MatRef::row_major(x, inputs, batch)?, MatRef::row_major(dy, outputs, batch)?);
            matmul::weight_gradient(engine, dy, x, None, rows_mut(dw, outputs)?, workspace)?;
            let dx = dx.map(|dx| MatMut::row_major(dx, inputs, batch)).transpose()?;
            match (weights, dx) {
                (Weights::Plain(weights), Some(dx)) => {
                    let weights = rows(weights, outputs)?;
                    dense::input_gradient(engine, weights, dy, Some(x), dx, workspace)?;
                }
                (Weights::Packed(weights), Some(dx)) => {
                    matmul::input_gradient(engine, weights, dy, Some(x), dx, workspace)?;
                }
                _ => {}
            }
        }
        if index == 0 {
            return Ok(());
        }
        for at in pooling.rev() {
            let [x, y] = [at, at + 1].map(|at| &self.activations[at][..self.widths[at] * batch]);
            let (before, after) = self.gradients.split_at_mut(at);
            let (dx, dy) = (&mut before[at - 1][..x.len()], &after[0][..y.len()]);
            if let Stage::Pool(pool) = self.stages[at] {
                pool.backward(engine, [x, y], dy, batch, dx);
            }
        }
        Ok(())
    }
}
