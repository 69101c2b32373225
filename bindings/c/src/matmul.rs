//! Products

use std::sync::RwLock;

use slth_kernels::matmul::{self, dense};
use slth_kernels::{Activation, Epilogue, KernelError, MatRef};

use crate::engine::slth_engine;
use crate::handle::{self, handle};
use crate::memory::{Block, Extensible, check_pointer, slice, structure};
use crate::status::{Failure, guard, slth_status};
use crate::views::{slth_matrix, slth_matrix_mut};
use crate::weights::{masked, slth_weights};

/// Scratch memory of products and convolutions. Keep one for each calling thread and hand it to every call: then calls on one
/// thread stop allocating. It grows to what the largest call took: 768 KiB per thread and more for blocked weights, copies of
/// the operands for dense ones and convolutions.
pub struct slth_workspace(RwLock<Workspaces>);

/// One of each kind, so that a thread has a single handle.
#[derive(Default)]
pub(crate) struct Workspaces {
    pub(crate) matmul: matmul::Workspace,
    pub(crate) conv2d: slth_kernels::conv2d::Workspace,
}

handle!(slth_workspace(Workspaces) = "workspace");

/// A new workspace, which takes no memory before its first call; to be freed by slth_workspace_free.
#[unsafe(no_mangle)]
pub extern "C" fn slth_workspace_new() -> *mut slth_workspace {
    handle::into_raw(Workspaces::default())
}

/// Frees a workspace; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_workspace_free(workspace: *mut slth_workspace) {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::free(workspace) }
}

/// What a product applies to each output element: SLTH_IDENTITY or SLTH_RELU.
pub type slth_activation = u32;

/// Nothing.
pub const SLTH_IDENTITY: slth_activation = 0;
/// max(0, y); -0 and NaN become 0.
pub const SLTH_RELU: slth_activation = 1;

/// What a product does beside multiplying: y = activation(sum + bias). NULL in its place: nothing.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_epilogue {
    /// sizeof(slth_epilogue).
    pub size: usize,
    /// One number for each output (plane of a convolution), added to the complete sum. NULL: none.
    pub bias: *const f32,
    /// Applied after the bias.
    pub activation: slth_activation,
    /// Not 0: sums start from what y holds, which must be initialised. 0: they start from 0.
    pub accumulate: u32,
}

// SAFETY: a size first, and three fields that are valid whatever their bits are; `no_padding` holds.
unsafe impl Extensible for slth_epilogue {
    const NAME: &'static str = "epilogue";
    const FIRST_SIZE: usize = 2 * size_of::<usize>() + 8;
}

const _: () = assert!(size_of::<slth_epilogue>() == 2 * size_of::<usize>() + 8, "padding");

impl slth_epilogue {
    /// The epilogue of a product of so many outputs.
    ///
    /// # Safety
    /// `epilogue` must be NULL or a structure as [`structure`] asks for, with a bias of as many floats, or none.
    pub(crate) unsafe fn read<'a>(epilogue: *const Self, outputs: usize) -> Result<Epilogue<'a>, Failure> {
        // SAFETY: as promised.
        let Self { bias, activation, accumulate, .. } = unsafe { structure(epilogue)? };
        let activation = match activation {
            SLTH_IDENTITY => Activation::Identity,
            SLTH_RELU => Activation::Relu,
            _ => {
                return Err(Failure::out_of_range(
                    "epilogue.activation",
                    "SLTH_IDENTITY or SLTH_RELU",
                    activation,
                ));
            }
        };
        // SAFETY: as promised.
        let bias = if bias.is_null() { None } else { Some(unsafe { slice("bias", bias, outputs)? }) };
        Ok(Epilogue { bias, activation, accumulate: accumulate != 0 })
    }
}

/// y = activation(x * W^T + bias) over the kept weights W: x `[batch, inputs]`, y `[batch, outputs]`.
///
/// - epilogue: bias, activation, accumulation. NULL: none of them.
///
/// Takes O(kept * batch) multiply-adds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_matmul_forward(
    engine: *const slth_engine,
    weights: *const slth_weights,
    x: slth_matrix,
    epilogue: *const slth_epilogue,
    y: slth_matrix_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let weights = handle::read(weights)?;
            let epilogue = slth_epilogue::read(epilogue, weights.outputs())?;
            let (x, y) = (Block::of("x", x)?, Block::of_mut("y", y)?);
            y.check_apart(&x)?;
            y.check_apart(&Block::bias(&epilogue)?)?;
            let (x, y) = (x.read()?.t(), y.write(epilogue.accumulate)?.t());
            matmul::forward(engine, &weights, x, &epilogue, y, &mut workspace.matmul).map_err(batch_major)
        }
    })
}

/// dx = dy * W over the kept weights W: dy `[batch, outputs]`, dx `[batch, inputs]`.
///
/// - relu_output: the activations `[batch, inputs]` that a ReLU produced; dx is 0 wherever they are not positive: the
///   gradient before that ReLU. NULL: there was none.
///
/// Takes O(kept * batch) multiply-adds. Returns SLTH_NO_INPUT_GRADIENT for weights prepared without SLTH_INPUT_GRADIENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_matmul_input_gradient(
    engine: *const slth_engine,
    weights: *const slth_weights,
    dy: slth_matrix,
    relu_output: *const slth_matrix,
    dx: slth_matrix_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let weights = handle::read(weights)?;
            let (dy, dx) = (Block::of("dy", dy)?, Block::of_mut("dx", dx)?);
            dx.check_apart(&dy)?;
            let relu_output = relu_output_of(relu_output, &dx)?;
            let (dy, dx) = (dy.read()?.t(), dx.write(false)?.t());
            matmul::input_gradient(engine, &weights, dy, relu_output, dx, &mut workspace.matmul)
                .map_err(batch_major)
        }
    })
}

/// The gradient of the weights, dw = dy^T * x: dy `[batch, outputs]`, x `[batch, inputs]`, dw `[outputs, inputs]`.
///
/// - mask: the gradients of weights that it removes become 0; ceil(outputs * inputs / 64) words. NULL: the gradient of every
///   weight, which edge-popup needs.
///
/// Takes O(outputs * inputs * batch) multiply-adds, with a mask too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_matmul_weight_gradient(
    engine: *const slth_engine,
    dy: slth_matrix,
    x: slth_matrix,
    mask: *const u64,
    dw: slth_matrix_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let (mask_words, weight_count) = (mask, dw.rows.saturating_mul(dw.cols));
            let mask = masked("mask", mask, dw.rows, dw.cols)?.map(|mask| mask.to_owned());
            let (dy, x, dw) = (Block::of("dy", dy)?, Block::of("x", x)?, Block::of_mut("dw", dw)?);
            dw.check_apart_from_mask(mask_words, weight_count)?;
            dw.check_apart(&dy)?;
            dw.check_apart(&x)?;
            let (dy, x, dw) = (dy.read()?.t(), x.read()?.t(), dw.write(false)?);
            matmul::weight_gradient(engine, dy, x, mask.as_ref(), dw, &mut workspace.matmul)
                .map_err(batch_major)
        }
    })
}

/// The gradient of edge-popup's scores through the straight-through estimator, ds = sign(scores) * W * dw elementwise, with
/// dw = dy^T * x: dy `[batch, outputs]`, x `[batch, inputs]`; weights W, scores and ds `[outputs, inputs]`; sign(0) = 0.
///
/// Takes O(outputs * inputs * batch) multiply-adds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_matmul_score_gradient(
    engine: *const slth_engine,
    dy: slth_matrix,
    x: slth_matrix,
    weights: slth_matrix,
    scores: slth_matrix,
    ds: slth_matrix_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let ds = Block::of_mut("ds", ds)?;
            let [dy, x] = [Block::of("dy", dy)?, Block::of("x", x)?];
            let [weights, scores] = [Block::of("weights", weights)?, Block::of("scores", scores)?];
            [&dy, &x, &weights, &scores].into_iter().try_for_each(|read| ds.check_apart(read))?;
            let (dy, x, weights, scores) = (dy.read()?.t(), x.read()?.t(), weights.read()?, scores.read()?);
            matmul::score_gradient(engine, dy, x, weights, scores, ds.write(false)?, &mut workspace.matmul)
                .map_err(batch_major)
        }
    })
}

/// As slth_matmul_forward, with plain weights `[outputs, inputs]` that change with each product, none of them removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_matmul_dense_forward(
    engine: *const slth_engine,
    weights: slth_matrix,
    x: slth_matrix,
    epilogue: *const slth_epilogue,
    y: slth_matrix_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let epilogue = slth_epilogue::read(epilogue, weights.rows)?;
            let y = Block::of_mut("y", y)?;
            let [weights, x] = [Block::of("weights", weights)?, Block::of("x", x)?];
            [&weights, &x].into_iter().try_for_each(|read| y.check_apart(read))?;
            y.check_apart(&Block::bias(&epilogue)?)?;
            let (weights, x, y) = (weights.read()?, x.read()?.t(), y.write(epilogue.accumulate)?.t());
            dense::forward(engine, weights, x, &epilogue, y, &mut workspace.matmul).map_err(batch_major)
        }
    })
}

/// As slth_matmul_input_gradient, with plain weights `[outputs, inputs]`, none of them removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_matmul_dense_input_gradient(
    engine: *const slth_engine,
    weights: slth_matrix,
    dy: slth_matrix,
    relu_output: *const slth_matrix,
    dx: slth_matrix_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let dx = Block::of_mut("dx", dx)?;
            let [weights, dy] = [Block::of("weights", weights)?, Block::of("dy", dy)?];
            [&weights, &dy].into_iter().try_for_each(|read| dx.check_apart(read))?;
            let relu_output = relu_output_of(relu_output, &dx)?;
            let (weights, dy, dx) = (weights.read()?, dy.read()?.t(), dx.write(false)?.t());
            dense::input_gradient(engine, weights, dy, relu_output, dx, &mut workspace.matmul)
                .map_err(batch_major)
        }
    })
}

/// The activations of a ReLU, features by batch, or none behind NULL; apart from the gradient that is written.
///
/// # Safety
/// `relu_output` must be NULL or point to a matrix as [`Block::read`] asks for.
unsafe fn relu_output_of<'a>(
    relu_output: *const slth_matrix,
    dx: &Block<2>,
) -> Result<Option<MatRef<'a>>, Failure> {
    if relu_output.is_null() {
        return Ok(None);
    }
    check_pointer("relu_output", relu_output)?;
    // SAFETY: as promised.
    let relu_output = Block::of("relu_output", unsafe { relu_output.read() })?;
    dx.check_apart(&relu_output)?;
    // SAFETY: as promised.
    Ok(Some(unsafe { relu_output.read()? }.t()))
}

/// An error about a product in the words of this interface: to the kernels activations are features by batch.
fn batch_major(error: KernelError) -> Failure {
    Failure::Kernel(match error {
        KernelError::Shape { what: what @ ("x" | "y" | "dx" | "dy" | "relu_output"), expected, found } => {
            let turn = |[rows, cols]: [usize; 2]| [cols, rows];
            KernelError::Shape { what, expected: turn(expected), found: turn(found) }
        }
        error => error,
    })
}
