//! Two-dimensional convolution with a layer's filters W `[outputs, channels · kernel rows · kernel columns]`, dense or
//! pruned, stride and zero padding, no bias.
//!
//! With activations X `[channels, height, width, batch]` and the gradient dY `[outputs, out height, out width, batch]` of
//! the layer's output, all row-major, and (y', x') = (y · stride + i − padding, x · stride + j − padding), terms outside
//! X left out:
//!
//! * [`forward`]: Y\[o, y, x\] = Σ W\[o, c, i, j\] · X\[c, y', x'\], the sum over i, then c, then j, each ascending
//! * [`input_gradient`]: dX\[c, y', x'\] = Σ W\[o, c, i, j\] · dY\[o, y, x\], the sum over i, then o, then j
//! * [`weight_gradient`]: dW\[o, c, i, j\] = Σ dY\[o, y, x\] · X\[c, y', x'\], for every weight, removed ones too: for each
//!   image the sum over y, then x; then the sum of the images' sums, ascending
//!
//! Nothing is gathered into a matrix ("im2col") first. With the batch in the lanes a kept weight is an offset: it meets the
//! activations of one plane of X, shifted by its place in the kernel, and of those a run of positions is contiguous
//! memory. So [`forward`] and [`input_gradient`] are one walk over the kept weights (`walk.rs`), from a list of (value,
//! offset) that is made anew at each call (`plan.rs`), and cost O(kept · out height · out width · batch) multiply-adds.
//! All weights kept is a list like any other: dense filters take the same path, and give the same bits.
//!
//! Each element of Y and dX is one chain of fused multiply-adds. So is each image's part of dW: the batch lies in the lanes
//! there too, so that no data is transposed. Its order depends on nothing but the shape.

use core::iter;

use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::error::ShapeError;
use crate::masked_matmul::epilogue::Epilogue;
use crate::masked_matmul::{Activation, relu_epilogue};
use crate::sparse::{Factor, MaskedWeights};
use plan::{Direction, Plan};

mod plan;
#[cfg(test)]
mod tests;
mod walk;
mod weight_gradient;

/// The sizes of a convolution but for the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Planes of the input.
    pub channels: usize,
    /// Rows of an input plane.
    pub height: usize,
    /// Columns of an input plane.
    pub width: usize,
    /// Planes of the output: filters.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step between the places the kernel is put at, in both directions; at least 1.
    pub stride: usize,
    /// Rows and columns of zeros around each input plane, on all four sides.
    pub padding: usize,
}

impl Shape {
    /// Rows of an output plane: ⌊(height + 2 · padding − kernel rows) / stride⌋ + 1; 0 where the kernel does not fit in.
    ///
    /// ```
    /// use slth_kernels::conv2d::Shape;
    /// let shape =
    ///     Shape { channels: 1, height: 28, width: 14, outputs: 6, kernel: [5, 5], stride: 1, padding: 2 };
    /// assert_eq!((shape.out_height(), shape.out_width(), shape.weights()), (28, 14, Some(150)));
    /// ```
    pub fn out_height(&self) -> usize {
        self.positions(self.height, self.kernel[0])
    }

    /// Columns of an output plane, as [`out_height`](Self::out_height).
    pub fn out_width(&self) -> usize {
        self.positions(self.width, self.kernel[1])
    }

    /// Number of weights; `None` when it overflows.
    pub fn weights(&self) -> Option<usize> {
        [self.channels, self.kernel[0], self.kernel[1]]
            .into_iter()
            .try_fold(self.outputs, |n, size| n.checked_mul(size))
    }

    /// Saturates instead of overflowing: no slice is long enough for such a plane.
    fn positions(&self, size: usize, kernel: usize) -> usize {
        let padded = size.saturating_add(self.padding.saturating_mul(2));
        match (padded.checked_sub(kernel), self.stride) {
            (None, _) | (_, 0) => 0,
            (Some(room), stride) => (room / stride).saturating_add(1),
        }
    }

    /// Checks the lengths of weights, input and output.
    fn check(
        &self,
        batch: usize,
        weights: (&'static str, usize),
        x: (&'static str, usize),
        y: (&'static str, usize),
    ) -> Result<(), ShapeError> {
        if self.stride == 0 {
            return Err(ShapeError { what: "stride", expected: 1, found: 0 });
        }
        let padded = |size: usize| size.checked_add(self.padding.checked_mul(2)?);
        if [self.height, self.width]
            .into_iter()
            .any(|size| padded(size).is_none_or(|n| n > isize::MAX as usize))
        {
            return Err(ShapeError { what: "padding", expected: usize::MAX, found: self.padding });
        }
        let [kernel_rows, kernel_columns] = self.kernel;
        ShapeError::check(weights.0, &[self.outputs, self.channels, kernel_rows, kernel_columns], weights.1)?;
        ShapeError::check(x.0, &[self.channels, self.height, self.width, batch], x.1)?;
        ShapeError::check(y.0, &[self.outputs, self.out_height(), self.out_width(), batch], y.1)
    }
}

/// The weights of a convolution, `[outputs, channels · kernel rows · kernel columns]`.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// All of them, row-major.
    Dense(&'a [f32]),
    /// Those a mask keeps.
    Masked(&'a MaskedWeights),
}

impl<'a> From<&'a [f32]> for Weights<'a> {
    fn from(weights: &'a [f32]) -> Self {
        Self::Dense(weights)
    }
}

impl<'a> From<&'a MaskedWeights> for Weights<'a> {
    fn from(weights: &'a MaskedWeights) -> Self {
        Self::Masked(weights)
    }
}

impl Weights<'_> {
    fn len(self) -> usize {
        match self {
            Self::Dense(weights) => weights.len(),
            Self::Masked(weights) => weights.outputs() * weights.inputs(),
        }
    }

    /// The rows of a mask's weights must be the outputs, not only as many weights in all.
    fn check(self, shape: &Shape) -> Result<(), ShapeError> {
        match self {
            Self::Masked(weights) if self.len() > 0 => {
                ShapeError::check("rows of the masked weights", &[shape.outputs], weights.outputs())
            }
            _ => Ok(()),
        }
    }

    /// Calls `take(output, column, weight)` for the weights that are multiplied by, row by row, ascending.
    fn for_each(self, columns: usize, mut take: impl FnMut(usize, usize, f32)) {
        let mut dense = |all: &[f32]| {
            for (output, row) in all.chunks_exact(columns).enumerate() {
                row.iter().enumerate().for_each(|(column, &weight)| take(output, column, weight));
            }
        };
        match self {
            Self::Dense(all) => dense(all),
            Self::Masked(weights) => match weights.factor() {
                Factor::Dense(all) => dense(all),
                Factor::Sparse(rows) => {
                    for output in 0..rows.rows() {
                        rows.for_each_in_row(output, |column, weight| take(output, column, weight));
                    }
                }
            },
        }
    }
}

/// Scratch memory of the convolutions; keep one and hand it to every call, and calls stop allocating.
///
/// It grows to what the largest call took, and is never given back: a copy of the source with rows of whole cache lines and
/// the lists of kept weights (8 bytes per weight and kind of column); for the weight gradient a copy of X and dY, the
/// batch rounded up to whole vectors.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    plan: Plan,
    panel: AlignedBuffer,
}

/// Y = activation(W ∗ X) over the kept weights: X `[channels, height, width, batch]` → Y
/// `[outputs, out height, out width, batch]`.
///
/// O(kept · out height · out width · batch) multiply-adds.
///
/// # Errors
/// When a slice's length does not fit, the stride is 0, or a plane of X has 2³² elements or more.
///
/// ```
/// use slth_kernels::conv2d::{Shape, Workspace, forward};
/// use slth_kernels::masked_matmul::Activation;
/// use slth_kernels::{Engine, MaskedWeights, PackedMask};
/// let engine = Engine::detect()?;
/// let shape = Shape { channels: 1, height: 2, width: 3, outputs: 1, kernel: [2, 2], stride: 1, padding: 0 };
/// let mut filters = MaskedWeights::new(engine, &[1.0, 2.0, 3.0, 4.0], 1, 4)?;
/// filters.set_mask(engine, &PackedMask::from_fn(4, |i| i != 1))?; // removes the upper right weight
/// let (x, mut y) = ([1.0, 10.0, 100.0, 2.0, 20.0, 200.0], [0.0; 2]); // a batch of one
/// forward(engine, &shape, &filters, &x, 1, Activation::Identity, &mut y, &mut Workspace::default())?;
/// assert_eq!(y, [1.0 + 6.0 + 80.0, 10.0 + 60.0 + 800.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[expect(clippy::too_many_arguments, reason = "as the products, and the shape")]
pub fn forward<'a>(
    engine: Engine,
    shape: &Shape,
    filters: impl Into<Weights<'a>>,
    x: &[f32],
    batch: usize,
    activation: Activation,
    y: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    let filters = filters.into();
    shape.check(batch, ("weights", filters.len()), ("x", x.len()), ("y", y.len()))?;
    filters.check(shape)?;
    walk::convolve(engine, Direction::Forward, shape, filters, x, batch, activation.into(), y, workspace)
}

/// dX = Wᵀ ∗ dY over the kept weights: dY `[outputs, out height, out width, batch]` → dX
/// `[channels, height, width, batch]`. Any [`MaskedWeights`] will do, those made for forward only too.
///
/// With `relu_of`, the activations X `[channels, height, width, batch]` that a ReLU produced, dX is 0 wherever X is not
/// positive: the gradient before that ReLU. O(kept · out height · out width · batch) multiply-adds.
///
/// # Errors
/// When a slice's length does not fit, the stride is 0, or a plane of dY has 2³² elements or more.
///
/// ```
/// use slth_kernels::Engine;
/// use slth_kernels::conv2d::{Shape, Workspace, input_gradient};
/// let shape = Shape { channels: 1, height: 1, width: 3, outputs: 1, kernel: [1, 2], stride: 1, padding: 0 };
/// let (filters, dy, mut dx) = ([2.0, 3.0], [1.0, 10.0], [0.0; 3]); // a batch of one
/// let (engine, workspace) = (Engine::detect()?, &mut Workspace::default());
/// input_gradient(engine, &shape, &filters[..], &dy, 1, None, &mut dx, workspace)?;
/// assert_eq!(dx, [2.0, 23.0, 30.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[expect(clippy::too_many_arguments, reason = "as the products, and the shape")]
pub fn input_gradient<'a>(
    engine: Engine,
    shape: &Shape,
    filters: impl Into<Weights<'a>>,
    dy: &[f32],
    batch: usize,
    relu_of: Option<&[f32]>,
    dx: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    let filters = filters.into();
    shape.check(batch, ("weights", filters.len()), ("dx", dx.len()), ("dy", dy.len()))?;
    filters.check(shape)?;
    let epilogue = match relu_of {
        // As long as dX, whose length fits.
        Some(x) => relu_epilogue(Some(x), dx.len(), 1)?,
        None => Epilogue::None,
    };
    walk::convolve(engine, Direction::InputGradient, shape, filters, dy, batch, epilogue, dx, workspace)
}

/// The gradient of every weight, removed ones too: dY `[outputs, out height, out width, batch]`, X
/// `[channels, height, width, batch]` → dW `[outputs, channels · kernel rows · kernel columns]`.
///
/// O(weights · out height · out width · batch) multiply-adds.
///
/// # Errors
/// When a slice's length does not fit, or the stride is 0.
///
/// ```
/// use slth_kernels::Engine;
/// use slth_kernels::conv2d::{Shape, Workspace, weight_gradient};
/// let shape = Shape { channels: 1, height: 1, width: 3, outputs: 1, kernel: [1, 2], stride: 1, padding: 0 };
/// let (dy, x, mut dw) = ([1.0, 10.0], [1.0, 2.0, 3.0], [0.0; 2]); // a batch of one
/// weight_gradient(Engine::detect()?, &shape, &dy, &x, 1, &mut dw, &mut Workspace::default())?;
/// assert_eq!(dw, [21.0, 32.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn weight_gradient(
    engine: Engine,
    shape: &Shape,
    dy: &[f32],
    x: &[f32],
    batch: usize,
    dw: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    shape.check(batch, ("dw", dw.len()), ("x", x.len()), ("dy", dy.len()))?;
    weight_gradient::compute(engine, shape, dy, x, batch, dw, &mut workspace.panel)
}

/// The product of sizes that may be too large for memory.
fn product(what: &'static str, sizes: impl IntoIterator<Item = usize>) -> Result<usize, ShapeError> {
    let overflow = ShapeError { what, expected: usize::MAX, found: usize::MAX };
    sizes.into_iter().chain(iter::once(1)).try_fold(1_usize, |n, size| n.checked_mul(size)).ok_or(overflow)
}
