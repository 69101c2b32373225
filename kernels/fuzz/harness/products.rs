//! Products with plain and prepared weights, over views of any strides.

use arbitrary::Unstructured;
use slth_kernels::matmul::{self, Activation, Epilogue, Workspace, dense};
use slth_kernels::{Engine, KernelError, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions};

/// The outcome of a call: whether its shapes fit, its result, and the bits of its output.
type Outcome = (bool, Result<(), KernelError>, Vec<u32>);

use crate::harness::{Floats, MOST, Matrix, bits, everywhere, mask, options, size};

/// The arguments of a call.
#[derive(Clone)]
struct Arguments {
    weights: Matrix,
    x: Matrix,
    dy: Matrix,
    relu_output: Option<Matrix>,
    scores: Matrix,
    bias: Option<Floats>,
    out: Matrix,
    mask: PackedMask,
    later_mask: PackedMask,
    relu: bool,
    accumulate: bool,
    options: PrepareOptions,
    through_bytes: bool,
}

/// All arguments as views.
struct Views<'a> {
    weights: MatRef<'a>,
    x: MatRef<'a>,
    dy: MatRef<'a>,
    relu_output: Option<MatRef<'a>>,
    scores: MatRef<'a>,
}

/// A product that writes to the given view.
type Call<'a> = dyn Fn(MatMut<'_>, &mut Workspace) -> Result<(), KernelError> + 'a;

pub(super) fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let [outputs, inputs, columns] = [size(u, 300)?, size(u, 700)?, size(u, 150)?];
    if outputs.saturating_mul(inputs).saturating_mul(columns) > 1 << 20
        && outputs.max(inputs).max(columns) < MOST
    {
        return Ok(()); // too slow
    }
    let weights = Matrix::new(u, [outputs, inputs])?;
    let x = Matrix::new(u, [inputs, columns])?;
    let dy = Matrix::new(u, [outputs, columns])?;
    let shape = *u.choose(&[[outputs, columns], [inputs, columns], [outputs, inputs]])?;
    let out = Matrix::new(u, shape)?;
    let relu_output = if u.arbitrary()? { Some(Matrix::new(u, [inputs, columns])?) } else { None };
    let scores = Matrix::new(u, [outputs, inputs])?;
    let bias = match u.int_in_range(0..=31_u8)? {
        0 => Some(Floats::new(u, outputs.saturating_add(1).min(MOST))?),
        1..=16 => Some(Floats::new(u, outputs.min(MOST))?),
        _ => None,
    };
    let count = outputs.saturating_mul(inputs).min(MOST);
    let mask_len = if u.int_in_range(0..=31_u8)? == 0 { size(u, 70)?.min(MOST) } else { count };
    let (mask, later_mask) = (mask(u, mask_len)?, mask(u, count)?);
    let [relu, accumulate, through_bytes] = u.arbitrary()?;
    let options = options(u)?;
    let arguments = Arguments {
        weights,
        x,
        dy,
        relu_output,
        scores,
        bias,
        out,
        mask,
        later_mask,
        relu,
        accumulate,
        options,
        through_bytes,
    };

    let Arguments { weights, x, dy, scores, .. } = &arguments;
    if ![weights, x, dy, scores].into_iter().chain(&arguments.relu_output).all(Matrix::is_few) {
        return Ok(()); // strides of 0 can make too many elements out of few
    }

    let results = everywhere(|engine| arguments.call(engine));
    let Some(results) = results else { return Ok(()) };
    for ((fits, result, _), number) in results.iter().zip(0..) {
        assert_eq!(result.is_ok(), *fits, "call {number}: {result:?}");
    }
    // The layout changes no bit.
    let compact = arguments.compact().call(Engine::serial()).expect("matrices that have views");
    assert_eq!(compact, results);
    Ok(())
}

impl Arguments {
    fn views(&self) -> Option<Views<'_>> {
        let relu_output = match &self.relu_output {
            Some(matrix) => Some(matrix.read()?),
            None => None,
        };
        Some(Views {
            weights: self.weights.read()?,
            x: self.x.read()?,
            dy: self.dy.read()?,
            relu_output,
            scores: self.scores.read()?,
        })
    }

    /// The same arguments in row-major order without gaps.
    fn compact(&self) -> Self {
        Self {
            weights: self.weights.compact(),
            x: self.x.compact(),
            dy: self.dy.compact(),
            relu_output: self.relu_output.as_ref().map(Matrix::compact),
            scores: self.scores.compact(),
            out: self.out.compact(),
            ..self.clone()
        }
    }

    /// The outcome of each product; `None` if a matrix has no view.
    fn call(&self, engine: Engine) -> Option<Vec<Outcome>> {
        let Views { weights, x, dy, relu_output, scores } = self.views()?;
        self.out.clone().write()?;
        let ([outputs, inputs], [_, columns]) = (self.weights.sizes, self.x.sizes);
        let bias = self.bias.as_ref().map(Floats::get);
        let activation = if self.relu { Activation::Relu } else { Activation::Identity };
        let epilogue = Epilogue { bias, activation, accumulate: self.accumulate };
        let mut workspace = Workspace::default();
        let mut found = Vec::new();
        let mut call = |fits: bool, call: &Call<'_>| {
            let mut out = self.out.clone();
            let result = call(out.write().expect("it was one above"), &mut workspace);
            out.check_gaps(&self.out);
            let values = bits(&out.values());
            assert!(result.is_ok() || values == bits(&self.out.values()), "written despite an error");
            found.push((fits, result, values));
        };
        let forward_fits = self.x.is_shape([inputs, columns])
            && self.out.is_shape([outputs, columns])
            && bias.is_none_or(|bias| bias.len() == outputs);
        let dx = [inputs, self.dy.sizes[1]];
        let backward_fits = self.dy.is_shape([outputs, dx[1]])
            && self.out.is_shape(dx)
            && self.relu_output.as_ref().is_none_or(|matrix| matrix.is_shape(dx));
        let dw = [self.dy.sizes[0], self.x.sizes[0]];
        let gradient_fits = self.dy.sizes[1] == columns && self.out.is_shape(dw);
        let mask_fits = |len: usize, [rows, cols]: [usize; 2]| rows.checked_mul(cols) == Some(len);
        call(forward_fits, &|y, space| dense::forward(engine, weights, x, &epilogue, y, space));
        call(backward_fits, &|dx, space| dense::input_gradient(engine, weights, dy, relu_output, dx, space));
        call(gradient_fits, &|dw, space| matmul::weight_gradient(engine, dy, x, None, dw, space));
        let fits = gradient_fits && mask_fits(self.mask.len(), dw);
        call(fits, &|dw, space| matmul::weight_gradient(engine, dy, x, Some(&self.mask), dw, space));
        let fits = gradient_fits && self.weights.is_shape(dw) && self.scores.is_shape(dw);
        call(fits, &|ds, space| matmul::score_gradient(engine, dy, x, weights, scores, ds, space));

        let layer = PackedWeights::prepare(engine, weights, Some(&self.mask), &self.options);
        assert_eq!(layer.is_ok(), mask_fits(self.mask.len(), [outputs, inputs]), "{:?}", layer.err());
        let Ok(mut layer) = layer else { return Some(found) };
        let mut kept = self.mask.kept();
        for step in 0..3 {
            assert_eq!((layer.outputs(), layer.inputs(), layer.kept()), (outputs, inputs, kept));
            call(forward_fits, &|y, space| matmul::forward(engine, &layer, x, &epilogue, y, space));
            let fits = backward_fits && self.options.input_gradient;
            call(fits, &|dx, space| matmul::input_gradient(engine, &layer, dy, relu_output, dx, space));
            if step == 0 {
                let fits = mask_fits(self.later_mask.len(), [outputs, inputs]) && self.options.keep_source;
                assert_eq!(layer.rebuild(engine, &self.later_mask).is_ok(), fits);
                kept = if fits { self.later_mask.kept() } else { kept };
            } else if self.through_bytes {
                let bytes = layer.to_bytes();
                layer = PackedWeights::from_bytes(engine, &bytes).expect("bytes that were written");
                assert!(layer.to_bytes() == bytes);
            } else {
                let fits = self.scores.is_shape([outputs, inputs]);
                assert_eq!(layer.set_weights(engine, scores).is_ok(), fits);
            }
        }
        Some(found)
    }
}
