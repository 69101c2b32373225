//! Products with a layer's weights W `[outputs, inputs]`, dense or pruned.
//!
//! With activations X `[inputs, batch]` and the gradient dY `[outputs, batch]` of the layer's output:
//!
//! * [`forward`]: Y = activation(W · X + bias)
//! * [`input_gradient`]: dX = Wᵀ · dY
//! * [`weight_gradient`]: dW = dY · Xᵀ, for every weight, as edge-popup needs it, or for the kept ones
//! * [`score_gradient`]: sign(score) · w · dW, edge-popup's straight-through estimate
//!
//! All take views. Activations that are `[batch, inputs]` in memory are passed as their transpose ([`MatRef::t`]); the products
//! transpose them in registers.
//!
//! [`forward`] and [`input_gradient`] take [`PackedWeights`]. The functions of [`dense`] take plain weights, for weights that
//! change with each product. Both give equal numbers for finite activations: a removed weight would add an exact zero. Each
//! output element is one chain of fused multiply-adds in ascending order of the summed index, then the bias, then the activation,
//! on every instruction set, thread count and layout.

use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::epilogue::Finish;
use crate::error::KernelError;
use crate::mask::PackedMask;
use crate::optimizer;
use crate::simd::{Kernel, Simd};
use crate::view::{MatMut, MatRef};
use crate::weights::{Operand, PackedWeights};
use call::Call;

mod blocked;
mod call;
pub mod dense;
mod gemm;
mod interleaved;
mod panels;
#[cfg(test)]
pub(crate) mod tests;
mod vector;

pub use crate::epilogue::{Activation, Epilogue};

/// Scratch memory of the products. Keep one for each calling thread and pass it to every call; then calls on one thread stop
/// allocating.
///
/// It grows to the size that the largest call needs, and never shrinks:
///
/// * blocked format: 768 KiB per thread. If a thread has more than 1024 outputs and there are at most 8192 inputs, 512 bytes more
///   for each input. (For the input gradient exchange inputs and outputs.)
/// * interleaved format: per thread up to 128 bytes for each input and each of the thread's outputs
/// * panels of weights, dense or with a bit mask: as much for each input, and 16 KiB
/// * other dense weights: a copy of X or dY, and of the result if its rows are not contiguous
/// * the input gradient of dense weights: a copy of the weights too; the weight gradient: copies of X and dY
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    packed: AlignedBuffer,
}

/// Y = activation(W · X + bias) over the kept weights: X `[inputs, batch]` → Y `[outputs, batch]`.
///
/// With [`accumulate`](Epilogue::accumulate) each sum starts from the old value of Y; otherwise Y is not read. O(kept · batch)
/// multiply-adds.
///
/// # Errors
/// When X, Y or the bias has another shape. Nothing is written then.
///
/// ```
/// use slth_kernels::matmul::{Activation, Epilogue, Workspace, forward};
/// use slth_kernels::{Engine, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions};
/// let engine = Engine::serial();
/// let weights = MatRef::row_major(&[1.0, 2.0, 3.0, 4.0], 2, 2)?;
/// let mask = PackedMask::from_fn(4, |i| i != 0); // removes the first weight
/// let layer = PackedWeights::prepare(engine, weights, Some(&mask), &PrepareOptions::default())?;
/// let (x, mut y) = ([1.0, 10.0, 100.0, 1000.0], [0.0; 4]); // a batch of two, two inputs each
/// let epilogue = Epilogue { bias: Some(&[-25.0, 0.5]), activation: Activation::Relu, ..Epilogue::default() };
/// let x = MatRef::row_major(&x, 2, 2)?.t(); // [batch, inputs] in memory
/// forward(engine, &layer, x, &epilogue, MatMut::row_major(&mut y, 2, 2)?.t(), &mut Workspace::default())?;
/// assert_eq!(y, [0.0, 43.5, 1975.0, 4300.5]);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn forward(
    engine: Engine,
    weights: &PackedWeights,
    x: MatRef<'_>,
    epilogue: &Epilogue<'_>,
    y: MatMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    let (outputs, inputs, batch) = (weights.outputs(), weights.inputs(), x.cols());
    KernelError::check_shape("x", [inputs, batch], x.shape())?;
    KernelError::check_shape("y", [outputs, batch], y.shape())?;
    let finish = epilogue.finish(outputs)?;
    let (accumulate, scratch) = (epilogue.accumulate, &mut workspace.packed);
    multiply(engine, weights.operand(), Call { x, y, accumulate, finish, scratch });
    Ok(())
}

/// dX = Wᵀ · dY over the kept weights: dY `[outputs, batch]` → dX `[inputs, batch]`.
///
/// With `relu_output`, the activations X `[inputs, batch]` that a ReLU produced, dX is 0 wherever X is not positive: the
/// gradient before that ReLU. O(kept · batch) multiply-adds.
///
/// # Errors
/// When a view has another shape, or the weights were prepared without
/// [`PrepareOptions::input_gradient`](crate::PrepareOptions::input_gradient).
///
/// ```
/// use slth_kernels::matmul::{Workspace, input_gradient};
/// use slth_kernels::{Engine, MatMut, MatRef, PackedWeights, PrepareOptions};
/// let engine = Engine::serial();
/// let weights = MatRef::row_major(&[1.0, 2.0, 3.0, 4.0], 2, 2)?;
/// let options = PrepareOptions::default().input_gradient(true);
/// let layer = PackedWeights::prepare(engine, weights, None, &options)?;
/// let (dy, mut dx) = ([1.0, 10.0], [0.0; 2]); // a batch of one
/// let (dy, dx_view) = (MatRef::col_major(&dy, 2, 1)?, MatMut::col_major(&mut dx, 2, 1)?);
/// input_gradient(engine, &layer, dy, None, dx_view, &mut Workspace::default())?;
/// assert_eq!(dx, [31.0, 42.0]);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn input_gradient(
    engine: Engine,
    weights: &PackedWeights,
    dy: MatRef<'_>,
    relu_output: Option<MatRef<'_>>,
    dx: MatMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    let (outputs, inputs, batch) = (weights.outputs(), weights.inputs(), dy.cols());
    KernelError::check_shape("dy", [outputs, batch], dy.shape())?;
    KernelError::check_shape("dx", [inputs, batch], dx.shape())?;
    let finish = Finish::gradient(relu_output, [inputs, batch])?;
    let (accumulate, scratch) = (false, &mut workspace.packed);
    multiply(engine, weights.transposed_operand()?, Call { x: dy, y: dx, accumulate, finish, scratch });
    Ok(())
}

/// dW = dY · Xᵀ: dY `[outputs, batch]`, X `[inputs, batch]` → dW `[outputs, inputs]`, for every weight, because edge-popup's
/// straight-through gradient reaches removed weights too. With `mask`, for the kept weights, and 0 for the others, as finetuning
/// needs.
///
/// O(outputs · inputs · batch) multiply-adds, with a mask too: lanes run over neighbouring weights, so leaving one out saves
/// nothing. Each sum runs over the batch in ascending order.
///
/// # Errors
/// When a view or the mask does not fit, or a view of stride 0 has more elements than memory could hold.
///
/// ```
/// use slth_kernels::matmul::{Workspace, weight_gradient};
/// use slth_kernels::{Engine, MatMut, MatRef, PackedMask};
/// let (dy, x, mut dw) = ([1.0, 10.0], [1.0, 2.0, 3.0, 4.0], [0.0; 2]);
/// let (dy, x) = (MatRef::row_major(&dy, 1, 2)?, MatRef::row_major(&x, 2, 2)?);
/// let (engine, workspace) = (Engine::serial(), &mut Workspace::default());
/// weight_gradient(engine, dy, x, None, MatMut::row_major(&mut dw, 1, 2)?, workspace)?;
/// assert_eq!(dw, [21.0, 43.0]);
/// let mask = PackedMask::from_fn(2, |i| i == 1);
/// weight_gradient(engine, dy, x, Some(&mask), MatMut::row_major(&mut dw, 1, 2)?, workspace)?;
/// assert_eq!(dw, [0.0, 43.0]);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn weight_gradient(
    engine: Engine,
    dy: MatRef<'_>,
    x: MatRef<'_>,
    mask: Option<&PackedMask>,
    mut dw: MatMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    let [outputs, inputs] = [dy.rows(), x.rows()];
    KernelError::check_shape("x", [inputs, dy.cols()], x.shape())?;
    KernelError::check_shape("dw", [outputs, inputs], dw.shape())?;
    if let Some(mask) = mask {
        KernelError::check_len("mask", &[outputs, inputs], mask.len())?;
    }
    check_elements([dy, x])?;
    let (accumulate, finish, scratch) = (false, Finish::NONE, &mut workspace.packed);
    multiply_dense(engine, dy, Call { x: x.t(), y: dw.reborrow(), accumulate, finish, scratch });
    // Without columns there may be any number of rows.
    if let Some(mask) = mask.filter(|mask| !mask.is_empty()) {
        for_each_band(engine, dw, |first_row, dw| {
            engine.backend().run(ClearRemovedInRows { mask, first_row, dw })
        });
    }
    Ok(())
}

/// sign(score) · w · dW, with dW = dY · Xᵀ as [`weight_gradient`] has it: dY `[outputs, batch]`, X `[inputs, batch]`, weights and
/// scores `[outputs, inputs]` → dS `[outputs, inputs]`; sign(0) = 0. The gradient of edge-popup's scores through the
/// straight-through estimator (Ramanujan et al. 2020, arXiv 1911.13299), for every weight. The optimiser's step is up to the
/// caller.
///
/// O(outputs · inputs · batch) multiply-adds.
///
/// # Errors
/// When a view has another shape.
///
/// ```
/// use slth_kernels::matmul::{Workspace, score_gradient};
/// use slth_kernels::{Engine, MatMut, MatRef};
/// let row = |values| MatRef::row_major(values, 1, 2);
/// let (dy, x) = (row(&[1.0, 10.0])?, MatRef::row_major(&[1.0, 2.0, 3.0, 4.0], 2, 2)?);
/// let mut ds = [0.0; 2];
/// let (weights, scores, into) = (row(&[2.0, 2.0])?, row(&[0.1, -0.1])?, MatMut::row_major(&mut ds, 1, 2)?);
/// score_gradient(Engine::serial(), dy, x, weights, scores, into, &mut Workspace::default())?;
/// assert_eq!(ds, [42.0, -86.0]);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn score_gradient(
    engine: Engine,
    dy: MatRef<'_>,
    x: MatRef<'_>,
    weights: MatRef<'_>,
    scores: MatRef<'_>,
    mut ds: MatMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    let shape = [dy.rows(), x.rows()];
    KernelError::check_shape("weights", shape, weights.shape())?;
    KernelError::check_shape("scores", shape, scores.shape())?;
    KernelError::check_shape("ds", shape, ds.shape())?;
    weight_gradient(engine, dy, x, None, ds.reborrow(), workspace)?;
    if !shape.contains(&0) {
        for_each_band(engine, ds, |first_row, ds| {
            engine.backend().run(StraightThrough { weights, scores, first_row, ds });
        });
    }
    Ok(())
}

/// Computes Y = A · X, by the format of A.
fn multiply(engine: Engine, a: Operand<'_>, call: Call<'_, '_>) {
    match a {
        Operand::Dense(a) => multiply_dense(engine, a, call),
        Operand::Panels(a) if is_empty(a.columns(), &call) => {
            vector::finish_empty(engine, call.y, call.accumulate, call.finish);
        }
        Operand::Panels(a) => {
            let engine = engine.for_work((a.rows() * a.columns() / 32).saturating_mul(call.x.cols().max(4)));
            panels::multiply(engine, a, call);
        }
        Operand::Bitmask(a) if is_empty(a.columns(), &call) => {
            vector::finish_empty(engine, call.y, call.accumulate, call.finish);
        }
        Operand::Bitmask(a) => {
            let engine = engine.for_work((a.rows() * a.columns() / 16).saturating_mul(call.x.cols().max(2)));
            panels::multiply_kept(engine, a, call);
        }
        Operand::Blocked(a) if is_empty(a.columns(), &call) => {
            vector::finish_empty(engine, call.y, call.accumulate, call.finish);
        }
        Operand::Blocked(a) => {
            let engine = engine.for_work((a.kept() / 12).saturating_mul(call.x.cols().max(12)));
            if call.x.cols() == 1 {
                vector::multiply(engine, a, call);
            } else {
                blocked::multiply(engine, a, call);
            }
        }
        Operand::Interleaved(a) if is_empty(a.columns(), &call) => {
            vector::finish_empty(engine, call.y, call.accumulate, call.finish);
        }
        Operand::Interleaved(a) => {
            let engine = engine.for_work((a.kept() / 16).saturating_mul(call.x.cols().max(16)));
            interleaved::multiply(engine, a, call);
        }
    }
}

fn multiply_dense(engine: Engine, a: MatRef<'_>, call: Call<'_, '_>) {
    if is_empty(a.cols(), &call) {
        return vector::finish_empty(engine, call.y, call.accumulate, call.finish);
    }
    if call.x.cols() == 1 && (a.has_runs() || a.row_stride() == 1) {
        return vector::multiply_dense(engine, a, call);
    }
    let Call { x, y: c, accumulate, finish, scratch } = call;
    gemm::multiply(engine, a, x, gemm::Output { c, accumulate, finish }, scratch);
}

/// Calls `work` with the first row and the rows of each thread's share of `matrix`, which is not empty.
fn for_each_band(engine: Engine, matrix: MatMut<'_>, work: impl Fn(usize, MatMut<'_>) + Sync) {
    let engine = engine.for_work(matrix.rows() * matrix.cols() / 4);
    let rows = matrix.rows().div_ceil(engine.threads());
    engine.for_each((0..).step_by(rows).zip(matrix.bands(rows)), |(first_row, band)| work(first_row, band));
}

/// Checks that memory could hold a packed copy of each view: a view of stride 0 may have more elements than its slice.
fn check_elements<const N: usize>(views: [MatRef<'_>; N]) -> Result<(), KernelError> {
    const WHAT: &str = "elements of a view";
    views.into_iter().filter(|view| !view.shape().contains(&0)).try_for_each(|view| {
        let [rows, cols] = view.shape().map(|size| size.saturating_add(64));
        let bytes = KernelError::product(WHAT, [rows, cols, size_of::<f32>()])?;
        if isize::try_from(bytes).is_ok() { Ok(()) } else { Err(KernelError::Overflow { what: WHAT }) }
    })
}

/// Whether Y is empty or its sums have no terms.
fn is_empty(inputs: usize, call: &Call<'_, '_>) -> bool {
    inputs == 0 || call.y.shape().contains(&0)
}

/// Sets the gradients of removed weights to 0.
struct ClearRemovedInRows<'a> {
    mask: &'a PackedMask,
    first_row: usize,
    dw: MatMut<'a>,
}

impl Kernel for ClearRemovedInRows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Self { mask, first_row, mut dw } = self;
        let (mask, inputs) = (mask.view(), dw.cols());
        for row in 0..dw.rows() {
            for col in (0..inputs).step_by(64) {
                let (word, count) = (mask.word((first_row + row) * inputs + col), 64.min(inputs - col));
                if dw.has_runs() {
                    for (i, dw) in dw.run(row, col, count).iter_mut().enumerate() {
                        *dw = if word >> i & 1 != 0 { *dw } else { 0.0 };
                    }
                } else {
                    (0..count).filter(|i| word >> i & 1 == 0).for_each(|i| dw.set(row, col + i, 0.0));
                }
            }
        }
    }
}

/// Turns the gradient of weights into that of scores.
struct StraightThrough<'a> {
    weights: MatRef<'a>,
    scores: MatRef<'a>,
    first_row: usize,
    ds: MatMut<'a>,
}

impl Kernel for StraightThrough<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, scores, first_row, mut ds } = self;
        let cols = ds.cols();
        let runs = weights.has_runs() && scores.has_runs() && ds.has_runs();
        for row in 0..ds.rows() {
            let given = first_row + row;
            if runs {
                let (weights, scores) = (weights.run(given, 0, cols), scores.run(given, 0, cols));
                let vectors = ds.run(row, 0, cols).chunks_mut(S::LANES);
                let pairs = weights.chunks(S::LANES).zip(scores.chunks(S::LANES));
                for (ds, (weights, scores)) in vectors.zip(pairs) {
                    let [w, score, dw] =
                        [s.load_partial(weights), s.load_partial(scores), s.load_partial(ds)];
                    s.store_partial(optimizer::straight_through(s, score, w, dw), ds);
                }
            } else {
                for col in 0..cols {
                    let (w, score) = (s.splat(weights.get(given, col)), s.splat(scores.get(given, col)));
                    let dw = s.splat(ds.as_ref().get(row, col));
                    let mut one = [0.0];
                    s.store_partial(optimizer::straight_through(s, score, w, dw), &mut one);
                    ds.set(row, col, one[0]);
                }
            }
        }
    }
}
