//! Views of memory that is not a slice, for callers in other languages.

use crate::arch::strided::{Cells, CellsMut, Layout};
use crate::error::KernelError;
use crate::view::{ImagesMut, ImagesRef, MatMut, MatRef};

impl<'a> MatRef<'a> {
    /// A matrix in memory that is not a slice, from a caller in another language.
    ///
    /// # Errors
    /// [`Overflow`](KernelError::Overflow) when an element's offset does not fit memory.
    ///
    /// # Safety
    /// Unless there are no elements, `data` must be aligned and not null, and all elements must lie in one allocation. Each must be
    /// initialised, and stay unchanged for as long as `'a`. Gaps are not accessed.
    pub unsafe fn from_raw_parts(
        data: *const f32,
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self, KernelError> {
        let layout = Layout::new([rows, cols], [row_stride, col_stride]);
        // SAFETY: as promised by the caller.
        Ok(Self { cells: unsafe { Cells::from_raw(data, layout)? } })
    }
}

impl<'a> MatMut<'a> {
    /// A matrix in memory that is not a slice, from a caller in another language.
    ///
    /// # Errors
    /// [`Overlap`](KernelError::Overlap) when two elements are the same one, [`Overflow`](KernelError::Overflow) when an offset does not
    /// fit memory.
    ///
    /// # Safety
    /// Unless there are no elements, `data` must be aligned and not null, and all elements must lie in one allocation. Each must be
    /// initialised, and not be accessed otherwise for as long as `'a`. Gaps are not accessed.
    pub unsafe fn from_raw_parts(
        data: *mut f32,
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self, KernelError> {
        let layout = Layout::new([rows, cols], [row_stride, col_stride]);
        // SAFETY: as promised by the caller.
        Ok(Self { cells: unsafe { CellsMut::from_raw(data, layout)? } })
    }
}

impl<'a> ImagesRef<'a> {
    /// Images in memory that is not a slice, from a caller in another language. Sizes and strides are those of batch, channels,
    /// height and width.
    ///
    /// # Errors
    /// [`Overflow`](KernelError::Overflow) when an element's offset does not fit memory.
    ///
    /// # Safety
    /// Unless there are no elements, `data` must be aligned and not null, and all elements must lie in one allocation. Each must be
    /// initialised, and stay unchanged for as long as `'a`. Gaps are not accessed.
    pub unsafe fn from_raw_parts(
        data: *const f32,
        sizes: [usize; 4],
        strides: [usize; 4],
    ) -> Result<Self, KernelError> {
        // SAFETY: as promised by the caller.
        Ok(Self { cells: unsafe { Cells::from_raw(data, Layout::new(sizes, strides))? } })
    }
}

impl<'a> ImagesMut<'a> {
    /// Images in memory that is not a slice, from a caller in another language. Sizes and strides are those of batch, channels,
    /// height and width.
    ///
    /// # Errors
    /// [`Overlap`](KernelError::Overlap) when two elements are, or may be, the same one, [`Overflow`](KernelError::Overflow) when an
    /// offset does not fit memory.
    ///
    /// # Safety
    /// Unless there are no elements, `data` must be aligned and not null, and all elements must lie in one allocation. Each must be
    /// initialised, and not be accessed otherwise for as long as `'a`. Gaps are not accessed.
    pub unsafe fn from_raw_parts(
        data: *mut f32,
        sizes: [usize; 4],
        strides: [usize; 4],
    ) -> Result<Self, KernelError> {
        // SAFETY: as promised by the caller.
        Ok(Self { cells: unsafe { CellsMut::from_raw(data, Layout::new(sizes, strides))? } })
    }
}
