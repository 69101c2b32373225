//! Errors shared by the kernels.

use thiserror::Error;

/// A slice whose length does not fit the shape it is said to have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: expected {expected} elements, found {found}")]
pub struct ShapeError {
    /// Which argument.
    pub what: &'static str,
    /// The length its shape asks for; `usize::MAX` when the shape overflows.
    pub expected: usize,
    /// The length it has.
    pub found: usize,
}

impl ShapeError {
    /// Checks that `found` elements are the product of `shape`.
    pub(crate) fn check(what: &'static str, shape: &[usize], found: usize) -> Result<(), ShapeError> {
        let expected = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        if expected == found { Ok(()) } else { Err(ShapeError { what, expected, found }) }
    }
}
