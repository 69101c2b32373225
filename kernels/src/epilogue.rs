//! The epilogue of a product: each sum gets a bias and then an activation before it is stored.

use crate::error::KernelError;
use crate::simd::Simd;
use crate::view::MatRef;

/// The activation of each output element, applied to the sum with its bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// max(0, y); −0 and NaN become 0.
    Relu,
}

/// The last steps of a product: y = activation(sum + bias), where the sum starts from the old y if `accumulate` is set.
///
/// ```
/// use slth_kernels::{Activation, Epilogue};
/// let bias = [1.0, -1.0];
/// let layer = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
/// assert!(!layer.accumulate);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epilogue<'a> {
    /// One number for each output (row of Y, plane of a convolution), added to the complete sum.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Activation,
    /// Whether sums start from the old values of Y instead of 0. Otherwise Y is never read: NaN in it is overwritten.
    pub accumulate: bool,
}

impl<'a> Epilogue<'a> {
    /// Checks the bias' length.
    pub(crate) fn finish(&self, outputs: usize) -> Result<Finish<'a>, KernelError> {
        if let Some(bias) = self.bias {
            KernelError::check_len("bias", &[outputs], bias.len())?;
        }
        let gate = match self.activation {
            Activation::Identity => Gate::None,
            Activation::Relu => Gate::Relu,
        };
        let side = self.bias.map_or(Side::None, |_| Side::Row);
        Ok(Finish { side, bias: self.bias.unwrap_or_default(), gate, ..Finish::NONE })
    }
}

/// An epilogue for a product that may be computed transposed: `t` exchanges rows and columns.
///
/// The enums have no payload; their data are separate fields, because a compiler may read a payload before the tag that says
/// whether there is one, and so cost loads that nothing uses.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    side: Side,
    bias: &'a [f32],
    gate: Gate,
    relu_output: MatRef<'a>,
}

/// Whether an element of the bias belongs to a row or a column.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// There is no bias.
    None,
    Row,
    Col,
}

#[derive(Clone, Copy, PartialEq)]
enum Gate {
    None,
    /// max(0, y); −0 and NaN become 0.
    Relu,
    /// 0 where the element of `relu_output` at the same index is not positive.
    ReluOutput,
}

/// Replaces each vector of a slice by `new` of the vector and the index of its first lane; lanes past the end are discarded.
///
/// A macro, because the compiler may not inline a closure into the `#[target_feature]` function, and would then compile it
/// without the backend's instructions.
macro_rules! for_each_vector {
    ($s:ident, $values:expr, |$sum:ident, $at:pat_param| $new:expr) => {
        for ($at, part) in (0..).step_by(S::LANES).zip($values.chunks_mut(S::LANES)) {
            if part.len() == S::LANES {
                let $sum = $s.load(part);
                $s.store($new, part);
            } else {
                let $sum = $s.load_partial(part);
                $s.store_partial($new, part);
            }
        }
    };
}

impl<'a> Finish<'a> {
    pub(crate) const NONE: Self =
        Self { side: Side::None, bias: &[], gate: Gate::None, relu_output: MatRef::EMPTY };

    /// The gradient before a ReLU, from the gradient after it: 0 where `relu_output`, of the `shape` of the gradient, is not positive.
    pub(crate) fn gradient(relu_output: Option<MatRef<'a>>, shape: [usize; 2]) -> Result<Self, KernelError> {
        let Some(relu_output) = relu_output else { return Ok(Self::NONE) };
        KernelError::check_shape("relu_output", shape, relu_output.shape())?;
        Ok(Self { gate: Gate::ReluOutput, relu_output, ..Self::NONE })
    }

    /// The same for the transposed matrix.
    pub(crate) fn t(self) -> Self {
        let side = match self.side {
            Side::None => Side::None,
            Side::Row => Side::Col,
            Side::Col => Side::Row,
        };
        Self { side, relu_output: self.relu_output.t(), ..self }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_none(&self) -> bool {
        self.side == Side::None && self.gate == Gate::None
    }

    /// Finishes sums of one row, the first of them in column `col`. A separate pass over memory that was just written: inside the
    /// accumulation loops it would occupy registers.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(&self, s: S, sums: &mut [f32], row: usize, col: usize) {
        match self.side {
            Side::None => {}
            Side::Row => {
                let bias = s.splat(self.bias[row]);
                for_each_vector!(s, sums, |sum, _| s.add(sum, bias));
            }
            Side::Col => {
                let bias = &self.bias[col..col + sums.len()];
                for_each_vector!(s, sums, |sum, at| s.add(sum, load_some(s, &bias[at..])));
            }
        }
        let zero = s.splat(0.0);
        match self.gate {
            Gate::None => {}
            Gate::Relu => for_each_vector!(s, sums, |sum, _| s.relu(sum)),
            Gate::ReluOutput if self.relu_output.has_runs() => {
                let x = self.relu_output.run(row, col, sums.len());
                for_each_vector!(s, sums, |sum, at| s.select(s.gt(load_some(s, &x[at..]), zero), sum, zero));
            }
            Gate::ReluOutput => {
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum = if self.relu_output.get(row, col + at) > 0.0 { *sum } else { 0.0 };
                }
            }
        }
    }
}

/// Loads up to one vector; a full vector is a plain load.
#[inline(always)]
fn load_some<S: Simd>(s: S, values: &[f32]) -> S::F32 {
    if values.len() < S::LANES { s.load_partial(values) } else { s.load(values) }
}
