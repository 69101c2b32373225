//! Products with plain weights, none of them removed, for weights that change with each product, as in pretraining.

use super::call::Call;
use super::{Epilogue, Workspace, check_elements, multiply_dense};
use crate::engine::Engine;
use crate::epilogue::Finish;
use crate::error::KernelError;
use crate::view::{MatMut, MatRef};

/// Y = activation(W · X + bias): W `[outputs, inputs]`, X `[inputs, batch]` → Y `[outputs, batch]`.
///
/// O(outputs · inputs · batch) multiply-adds.
///
/// # Errors
/// When a view or the bias has another shape, or a view of stride 0 has more elements than memory could hold.
///
/// ```
/// use slth_kernels::matmul::{Activation, Epilogue, Workspace, dense};
/// use slth_kernels::{Engine, MatMut, MatRef};
/// let weights = MatRef::row_major(&[1.0, 2.0, 3.0, -4.0], 2, 2)?;
/// let (x, mut y) = ([1.0, 10.0], [0.0; 2]);
/// let (x, y_view) = (MatRef::row_major(&x, 2, 1)?, MatMut::row_major(&mut y, 2, 1)?);
/// let relu = Epilogue { activation: Activation::Relu, ..Epilogue::default() };
/// dense::forward(Engine::serial(), weights, x, &relu, y_view, &mut Workspace::default())?;
/// assert_eq!(y, [21.0, 0.0]);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn forward(
    engine: Engine,
    weights: MatRef<'_>,
    x: MatRef<'_>,
    epilogue: &Epilogue<'_>,
    y: MatMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    let ([outputs, inputs], batch) = (weights.shape(), x.cols());
    KernelError::check_shape("x", [inputs, batch], x.shape())?;
    KernelError::check_shape("y", [outputs, batch], y.shape())?;
    check_elements([weights, x])?;
    let finish = epilogue.finish(outputs)?;
    let (accumulate, scratch) = (epilogue.accumulate, &mut workspace.packed);
    multiply_dense(engine, weights, Call { x, y, accumulate, finish, scratch });
    Ok(())
}

/// dX = Wᵀ · dY: W `[outputs, inputs]`, dY `[outputs, batch]` → dX `[inputs, batch]`; `relu_output` as in
/// [`input_gradient`](super::input_gradient).
///
/// O(outputs · inputs · batch) multiply-adds.
///
/// # Errors
/// When a view has another shape, or one of stride 0 has more elements than memory could hold.
///
/// ```
/// use slth_kernels::matmul::{Workspace, dense};
/// use slth_kernels::{Engine, MatMut, MatRef};
/// let weights = MatRef::row_major(&[2.0, 3.0], 1, 2)?;
/// let (dy, x, mut dx) = ([10.0], [0.0, 5.0], [0.0; 2]);
/// let (dy, x) = (MatRef::row_major(&dy, 1, 1)?, MatRef::row_major(&x, 2, 1)?);
/// let into = MatMut::row_major(&mut dx, 2, 1)?;
/// dense::input_gradient(Engine::serial(), weights, dy, Some(x), into, &mut Workspace::default())?;
/// assert_eq!(dx, [0.0, 30.0]); // the first input's ReLU was off
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn input_gradient(
    engine: Engine,
    weights: MatRef<'_>,
    dy: MatRef<'_>,
    relu_output: Option<MatRef<'_>>,
    dx: MatMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    let ([outputs, inputs], batch) = (weights.shape(), dy.cols());
    KernelError::check_shape("dy", [outputs, batch], dy.shape())?;
    KernelError::check_shape("dx", [inputs, batch], dx.shape())?;
    check_elements([weights, dy])?;
    let finish = Finish::gradient(relu_output, [inputs, batch])?;
    let (accumulate, scratch) = (false, &mut workspace.packed);
    multiply_dense(engine, weights.t(), Call { x: dy, y: dx, accumulate, finish, scratch });
    Ok(())
}
