//! Edge-popup's layers, for `slth.torch`: selection, product and gradients, with caches between steps.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use slth_kernels::conv2d::{self, PackedConv2d, Shape};
use slth_kernels::top_k::{Order, Selection, Selector, Threshold};
use slth_kernels::{
    Engine, Epilogue, ImagesMut, ImagesRef, KernelError, MaskReuse, MatMut, MatRef, PackedMask,
    PackedWeights, PrepareOptions, matmul,
};

use crate::engine::{compute, engine, refused};
use crate::mask::{from_bits, write_bits};
use crate::pool::{MOST, Pool};
use crate::weights::{at, same_sizes};

/// The weights of one edge-popup layer under its current mask: a cache. Every call names its weights and scores or mask, and the
/// cache changes no result.
///
/// Tensors are passed by address; weights, scores, gradients of scores and results have no gaps. The memory must be float32
/// (masks: packed bits). Inputs must be initialised, and outputs not used elsewhere: slth.torch checks its tensors.
#[pyclass(frozen, weakref, module = "slth")]
pub(crate) struct EdgePopup {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    selector: Selector,
    threshold: Option<Threshold>,
    mask: PackedMask,
    /// Whether the gradient of the inputs was ever asked for: a network's first layer goes without.
    input_gradient: bool,
    layer: Option<Layer>,
}

/// A layer's weights under the mask.
struct Layer {
    /// Address and version of the weights that it was made of.
    weights: (usize, i64),
    batch: usize,
    input_gradient: bool,
    packed: Packed,
}

enum Packed {
    Linear(Box<PackedWeights>),
    Conv2d(PackedConv2d),
}

/// What a layer is made of.
#[derive(Clone, Copy)]
struct Source<'a> {
    weights: MatRef<'a>,
    /// Their address and version.
    identity: (usize, i64),
    /// Of a convolution.
    shape: Option<Shape>,
}

/// Images as PyTorch has them: channels, height, width; outputs, kernel rows and columns; stride, padding; what follows: the side of a
/// pool's windows, and whether there is a ReLU.
type Geometry = ((usize, usize, usize), (usize, usize, usize), (usize, usize), (usize, bool));

/// The convolution of this many images, and the following pool and ReLU.
fn shape(geometry: Geometry, batch: usize) -> PyResult<(Shape, Pool)> {
    let ((channels, height, width), (outputs, rows, columns), (stride, padding), (side, relu)) = geometry;
    if !(1..=MOST).contains(&side) {
        return Err(PyValueError::new_err(format!("max_pool must lie in 1 to {MOST}, found {side}")));
    }
    let shape = Shape { channels, height, width, outputs, kernel: [rows, columns], stride, padding };
    let (height, width) = (shape.out_height(), shape.out_width());
    Ok((shape, Pool { height, width, batch, side, relu }))
}

/// Strides of images without gaps, the batch innermost.
fn batch_innermost([batch, _, rows, columns]: [usize; 4]) -> [usize; 4] {
    [1, rows * columns * batch, columns * batch, batch]
}

impl State {
    /// Selects the mask of `scores`.
    fn select(&mut self, engine: Engine<'_>, scores: &[f32], keep: usize) -> Result<(), KernelError> {
        if self.mask.len() != scores.len() {
            self.mask = PackedMask::none_kept(scores.len());
        }
        let largest = Selection::largest(keep, Order::Magnitude);
        let selection = self.threshold.map_or(largest, |threshold| largest.near(threshold));
        let masks = core::slice::from_mut(&mut self.mask);
        self.threshold = Some(self.selector.select(engine, &[scores], selection, masks)?);
        Ok(())
    }

    /// Applies the mask to the weights. `is_new`: whether it differs from that of the last call.
    fn put(
        &mut self,
        engine: Engine<'_>,
        source: Source<'_>,
        batch: usize,
        is_new: bool,
    ) -> Result<&Packed, KernelError> {
        let Self { mask, input_gradient, layer, .. } = self;
        let prepared = layer.as_ref().filter(|layer| layer.input_gradient == *input_gradient);
        let fits = prepared.is_some_and(|layer| match &layer.packed {
            Packed::Linear(packed) => {
                source.shape.is_none()
                    && [packed.outputs(), packed.inputs()] == [source.weights.rows(), source.weights.cols()]
                    && batch <= layer.batch
            }
            Packed::Conv2d(packed) => source.shape == Some(packed.shape()),
        });
        match layer.as_mut().filter(|_| fits) {
            Some(layer) => {
                let changed = layer.weights != source.identity || source.identity.1 < 0;
                match &mut layer.packed {
                    Packed::Linear(packed) => {
                        if changed {
                            packed.set_weights(engine, source.weights)?;
                        }
                        if is_new {
                            packed.rebuild(engine, &*mask)?;
                        }
                    }
                    Packed::Conv2d(packed) => {
                        if changed {
                            packed.set_weights(engine, source.weights)?;
                        }
                        if is_new {
                            packed.rebuild(engine, mask)?;
                        }
                    }
                }
                layer.weights = source.identity;
            }
            None => {
                let options = PrepareOptions::default()
                    .max_batch(batch.max(1))
                    .reuse(MaskReuse::Once)
                    .input_gradient(*input_gradient);
                let weights = source.weights;
                let packed = match &source.shape {
                    None => Packed::Linear(Box::new(PackedWeights::prepare(
                        engine,
                        weights,
                        Some(mask),
                        &options,
                    )?)),
                    Some(shape) => {
                        Packed::Conv2d(PackedConv2d::prepare(engine, shape, weights, Some(mask), &options)?)
                    }
                };
                *layer =
                    Some(Layer { weights: source.identity, batch, input_gradient: *input_gradient, packed });
            }
        }
        Ok(&layer.as_ref().expect("there is one now").packed)
    }

    /// The same with a given mask, for the gradient of the inputs.
    fn put_mask(
        &mut self,
        engine: Engine<'_>,
        source: Source<'_>,
        batch: usize,
        bits: &[u8],
    ) -> Result<&Packed, KernelError> {
        self.input_gradient = true;
        let len = source.weights.rows() * source.weights.cols();
        let mut words = bits.chunks(8).zip(self.mask.words());
        let same =
            self.mask.len() == len && words.all(|(bits, word)| *bits == word.to_le_bytes()[..bits.len()]);
        if !same {
            self.mask = from_bits(len, bits)?;
        }
        self.put(engine, source, batch, !same)
    }
}

impl EdgePopup {
    /// Calls `work` with the state, without the GIL.
    fn with_state(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut State) -> Result<(), KernelError> + Send,
    ) -> PyResult<()> {
        compute(py, || {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let done = work(&mut state);
            if done.is_err() {
                // Mask and layer may be of different calls.
                *state = State::default();
            }
            done
        })
    }
}

#[pymethods]
impl EdgePopup {
    #[new]
    fn new() -> Self {
        Self { state: Mutex::default() }
    }

    /// y = x @ (mask * weight).T with the mask of the keep largest |scores|, which is written to bits.
    #[pyo3(signature = (weight, version, sizes, scores, score_sizes, keep, x, x_sizes, strides, y, bits, threads, /))]
    #[expect(clippy::too_many_arguments, reason = "addresses and strides")]
    fn linear(
        &self,
        py: Python<'_>,
        weight: usize,
        version: i64,
        sizes: [usize; 2],
        scores: usize,
        score_sizes: [usize; 2],
        keep: usize,
        x: usize,
        x_sizes: [usize; 2],
        strides: [usize; 2],
        y: usize,
        bits: usize,
        threads: isize,
    ) -> PyResult<()> {
        let (engine, [outputs, inputs], batch) = (engine(Some(threads))?, sizes, x_sizes[0]);
        same_sizes("scores", &score_sizes, &sizes)?;
        same_sizes("x", &x_sizes, &[batch, inputs])?;
        let x = at(x, [batch, inputs], strides);
        let y = at(y, [batch, outputs], [outputs, 1]);
        // SAFETY: as said at the struct; tensors are alive until the call returns.
        let (source, scores, x, y, bits) = unsafe {
            let x = x.mat().map_err(refused)?;
            let y = y.mat_mut().map_err(refused)?;
            (
                source(weight, version, sizes, None)?,
                floats(scores, outputs * inputs),
                x,
                y,
                mask_bits(bits, sizes),
            )
        };
        self.with_state(py, |state| {
            state.select(engine, scores, keep)?;
            write_bits(&state.mask, bits);
            let Packed::Linear(packed) = state.put(engine, source, batch, true)? else { return Ok(()) };
            crate::weights::with_workspace(|workspace| {
                matmul::forward(engine, packed, x.t(), &Epilogue::default(), y.t(), workspace)
            })
        })
    }

    /// dx = dy @ (mask * weight), unless its address is 0, and ds = sign(scores) * weight * (dy.T @ x).
    #[pyo3(signature = (weight, version, sizes, scores, score_sizes, bits, dy, dy_sizes, dy_strides, x, x_sizes, x_strides, dx, ds, threads, /))]
    #[expect(clippy::too_many_arguments, reason = "addresses and strides")]
    fn linear_backward(
        &self,
        py: Python<'_>,
        weight: usize,
        version: i64,
        sizes: [usize; 2],
        scores: usize,
        score_sizes: [usize; 2],
        bits: (usize, usize),
        dy: usize,
        dy_sizes: [usize; 2],
        dy_strides: [usize; 2],
        x: usize,
        x_sizes: [usize; 2],
        x_strides: [usize; 2],
        dx: usize,
        ds: usize,
        threads: isize,
    ) -> PyResult<()> {
        let (engine, [outputs, inputs], batch) = (engine(Some(threads))?, sizes, x_sizes[0]);
        same_sizes("scores", &score_sizes, &sizes)?;
        same_sizes("x", &x_sizes, &[batch, inputs])?;
        same_sizes("dy", &dy_sizes, &[batch, outputs])?;
        same_sizes("bits", &[bits.1], &[(outputs * inputs).div_ceil(8)])?;
        let needs_dx = dx != 0;
        let dy = at(dy, [batch, outputs], dy_strides);
        let x = at(x, [batch, inputs], x_strides);
        let dx = at(dx, [if needs_dx { batch } else { 0 }, inputs], [inputs, 1]);
        let (scores, ds) = (at(scores, sizes, [inputs, 1]), at(ds, sizes, [inputs, 1]));
        // SAFETY: as said at the struct; tensors are alive until the call returns.
        let (source, bits, dy, x, dx, scores, ds) = unsafe {
            let source = source(weight, version, sizes, None)?;
            let (dy, x) = (dy.mat().map_err(refused)?, x.mat().map_err(refused)?);
            let (dx, ds) = (dx.mat_mut().map_err(refused)?, ds.mat_mut().map_err(refused)?);
            (source, bytes(bits), dy, x, dx, scores.mat().map_err(refused)?, ds)
        };
        self.with_state(py, |state| {
            crate::weights::with_workspace(|workspace| {
                if needs_dx && let Packed::Linear(packed) = state.put_mask(engine, source, batch, bits)? {
                    matmul::input_gradient(engine, packed, dy.t(), None, dx.t(), workspace)?;
                }
                matmul::score_gradient(engine, dy.t(), x.t(), source.weights, scores, ds, workspace)
            })
        })
    }

    /// As linear, for a convolution of images, then perhaps a pool and a ReLU: y [outputs, rows, columns, batch] without gaps. Where one of them
    /// follows, their winners, uint8, go to memory as y's.
    #[pyo3(signature = (weight, version, geometry, scores, score_count, keep, x, batch, strides, y, winners, bits, threads, /))]
    #[expect(clippy::too_many_arguments, reason = "addresses and strides")]
    fn conv2d(
        &self,
        py: Python<'_>,
        weight: usize,
        version: i64,
        geometry: Geometry,
        scores: usize,
        score_count: usize,
        keep: usize,
        x: usize,
        batch: usize,
        strides: [usize; 4],
        y: (usize, usize),
        winners: (usize, usize),
        bits: usize,
        threads: isize,
    ) -> PyResult<()> {
        let (engine, (shape, pool)) = (engine(Some(threads))?, shape(geometry, batch)?);
        let sizes = filters(&shape);
        same_sizes("scores", &[score_count], &[sizes[0] * sizes[1]])?;
        let x = at(x, [batch, shape.channels, shape.height, shape.width], strides);
        let count = pool.len(shape.outputs);
        same_sizes("y", &[y.1], &[count])?;
        same_sizes("winners", &[winners.1], &[if pool.is_identity() { 0 } else { count }])?;
        // SAFETY: as said at the struct; tensors are alive until the call returns.
        let (source, scores, x, y, winners, bits) = unsafe {
            let x = x.images().map_err(refused)?;
            let scores = floats(scores, sizes[0] * sizes[1]);
            let (y, winners) = (floats_mut(y), bytes_mut(winners));
            (source(weight, version, sizes, Some(shape))?, scores, x, y, winners, mask_bits(bits, sizes))
        };
        self.with_state(py, |state| {
            state.select(engine, scores, keep)?;
            write_bits(&state.mask, bits);
            let Packed::Conv2d(packed) = state.put(engine, source, batch, true)? else { return Ok(()) };
            let convolve = |y: &mut [f32]| {
                let y = ImagesMut::batch_innermost(y, batch, shape.outputs, pool.height, pool.width)?;
                crate::conv2d::with_workspace(|workspace| {
                    conv2d::forward(engine, packed, x, &Epilogue::default(), y, workspace)
                })
            };
            if pool.is_identity() {
                return convolve(y);
            }
            with_scratch(pool.unpooled(shape.outputs), |scratch| {
                convolve(scratch)?;
                pool.forward(engine, scratch, y, winners);
                Ok(())
            })
        })
    }

    /// As linear_backward, for conv2d; dx has the strides of x.
    #[pyo3(signature = (weight, version, geometry, scores, score_count, bits, winners, dy, dy_sizes, dy_strides, x, batch, x_strides, dx, dx_strides, ds, threads, /))]
    #[expect(clippy::too_many_arguments, reason = "addresses and strides")]
    fn conv2d_backward(
        &self,
        py: Python<'_>,
        weight: usize,
        version: i64,
        geometry: Geometry,
        scores: usize,
        score_count: usize,
        bits: (usize, usize),
        winners: (usize, usize),
        dy: usize,
        dy_sizes: [usize; 4],
        dy_strides: [usize; 4],
        x: usize,
        batch: usize,
        x_strides: [usize; 4],
        dx: usize,
        dx_strides: [usize; 4],
        ds: usize,
        threads: isize,
    ) -> PyResult<()> {
        let (engine, (shape, pool)) = (engine(Some(threads))?, shape(geometry, batch)?);
        let sizes = filters(&shape);
        let needs_dx = dx != 0;
        let x_sizes = [batch, shape.channels, shape.height, shape.width];
        same_sizes("scores", &[score_count], &[sizes[0] * sizes[1]])?;
        let pooled = [pool.height / pool.side, pool.width / pool.side];
        same_sizes("dy", &dy_sizes, &[batch, shape.outputs, pooled[0], pooled[1]])?;
        let count = pool.len(shape.outputs);
        same_sizes("winners", &[winners.1], &[if pool.is_identity() { 0 } else { count }])?;
        same_sizes("bits", &[bits.1], &[(sizes[0] * sizes[1]).div_ceil(8)])?;
        // As the next such layer gives it.
        let is_innermost = dy_strides == batch_innermost(dy_sizes);
        let innermost = (dy, if is_innermost { count } else { 0 });
        let dy = at(dy, dy_sizes, dy_strides);
        let x = at(x, x_sizes, x_strides);
        let dx = at(dx, if needs_dx { x_sizes } else { [0; 4] }, dx_strides);
        // Element by element, the scores' gradient is that of a layer of one input.
        let column = |address| at(address, [sizes[0] * sizes[1], 1], [1, 1]);
        let (weights, scores, ds) = (column(weight), column(scores), column(ds));
        // SAFETY: as said at the struct; tensors are alive until the call returns.
        let (source, bits, winners, innermost, dy, x, dx, weights, scores, ds) = unsafe {
            let source = source(weight, version, sizes, Some(shape))?;
            let innermost = is_innermost.then(|| floats(innermost.0, innermost.1));
            let (dy, x) = (dy.images().map_err(refused)?, x.images().map_err(refused)?);
            let (dx, ds) = (dx.images_mut().map_err(refused)?, ds.mat_mut().map_err(refused)?);
            let (weights, scores) = (weights.mat().map_err(refused)?, scores.mat().map_err(refused)?);
            (source, bytes(bits), bytes(winners), innermost, dy, x, dx, weights, scores, ds)
        };
        self.with_state(py, |state| {
            let mut gradient = vec![0.0; sizes[0] * sizes[1]];
            let back = |dy: ImagesRef<'_>| {
                crate::conv2d::with_workspace(|workspace| {
                    if needs_dx && let Packed::Conv2d(packed) = state.put_mask(engine, source, batch, bits)? {
                        conv2d::input_gradient(engine, packed, dy, None, dx, workspace)?;
                    }
                    let view = MatMut::row_major(&mut gradient, sizes[0], sizes[1])?;
                    conv2d::weight_gradient(engine, &shape, dy, x, view, workspace)
                })
            };
            if pool.is_identity() {
                back(dy)?;
            } else {
                let of_window = |plane: usize, window: usize, into: &mut [f32]| {
                    let [row, column] = [window / pooled[1], window % pooled[1]];
                    if let Some(dy) = innermost {
                        let begin = (plane * pooled[0] * pooled[1] + window) * batch;
                        into.copy_from_slice(&dy[begin..][..batch]);
                    } else {
                        let images = into.iter_mut().enumerate();
                        images.for_each(|(image, into)| *into = dy.get(image, plane, row, column));
                    }
                };
                with_scratch(pool.unpooled(shape.outputs), |scratch| {
                    pool.backward(engine, of_window, winners, scratch);
                    back(ImagesRef::batch_innermost(scratch, batch, shape.outputs, pool.height, pool.width)?)
                })?;
            }
            let (gradient, one) =
                (MatRef::row_major(&gradient, gradient.len(), 1)?, MatRef::row_major(&[1.0], 1, 1)?);
            crate::weights::with_workspace(|workspace| {
                matmul::score_gradient(engine, gradient, one, weights, scores, ds, workspace)
            })
        })
    }
}

thread_local! {
    /// The results of a convolution before its pool, or their gradient.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `len` elements of any content, of this thread.
fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        work(&mut scratch[..len])
    })
}

/// Rows and columns of filters as a matrix.
fn filters(shape: &Shape) -> [usize; 2] {
    let [rows, columns] = shape.kernel;
    [shape.outputs, shape.channels * rows * columns]
}

/// # Safety
/// See [`EdgePopup`].
unsafe fn source<'a>(
    weight: usize,
    version: i64,
    sizes: [usize; 2],
    shape: Option<Shape>,
) -> PyResult<Source<'a>> {
    // SAFETY: as promised by the caller.
    let weights = unsafe { at(weight, sizes, [sizes[1], 1]).mat() }.map_err(refused)?;
    Ok(Source { weights, identity: (weight, version), shape })
}

/// # Safety
/// See [`EdgePopup`].
unsafe fn floats<'a>(address: usize, len: usize) -> &'a [f32] {
    // SAFETY: as promised by the caller.
    unsafe { core::slice::from_raw_parts(at(address, [len], [1]).data, len) }
}

/// # Safety
/// See [`EdgePopup`].
unsafe fn floats_mut<'a>((address, len): (usize, usize)) -> &'a mut [f32] {
    // SAFETY: as promised by the caller.
    unsafe { core::slice::from_raw_parts_mut(at(address, [len], [1]).data, len) }
}

/// # Safety
/// See [`EdgePopup`].
unsafe fn bytes<'a>((address, len): (usize, usize)) -> &'a [u8] {
    // SAFETY: as promised by the caller.
    unsafe { core::slice::from_raw_parts(at(address, [len], [1]).data.cast(), len) }
}

/// # Safety
/// See [`EdgePopup`].
unsafe fn bytes_mut<'a>((address, len): (usize, usize)) -> &'a mut [u8] {
    // SAFETY: as promised by the caller.
    unsafe { core::slice::from_raw_parts_mut(at(address, [len], [1]).data.cast(), len) }
}

/// The packed bits of a mask over weights of these sizes.
///
/// # Safety
/// See [`EdgePopup`].
unsafe fn mask_bits<'a>(address: usize, sizes: [usize; 2]) -> &'a mut [u8] {
    // SAFETY: as promised by the caller.
    unsafe { bytes_mut((address, (sizes[0] * sizes[1]).div_ceil(8))) }
}
