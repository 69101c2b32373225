//! NumPy arrays, and objects that can be viewed as arrays, as views of the kernels.

use numpy::npyffi::NPY_ARRAY_WRITEABLE;
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple};
use slth_kernels::{ImagesMut, ImagesRef, KernelError, MatMut, MatRef};

use crate::engine::refused;

/// The elements of an array of `D` axes, which a reference keeps alive or the caller guarantees.
#[derive(Clone, Copy)]
pub(crate) struct Strided<const D: usize> {
    pub(crate) data: *mut f32,
    pub(crate) sizes: [usize; D],
    /// In elements.
    pub(crate) strides: [usize; D],
}

/// A float32 array that is read.
pub(crate) struct Input<'py, const D: usize> {
    array: Bound<'py, PyUntypedArray>,
    strided: Strided<D>,
}

/// A float32 array that is written.
pub(crate) struct Output<'py, const D: usize> {
    array: Bound<'py, PyUntypedArray>,
    strided: Strided<D>,
}

impl<const D: usize> Input<'_, D> {
    pub(crate) fn sizes(&self) -> [usize; D] {
        self.strided.sizes
    }

    /// The elements, if they lie one after the other, the last axis innermost.
    pub(crate) fn as_slice(&self) -> Option<&[f32]> {
        let Strided { data, sizes, .. } = self.strided;
        let len = sizes.iter().product();
        // SAFETY: NumPy says that these elements lie one after the other; the array is alive as long as `self`. That nobody writes to
        // an array during a call is up to the program, as for every function that releases the GIL.
        self.array.is_c_contiguous().then(|| unsafe { core::slice::from_raw_parts(data, len) })
    }
}

impl Input<'_, 2> {
    pub(crate) fn mat(&self) -> PyResult<MatRef<'_>> {
        // SAFETY: the elements are those of an array that is alive as long as `self`; nobody writes to them during a call, as above.
        unsafe { self.strided.mat() }.map_err(refused)
    }
}

impl Input<'_, 4> {
    pub(crate) fn images(&self) -> PyResult<ImagesRef<'_>> {
        // SAFETY: as for matrices.
        unsafe { self.strided.images() }.map_err(refused)
    }
}

impl<'py, const D: usize> Output<'py, D> {
    pub(crate) fn into_array(self) -> Bound<'py, PyUntypedArray> {
        self.array
    }
}

impl Output<'_, 2> {
    pub(crate) fn mat(&mut self) -> PyResult<MatMut<'_>> {
        // SAFETY: the elements are those of an array that is alive as long as `self` and shares no element with any input.
        unsafe { self.strided.mat_mut() }.map_err(refused)
    }
}

impl Output<'_, 4> {
    pub(crate) fn images(&mut self) -> PyResult<ImagesMut<'_>> {
        // SAFETY: as for matrices.
        unsafe { self.strided.images_mut() }.map_err(refused)
    }
}

impl Strided<2> {
    /// # Safety
    /// As [`MatRef::from_raw_parts`].
    pub(crate) unsafe fn mat<'a>(self) -> Result<MatRef<'a>, KernelError> {
        let Self { data, sizes: [rows, cols], strides: [row_stride, col_stride] } = self;
        // SAFETY: as promised by the caller.
        unsafe { MatRef::from_raw_parts(data, rows, cols, row_stride, col_stride) }
    }

    /// # Safety
    /// As [`MatMut::from_raw_parts`].
    pub(crate) unsafe fn mat_mut<'a>(self) -> Result<MatMut<'a>, KernelError> {
        let Self { data, sizes: [rows, cols], strides: [row_stride, col_stride] } = self;
        // SAFETY: as promised by the caller.
        unsafe { MatMut::from_raw_parts(data, rows, cols, row_stride, col_stride) }
    }
}

impl Strided<4> {
    /// # Safety
    /// As [`ImagesRef::from_raw_parts`].
    pub(crate) unsafe fn images<'a>(self) -> Result<ImagesRef<'a>, KernelError> {
        // SAFETY: as promised by the caller.
        unsafe { ImagesRef::from_raw_parts(self.data, self.sizes, self.strides) }
    }

    /// # Safety
    /// As [`ImagesMut::from_raw_parts`].
    pub(crate) unsafe fn images_mut<'a>(self) -> Result<ImagesMut<'a>, KernelError> {
        // SAFETY: as promised by the caller.
        unsafe { ImagesMut::from_raw_parts(self.data, self.sizes, self.strides) }
    }
}

/// `value` as an array, without a copy: an array, a buffer, or an object with DLPack.
pub(crate) fn as_array<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        return Ok(array.clone());
    }
    let py = value.py();
    let convert = if value.hasattr("__dlpack__")? { "from_dlpack" } else { "asarray" };
    let array = py.import("numpy")?.call_method1(convert, (value,));
    let array = array.and_then(|array| Ok(array.cast_into::<PyUntypedArray>()?));
    array.map_err(|error| {
        let new = PyTypeError::new_err(format!("{name} cannot be read as an array: {}", error.value(py)));
        new.set_cause(py, Some(error));
        new
    })
}

/// `value` as a float32 array of `D` axes, called `axes`. It is copied only if its elements are not aligned to four bytes, or a
/// stride is negative.
pub(crate) fn input<'py, const D: usize>(
    name: &str,
    axes: &str,
    value: &Bound<'py, PyAny>,
) -> PyResult<Input<'py, D>> {
    let mut array = as_array(name, value)?;
    check_float32(name, &array)?;
    let found = array.shape();
    if found.len() != D {
        return Err(wrong_shape(name, axes, found));
    }
    let strided = match strided(&array) {
        Some(strided) => strided,
        None => {
            array = array.call_method1("copy", ("C",))?.cast_into()?;
            strided(&array).expect("a new array is aligned and runs forwards")
        }
    };
    Ok(Input { array, strided })
}

/// The same with contiguous elements, the last axis innermost: a copy if they are not. Any number of axes.
pub(crate) fn flat<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<(Vec<usize>, Input<'py, 1>)> {
    let mut array = as_array(name, value)?;
    check_float32(name, &array)?;
    let shape = array.shape().to_vec();
    if !array.is_c_contiguous() || !array.is_aligned() {
        array = array.call_method1("copy", ("C",))?.cast_into()?;
    }
    let strided = Strided { data: data(&array), sizes: [array.len()], strides: [1] };
    Ok((shape, Input { array, strided }))
}

/// The vector of `len` numbers that a layer's bias is.
pub(crate) fn bias(value: Option<&Bound<'_, PyAny>>, len: usize) -> PyResult<Option<Box<[f32]>>> {
    let Some(value) = value else { return Ok(None) };
    let (shape, bias) = flat("bias", value)?;
    if shape != [len] {
        return Err(wrong_shape("bias", &format!("[{len}]"), &shape));
    }
    let bias = bias.as_slice().expect("flat");
    no_nan("bias", bias)?;
    Ok(Some(bias.into()))
}

/// Refuses NaN in what is prepared once.
pub(crate) fn no_nan(name: &str, values: &[f32]) -> PyResult<()> {
    // A full pass first, which the compiler vectorises.
    if !values.iter().fold(false, |any, value| any | value.is_nan()) {
        return Ok(());
    }
    let at = values.iter().position(|value| value.is_nan()).unwrap_or_default();
    Err(PyValueError::new_err(format!("{name} is NaN at index {at} (in C order)")))
}

/// A new array `[sizes]`, or the one given as `out`, which must not share memory with `inputs`.
pub(crate) fn output<'py, const D: usize>(
    py: Python<'py>,
    out: Option<&Bound<'py, PyAny>>,
    sizes: [usize; D],
    inputs: &[&Bound<'py, PyUntypedArray>],
) -> PyResult<Output<'py, D>> {
    let Some(out) = out else {
        let array = empty(py, &sizes, "float32")?;
        let strided = strided(&array).expect("a new array is aligned and runs forwards");
        return Ok(Output { array, strided });
    };
    let array = out
        .cast::<PyUntypedArray>()
        .map_err(|_| PyTypeError::new_err(format!("out must be a numpy.ndarray, found {}", kind(out))))?;
    check_float32("out", array)?;
    if array.shape() != sizes {
        return Err(wrong_shape("out", &format!("{sizes:?}"), array.shape()));
    }
    // SAFETY: the object is an array, and alive.
    if unsafe { (*array.as_array_ptr()).fields.flags } & NPY_ARRAY_WRITEABLE == 0 {
        return Err(PyValueError::new_err("out is read-only"));
    }
    let Some(strided) = strided(array) else {
        let problem = "out must be aligned, with strides that are not negative and multiples of 4 bytes";
        return Err(PyValueError::new_err(problem));
    };
    for input in inputs {
        if shares_memory(array, input)? {
            return Err(PyValueError::new_err("out shares memory with an input"));
        }
    }
    Ok(Output { array: array.clone(), strided })
}

impl<'py, const D: usize> Input<'py, D> {
    pub(crate) fn array(&self) -> &Bound<'py, PyUntypedArray> {
        &self.array
    }
}

/// A new array with unspecified content.
pub(crate) fn empty<'py>(
    py: Python<'py>,
    sizes: &[usize],
    dtype: &str,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    // Python's own function: it has an error where there is no memory.
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let empty = EMPTY.import(py, "numpy", "empty")?;
    Ok(empty.call1((PyTuple::new(py, sizes)?, dtype))?.cast_into()?)
}

/// The address of the first element.
pub(crate) fn data<T>(array: &Bound<'_, PyUntypedArray>) -> *mut T {
    // SAFETY: the object is an array, and alive.
    let data = unsafe { (*array.as_array_ptr()).fields.data }.cast::<T>();
    if array.is_empty() { core::ptr::NonNull::dangling().as_ptr() } else { data }
}

/// Whether two arrays share an element, or may share one.
fn shares_memory<'py>(a: &Bound<'py, PyUntypedArray>, b: &Bound<'py, PyUntypedArray>) -> PyResult<bool> {
    let numpy = a.py().import("numpy")?;
    let maybe = numpy.call_method1("may_share_memory", (a, b))?.is_truthy()?;
    // Exact up to this amount of work.
    const MOST_WORK: usize = 10_000;
    let exact = || numpy.call_method1("shares_memory", (a, b, MOST_WORK))?.is_truthy();
    Ok(maybe && exact().unwrap_or(true))
}

/// `None` where elements do not lie on multiples of four bytes, or backwards.
fn strided<const D: usize>(array: &Bound<'_, PyUntypedArray>) -> Option<Strided<D>> {
    let (sizes, bytes) = (array.shape(), array.strides());
    let mut strided = Strided { data: data(array), sizes: [0; D], strides: [1; D] };
    strided.sizes.copy_from_slice(sizes);
    for (axis, stride) in strided.strides.iter_mut().enumerate() {
        // The stride of an axis of one element is unused.
        if sizes[axis] > 1 && !array.is_empty() {
            let bytes = usize::try_from(bytes[axis]).ok().filter(|bytes| bytes % size_of::<f32>() == 0)?;
            *stride = bytes / size_of::<f32>();
        }
    }
    strided.data.is_aligned().then_some(strided)
}

fn check_float32(name: &str, array: &Bound<'_, PyUntypedArray>) -> PyResult<()> {
    let (found, expected) = (array.dtype(), dtype::<f32>(array.py()));
    if found.is_equiv_to(&expected) {
        return Ok(());
    }
    let text = format!(
        "{name} must be float32 in native byte order, found {}; convert it by astype(\"float32\")",
        found.repr()?
    );
    Err(PyTypeError::new_err(text))
}

/// The error for a shape other than `expected`.
pub(crate) fn wrong_shape(name: &str, expected: &str, found: &[usize]) -> PyErr {
    PyValueError::new_err(format!("{name} must have shape {expected}, found {found:?}"))
}

/// The name of a value's type.
pub(crate) fn kind(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "another type".to_owned(), |name| name.to_string())
}

/// A list of results.
pub(crate) fn list<'py>(
    py: Python<'py>,
    arrays: Vec<Bound<'py, PyUntypedArray>>,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyList::new(py, arrays)?.into_any())
}
