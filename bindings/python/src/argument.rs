//! Arguments that are no arrays: where one has another type, the TypeError names it.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

/// What to say where a value of another type, or a whole number that is too large, was found. Other errors are the value's own.
fn wrong(error: PyErr, name: &str, must: &str, found: &Bound<'_, PyAny>) -> PyErr {
    let py = found.py();
    let found = found.repr().map_or_else(|_| "another type".to_owned(), |repr| repr.to_string());
    if error.is_instance_of::<PyTypeError>(py) {
        PyTypeError::new_err(format!("{name} must be {must}, found {found}"))
    } else if error.is_instance_of::<PyOverflowError>(py) {
        PyValueError::new_err(format!("{name} is too large, found {found}"))
    } else {
        error
    }
}

fn whole(name: &str, value: &Bound<'_, PyAny>) -> PyResult<isize> {
    value.extract().map_err(|error| wrong(error, name, "a whole number", value))
}

fn number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    value.extract().map_err(|error| wrong(error, name, "a number", value))
}

/// A size that is not below `least`.
pub(crate) fn at_least(name: &str, found: isize, least: usize) -> PyResult<usize> {
    usize::try_from(found)
        .ok()
        .filter(|&found| found >= least)
        .ok_or_else(|| PyValueError::new_err(format!("{name} must be at least {least}, found {found}")))
}

pub(crate) fn max_batch(value: &Bound<'_, PyAny>) -> PyResult<isize> {
    whole("max_batch", value)
}

pub(crate) fn stride(value: &Bound<'_, PyAny>) -> PyResult<isize> {
    value.extract().map_err(|error| wrong(error, "stride", "one whole number, for both directions", value))
}

pub(crate) fn padding(value: &Bound<'_, PyAny>) -> PyResult<isize> {
    value.extract().map_err(|error| wrong(error, "padding", "one whole number, for all sides", value))
}

pub(crate) fn image(value: &Bound<'_, PyAny>) -> PyResult<(isize, isize)> {
    value.extract().map_err(|error| wrong(error, "image", "(rows, columns)", value))
}

pub(crate) fn keep(value: &Bound<'_, PyAny>) -> PyResult<Option<i128>> {
    let must = "a whole number (for the fraction to remove, pass sparsity=)";
    if value.is_none() {
        Ok(None)
    } else {
        value.extract().map(Some).map_err(|error| wrong(error, "keep", must, value))
    }
}

pub(crate) fn sparsity(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if value.is_none() { Ok(None) } else { number("sparsity", value).map(Some) }
}

pub(crate) fn epsilon(value: &Bound<'_, PyAny>) -> PyResult<f32> {
    number("epsilon", value).map(|number| number as f32)
}

pub(crate) fn threads(value: &Bound<'_, PyAny>) -> PyResult<Option<isize>> {
    if value.is_none() { Ok(None) } else { whole("threads", value).map(Some) }
}

/// The name of an activation, or none.
pub(crate) fn activation(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let must = "None or \"relu\"";
    if value.is_none() {
        Ok(None)
    } else {
        value.extract().map(Some).map_err(|error| wrong(error, "activation", must, value))
    }
}
