//! `slth.top_k`.

use std::cell::RefCell;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use slth_kernels::PackedMask;
use slth_kernels::top_k::{Order, Selection, Selector, keep_at};

use crate::argument;
use crate::array::{flat, list};
use crate::engine::{compute, engine};
use crate::mask::{to_bits, to_bools};

thread_local! {
    static SELECTOR: RefCell<Selector> = RefCell::default();
}

/// The mask that keeps the largest scores, exactly.
///
/// scores: float32 of any shape, or a list of arrays, which are ranked together. keep: how many to keep; or sparsity: the
/// fraction to remove, int(sparsity * n) of n scores. by: "magnitude" orders by |score|, "signed" by the score. packed: return
/// uint8 arrays of ceil(n / 8) bytes, bit i (lowest first) for score i, instead of bool in the scores' shape.
///
/// Of equal scores the one at the lower index is removed first. O(n). NaN is a ValueError.
#[pyfunction]
#[pyo3(signature = (scores, keep=None, *, sparsity=None, by="magnitude", packed=false, threads=None))]
pub(crate) fn top_k<'py>(
    py: Python<'py>,
    scores: &Bound<'py, PyAny>,
    #[pyo3(from_py_with = argument::keep)] keep: Option<i128>,
    #[pyo3(from_py_with = argument::sparsity)] sparsity: Option<f64>,
    by: &str,
    packed: bool,
    #[pyo3(from_py_with = argument::threads)] threads: Option<isize>,
) -> PyResult<Bound<'py, PyAny>> {
    let engine = engine(threads)?;
    let order = order(by)?;
    let is_list = scores.is_instance_of::<PyList>() || scores.is_instance_of::<PyTuple>();
    let layers: Vec<_> = if is_list {
        let name = |index| format!("scores[{index}]");
        scores
            .try_iter()?
            .enumerate()
            .map(|(index, layer)| flat(&name(index), &layer?))
            .collect::<PyResult<_>>()?
    } else {
        vec![flat("scores", scores)?]
    };
    let slices: Vec<&[f32]> = layers.iter().map(|(_, layer)| layer.as_slice().expect("flat")).collect();
    let count = slices.iter().map(|layer| layer.len()).sum();
    let selection = Selection::largest(kept(keep, sparsity, count)?, order);
    let mut masks: Vec<_> = slices.iter().map(|layer| PackedMask::none_kept(layer.len())).collect();
    let masks = compute(py, move || {
        SELECTOR.with_borrow_mut(|selector| selector.select(engine, &slices, selection, &mut masks))?;
        Ok(masks)
    })?;
    let arrays = masks
        .iter()
        .zip(&layers)
        .map(|(mask, (shape, _))| if packed { to_bits(py, mask) } else { to_bools(py, mask, shape) });
    let mut arrays = arrays.collect::<PyResult<Vec<_>>>()?;
    if is_list { list(py, arrays) } else { Ok(arrays.remove(0).into_any()) }
}

/// What `by` names.
pub(crate) fn order(by: &str) -> PyResult<Order> {
    match by {
        "magnitude" => Ok(Order::Magnitude),
        "signed" => Ok(Order::Signed),
        _ => Err(PyValueError::new_err(format!("by must be \"magnitude\" or \"signed\", found {by:?}"))),
    }
}

/// How many of `count` to keep.
fn kept(keep: Option<i128>, sparsity: Option<f64>, count: usize) -> PyResult<usize> {
    match (keep, sparsity) {
        (Some(keep), None) => usize::try_from(keep)
            .ok()
            .filter(|&keep| keep <= count)
            .ok_or_else(|| PyValueError::new_err(format!("cannot keep {keep} of {count} scores"))),
        (None, Some(sparsity)) if (0.0..=1.0).contains(&sparsity) => Ok(keep_at(sparsity, count)),
        (None, Some(sparsity)) => {
            Err(PyValueError::new_err(format!("sparsity must lie in [0, 1], found {sparsity}")))
        }
        (None, None) => Err(PyTypeError::new_err("top_k needs keep or sparsity")),
        (Some(_), Some(_)) => Err(PyTypeError::new_err("top_k takes keep or sparsity, not both")),
    }
}
