//! Two-dimensional convolution with a layer's filters W `[outputs, channels · kernel rows · kernel columns]`, dense or
//! pruned, with stride and zero padding.
//!
//! X is a batch of images of `channels` × `height` × `width`, Y one of `outputs` × `out_height` × `out_width`; both are views
//! ([`ImagesRef`], [`ImagesMut`]) of any layout. With (y', x') = (y · stride + i − padding, x · stride + j − padding), terms
//! outside X left out, and for every image:
//!
//! * [`forward`]: Y\[o, y, x\] = Σ W\[o, c, i, j\] · X\[c, y', x'\], the sum over i, then c, then j, each ascending
//! * [`input_gradient`]: dX\[c, y', x'\] = Σ W\[o, c, i, j\] · dY\[o, y, x\], the sum over i, then o, then j
//! * [`weight_gradient`]: dW\[o, c, i, j\] = Σ dY\[o, y, x\] · X\[c, y', x'\], for every weight, removed ones too: for each
//!   image the sum over y, then x; then the sum of the images' sums, ascending
//!
//! Windows are not gathered into a matrix ("im2col"). The source is copied with the batch innermost. In this copy a kept weight
//! is an offset, and neighbouring positions of one row are contiguous. [`PackedConv2d`] holds the lists of (value, offset) of the
//! kept weights (`weights/conv_taps.rs`); [`forward`] and [`input_gradient`] accumulate over them (`sums.rs`). Dense filters are
//! lists of all weights.
//!
//! Each element of Y and dX is one chain of fused multiply-adds, and so is each image's part of dW. Their order depends on
//! the shape alone: layout, batch, strides, threads and instruction set change no bit.

use crate::engine::Engine;
use crate::epilogue::Epilogue;
use crate::error::KernelError;
use crate::view::{ImagesMut, ImagesRef, MatMut};
use crate::weights::conv_taps::Direction;
use buffers::Buffers;
use packed::OtherBatches;
use sums::Finishing;

mod buffers;
mod pack;
mod packed;
mod sums;
#[cfg(test)]
mod tests;
mod weight_gradient;

pub use crate::conv_shape::Shape;
pub use packed::PackedConv2d;

/// Scratch memory of the convolutions. Keep one and pass it to every call; then calls stop allocating.
///
/// It grows to the size that the largest call needs: a copy of the source with rows of full cache lines, and up to 4 KiB more for
/// each plane; for each thread some rows of results, if these are not written in place; for the weight gradient copies of X and dY, with the batch rounded up to
/// full vectors. It also holds the 32 last used lists for batches other than the prepared one (8 bytes per kept weight and class
/// of column each).
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    lists: OtherBatches,
    buffers: Buffers,
}

/// Y = activation(W ∗ X + bias) over the kept weights, one bias for each plane of Y; the sums start from Y with
/// `epilogue.accumulate`.
///
/// O(kept · out height · out width · batch) multiply-adds. Y is written in place if it has no gaps, its batch is innermost or 1,
/// and its weights are one block or it is at most 1 MiB for each thread; else each result is copied once more.
///
/// # Errors
/// When a view or the bias has another shape than `filters` ask for, or a plane of X or Y has 2³² elements or more.
///
/// ```
/// use slth_kernels::conv2d::{PackedConv2d, Shape, Workspace, forward};
/// use slth_kernels::{Engine, Epilogue, ImagesMut, ImagesRef, MatRef, PackedMask, PrepareOptions};
/// let engine = Engine::serial();
/// let shape = Shape { channels: 1, height: 2, width: 3, outputs: 1, kernel: [2, 2], stride: 1, padding: 0 };
/// let weights = MatRef::row_major(&[1.0, 2.0, 3.0, 4.0], 1, 4)?;
/// let mask = PackedMask::from_fn(4, |i| i != 1); // removes the upper right weight
/// let filters = PackedConv2d::prepare(engine, &shape, weights, Some(&mask), &PrepareOptions::default())?;
/// let (x, mut y) = ([1.0, 10.0, 100.0, 2.0, 20.0, 200.0], [0.0; 2]);
/// let (x, out) = (ImagesRef::nchw(&x, 1, 1, 2, 3)?, ImagesMut::nchw(&mut y, 1, 1, 1, 2)?);
/// let layer = Epilogue { bias: Some(&[0.5]), ..Epilogue::default() };
/// forward(engine, &filters, x, &layer, out, &mut Workspace::default())?;
/// assert_eq!(y, [1.0 + 6.0 + 80.0 + 0.5, 10.0 + 60.0 + 800.0 + 0.5]);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn forward(
    engine: Engine,
    filters: &PackedConv2d,
    x: ImagesRef<'_>,
    epilogue: &Epilogue<'_>,
    y: ImagesMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    let shape = filters.shape();
    check_sizes(X, shape.input(x.batch()), x.sizes())?;
    check_sizes(Y, shape.output(x.batch()), y.sizes())?;
    if let Some(bias) = epilogue.bias {
        KernelError::check_len("bias", &[shape.outputs], bias.len())?;
    }
    let Workspace { lists, buffers } = workspace;
    let lists = filters.lists(Direction::Forward, x.batch(), lists)?;
    let engine = engine.for_work(cycles(&shape, filters.kept(), x.batch()));
    sums::convolve(engine, lists, x, Finishing::Epilogue(epilogue), y, buffers);
    Ok(())
}

/// dX = Wᵀ ∗ dY over the kept weights.
///
/// With `relu_output`, the activations X that a ReLU produced, dX is 0 wherever X is not positive: the gradient before that
/// ReLU. O(kept · out height · out width · batch) multiply-adds.
///
/// # Errors
/// When `filters` were prepared without the input gradient, a view has another shape than they ask for, or a plane of X or Y
/// has 2³² elements or more.
///
/// ```
/// use slth_kernels::conv2d::{PackedConv2d, Shape, Workspace, input_gradient};
/// use slth_kernels::{Engine, ImagesMut, ImagesRef, MatRef, PrepareOptions};
/// let engine = Engine::serial();
/// let shape = Shape { channels: 1, height: 1, width: 3, outputs: 1, kernel: [1, 2], stride: 1, padding: 0 };
/// let weights = MatRef::row_major(&[2.0, 3.0], 1, 2)?;
/// let options = PrepareOptions::default().input_gradient(true);
/// let filters = PackedConv2d::prepare(engine, &shape, weights, None, &options)?;
/// let (dy, mut dx) = ([1.0, 10.0], [0.0; 3]);
/// let (dy, out) = (ImagesRef::nchw(&dy, 1, 1, 1, 2)?, ImagesMut::nchw(&mut dx, 1, 1, 1, 3)?);
/// input_gradient(engine, &filters, dy, None, out, &mut Workspace::default())?;
/// assert_eq!(dx, [2.0, 23.0, 30.0]);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn input_gradient(
    engine: Engine,
    filters: &PackedConv2d,
    dy: ImagesRef<'_>,
    relu_output: Option<ImagesRef<'_>>,
    dx: ImagesMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    let shape = filters.shape();
    check_sizes(DY, shape.output(dy.batch()), dy.sizes())?;
    check_sizes(DX, shape.input(dy.batch()), dx.sizes())?;
    if let Some(x) = relu_output {
        check_sizes(RELU_OUTPUT, shape.input(dy.batch()), x.sizes())?;
    }
    let Workspace { lists, buffers } = workspace;
    let lists = filters.lists(Direction::InputGradient, dy.batch(), lists)?;
    let engine = engine.for_work(cycles(&shape, filters.kept(), dy.batch()));
    sums::convolve(engine, lists, dy, Finishing::Gradient(relu_output), dx, buffers);
    Ok(())
}

/// The gradient of every weight, removed ones too: dW `[outputs, channels · kernel rows · kernel columns]`, overwritten.
///
/// O(weights · out height · out width · batch) multiply-adds.
///
/// # Errors
/// When a view has another shape than `shape` asks for, the stride is 0, or sizes overflow.
///
/// ```
/// use slth_kernels::conv2d::{Shape, Workspace, weight_gradient};
/// use slth_kernels::{Engine, ImagesRef, MatMut};
/// let shape = Shape { channels: 1, height: 1, width: 3, outputs: 1, kernel: [1, 2], stride: 1, padding: 0 };
/// let (dy, x, mut dw) = ([1.0, 10.0], [1.0, 2.0, 3.0], [0.0; 2]);
/// let (dy, x) = (ImagesRef::nchw(&dy, 1, 1, 1, 2)?, ImagesRef::nchw(&x, 1, 1, 1, 3)?);
/// weight_gradient(Engine::serial(), &shape, dy, x, MatMut::row_major(&mut dw, 1, 2)?, &mut Workspace::default())?;
/// assert_eq!(dw, [21.0, 32.0]);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn weight_gradient(
    engine: Engine,
    shape: &Shape,
    dy: ImagesRef<'_>,
    x: ImagesRef<'_>,
    dw: MatMut<'_>,
    workspace: &mut Workspace,
) -> Result<(), KernelError> {
    shape.check()?;
    KernelError::check_shape("dw", shape.filters()?, dw.shape())?;
    check_sizes(DY, shape.output(x.batch()), dy.sizes())?;
    check_sizes(X, shape.input(x.batch()), x.sizes())?;
    let engine = engine.for_work(cycles(shape, dw.rows() * dw.cols(), x.batch()));
    weight_gradient::compute(engine, shape, dy, x, dw, &mut workspace.buffers.source)
}

/// Clock cycles of a product: some 16 multiply-adds take one.
fn cycles(shape: &Shape, weights: usize, batch: usize) -> usize {
    let sizes = [shape.out_height(), shape.out_width(), batch];
    sizes.into_iter().fold(weights, usize::saturating_mul) / 16
}

/// Names of the two pairs of sizes of a view, for errors.
type Names = [&'static str; 2];
const X: Names = ["x [batch, channels]", "x [height, width]"];
const Y: Names = ["y [batch, outputs]", "y [height, width]"];
const DX: Names = ["dx [batch, channels]", "dx [height, width]"];
const DY: Names = ["dy [batch, outputs]", "dy [height, width]"];
const RELU_OUTPUT: Names = ["relu_output [batch, channels]", "relu_output [height, width]"];

fn check_sizes(names: Names, expected: [usize; 4], found: [usize; 4]) -> Result<(), KernelError> {
    let pairs = |[batch, channels, height, width]: [usize; 4]| [[batch, channels], [height, width]];
    let pairs = pairs(expected).into_iter().zip(pairs(found));
    names.into_iter().zip(pairs).try_for_each(|(name, (e, f))| KernelError::check_shape(name, e, f))
}
