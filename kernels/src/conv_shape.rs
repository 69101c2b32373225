//! The sizes of a convolution, which its weights and its products share.

use crate::error::KernelError;

/// The sizes of a convolution, except the batch.
///
/// ```
/// use slth_kernels::conv2d::Shape;
/// let shape = Shape { channels: 1, height: 28, width: 14, outputs: 6, kernel: [5, 5], stride: 1, padding: 2 };
/// assert_eq!((shape.out_height(), shape.out_width(), shape.weights()), (28, 14, Some(150)));
/// ```
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
    /// Stride: the step between positions of the kernel, in both directions; at least 1.
    pub stride: usize,
    /// Rows and columns of zeros around each input plane, on all four sides.
    pub padding: usize,
}

impl Shape {
    /// Rows of an output plane: ⌊(height + 2 · padding − kernel rows) / stride⌋ + 1; 0 where the kernel does not fit in.
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

    /// Saturates instead of overflowing: no memory has room for such a plane.
    fn positions(&self, size: usize, kernel: usize) -> usize {
        let padded = size.saturating_add(self.padding.saturating_mul(2));
        match (padded.checked_sub(kernel), self.stride) {
            (None, _) | (_, 0) => 0,
            (Some(room), stride) => (room / stride).saturating_add(1),
        }
    }

    /// Rows and columns of the weights.
    pub(crate) fn filters(&self) -> Result<[usize; 2], KernelError> {
        let [kernel_rows, kernel_columns] = self.kernel;
        let columns = KernelError::product("filters", [self.channels, kernel_rows, kernel_columns])?;
        KernelError::product("filters", [self.outputs, columns])?;
        Ok([self.outputs, columns])
    }

    /// Checks the sizes that views do not check.
    pub(crate) fn check(&self) -> Result<(), KernelError> {
        if self.stride == 0 {
            return Err(KernelError::out_of_range("stride", "at least 1", 0));
        }
        let padded = |size: usize| size.checked_add(self.padding.checked_mul(2)?);
        let fits = |size| padded(size).is_some_and(|n| n <= isize::MAX as usize);
        if fits(self.height) && fits(self.width) {
            Ok(())
        } else {
            Err(KernelError::out_of_range(
                "padding",
                "so small that a padded image fits memory",
                self.padding,
            ))
        }
    }

    /// Sizes of the input of `batch` images: batch, channels, height, width.
    pub(crate) fn input(&self, batch: usize) -> [usize; 4] {
        [batch, self.channels, self.height, self.width]
    }

    /// Sizes of their output.
    pub(crate) fn output(&self, batch: usize) -> [usize; 4] {
        [batch, self.outputs, self.out_height(), self.out_width()]
    }
}
