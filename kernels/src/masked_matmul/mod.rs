//! Products with a layer's weights W `[outputs, inputs]`, dense or pruned.
//!
//! With activations X `[inputs, batch]` and the gradient dY `[outputs, batch]` of the layer's output, all row-major:
//!
//! * [`forward`]: Y = W · X
//! * [`input_gradient`]: dX = Wᵀ · dY
//! * [`weight_gradient`]: dW = dY · Xᵀ, for every weight, removed ones too, as edge-popup needs it;
//!   [`kept_weight_gradient`] for the kept ones
//!
//! [`forward`] and [`input_gradient`] walk the kept weights only; the functions of [`dense`] take plain weights. Both
//! agree as numbers where activations are finite: a removed weight would add an exact zero. Each output element is one
//! chain of fused multiply-adds in ascending order of the summed index, on every instruction set and thread count.

use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::error::ShapeError;
use crate::mask::PackedMask;
use crate::sparse::{Factor, MaskedWeights};
use epilogue::Epilogue;
use gemm::Matrix;

pub mod dense;
pub(crate) mod epilogue;
mod gemm;
pub(crate) mod rows;
mod sparse;
#[cfg(test)]
pub(crate) mod tests;
mod vector;

/// What is applied to each output element after its sum is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// max(0, y); −0 and NaN become 0.
    Relu,
}

/// The sizes of a layer's products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the weights (M).
    pub outputs: usize,
    /// Columns of the weights (K).
    pub inputs: usize,
    /// Columns of the activations (N).
    pub batch: usize,
}

/// Scratch memory of the products; keep one and hand it to every call, and calls stop allocating.
///
/// It grows to what the largest call took, and is never given back: for sparse weights 768 KiB per thread, and
/// where a thread has more than 1024 outputs and there are at most 8192 inputs, 512 bytes more for each input (for the input
/// gradient read outputs for inputs and inputs for outputs); for dense ones a copy of X or dY (its floats and at most 15 more
/// for each row), and for the input gradient of the weights too (M · K floats and at most 32 · K more); for the weight gradient a copy of Xᵀ (its
/// floats and at most 15 more for each image); for a batch of 1 next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    packed: AlignedBuffer,
}

/// Y = activation(W · X) over the kept weights: X `[inputs, batch]` → Y `[outputs, batch]`.
///
/// O(kept · batch) multiply-adds.
///
/// # Errors
/// When a slice's length does not fit.
///
/// ```
/// use slth_kernels::{Engine, MaskedWeights, PackedMask};
/// use slth_kernels::masked_matmul::{Activation, Workspace, forward};
/// let engine = Engine::detect()?;
/// let mut layer = MaskedWeights::new(engine, &[1.0, 2.0, 3.0, 4.0], 2, 2)?;
/// layer.set_mask(engine, &PackedMask::from_fn(4, |i| i != 0))?; // removes the first weight
/// let (x, mut y) = ([1.0, 10.0, 100.0, 1000.0], [0.0; 4]); // two inputs × a batch of two
/// forward(engine, &layer, &x, 2, Activation::Identity, &mut y, &mut Workspace::default())?;
/// assert_eq!(y, [200.0, 2000.0, 403.0, 4030.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn forward(
    engine: Engine,
    weights: &MaskedWeights,
    x: &[f32],
    batch: usize,
    activation: Activation,
    y: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    ShapeError::check("x", &[weights.inputs(), batch], x.len())?;
    ShapeError::check("y", &[weights.outputs(), batch], y.len())?;
    match weights.factor() {
        Factor::Sparse(weights) => {
            sparse::multiply(engine, weights, x, batch, activation.into(), y, &mut workspace.packed)
        }
        Factor::Dense(all) => {
            let shape = Shape { outputs: weights.outputs(), inputs: weights.inputs(), batch };
            dense::forward(engine, shape, all, x, activation, y, workspace)?;
        }
    }
    Ok(())
}

/// dX = Wᵀ · dY over the kept weights: dY `[outputs, batch]` → dX `[inputs, batch]`.
///
/// With `relu_of`, the activations X `[inputs, batch]` that a ReLU produced, dX is 0 wherever X is not positive: the
/// gradient before that ReLU. O(kept · batch) multiply-adds.
///
/// # Errors
/// When a slice's length does not fit, or the weights were not built by [`MaskedWeights::with_input_gradient`] (reported
/// as a transpose of length 0).
///
/// ```
/// use slth_kernels::{Engine, MaskedWeights};
/// use slth_kernels::masked_matmul::{Workspace, input_gradient};
/// let engine = Engine::detect()?;
/// let layer = MaskedWeights::with_input_gradient(engine, &[1.0, 2.0, 3.0, 4.0], 2, 2)?;
/// let (dy, mut dx) = ([1.0, 10.0], [0.0; 2]); // a batch of one
/// input_gradient(engine, &layer, &dy, 1, None, &mut dx, &mut Workspace::default())?;
/// assert_eq!(dx, [31.0, 42.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn input_gradient(
    engine: Engine,
    weights: &MaskedWeights,
    dy: &[f32],
    batch: usize,
    relu_of: Option<&[f32]>,
    dx: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    let (outputs, inputs) = (weights.outputs(), weights.inputs());
    let epilogue = relu_epilogue(relu_of, inputs, batch)?;
    ShapeError::check("dy", &[outputs, batch], dy.len())?;
    ShapeError::check("dx", &[inputs, batch], dx.len())?;
    let factor = weights.transposed_factor().ok_or(ShapeError {
        what: "transposed weights (see MaskedWeights::with_input_gradient)",
        expected: outputs * inputs,
        found: 0,
    })?;
    match factor {
        Factor::Sparse(transpose) => {
            sparse::multiply(engine, transpose, dy, batch, epilogue, dx, &mut workspace.packed)
        }
        Factor::Dense(all) => {
            let shape = Shape { outputs, inputs, batch };
            dense::input_gradient(engine, shape, all, dy, relu_of, dx, workspace)?;
        }
    }
    Ok(())
}

/// dW = dY · Xᵀ: dY `[outputs, batch]`, X `[inputs, batch]` → dW `[outputs, inputs]`, for every weight: edge-popup's
/// straight-through gradient reaches removed weights too.
///
/// O(outputs · inputs · batch) multiply-adds; each sum runs over the batch in ascending order.
///
/// # Errors
/// When a slice's length does not fit.
///
/// ```
/// use slth_kernels::Engine;
/// use slth_kernels::masked_matmul::{Shape, Workspace, weight_gradient};
/// let shape = Shape { outputs: 1, inputs: 2, batch: 2 };
/// let (dy, x, mut dw) = ([1.0, 10.0], [1.0, 2.0, 3.0, 4.0], [0.0; 2]);
/// weight_gradient(Engine::detect()?, shape, &dy, &x, &mut dw, &mut Workspace::default())?;
/// assert_eq!(dw, [21.0, 43.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn weight_gradient(
    engine: Engine,
    shape: Shape,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    let Shape { outputs, inputs, batch } = shape;
    ShapeError::check("dy", &[outputs, batch], dy.len())?;
    ShapeError::check("x", &[inputs, batch], x.len())?;
    ShapeError::check("dw", &[outputs, inputs], dw.len())?;
    let (dy, x) = (Matrix::new(dy, outputs, batch), Matrix::new(x, inputs, batch));
    gemm::multiply(engine, dy, x.transpose(), Epilogue::None, dw, &mut workspace.packed);
    Ok(())
}

/// [`weight_gradient`] of the weights that `mask` keeps, 0 for the removed ones: what training the kept weights further
/// needs.
///
/// As costly as all of it: the sums run over the batch, so that the lanes have neighbouring weights to run over, and a
/// weight left out of a tile saves nothing.
///
/// # Errors
/// When a slice's or the mask's length does not fit.
///
/// ```
/// use slth_kernels::{Engine, PackedMask};
/// use slth_kernels::masked_matmul::{Shape, Workspace, kept_weight_gradient};
/// let shape = Shape { outputs: 1, inputs: 2, batch: 2 };
/// let (dy, x, mut dw) = ([1.0, 10.0], [1.0, 2.0, 3.0, 4.0], [0.0; 2]);
/// let mask = PackedMask::from_fn(2, |i| i == 1);
/// kept_weight_gradient(Engine::detect()?, shape, &mask, &dy, &x, &mut dw, &mut Workspace::default())?;
/// assert_eq!(dw, [0.0, 43.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kept_weight_gradient(
    engine: Engine,
    shape: Shape,
    mask: &PackedMask,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    ShapeError::check("mask", &[shape.outputs, shape.inputs], mask.len())?;
    weight_gradient(engine, shape, dy, x, dw, workspace)?;
    mask.apply_on(engine, dw);
    Ok(())
}

impl From<Activation> for Epilogue<'_> {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Identity => Epilogue::None,
            Activation::Relu => Epilogue::Relu,
        }
    }
}

pub(crate) fn relu_epilogue(
    relu_of: Option<&[f32]>,
    inputs: usize,
    batch: usize,
) -> Result<Epilogue<'_>, ShapeError> {
    let Some(x) = relu_of else { return Ok(Epilogue::None) };
    ShapeError::check("relu_of", &[inputs, batch], x.len())?;
    Ok(Epilogue::ReluOf(x))
}
