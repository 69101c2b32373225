//! `slth.PackedWeights`, `slth.weight_gradient`.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use slth_kernels::matmul::{self, Workspace};
use slth_kernels::{
    Activation, Engine, Epilogue, Format, KernelError, MaskReuse, MatMut, MatRef, PackedMask, PrepareOptions,
    Storage,
};

use crate::argument::{self, at_least};
use crate::array::{Input, Strided, bias, input, no_nan, output, wrong_shape};
use crate::engine::{compute, engine, refused};
use crate::mask::{mask, to_bools};

thread_local! {
    /// Of this thread's products.
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Calls `product` with this thread's workspace.
pub(crate) fn with_workspace<T>(product: impl FnOnce(&mut Workspace) -> T) -> T {
    WORKSPACE.with_borrow_mut(product)
}

/// The weights of a layer, those that a mask keeps, prepared once for many products.
///
/// weight: float32 [outputs, inputs]. mask: bool [outputs, inputs], True keeps; or its bits packed as by top_k(packed=True) and
/// numpy.packbits(bitorder="little"); None keeps all. bias: float32 [outputs], added by forward.
/// max_batch: the most rows that products will have; larger batches work
/// too, but slower. mask_reuse: "many" products with each mask (inference), or "once" (training). input_gradient: prepare for
/// input_gradient too, which doubles the memory. storage: of the weights; "f32", or "bf16": rounded once, ties to even, and
/// widened exactly by the products. keep_source: whether to keep the removed weights too, 4 bytes a weight, so that set_mask
/// can bring them back. threads: the most that its products use; None: as set_num_threads says.
///
/// Products with one object may run on several Python threads at a time; the GIL is released. NaN in weight or bias is a ValueError.
/// NaN in activations makes NaN of the outputs that depend on it; "relu" turns NaN into 0.
#[pyclass(frozen, weakref, module = "slth")]
pub(crate) struct PackedWeights {
    packed: RwLock<slth_kernels::PackedWeights>,
    bias: Option<Box<[f32]>>,
    threads: Option<isize>,
}

impl PackedWeights {
    fn read(&self) -> RwLockReadGuard<'_, slth_kernels::PackedWeights> {
        self.packed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Outputs and inputs.
    fn shape(&self) -> [usize; 2] {
        let packed = self.read();
        [packed.outputs(), packed.inputs()]
    }

    fn engine(&self) -> PyResult<Engine<'static>> {
        engine(self.threads)
    }

    /// Checks how many features inputs and outputs have; an error calls them by these names.
    fn check_sizes(&self, names: [&str; 2], inputs: [usize; 2], outputs: [usize; 2]) -> PyResult<()> {
        let [own_outputs, own_inputs] = self.shape();
        same_sizes(names[0], &inputs, &[inputs[0], own_inputs])?;
        same_sizes(names[1], &outputs, &[outputs[0], own_outputs])
    }

    /// Replaces weights or mask.
    fn change(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&mut slth_kernels::PackedWeights) -> Result<(), KernelError> + Send,
    ) -> PyResult<()> {
        compute(py, || change(&mut self.packed.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn multiply(
        &self,
        py: Python<'_>,
        engine: Engine<'_>,
        x: MatRef<'_>,
        activation: Activation,
        y: MatMut<'_>,
    ) -> PyResult<()> {
        compute(py, || {
            let epilogue = Epilogue { bias: self.bias.as_deref(), activation, ..Epilogue::default() };
            with_workspace(|workspace| {
                matmul::forward(engine, &self.read(), x.t(), &epilogue, y.t(), workspace)
            })
        })
    }

    fn multiply_transposed(
        &self,
        py: Python<'_>,
        engine: Engine<'_>,
        dy: MatRef<'_>,
        dx: MatMut<'_>,
    ) -> PyResult<()> {
        compute(py, || {
            with_workspace(|workspace| {
                matmul::input_gradient(engine, &self.read(), dy.t(), None, dx.t(), workspace)
            })
        })
    }
}

#[pymethods]
impl PackedWeights {
    #[new]
    #[pyo3(signature = (weight, mask=None, *, bias=None, max_batch=128, mask_reuse="many", input_gradient=false, storage="f32", keep_source=true, threads=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        py: Python<'_>,
        weight: &Bound<'_, PyAny>,
        mask: Option<&Bound<'_, PyAny>>,
        bias: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = argument::max_batch)] max_batch: isize,
        mask_reuse: &str,
        input_gradient: bool,
        storage: &str,
        keep_source: bool,
        #[pyo3(from_py_with = argument::threads)] threads: Option<isize>,
    ) -> PyResult<Self> {
        let engine = engine(threads)?;
        let options = options(max_batch, mask_reuse, input_gradient, storage)?.keep_source(keep_source);
        let weight = self::weight(weight)?;
        let [outputs, inputs] = weight.sizes();
        let mask = mask.map(|value| self::mask(value, &[outputs, inputs])).transpose()?;
        let bias = self::bias(bias, outputs)?;
        let view = weight.mat()?;
        let prepare = || slth_kernels::PackedWeights::prepare(engine, view, mask.as_ref(), &options);
        Ok(Self { packed: RwLock::new(compute(py, prepare)?), bias, threads })
    }

    /// activation(x @ weight.T + bias) over the kept weights.
    ///
    /// x: float32 [batch, inputs].
    /// activation: None or "relu".
    /// out: where to write, float32 [batch, outputs] of any strides; None: a new array.
    #[pyo3(signature = (x, activation=None, out=None))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = argument::activation)] activation: Option<String>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let [outputs, inputs] = self.shape();
        let activation = self::activation(activation.as_deref())?;
        let x = activations("x", "batch", inputs, x)?;
        let mut y = output(py, out, [x.sizes()[0], outputs], &[x.array()])?;
        self.multiply(py, self.engine()?, x.mat()?, activation, y.mat()?)?;
        Ok(y.into_array().into_any())
    }

    /// dy @ weight over the kept weights: the gradient of x. ValueError unless prepared with input_gradient=True.
    ///
    /// dy: float32 [batch, outputs].
    /// out: where to write, float32 [batch, inputs]; None: a new array.
    #[pyo3(signature = (dy, out=None))]
    fn input_gradient<'py>(
        &self,
        py: Python<'py>,
        dy: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let [outputs, inputs] = self.shape();
        let dy = activations("dy", "batch", outputs, dy)?;
        let mut dx = output(py, out, [dy.sizes()[0], inputs], &[dy.array()])?;
        self.multiply_transposed(py, self.engine()?, dy.mat()?, dx.mat()?)?;
        Ok(dx.into_array().into_any())
    }

    /// Sets another mask: bool of the weight's shape, or packed bits. ValueError if prepared with keep_source=False.
    fn set_mask(&self, py: Python<'_>, mask: &Bound<'_, PyAny>) -> PyResult<()> {
        let (mask, engine) = (self::mask(mask, &self.shape())?, self.engine()?);
        self.change(py, |packed| packed.rebuild(engine, &mask))
    }

    /// Sets other weights of the same shape; the mask stays.
    fn set_weight(&self, py: Python<'_>, weight: &Bound<'_, PyAny>) -> PyResult<()> {
        let (weight, engine) = (self::weight(weight)?, self.engine()?);
        if weight.sizes() != self.shape() {
            return Err(wrong_shape("weight", &format!("{:?}", self.shape()), &weight.sizes()));
        }
        let view = weight.mat()?;
        self.change(py, |packed| packed.set_weights(engine, view))
    }

    /// The weights, with 0 for the removed ones: a new float32 array [outputs, inputs].
    fn weight<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let weights = compute(py, || Ok(self.read().to_dense()))?;
        let array = numpy::PyArray1::from_vec(py, weights);
        array.call_method1("reshape", (self.shape(),))
    }

    /// Which weights are kept: a new bool array [outputs, inputs].
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let shape = self.shape();
        let mask = self.read().mask().cloned();
        let mask = mask.unwrap_or_else(|| PackedMask::all_kept(shape.iter().product()));
        Ok(to_bools(py, &mask, &shape)?.into_any())
    }

    /// The bias, a new float32 array [outputs], or None.
    #[getter]
    fn bias<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.bias.as_ref().map(|bias| numpy::PyArray1::from_slice(py, bias).into_any())
    }

    /// Outputs and inputs.
    #[getter(shape)]
    fn shape_py(&self) -> (usize, usize) {
        let [outputs, inputs] = self.shape();
        (outputs, inputs)
    }

    /// Number of weights kept.
    #[getter]
    fn kept(&self) -> usize {
        self.read().kept()
    }

    /// Bytes of memory held.
    #[getter]
    fn nbytes(&self) -> usize {
        self.read().bytes() + self.bias.as_ref().map_or(0, |bias| size_of_val(&**bias))
    }

    /// How the weights are stored: "dense", "blocked", "interleaved" or "bitmask".
    #[getter]
    fn format(&self) -> &'static str {
        match self.read().format() {
            Format::Dense => "dense",
            Format::Blocked => "blocked",
            Format::Interleaved => "interleaved",
            Format::Bitmask => "bitmask",
            _ => "other",
        }
    }

    /// The largest batch that it was prepared for.
    #[getter]
    fn max_batch(&self) -> usize {
        self.read().options().max_batch
    }

    /// Options, mask and weights as bytes, the same on every machine; C and Rust read them too. The bias is not among them.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &compute(py, || Ok(self.read().to_bytes()))?))
    }

    /// The weights that to_bytes wrote, here or in C or Rust. Malformed bytes are a ValueError; there is no checksum.
    ///
    /// bias, threads: as for PackedWeights.
    #[staticmethod]
    #[pyo3(signature = (data, *, bias=None, threads=None))]
    fn from_bytes(
        py: Python<'_>,
        data: &Bound<'_, PyBytes>,
        bias: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = argument::threads)] threads: Option<isize>,
    ) -> PyResult<Self> {
        _restore_weights(py, data, bias, threads)
    }

    fn __repr__(&self) -> String {
        let packed = self.read();
        let (outputs, inputs, kept) = (packed.outputs(), packed.inputs(), packed.kept());
        drop(packed);
        format!("PackedWeights({outputs} x {inputs}, {kept} kept, {})", self.format())
    }

    fn __copy__(&self) -> Self {
        Self { packed: RwLock::new(self.read().clone()), bias: self.bias.clone(), threads: self.threads }
    }

    fn __deepcopy__(&self, memo: &Bound<'_, PyAny>) -> Self {
        let _ = memo;
        self.__copy__()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let bytes = this.to_bytes(py)?;
        let restore = py.import("slth._slth")?.getattr("_restore_weights")?;
        Ok((restore, (bytes, this.bias(py), this.threads)).into_pyobject(py)?.into_any())
    }

    /// forward for slth.torch: x, with its sizes and strides, and y [batch, outputs] without gaps, by their addresses.
    ///
    /// The memory must be float32, that of x initialised, and y's in use by nobody else: slth.torch checks its tensors.
    #[pyo3(signature = (x, sizes, strides, y, outputs, relu, threads, /))]
    #[expect(clippy::too_many_arguments, reason = "addresses and strides")]
    fn _forward_at(
        &self,
        py: Python<'_>,
        x: usize,
        sizes: (usize, usize),
        strides: (usize, usize),
        y: usize,
        outputs: usize,
        relu: bool,
        threads: isize,
    ) -> PyResult<()> {
        let (batch, inputs) = sizes;
        self.check_sizes(["x", "y"], [batch, inputs], [batch, outputs])?;
        let x = at(x, [batch, inputs], strides.into());
        let y = at(y, [batch, outputs], [outputs, 1]);
        // SAFETY: as said above; tensors are alive until the call returns.
        let (x, y) = unsafe { (x.mat().map_err(refused)?, y.mat_mut().map_err(refused)?) };
        let activation = if relu { Activation::Relu } else { Activation::Identity };
        self.multiply(py, engine(Some(threads))?, x, activation, y)
    }

    /// input_gradient for slth.torch, as _forward_at.
    #[pyo3(signature = (dy, sizes, strides, dx, inputs, threads, /))]
    #[expect(clippy::too_many_arguments, reason = "addresses and strides")]
    fn _input_gradient_at(
        &self,
        py: Python<'_>,
        dy: usize,
        sizes: (usize, usize),
        strides: (usize, usize),
        dx: usize,
        inputs: usize,
        threads: isize,
    ) -> PyResult<()> {
        let (batch, outputs) = sizes;
        self.check_sizes(["dx", "dy"], [batch, inputs], [batch, outputs])?;
        let dy = at(dy, [batch, outputs], strides.into());
        let dx = at(dx, [batch, inputs], [inputs, 1]);
        // SAFETY: as said above; tensors are alive until the call returns.
        let (dy, dx) = unsafe { (dy.mat().map_err(refused)?, dx.mat_mut().map_err(refused)?) };
        self.multiply_transposed(py, engine(Some(threads))?, dy, dx)
    }
}

/// Called by pickle.
#[pyfunction]
pub(crate) fn _restore_weights(
    py: Python<'_>,
    bytes: &Bound<'_, PyBytes>,
    bias: Option<&Bound<'_, PyAny>>,
    threads: Option<isize>,
) -> PyResult<PackedWeights> {
    let (engine, bytes) = (engine(threads)?, bytes.as_bytes());
    let packed = compute(py, || slth_kernels::PackedWeights::from_bytes(engine, bytes))?;
    let bias = self::bias(bias, packed.outputs())?;
    Ok(PackedWeights { packed: RwLock::new(packed), bias, threads })
}

/// dy.T @ x: the gradient of every weight of a layer, removed ones too; with a mask, of the kept ones, and 0 for the others.
///
/// dy: float32 [batch, outputs].
/// x: float32 [batch, inputs].
/// mask: bool [outputs, inputs], or packed bits; None: the gradient of every weight.
/// out: where to write, float32 [outputs, inputs]; None: a new array.
/// threads: the most that are used; None: as set_num_threads says.
#[pyfunction]
#[pyo3(signature = (dy, x, mask=None, *, out=None, threads=None))]
pub(crate) fn weight_gradient<'py>(
    py: Python<'py>,
    dy: &Bound<'py, PyAny>,
    x: &Bound<'py, PyAny>,
    mask: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = argument::threads)] threads: Option<isize>,
) -> PyResult<Bound<'py, PyAny>> {
    let engine = engine(threads)?;
    let dy = input::<2>("dy", "[batch, outputs]", dy)?;
    let x = input::<2>("x", "[batch, inputs]", x)?;
    let ([batch, outputs], [rows, inputs]) = (dy.sizes(), x.sizes());
    if rows != batch {
        return Err(wrong_shape("x", &format!("[{batch}, inputs]"), &x.sizes()));
    }
    let mask = mask.map(|value| self::mask(value, &[outputs, inputs])).transpose()?;
    let mut dw = output(py, out, [outputs, inputs], &[dy.array(), x.array()])?;
    let (dy, x, view) = (dy.mat()?, x.mat()?, dw.mat()?);
    compute(py, || {
        with_workspace(|workspace| {
            matmul::weight_gradient(engine, dy.t(), x.t(), mask.as_ref(), view, workspace)
        })
    })?;
    Ok(dw.into_array().into_any())
}

/// Checks sizes that an operator of slth.torch works with.
pub(crate) fn same_sizes(name: &str, found: &[usize], expected: &[usize]) -> PyResult<()> {
    if found == expected { Ok(()) } else { Err(wrong_shape(name, &format!("{expected:?}"), found)) }
}

/// Memory at an address.
pub(crate) fn at<const D: usize>(address: usize, sizes: [usize; D], strides: [usize; D]) -> Strided<D> {
    let data = if sizes.contains(&0) { core::ptr::dangling_mut() } else { address as *mut f32 };
    Strided { data, sizes, strides }
}

/// Activations of `features` features.
fn activations<'py>(
    name: &str,
    rows: &str,
    features: usize,
    value: &Bound<'py, PyAny>,
) -> PyResult<Input<'py, 2>> {
    let axes = format!("[{rows}, {features}]");
    let activations = input::<2>(name, &axes, value)?;
    if activations.sizes()[1] == features {
        Ok(activations)
    } else {
        Err(wrong_shape(name, &axes, &activations.sizes()))
    }
}

/// Weights without NaN.
fn weight<'py>(value: &Bound<'py, PyAny>) -> PyResult<Input<'py, 2>> {
    let weight = input::<2>("weight", "[outputs, inputs]", value)?;
    match weight.as_slice() {
        Some(values) => no_nan("weight", values)?,
        None => no_nan("weight", crate::array::flat("weight", value)?.1.as_slice().expect("flat"))?,
    }
    Ok(weight)
}

/// What `activation` names.
pub(crate) fn activation(name: Option<&str>) -> PyResult<Activation> {
    match name {
        None => Ok(Activation::Identity),
        Some("relu") => Ok(Activation::Relu),
        Some(other) => {
            Err(PyValueError::new_err(format!("activation must be None or \"relu\", found {other:?}")))
        }
    }
}

/// What [`options`] takes for it.
pub(crate) fn storage_name(storage: Storage) -> &'static str {
    if storage == Storage::Bf16 { "bf16" } else { "f32" }
}

/// What weights are prepared for.
pub(crate) fn options(
    max_batch: isize,
    mask_reuse: &str,
    input_gradient: bool,
    storage: &str,
) -> PyResult<PrepareOptions> {
    let max_batch = at_least("max_batch", max_batch, 1)?;
    let reuse = match mask_reuse {
        "many" => MaskReuse::Many,
        "once" => MaskReuse::Once,
        _ => {
            let text = format!("mask_reuse must be \"many\" or \"once\", found {mask_reuse:?}");
            return Err(PyValueError::new_err(text));
        }
    };
    let storage = match storage {
        "f32" => Storage::F32,
        "bf16" => Storage::Bf16,
        _ => {
            let text = format!("storage must be \"f32\" or \"bf16\", found {storage:?}");
            return Err(PyValueError::new_err(text));
        }
    };
    Ok(PrepareOptions::default()
        .max_batch(max_batch)
        .reuse(reuse)
        .input_gradient(input_gradient)
        .storage(storage))
}
