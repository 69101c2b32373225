//! Convolutions

use std::sync::RwLock;

use slth_kernels::ImagesRef;
use slth_kernels::conv2d::{self, PackedConv2d, Shape};

use crate::engine::slth_engine;
use crate::handle::{self, Slot, handle};
use crate::matmul::{slth_epilogue, slth_workspace};
use crate::memory::{Block, Extensible, check_pointer, structure, write_structure};
use crate::status::{Failure, guard, slth_status};
use crate::views::{slth_images, slth_images_mut, slth_matrix, slth_matrix_mut};
use crate::weights::{masked, slth_prepare_options};

/// The sizes of a convolution but for the batch. out_height is floor((height + 2 * padding - kernel_height) / stride) + 1, or
/// 0 where the kernel does not fit in; and so for out_width.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_conv2d_shape {
    /// sizeof(slth_conv2d_shape).
    pub size: usize,
    /// Planes of the input.
    pub channels: usize,
    /// Rows of an input plane.
    pub height: usize,
    /// Columns of an input plane.
    pub width: usize,
    /// Planes of the output: filters.
    pub outputs: usize,
    /// Rows of the kernel; at least 1.
    pub kernel_height: usize,
    /// Columns of the kernel; at least 1.
    pub kernel_width: usize,
    /// Step between the places the kernel is put at, in both directions; at least 1.
    pub stride: usize,
    /// Rows and columns of zeros around each input plane, on all four sides.
    pub padding: usize,
}

// SAFETY: integers of the size's own type, so without padding and valid whatever their bits are; the size is the first.
unsafe impl Extensible for slth_conv2d_shape {
    const NAME: &'static str = "shape";
    const FIRST_SIZE: usize = 9 * size_of::<usize>();
}

impl slth_conv2d_shape {
    /// # Safety
    /// `shape` must be NULL or a structure as [`structure`] asks for.
    unsafe fn read(shape: *const Self) -> Result<Shape, Failure> {
        check_pointer(Self::NAME, shape)?;
        // SAFETY: as promised.
        let Self { channels, height, width, outputs, kernel_height, kernel_width, stride, padding, .. } =
            unsafe { structure(shape)? };
        for (what, size) in [("shape.kernel_height", kernel_height), ("shape.kernel_width", kernel_width)] {
            if size == 0 {
                return Err(Failure::out_of_range(what, "at least 1", size));
            }
        }
        Ok(Shape { channels, height, width, outputs, kernel: [kernel_height, kernel_width], stride, padding })
    }

    fn of(shape: Shape) -> Self {
        let Shape {
            channels,
            height,
            width,
            outputs,
            kernel: [kernel_height, kernel_width],
            stride,
            padding,
        } = shape;
        let size = size_of::<Self>();
        Self { size, channels, height, width, outputs, kernel_height, kernel_width, stride, padding }
    }
}

/// The filters of a convolution, under a mask or not, as convolutions take them.
pub struct slth_conv2d(RwLock<PackedConv2d>);

handle!(slth_conv2d(PackedConv2d) = "conv2d");

/// Prepares filters `[outputs, channels * kernel_height * kernel_width]`, which are copied.
///
/// - mask: keeps element (o, i) where bit o * columns + i is set; ceil(outputs * columns / 64) words; NULL: all are kept.
/// - options: NULL: the defaults. max_batch is the batch that is prepared for, 64 if unknown; calls with another one prepare
///   for it once, in the workspace. strategy and reuse change nothing.
/// - prepared: receives the handle, to be freed by slth_conv2d_free.
///
/// Holds 4 bytes for each element (with SLTH_DROP_SOURCE for each kept one), and lists of 8 bytes for each kept one. There is a
/// list for the output columns inside, and one for each column at the edges where the kernel overlaps the padding; with
/// SLTH_INPUT_GRADIENT also such lists for the columns of the input. slth_conv2d_bytes tells the sum. Takes time in proportion.
///
/// Returns SLTH_OUT_OF_RANGE for a stride or a side of the kernel of 0, SLTH_PLANE_TOO_LARGE for a plane of the prepared batch
/// with 2^32 elements or more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_prepare(
    engine: *const slth_engine,
    shape: *const slth_conv2d_shape,
    filters: slth_matrix,
    mask: *const u64,
    options: *const slth_prepare_options,
    prepared: *mut *mut slth_conv2d,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let slot = Slot::new("prepared", prepared)?;
            let engine = handle::read(engine)?.engine;
            let (shape, options) = (slth_conv2d_shape::read(shape)?, slth_prepare_options::read(options)?);
            let filters = Block::of("filters", filters)?.read()?;
            let mask = masked("mask", mask, filters.rows(), filters.cols())?.map(|mask| mask.to_owned());
            slot.fill(PackedConv2d::prepare(engine, &shape, filters, mask.as_ref(), &options)?);
        }
        Ok(())
    })
}

/// Puts another mask over the filters, ceil(outputs * columns / 64) words. Reuses its memory: reallocates only when
/// the lists grow.
///
/// Returns SLTH_NO_SOURCE for filters prepared with SLTH_DROP_SOURCE, SLTH_BUSY while a call uses them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_rebuild(
    conv2d: *mut slth_conv2d,
    engine: *const slth_engine,
    mask: *const u64,
) -> slth_status {
    guard(|| {
        check_pointer("mask", mask)?;
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (engine, mut conv2d) = (handle::read(engine)?.engine, handle::write(conv2d)?);
            let filters = conv2d.shape().weights().ok_or(Failure::overflow("mask"))?;
            if let Some(mask) = masked("mask", mask, filters, 1)? {
                conv2d.rebuild(engine, &mask.to_owned())?;
            }
        }
        Ok(())
    })
}

/// Takes other filters under the same mask. Returns SLTH_BUSY while a call uses them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_set_filters(
    conv2d: *mut slth_conv2d,
    engine: *const slth_engine,
    filters: slth_matrix,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (engine, mut conv2d) = (handle::read(engine)?.engine, handle::write(conv2d)?);
            conv2d.set_weights(engine, Block::of("filters", filters)?.read()?)?;
        }
        Ok(())
    })
}

/// The sizes of a prepared convolution. shape->size must be set; the other fields receive the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_get_shape(
    conv2d: *const slth_conv2d,
    shape: *mut slth_conv2d_shape,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe { write_structure(shape, slth_conv2d_shape::of(handle::read(conv2d)?.shape())) }
    })
}

/// Rows of an output plane; 0 for NULL, a structure with another `size`, or a kernel without rows or columns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_out_height(shape: *const slth_conv2d_shape) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { slth_conv2d_shape::read(shape) }.map_or(0, |shape| shape.out_height())
}

/// Columns of an output plane; 0 for NULL, a structure with another `size`, or a kernel without rows or columns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_out_width(shape: *const slth_conv2d_shape) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { slth_conv2d_shape::read(shape) }.map_or(0, |shape| shape.out_width())
}

/// Number of elements kept; 0 for NULL, and while another thread changes the filters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_kept(conv2d: *const slth_conv2d) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(conv2d, PackedConv2d::kept) }
}

/// Bytes of memory held; 0 for NULL, and while another thread changes the filters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_bytes(conv2d: *const slth_conv2d) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(conv2d, PackedConv2d::bytes) }
}

/// Frees prepared filters; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_free(conv2d: *mut slth_conv2d) {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::free(conv2d) }
}

/// y = activation(W * x + bias), the convolution of each image with the kept filter elements W (not mirrored, as usual in
/// neural networks): x `[batch, channels, height, width]`, y `[batch, outputs, out_height, out_width]`, one bias for each
/// plane of y.
///
/// - epilogue: bias, activation, accumulation. NULL: none of them.
///
/// Takes O(kept * out_height * out_width * batch) multiply-adds; fastest with the batch innermost. Returns
/// SLTH_PLANE_TOO_LARGE for a plane of x or y with 2^32 elements or more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_forward(
    engine: *const slth_engine,
    conv2d: *const slth_conv2d,
    x: slth_images,
    epilogue: *const slth_epilogue,
    y: slth_images_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let conv2d = handle::read(conv2d)?;
            let epilogue = slth_epilogue::read(epilogue, conv2d.shape().outputs)?;
            let (x, y) = (Block::of_images("x", x)?, Block::of_images_mut("y", y)?);
            y.check_apart(&x)?;
            y.check_apart(&Block::bias(&epilogue)?)?;
            let (x, y) = (x.read_images()?, y.write_images(epilogue.accumulate)?);
            conv2d::forward(engine, &conv2d, x, &epilogue, y, &mut workspace.conv2d)?;
        }
        Ok(())
    })
}

/// The gradient of the input, over the kept filter elements: dy `[batch, outputs, out_height, out_width]`, dx
/// `[batch, channels, height, width]`.
///
/// - relu_output: the activations, of the shape of dx, that a ReLU produced; dx is 0 wherever they are not positive: the
///   gradient before that ReLU. NULL: there was none.
///
/// Takes O(kept * out_height * out_width * batch) multiply-adds. Returns SLTH_NO_INPUT_GRADIENT for filters prepared without
/// SLTH_INPUT_GRADIENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_input_gradient(
    engine: *const slth_engine,
    conv2d: *const slth_conv2d,
    dy: slth_images,
    relu_output: *const slth_images,
    dx: slth_images_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let conv2d = handle::read(conv2d)?;
            let (dy, dx) = (Block::of_images("dy", dy)?, Block::of_images_mut("dx", dx)?);
            dx.check_apart(&dy)?;
            let relu_output = relu_output_of(relu_output, &dx)?;
            let (dy, dx) = (dy.read_images()?, dx.write_images(false)?);
            conv2d::input_gradient(engine, &conv2d, dy, relu_output, dx, &mut workspace.conv2d)?;
        }
        Ok(())
    })
}

/// The gradient of every filter element, removed ones too: dy `[batch, outputs, out_height, out_width]`, x `[batch, channels,
/// height, width]`, dw `[outputs, channels * kernel_height * kernel_width]`.
///
/// Takes O(filter elements * out_height * out_width * batch) multiply-adds. Each element is the sum of its images' sums.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_conv2d_weight_gradient(
    engine: *const slth_engine,
    shape: *const slth_conv2d_shape,
    dy: slth_images,
    x: slth_images,
    dw: slth_matrix_mut,
    workspace: *mut slth_workspace,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller; nothing that is read is written.
        unsafe {
            let (engine, mut workspace) = (handle::read(engine)?.engine, handle::write(workspace)?);
            let shape = slth_conv2d_shape::read(shape)?;
            let [dy, x] = [Block::of_images("dy", dy)?, Block::of_images("x", x)?];
            let dw = Block::of_mut("dw", dw)?;
            [&dy, &x].into_iter().try_for_each(|read| dw.check_apart(read))?;
            let (dy, x, dw) = (dy.read_images()?, x.read_images()?, dw.write(false)?);
            conv2d::weight_gradient(engine, &shape, dy, x, dw, &mut workspace.conv2d)?;
        }
        Ok(())
    })
}

/// The activations of a ReLU, or none behind NULL; apart from the gradient that is written.
///
/// # Safety
/// `relu_output` must be NULL or point to images as [`Block::read_images`] asks for.
unsafe fn relu_output_of<'a>(
    relu_output: *const slth_images,
    dx: &Block<4>,
) -> Result<Option<ImagesRef<'a>>, Failure> {
    if relu_output.is_null() {
        return Ok(None);
    }
    check_pointer("relu_output", relu_output)?;
    // SAFETY: as promised.
    let relu_output = Block::of_images("relu_output", unsafe { relu_output.read() })?;
    dx.check_apart(&relu_output)?;
    // SAFETY: as promised.
    Ok(Some(unsafe { relu_output.read_images()? }))
}
