//! The same products with plain, unmasked weights.

use super::epilogue::Epilogue;
use super::gemm::{self, Matrix};
use super::{Activation, Shape, Workspace, relu_epilogue, vector};
use crate::engine::Engine;
use crate::error::ShapeError;

/// Y = activation(W · X): W `[outputs, inputs]`, X `[inputs, batch]` → Y `[outputs, batch]`.
///
/// # Errors
/// When a slice's length does not fit.
///
/// ```
/// use slth_kernels::Engine;
/// use slth_kernels::masked_matmul::{Activation, Shape, Workspace, dense};
/// let shape = Shape { outputs: 2, inputs: 2, batch: 1 };
/// let (weights, x, mut y) = ([1.0, 2.0, 3.0, -4.0], [1.0, 10.0], [0.0; 2]);
/// dense::forward(Engine::detect()?, shape, &weights, &x, Activation::Relu, &mut y, &mut Workspace::default())?;
/// assert_eq!(y, [21.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn forward(
    engine: Engine,
    shape: Shape,
    weights: &[f32],
    x: &[f32],
    activation: Activation,
    y: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    let Shape { outputs, inputs, batch } = shape;
    ShapeError::check("weights", &[outputs, inputs], weights.len())?;
    ShapeError::check("x", &[inputs, batch], x.len())?;
    ShapeError::check("y", &[outputs, batch], y.len())?;
    if batch == 1 && inputs > 0 {
        vector::multiply_dense(engine, weights, x, activation.into(), y);
        return Ok(());
    }
    let (weights, x) = (Matrix::new(weights, outputs, inputs), Matrix::new(x, inputs, batch));
    gemm::multiply(engine, weights, x, activation.into(), y, &mut workspace.packed);
    Ok(())
}

/// dX = Wᵀ · dY: W `[outputs, inputs]`, dY `[outputs, batch]` → dX `[inputs, batch]`; `relu_of` as in
/// [`input_gradient`](super::input_gradient).
///
/// # Errors
/// When a slice's length does not fit.
///
/// ```
/// use slth_kernels::Engine;
/// use slth_kernels::masked_matmul::{Shape, Workspace, dense};
/// let shape = Shape { outputs: 1, inputs: 2, batch: 1 };
/// let (weights, dy, x, mut dx) = ([2.0, 3.0], [10.0], [0.0, 5.0], [0.0; 2]);
/// dense::input_gradient(Engine::detect()?, shape, &weights, &dy, Some(&x), &mut dx, &mut Workspace::default())?;
/// assert_eq!(dx, [0.0, 30.0]); // the first input's ReLU was off
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn input_gradient(
    engine: Engine,
    shape: Shape,
    weights: &[f32],
    dy: &[f32],
    relu_of: Option<&[f32]>,
    dx: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    let Shape { outputs, inputs, batch } = shape;
    ShapeError::check("weights", &[outputs, inputs], weights.len())?;
    ShapeError::check("dy", &[outputs, batch], dy.len())?;
    ShapeError::check("dx", &[inputs, batch], dx.len())?;
    let epilogue: Epilogue<'_> = relu_epilogue(relu_of, inputs, batch)?;
    if batch == 1 && outputs > 0 && inputs > 0 {
        vector::multiply_dense_transposed(engine, weights, dy, epilogue, dx);
        return Ok(());
    }
    let (weights, dy) = (Matrix::new(weights, outputs, inputs), Matrix::new(dy, outputs, batch));
    gemm::multiply(engine, weights.transpose(), dy, epilogue, dx, &mut workspace.packed);
    Ok(())
}
