//! Matrices and images
//!
//! The views that calls take: a pointer, sizes and strides. `memory` checks them.

/// A matrix of floats that is read. Element (r, c) is `data[r * row_stride + c * col_stride]`; strides are in elements, may
/// leave gaps, and may be 0: a row that is repeated.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_matrix {
    /// The first element; NULL only where there are none.
    pub data: *const f32,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a column to the next.
    pub col_stride: usize,
}

/// A matrix of floats that is written, as slth_matrix. No two of its elements may be the same one. Gaps are left alone.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_matrix_mut {
    /// The first element; NULL only where there are none.
    pub data: *mut f32,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a column to the next.
    pub col_stride: usize,
}

/// A batch of images that is read. Element (n, c, y, x) is
/// `data[n * strides[0] + c * strides[1] + y * strides[2] + x * strides[3]]`; strides are in elements.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_images {
    /// The first element; NULL only where there are none.
    pub data: *const f32,
    /// Batch, channels, height, width.
    pub sizes: [usize; 4],
    /// Elements from an image, channel, row and column to the next.
    pub strides: [usize; 4],
}

/// A batch of images that is written, as slth_images. Each stride must be at least as long as all that the shorter ones span,
/// so that no two elements are the same one. Gaps are left alone.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_images_mut {
    /// The first element; NULL only where there are none.
    pub data: *mut f32,
    /// Batch, channels, height, width.
    pub sizes: [usize; 4],
    /// Elements from an image, channel, row and column to the next.
    pub strides: [usize; 4],
}

/// The matrix whose rows lie one after the other: batch-major activations, `[batch, features]` in memory.
#[unsafe(no_mangle)]
pub extern "C" fn slth_row_major(data: *const f32, rows: usize, cols: usize) -> slth_matrix {
    slth_matrix { data, rows, cols, row_stride: cols, col_stride: 1 }
}

/// As slth_row_major, to be written.
#[unsafe(no_mangle)]
pub extern "C" fn slth_row_major_mut(data: *mut f32, rows: usize, cols: usize) -> slth_matrix_mut {
    slth_matrix_mut { data, rows, cols, row_stride: cols, col_stride: 1 }
}

/// The matrix whose columns lie one after the other: feature-major activations, `[features, batch]` in memory.
#[unsafe(no_mangle)]
pub extern "C" fn slth_col_major(data: *const f32, rows: usize, cols: usize) -> slth_matrix {
    slth_matrix { data, rows, cols, row_stride: 1, col_stride: rows }
}

/// As slth_col_major, to be written.
#[unsafe(no_mangle)]
pub extern "C" fn slth_col_major_mut(data: *mut f32, rows: usize, cols: usize) -> slth_matrix_mut {
    slth_matrix_mut { data, rows, cols, row_stride: 1, col_stride: rows }
}

/// Images `[batch, channels, height, width]` in memory, as PyTorch has them.
#[unsafe(no_mangle)]
pub extern "C" fn slth_nchw(
    data: *const f32,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
) -> slth_images {
    let sizes = [batch, channels, height, width];
    slth_images { data, sizes, strides: nchw(sizes) }
}

/// As slth_nchw, to be written.
#[unsafe(no_mangle)]
pub extern "C" fn slth_nchw_mut(
    data: *mut f32,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
) -> slth_images_mut {
    let sizes = [batch, channels, height, width];
    slth_images_mut { data, sizes, strides: nchw(sizes) }
}

/// Images `[channels, height, width, batch]` in memory, as convolutions compute: the fastest layout.
#[unsafe(no_mangle)]
pub extern "C" fn slth_batch_innermost(
    data: *const f32,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
) -> slth_images {
    let sizes = [batch, channels, height, width];
    slth_images { data, sizes, strides: batch_innermost(sizes) }
}

/// As slth_batch_innermost, to be written.
#[unsafe(no_mangle)]
pub extern "C" fn slth_batch_innermost_mut(
    data: *mut f32,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
) -> slth_images_mut {
    let sizes = [batch, channels, height, width];
    slth_images_mut { data, sizes, strides: batch_innermost(sizes) }
}

// Of sizes whose product overflows the strides are as large as can be, and the call that takes them reports an overflow.

fn nchw([_, channels, height, width]: [usize; 4]) -> [usize; 4] {
    let plane = height.saturating_mul(width);
    [channels.saturating_mul(plane), plane, width, 1]
}

fn batch_innermost([batch, _, height, width]: [usize; 4]) -> [usize; 4] {
    let row = width.saturating_mul(batch);
    [1, height.saturating_mul(row), row, batch]
}
