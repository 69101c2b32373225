//! `slth.Conv2d`.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use slth_kernels::conv2d::{self, PackedConv2d, Shape, Workspace};
use slth_kernels::{
    Activation, Engine, Epilogue, ImagesMut, ImagesRef, KernelError, MatRef, PackedMask, PrepareOptions,
};

use crate::argument::{self, at_least};
use crate::array::{Input, bias, flat, input, no_nan, output, wrong_shape};
use crate::engine::{compute, engine, refused};
use crate::mask::{mask, to_bools};
use crate::weights::{activation, at, options, same_sizes, storage_name};

thread_local! {
    /// Of this thread's convolutions.
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Calls `product` with this thread's workspace.
pub(crate) fn with_workspace<T>(product: impl FnOnce(&mut Workspace) -> T) -> T {
    WORKSPACE.with_borrow_mut(product)
}

/// The filters of a convolution of images of one size, those weights that a mask keeps, prepared once for many products.
///
/// weight: float32 [outputs, channels, kernel rows, kernel columns]. mask: bool of that shape, True keeps; or its bits packed as
/// by top_k(packed=True); None keeps all. image: rows and columns of an input plane. stride, padding: in both directions; padding
/// is with zeros, on all sides. bias: float32 [outputs], added by forward. max_batch: the batch that it is prepared for; other
/// batches work too. input_gradient, storage, threads: as for PackedWeights;
/// mask_reuse has no effect here.
#[pyclass(frozen, weakref, module = "slth")]
pub(crate) struct Conv2d {
    filters: RwLock<Filters>,
    shape: Shape,
    options: PrepareOptions,
    bias: Option<Box<[f32]>>,
    threads: Option<isize>,
}

/// The prepared filters, and their source.
#[derive(Clone)]
struct Filters {
    packed: PackedConv2d,
    weights: Vec<f32>,
    mask: PackedMask,
}

impl Conv2d {
    fn read(&self) -> RwLockReadGuard<'_, Filters> {
        self.filters.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&mut Filters) -> Result<(), KernelError> + Send,
    ) -> PyResult<()> {
        compute(py, || change(&mut self.filters.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn engine(&self) -> PyResult<Engine<'static>> {
        engine(self.threads)
    }

    fn weight_shape(&self) -> [usize; 4] {
        let Shape { channels, outputs, kernel: [rows, columns], .. } = self.shape;
        [outputs, channels, rows, columns]
    }

    fn input_sizes(&self, batch: usize) -> [usize; 4] {
        [batch, self.shape.channels, self.shape.height, self.shape.width]
    }

    fn output_sizes(&self, batch: usize) -> [usize; 4] {
        [batch, self.shape.outputs, self.shape.out_height(), self.shape.out_width()]
    }

    fn convolve(
        &self,
        py: Python<'_>,
        engine: Engine<'_>,
        x: ImagesRef<'_>,
        activation: Activation,
        y: ImagesMut<'_>,
    ) -> PyResult<()> {
        compute(py, || {
            let epilogue = Epilogue { bias: self.bias.as_deref(), activation, ..Epilogue::default() };
            with_workspace(|workspace| {
                conv2d::forward(engine, &self.read().packed, x, &epilogue, y, workspace)
            })
        })
    }

    fn convolve_back(
        &self,
        py: Python<'_>,
        engine: Engine<'_>,
        dy: ImagesRef<'_>,
        dx: ImagesMut<'_>,
    ) -> PyResult<()> {
        compute(py, || {
            with_workspace(|workspace| {
                conv2d::input_gradient(engine, &self.read().packed, dy, None, dx, workspace)
            })
        })
    }
}

#[pymethods]
impl Conv2d {
    #[new]
    #[pyo3(signature = (weight, mask=None, *, image, stride=1, padding=0, bias=None, max_batch=128, mask_reuse="many", input_gradient=false, storage="f32", threads=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        py: Python<'_>,
        weight: &Bound<'_, PyAny>,
        mask: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = argument::image)] image: (isize, isize),
        #[pyo3(from_py_with = argument::stride)] stride: isize,
        #[pyo3(from_py_with = argument::padding)] padding: isize,
        bias: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = argument::max_batch)] max_batch: isize,
        mask_reuse: &str,
        input_gradient: bool,
        storage: &str,
        #[pyo3(from_py_with = argument::threads)] threads: Option<isize>,
    ) -> PyResult<Self> {
        let engine = engine(threads)?;
        let options = options(max_batch, mask_reuse, input_gradient, storage)?;
        let (sizes, weight) = flat("weight", weight)?;
        let [outputs, channels, rows, columns] = sizes[..] else {
            return Err(wrong_shape("weight", "[outputs, channels, kernel rows, kernel columns]", &sizes));
        };
        let (height, width) = (at_least("image", image.0, 0)?, at_least("image", image.1, 0)?);
        let (stride, padding) = (at_least("stride", stride, 1)?, at_least("padding", padding, 0)?);
        let shape = Shape { channels, height, width, outputs, kernel: [rows, columns], stride, padding };
        if shape.out_height() == 0 || shape.out_width() == 0 {
            let text =
                format!("a kernel of {rows} x {columns} does not fit into images of {height} x {width}");
            return Err(PyValueError::new_err(text));
        }
        let mask = match mask {
            Some(value) => self::mask(value, &sizes)?,
            None => PackedMask::all_kept(sizes.iter().product()),
        };
        let bias = self::bias(bias, outputs)?;
        let weights = weight.as_slice().expect("flat");
        no_nan("weight", weights)?;
        let weights = weights.to_vec();
        let filters = compute(py, move || {
            let view = MatRef::row_major(&weights, outputs, channels * rows * columns)?;
            let packed = PackedConv2d::prepare(engine, &shape, view, Some(&mask), &options)?;
            Ok(Filters { packed, weights, mask })
        })?;
        Ok(Self { filters: RwLock::new(filters), shape, options, bias, threads })
    }

    /// activation(conv2d(x, weight) + bias) over the kept weights.
    ///
    /// x: float32 [batch, channels, rows, columns].
    /// activation: None or "relu".
    /// out: where to write, float32 [batch, outputs, out rows, out columns]; None: a new array.
    #[pyo3(signature = (x, activation=None, out=None))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = argument::activation)] activation: Option<String>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let activation = self::activation(activation.as_deref())?;
        let x = images("x", |batch| self.input_sizes(batch), x)?;
        let mut y = output(py, out, self.output_sizes(x.sizes()[0]), &[x.array()])?;
        self.convolve(py, self.engine()?, x.images()?, activation, y.images()?)?;
        Ok(y.into_array().into_any())
    }

    /// The gradient of x. ValueError unless prepared with input_gradient=True.
    ///
    /// dy: float32 [batch, outputs, out rows, out columns].
    /// out: where to write, float32 [batch, channels, rows, columns]; None: a new array.
    #[pyo3(signature = (dy, out=None))]
    fn input_gradient<'py>(
        &self,
        py: Python<'py>,
        dy: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let dy = images("dy", |batch| self.output_sizes(batch), dy)?;
        let mut dx = output(py, out, self.input_sizes(dy.sizes()[0]), &[dy.array()])?;
        self.convolve_back(py, self.engine()?, dy.images()?, dx.images()?)?;
        Ok(dx.into_array().into_any())
    }

    /// The gradient of every weight, removed ones too: a new float32 array [outputs, channels, kernel rows, kernel columns].
    ///
    /// dy: float32 [batch, outputs, out rows, out columns].
    /// x: float32 [batch, channels, rows, columns].
    fn weight_gradient<'py>(
        &self,
        py: Python<'py>,
        dy: &Bound<'py, PyAny>,
        x: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let dy = images("dy", |batch| self.output_sizes(batch), dy)?;
        let batch = dy.sizes()[0];
        let x = images("x", |_| self.input_sizes(batch), x)?;
        let [outputs, channels, rows, columns] = self.weight_shape();
        let mut dw = output(py, None, [outputs, channels * rows * columns], &[])?;
        let (engine, shape) = (self.engine()?, self.shape);
        let (dy, x, view) = (dy.images()?, x.images()?, dw.mat()?);
        compute(py, || {
            with_workspace(|workspace| conv2d::weight_gradient(engine, &shape, dy, x, view, workspace))
        })?;
        dw.into_array().call_method1("reshape", (self.weight_shape(),))
    }

    /// Sets another mask: bool of the weight's shape, or packed bits.
    fn set_mask(&self, py: Python<'_>, mask: &Bound<'_, PyAny>) -> PyResult<()> {
        let (mask, engine) = (self::mask(mask, &self.weight_shape())?, self.engine()?);
        self.change(py, |filters| {
            filters.packed.rebuild(engine, &mask)?;
            filters.mask = mask;
            Ok(())
        })
    }

    /// Sets other weights of the same shape; the mask stays.
    fn set_weight(&self, py: Python<'_>, weight: &Bound<'_, PyAny>) -> PyResult<()> {
        let (sizes, weight) = flat("weight", weight)?;
        let [outputs, channels, rows, columns] = self.weight_shape();
        if sizes != self.weight_shape() {
            return Err(wrong_shape("weight", &format!("{:?}", self.weight_shape()), &sizes));
        }
        let weights = weight.as_slice().expect("flat");
        no_nan("weight", weights)?;
        let engine = self.engine()?;
        self.change(py, |filters| {
            let view = MatRef::row_major(weights, outputs, channels * rows * columns)?;
            filters.packed.set_weights(engine, view)?;
            filters.weights.copy_from_slice(weights);
            Ok(())
        })
    }

    /// The weights, with 0 for the removed ones: a new float32 array [outputs, channels, kernel rows, kernel columns].
    fn weight<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let weights = compute(py, || {
            let filters = self.read();
            let mut weights = filters.weights.clone();
            filters.mask.apply(&mut weights)?;
            Ok(weights)
        })?;
        numpy::PyArray1::from_vec(py, weights).call_method1("reshape", (self.weight_shape(),))
    }

    /// Which weights are kept: a new bool array [outputs, channels, kernel rows, kernel columns].
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mask = self.read().mask.clone();
        Ok(to_bools(py, &mask, &self.weight_shape())?.into_any())
    }

    /// The bias, a new float32 array [outputs], or None.
    #[getter]
    fn bias<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.bias.as_ref().map(|bias| numpy::PyArray1::from_slice(py, bias).into_any())
    }

    /// Outputs, channels, kernel rows and kernel columns.
    #[getter(shape)]
    fn shape_py(&self) -> (usize, usize, usize, usize) {
        self.weight_shape().into()
    }

    /// Rows and columns of an input plane.
    #[getter]
    fn image(&self) -> (usize, usize) {
        (self.shape.height, self.shape.width)
    }

    /// Number of weights kept.
    #[getter]
    fn kept(&self) -> usize {
        self.read().packed.kept()
    }

    /// Bytes of memory held.
    #[getter]
    fn nbytes(&self) -> usize {
        let filters = self.read();
        filters.packed.bytes() + size_of_val(&*filters.weights) + size_of_val(filters.mask.words())
    }

    /// How the weights are stored: "taps", the value and the offset of each kept one.
    #[getter]
    fn format(&self) -> &'static str {
        "taps"
    }

    /// The largest batch that it was prepared for.
    #[getter]
    fn max_batch(&self) -> usize {
        self.options.max_batch
    }

    fn __repr__(&self) -> String {
        let [outputs, channels, rows, columns] = self.weight_shape();
        let Shape { height, width, .. } = self.shape;
        format!(
            "Conv2d({outputs} x {channels} x {rows} x {columns} on {height} x {width}, {} kept)",
            self.kept()
        )
    }

    fn __copy__(&self) -> Self {
        Self {
            filters: RwLock::new(self.read().clone()),
            shape: self.shape,
            options: self.options,
            bias: self.bias.clone(),
            threads: self.threads,
        }
    }

    fn __deepcopy__(&self, memo: &Bound<'_, PyAny>) -> Self {
        let _ = memo;
        self.__copy__()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let restore = py.import("slth._slth")?.getattr("_restore_conv2d")?;
        let weights = this.read().weights.clone();
        let weights =
            numpy::PyArray1::from_vec(py, weights).call_method1("reshape", (this.weight_shape(),))?;
        let Shape { height, width, stride, padding, .. } = this.shape;
        let PrepareOptions { max_batch, input_gradient, storage, .. } = this.options;
        let sizes = ((height, width), stride, padding);
        let options = (max_batch as isize, input_gradient, storage_name(storage));
        let state = (weights, this.mask(py)?, sizes, this.bias(py), options, this.threads);
        Ok((restore, state).into_pyobject(py)?.into_any())
    }

    /// forward for slth.torch: x, with its sizes and strides, and y without gaps, by their addresses.
    ///
    /// The memory must be float32, that of x initialised, and y's in use by nobody else: slth.torch checks its tensors.
    #[pyo3(signature = (x, sizes, strides, y, y_sizes, relu, threads, /))]
    #[expect(clippy::too_many_arguments, reason = "addresses and strides")]
    fn _forward_at(
        &self,
        py: Python<'_>,
        x: usize,
        sizes: [usize; 4],
        strides: [usize; 4],
        y: usize,
        y_sizes: [usize; 4],
        relu: bool,
        threads: isize,
    ) -> PyResult<()> {
        same_sizes("x", &sizes, &self.input_sizes(sizes[0]))?;
        same_sizes("y", &y_sizes, &self.output_sizes(sizes[0]))?;
        let (x, y) = (at(x, sizes, strides), at(y, y_sizes, contiguous(y_sizes)));
        // SAFETY: as said above; tensors are alive until the call returns.
        let (x, y) = unsafe { (x.images().map_err(refused)?, y.images_mut().map_err(refused)?) };
        let activation = if relu { Activation::Relu } else { Activation::Identity };
        self.convolve(py, engine(Some(threads))?, x, activation, y)
    }

    /// input_gradient for slth.torch, as _forward_at.
    #[pyo3(signature = (dy, sizes, strides, dx, dx_sizes, threads, /))]
    #[expect(clippy::too_many_arguments, reason = "addresses and strides")]
    fn _input_gradient_at(
        &self,
        py: Python<'_>,
        dy: usize,
        sizes: [usize; 4],
        strides: [usize; 4],
        dx: usize,
        dx_sizes: [usize; 4],
        threads: isize,
    ) -> PyResult<()> {
        same_sizes("dy", &sizes, &self.output_sizes(sizes[0]))?;
        same_sizes("dx", &dx_sizes, &self.input_sizes(sizes[0]))?;
        let (dy, dx) = (at(dy, sizes, strides), at(dx, dx_sizes, contiguous(dx_sizes)));
        // SAFETY: as said above; tensors are alive until the call returns.
        let (dy, dx) = unsafe { (dy.images().map_err(refused)?, dx.images_mut().map_err(refused)?) };
        self.convolve_back(py, engine(Some(threads))?, dy, dx)
    }
}

/// Called by pickle.
#[pyfunction]
pub(crate) fn _restore_conv2d(
    py: Python<'_>,
    weight: &Bound<'_, PyAny>,
    mask: &Bound<'_, PyAny>,
    sizes: ((isize, isize), isize, isize),
    bias: Option<&Bound<'_, PyAny>>,
    options: (isize, bool, String),
    threads: Option<isize>,
) -> PyResult<Conv2d> {
    let (image, stride, padding) = sizes;
    let (max_batch, input_gradient, storage) = options;
    Conv2d::new(
        py,
        weight,
        Some(mask),
        image,
        stride,
        padding,
        bias,
        max_batch,
        "many",
        input_gradient,
        &storage,
        threads,
    )
}

/// Strides of images without gaps, the last axis innermost.
pub(crate) fn contiguous([_, planes, rows, columns]: [usize; 4]) -> [usize; 4] {
    [planes * rows * columns, rows * columns, columns, 1]
}

/// Images of the sizes that a batch has.
fn images<'py>(
    name: &str,
    sizes: impl Fn(usize) -> [usize; 4],
    value: &Bound<'py, PyAny>,
) -> PyResult<Input<'py, 4>> {
    let [_, planes, rows, columns] = sizes(0);
    let axes = format!("[batch, {planes}, {rows}, {columns}]");
    let images = input::<4>(name, &axes, value)?;
    if images.sizes() == sizes(images.sizes()[0]) {
        Ok(images)
    } else {
        Err(wrong_shape(name, &axes, images.array().shape()))
    }
}
