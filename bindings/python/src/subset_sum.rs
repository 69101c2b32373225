//! `slth.nearest_subset`.

use numpy::PyArray1;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};
use slth_kernels::PackedMask;
use slth_kernels::subset_sum::{Search, Subset};

use crate::argument;
use crate::array::{flat, wrong_shape};
use crate::engine::{compute, engine};
use crate::mask::to_bools;

/// The subset of candidates whose sum comes nearest to each target.
///
/// candidates: float32 [n], the same for all targets, or [targets, n]; n at most 48. targets: float32 [targets]; or one target, a
/// number (rounded to float32) or an array of no axes, with candidates [n]. epsilon: the largest move of each chosen candidate.
///
/// Returns (masks, residuals): bool [targets, n], and float64 [targets] with max(0, |sum - target| - epsilon * chosen); of one
/// target bool [n] and a float. Exact in fixed point; of equally near subsets the least, read as a number with candidate 0 as its
/// lowest bit.
#[pyfunction]
#[pyo3(signature = (candidates, targets, *, epsilon=0.0, threads=None))]
pub(crate) fn nearest_subset<'py>(
    py: Python<'py>,
    candidates: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    #[pyo3(from_py_with = argument::epsilon)] epsilon: f32,
    #[pyo3(from_py_with = argument::threads)] threads: Option<isize>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let engine = engine(threads)?;
    let (shape, candidates) = flat("candidates", candidates)?;
    let (number, array);
    let (targets_shape, targets) = if targets.is_instance_of::<PyFloat>() || targets.is_instance_of::<PyInt>()
    {
        number = targets.extract::<f32>()?;
        (vec![], core::slice::from_ref(&number))
    } else {
        let (shape, flat) = flat("targets", targets)?;
        array = flat;
        (shape, array.as_slice().expect("flat"))
    };
    let (is_one, count) = match targets_shape[..] {
        [] => (true, 1),
        [count] => (false, count),
        _ => return Err(wrong_shape("targets", "[targets]", &targets_shape)),
    };
    if epsilon.is_nan() || epsilon < 0.0 {
        return Err(PyValueError::new_err(format!("epsilon must not be negative, found {epsilon}")));
    }
    let (own, n) = match shape[..] {
        [n] => (false, n),
        [rows, n] if rows == count && !is_one => (true, n),
        _ if is_one => return Err(wrong_shape("candidates", "[n]", &shape)),
        _ => return Err(wrong_shape("candidates", &format!("[n] or [{count}, n]"), &shape)),
    };
    let mut found = vec![Subset::default(); count];
    let search = Search { epsilon, ..Search::default() };
    let candidates = candidates.as_slice().expect("flat");
    let found = compute(py, move || {
        if own {
            search.nearest_each(engine, candidates, n, targets, &mut found)?;
        } else {
            search.nearest_many(engine, candidates, targets, &mut found)?;
        }
        Ok(found)
    })?;
    let mask = PackedMask::from_fn(count * n, |i| found[i / n].contains(i % n));
    if is_one {
        return Ok((to_bools(py, &mask, &[n])?.into_any(), found[0].residual.into_bound_py_any(py)?));
    }
    let residuals = PyArray1::from_iter(py, found.iter().map(|subset| subset.residual));
    Ok((to_bools(py, &mask, &[count, n])?.into_any(), residuals.into_any()))
}
