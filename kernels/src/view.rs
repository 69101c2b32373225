//! Views of matrices and of batches of images: a slice, sizes and strides, checked once when they are made.
//!
//! Products take views, so that callers need not convert layouts: feature-major and batch-major activations are one matrix with
//! exchanged strides, and so are images with the batch outermost or innermost.

use crate::arch::rows::{Rows, RowsMut};
use crate::arch::strided::{Cells, CellsMut, Layout};
use crate::error::KernelError;

/// A matrix of `f32` that is read. Element (r, c) is `data[r * row_stride + c * col_stride]`.
///
/// ```
/// use slth_kernels::MatRef;
/// let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let x = MatRef::row_major(&data, 2, 3)?;
/// assert_eq!((x.get(0, 1), x.t().get(0, 1)), (2.0, 4.0));
/// let every_other_column = MatRef::new(&data, 2, 2, 3, 2)?;
/// assert_eq!(every_other_column.get(1, 1), 6.0);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy)]
pub struct MatRef<'a> {
    pub(crate) cells: Cells<'a, 2>,
}

/// A matrix of `f32` that is written. Element (r, c) is `data[r * row_stride + c * col_stride]`; all are distinct.
///
/// ```
/// use slth_kernels::{KernelError, MatMut};
/// let mut data = [0.0; 8];
/// let y = MatMut::new(&mut data, 2, 3, 4, 1)?; // a gap of one element after each row
/// assert_eq!((y.rows(), y.cols()), (2, 3));
/// assert_eq!(MatMut::new(&mut data, 2, 3, 1, 1).unwrap_err(), KernelError::Overlap);
/// # Ok::<(), KernelError>(())
/// ```
pub struct MatMut<'a> {
    pub(crate) cells: CellsMut<'a, 2>,
}

impl<'a> MatRef<'a> {
    pub(crate) const EMPTY: Self = Self { cells: Cells::EMPTY };

    /// The matrix whose rows lie one after the other in `data`.
    ///
    /// # Errors
    /// [`Length`](KernelError::Length) when `data` has not exactly `rows * cols` elements.
    pub fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Result<Self, KernelError> {
        KernelError::check_len("view", &[rows, cols], data.len())?;
        Self::new(data, rows, cols, cols, 1)
    }

    /// The matrix whose columns lie one after the other in `data`.
    ///
    /// # Errors
    /// [`Length`](KernelError::Length) when `data` has not exactly `rows * cols` elements.
    pub fn col_major(data: &'a [f32], rows: usize, cols: usize) -> Result<Self, KernelError> {
        KernelError::check_len("view", &[rows, cols], data.len())?;
        Self::new(data, rows, cols, 1, rows)
    }

    /// The matrix with these strides, in elements. They may leave gaps, and be 0: a row that is repeated.
    ///
    /// # Errors
    /// [`OutOfBounds`](KernelError::OutOfBounds) when an element lies outside of `data`,
    /// [`Overflow`](KernelError::Overflow) when its offset does not fit memory.
    pub fn new(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self, KernelError> {
        let layout = Layout::new([rows, cols], [row_stride, col_stride]);
        Ok(Self { cells: Cells::new(data, layout)? })
    }

    /// Number of rows.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.cells.sizes()[0]
    }

    /// Number of columns.
    #[inline(always)]
    pub fn cols(&self) -> usize {
        self.cells.sizes()[1]
    }

    /// Elements from a row to the next.
    #[inline(always)]
    pub fn row_stride(&self) -> usize {
        self.cells.strides()[0]
    }

    /// Elements from a column to the next.
    #[inline(always)]
    pub fn col_stride(&self) -> usize {
        self.cells.strides()[1]
    }

    /// The transpose: the same elements with rows and columns exchanged.
    #[inline(always)]
    #[must_use]
    pub fn t(&self) -> Self {
        Self { cells: self.cells.permute([1, 0]) }
    }

    /// Element (`row`, `col`).
    ///
    /// # Panics
    /// When it is outside of the matrix.
    #[inline(always)]
    pub fn get(&self, row: usize, col: usize) -> f32 {
        self.cells.get([row, col])
    }

    /// All elements, if they lie row-major without gaps.
    pub(crate) fn as_slice(&self) -> Option<&'a [f32]> {
        self.cells.as_slice()
    }

    /// Whether the elements of a row are contiguous.
    #[inline(always)]
    pub(crate) fn has_runs(&self) -> bool {
        self.col_stride() == 1 || self.cols() <= 1
    }

    /// `len` contiguous elements of `row` from `col` on.
    #[inline(always)]
    pub(crate) fn run(&self, row: usize, col: usize, len: usize) -> &'a [f32] {
        self.cells.run([row, col], 1, len)
    }

    /// `len` contiguous elements from `col` on, of `count` rows from `row` on.
    #[inline(always)]
    pub(crate) fn block(&self, row: usize, col: usize, count: usize, len: usize) -> Rows<'a> {
        self.cells.rows([row, col], count, len)
    }

    pub(crate) fn shape(&self) -> [usize; 2] {
        self.cells.sizes()
    }
}

impl<'a> MatMut<'a> {
    /// The matrix whose rows lie one after the other in `data`.
    ///
    /// # Errors
    /// [`Length`](KernelError::Length) when `data` has not exactly `rows * cols` elements.
    pub fn row_major(data: &'a mut [f32], rows: usize, cols: usize) -> Result<Self, KernelError> {
        KernelError::check_len("view", &[rows, cols], data.len())?;
        Self::new(data, rows, cols, cols, 1)
    }

    /// The matrix whose columns lie one after the other in `data`.
    ///
    /// # Errors
    /// [`Length`](KernelError::Length) when `data` has not exactly `rows * cols` elements.
    pub fn col_major(data: &'a mut [f32], rows: usize, cols: usize) -> Result<Self, KernelError> {
        KernelError::check_len("view", &[rows, cols], data.len())?;
        Self::new(data, rows, cols, 1, rows)
    }

    /// The matrix with these strides, in elements. They may leave gaps, which are not written.
    ///
    /// # Errors
    /// [`OutOfBounds`](KernelError::OutOfBounds) when an element lies outside of `data`, [`Overlap`](KernelError::Overlap)
    /// when two indices have the same element, [`Overflow`](KernelError::Overflow) when an offset does not fit memory.
    pub fn new(
        data: &'a mut [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self, KernelError> {
        let layout = Layout::new([rows, cols], [row_stride, col_stride]);
        Ok(Self { cells: CellsMut::new(data, layout)? })
    }

    /// Number of rows.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.cells.sizes()[0]
    }

    /// Number of columns.
    #[inline(always)]
    pub fn cols(&self) -> usize {
        self.cells.sizes()[1]
    }

    /// Elements from a row to the next.
    #[inline(always)]
    pub fn row_stride(&self) -> usize {
        self.cells.strides()[0]
    }

    /// Elements from a column to the next.
    #[inline(always)]
    pub fn col_stride(&self) -> usize {
        self.cells.strides()[1]
    }

    /// The transpose: the same elements with rows and columns exchanged.
    #[must_use]
    pub fn t(self) -> Self {
        Self { cells: self.cells.permute([1, 0]) }
    }

    /// The same matrix, for reading, while this view is borrowed.
    pub fn as_ref(&self) -> MatRef<'_> {
        MatRef { cells: self.cells.as_cells() }
    }

    /// The same matrix while this view is borrowed, to hand it to several calls.
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut { cells: self.cells.reborrow() }
    }

    /// Sets every element.
    pub fn fill(&mut self, value: f32) {
        if self.shape().contains(&0) {
            return; // a matrix without elements may claim any number of rows
        }
        if self.row_stride() == 1 && self.col_stride() != 1 {
            return self.reborrow().t().fill(value);
        }
        for row in 0..self.rows() {
            if self.has_runs() {
                let cols = self.cols();
                self.run(row, 0, cols).fill(value);
            } else {
                (0..self.cols()).for_each(|col| self.set(row, col, value));
            }
        }
    }

    /// Whether the elements of a row are contiguous.
    #[inline(always)]
    pub(crate) fn has_runs(&self) -> bool {
        self.col_stride() == 1 || self.cols() <= 1
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, row: usize, col: usize, value: f32) {
        self.cells.set([row, col], value);
    }

    /// `len` contiguous elements of `row` from `col` on.
    #[inline(always)]
    pub(crate) fn run(&mut self, row: usize, col: usize, len: usize) -> &mut [f32] {
        self.cells.run([row, col], 1, len)
    }

    /// `len` contiguous elements from `col` on, of `count` rows from `row` on.
    #[inline(always)]
    pub(crate) fn block(&mut self, row: usize, col: usize, count: usize, len: usize) -> RowsMut<'_> {
        self.cells.rows([row, col], count, len)
    }

    /// Bands of `rows` rows; the last one may have fewer.
    pub(crate) fn bands(self, rows: usize) -> impl ExactSizeIterator<Item = MatMut<'a>> + Send {
        self.cells.parts(0, rows).map(|cells| MatMut { cells })
    }

    pub(crate) fn shape(&self) -> [usize; 2] {
        self.cells.sizes()
    }
}

impl core::fmt::Debug for MatRef<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [row_stride, col_stride] = self.cells.strides();
        write!(f, "MatRef({} x {}, strides {row_stride} and {col_stride})", self.rows(), self.cols())
    }
}

impl core::fmt::Debug for MatMut<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [row_stride, col_stride] = self.cells.strides();
        write!(f, "MatMut({} x {}, strides {row_stride} and {col_stride})", self.rows(), self.cols())
    }
}

/// A batch of images that is read, its axes always in the order batch, channels, height, width. Element (n, c, y, x) is
/// `data[n * strides[0] + c * strides[1] + y * strides[2] + x * strides[3]]`.
///
/// ```
/// use slth_kernels::ImagesRef;
/// let data: Vec<f32> = (0..24).map(|i| i as f32).collect();
/// let (nchw, innermost) = (ImagesRef::nchw(&data, 2, 3, 2, 2)?, ImagesRef::batch_innermost(&data, 2, 3, 2, 2)?);
/// assert_eq!(nchw.get(1, 2, 0, 1), 21.0); // ((1 · 3 + 2) · 2 + 0) · 2 + 1
/// assert_eq!(innermost.get(1, 2, 0, 1), 19.0); // ((2 · 2 + 0) · 2 + 1) · 2 + 1
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy)]
pub struct ImagesRef<'a> {
    pub(crate) cells: Cells<'a, 4>,
}

/// A batch of images that is written, as [`ImagesRef`]; all elements are distinct.
///
/// ```
/// use slth_kernels::{ImagesMut, KernelError};
/// let mut data = [0.0; 32];
/// let rows_of_four = ImagesMut::new(&mut data, [2, 2, 2, 3], [16, 8, 4, 1])?; // a gap of one element after each row
/// assert_eq!(rows_of_four.sizes(), [2, 2, 2, 3]);
/// assert_eq!(ImagesMut::new(&mut data, [2, 2, 2, 3], [8, 8, 4, 1]).unwrap_err(), KernelError::Overlap);
/// # Ok::<(), KernelError>(())
/// ```
pub struct ImagesMut<'a> {
    pub(crate) cells: CellsMut<'a, 4>,
}

/// Strides where the last axis is innermost.
fn nchw([_, channels, height, width]: [usize; 4]) -> [usize; 4] {
    // No element is reached through a stride that overflows: `data` has as many elements as the sizes ask for, or none.
    let plane = height.wrapping_mul(width);
    [channels.wrapping_mul(plane), plane, width, 1]
}

/// Strides where the batch is innermost.
fn batch_innermost([batch, _, height, width]: [usize; 4]) -> [usize; 4] {
    let row = width.wrapping_mul(batch);
    [1, height.wrapping_mul(row), row, batch]
}

macro_rules! images {
    ($view:ident, $cells:ident, $($data:tt)+) => {
        impl<'a> $view<'a> {
            /// Memory `[batch, channels, height, width]`, PyTorch's layout.
            ///
            /// # Errors
            /// [`Length`](KernelError::Length) when `data` has not exactly as many elements.
            pub fn nchw(
                data: $($data)+,
                batch: usize,
                channels: usize,
                height: usize,
                width: usize,
            ) -> Result<Self, KernelError> {
                let sizes = [batch, channels, height, width];
                KernelError::check_len("view", &sizes, data.len())?;
                Self::new(data, sizes, nchw(sizes))
            }

            /// Memory `[channels, height, width, batch]`, the layout that convolutions compute in: the fastest one.
            ///
            /// # Errors
            /// [`Length`](KernelError::Length) when `data` has not exactly as many elements.
            pub fn batch_innermost(
                data: $($data)+,
                batch: usize,
                channels: usize,
                height: usize,
                width: usize,
            ) -> Result<Self, KernelError> {
                let sizes = [batch, channels, height, width];
                KernelError::check_len("view", &sizes, data.len())?;
                Self::new(data, sizes, batch_innermost(sizes))
            }

            /// The images with these sizes and strides, in elements: of batch, channels, height, width. Gaps are not written.
            ///
            /// # Errors
            /// [`OutOfBounds`](KernelError::OutOfBounds) when an element lies outside of `data`,
            /// [`Overflow`](KernelError::Overflow) when an offset does not fit memory; where the view is written to,
            /// [`Overlap`](KernelError::Overlap) when two indices may have the same element: each stride must be at least as
            /// long as all that the shorter ones span.
            pub fn new(data: $($data)+, sizes: [usize; 4], strides: [usize; 4]) -> Result<Self, KernelError> {
                Ok(Self { cells: $cells::new(data, Layout::new(sizes, strides))? })
            }

            /// Batch, channels, height, width.
            #[inline(always)]
            pub fn sizes(&self) -> [usize; 4] {
                self.cells.sizes()
            }

            /// Elements from an image, plane, row and column to the next.
            #[inline(always)]
            pub fn strides(&self) -> [usize; 4] {
                self.cells.strides()
            }

            /// Number of images.
            #[inline(always)]
            pub fn batch(&self) -> usize {
                self.sizes()[0]
            }

            /// Number of planes of each image.
            #[inline(always)]
            pub fn channels(&self) -> usize {
                self.sizes()[1]
            }

            /// Rows of a plane.
            #[inline(always)]
            pub fn height(&self) -> usize {
                self.sizes()[2]
            }

            /// Columns of a plane.
            #[inline(always)]
            pub fn width(&self) -> usize {
                self.sizes()[3]
            }
        }

        impl core::fmt::Debug for $view<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($view), "({:?}, strides {:?})"), self.sizes(), self.strides())
            }
        }
    };
}

images!(ImagesRef, Cells, &'a [f32]);
images!(ImagesMut, CellsMut, &'a mut [f32]);

impl<'a> ImagesRef<'a> {
    /// One element.
    ///
    /// # Panics
    /// When it is outside of the images.
    #[inline(always)]
    pub fn get(&self, image: usize, channel: usize, row: usize, col: usize) -> f32 {
        self.cells.get([image, channel, row, col])
    }

    /// One row of one plane: columns × batch.
    #[inline(always)]
    pub(crate) fn row(&self, channel: usize, row: usize) -> MatRef<'a> {
        MatRef { cells: self.cells.slice([0, channel, row, 0], [3, 0]) }
    }

    /// All elements, if they lie as `[channels, height, width, batch]`.
    pub(crate) fn as_batch_innermost(&self) -> Option<&'a [f32]> {
        self.cells.permute(BATCH_LAST).as_slice()
    }
}

impl<'a> ImagesMut<'a> {
    /// The same images, for reading, while this view is borrowed.
    pub fn as_ref(&self) -> ImagesRef<'_> {
        ImagesRef { cells: self.cells.as_cells() }
    }

    /// The same images while this view is borrowed, to hand them to several calls.
    pub fn reborrow(&mut self) -> ImagesMut<'_> {
        ImagesMut { cells: self.cells.reborrow() }
    }

    /// One row of one plane: columns × batch.
    #[inline(always)]
    pub(crate) fn row(&mut self, channel: usize, row: usize) -> MatMut<'_> {
        MatMut { cells: self.cells.slice([0, channel, row, 0], [3, 0]) }
    }

    /// All elements, if they lie as `[channels, height, width, batch]`.
    pub(crate) fn into_batch_innermost(self) -> Result<&'a mut [f32], Self> {
        self.cells
            .permute(BATCH_LAST)
            .into_slice()
            .map_err(|cells| Self { cells: cells.permute(BATCH_FIRST) })
    }

    /// Parts of `channels` planes of all images; the last one may have fewer.
    pub(crate) fn planes(self, channels: usize) -> impl ExactSizeIterator<Item = ImagesMut<'a>> + Send {
        self.cells.parts(1, channels).map(|cells| ImagesMut { cells })
    }

    /// Parts of `rows` rows of all planes; the last one may have fewer.
    pub(crate) fn bands(self, rows: usize) -> impl ExactSizeIterator<Item = ImagesMut<'a>> + Send {
        self.cells.parts(2, rows).map(|cells| ImagesMut { cells })
    }
}

/// The axes with the batch last, and the way back.
const BATCH_LAST: [usize; 4] = [1, 2, 3, 0];
const BATCH_FIRST: [usize; 4] = [3, 0, 1, 2];
