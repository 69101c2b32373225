//! Convolutions with masked weights: forward, input gradient, weight gradient.
//!
//! Peers multiply densely by the matrix of all windows ("im2col"), which is not part of the measured time. Useful operations are
//! 2 · batch · terms of kept weights; terms in the padding do not count.

use std::sync::Arc;

use slth::random::{Purpose, Stream};
use slth_kernels::conv2d::{PackedConv2d, Shape, Workspace, forward, input_gradient, weight_gradient};
use slth_kernels::{Engine, Epilogue, ImagesMut, ImagesRef, MatMut, MatRef, PackedMask, PrepareOptions};

use crate::aligned::Aligned;
use crate::case::{Case, Products, Scale};
use crate::check::Expected;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::limits::multiply_adds;
use crate::machinery::Machinery;
use crate::row::{Unit, Who};
use crate::task::LayerOperation::{self, Forward, InputGradient, WeightGradient};
use crate::task::{Convolution, Task};

const fn shape(
    [channels, height, width]: [usize; 3],
    outputs: usize,
    window: usize,
    padding: usize,
) -> Shape {
    Shape { channels, height, width, outputs, kernel: [window, window], stride: 1, padding }
}

/// The two convolutions of LeNet-5, one of a larger network, and those of networks for CIFAR-10: Conv4's inner ones, and wide ones
/// on whole images.
const FIRST: Shape = shape([1, 28, 28], 6, 5, 2);
const SECOND: Shape = shape([6, 14, 14], 16, 5, 0);
const LARGE: Shape = shape([64, 14, 14], 64, 3, 1);
const TINY: Shape = Shape { stride: 2, ..shape([2, 6, 7], 3, 3, 1) };

const CONV4: [Shape; 3] =
    [shape([64, 32, 32], 64, 3, 1), shape([64, 16, 16], 128, 3, 1), shape([128, 16, 16], 128, 3, 1)];
const WIDE: [Shape; 2] = [shape([256, 32, 32], 256, 3, 1), shape([512, 32, 32], 512, 3, 1)];

const BATCH: usize = 128;
/// The batch for shapes with long run times.
const FEW: usize = 8;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let groups: Vec<(Shape, usize, &[f64])> = match scale {
        Scale::Smoke => vec![(TINY, 5, &[0.5])],
        Scale::Quick => [FIRST, SECOND].map(|shape| (shape, BATCH, &[0.5][..])).to_vec(),
        Scale::Full => {
            let small = [FIRST, SECOND, LARGE].map(|shape| (shape, BATCH, &[0.0, 0.5, 0.8, 0.9][..]));
            let conv4 = CONV4.map(|shape| (shape, BATCH, &[0.5, 0.9][..]));
            let wide = WIDE.map(|shape| (shape, FEW, &[0.5, 0.9][..]));
            [&small[..], &conv4, &wide].concat()
        }
    };
    let mut cases = Vec::new();
    for operation in [Forward, InputGradient, WeightGradient] {
        for &(shape, batch, sparsities) in &groups {
            let dense = operation == WeightGradient;
            for &sparsity in if dense { &[0.0] } else { sparsities } {
                let task = Task::Conv2d(convolution(operation, shape, batch, (!dense).then_some(sparsity)));
                cases.push(Case::new(task, move |machinery, task| {
                    contestants(machinery, task, operation, &Arc::new(Inputs::new(shape, batch, sparsity)))
                }));
            }
        }
    }
    cases
}

fn convolution(operation: LayerOperation, shape: Shape, batch: usize, sparsity: Option<f64>) -> Convolution {
    let Shape { channels, height, width, outputs, kernel: [window, _], stride, padding } = shape;
    Convolution { operation, batch, channels, height, width, outputs, window, stride, padding, sparsity }
}

struct Inputs {
    shape: Shape,
    batch: usize,
    weights: Vec<f32>,
    mask: PackedMask,
    /// `[channels, height, width, batch]`
    x: Aligned,
    /// `[outputs, out height, out width, batch]`
    dy: Aligned,
}

impl Inputs {
    fn new(shape: Shape, batch: usize, sparsity: f64) -> Self {
        let array = |index: usize, len| {
            let mut stream = Stream::new(1, Purpose::Benchmark, 50 + index, 0);
            (0..len).map(|_| stream.symmetric(1.0)).collect::<Vec<f32>>()
        };
        let n = shape.weights().unwrap_or(0);
        // Remove exactly the fraction: with few weights, independent draws could keep a quarter more.
        let chance = array(3, n);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| chance[a].total_cmp(&chance[b]));
        let mut keep = vec![true; n];
        order[..(sparsity * n as f64).round() as usize].iter().for_each(|&at| keep[at] = false);
        let x = array(1, shape.channels * shape.height * shape.width * batch);
        let dy = array(2, shape.outputs * shape.out_height() * shape.out_width() * batch);
        let mask = PackedMask::from_fn(n, |i| keep[i]);
        let [x, dy] = [x, dy].map(|array| array.into_iter().collect());
        Self { shape, batch, weights: array(0, n), mask, x, dy }
    }

    fn filters(&self, engine: Engine) -> Result<PackedConv2d, Error> {
        let Shape { outputs, .. } = self.shape;
        let weights = MatRef::row_major(&self.weights, outputs, self.weights.len() / outputs)?;
        let options = PrepareOptions::default().max_batch(self.batch).input_gradient(true);
        Ok(PackedConv2d::prepare(engine, &self.shape, weights, Some(&self.mask), &options)?)
    }

    /// Computes a result.
    fn compute(
        &self,
        engine: Engine,
        operation: LayerOperation,
        filters: &PackedConv2d,
        out: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let Self { ref shape, batch, ref x, ref dy, .. } = *self;
        let Shape { channels, height, width, outputs, .. } = *shape;
        let [out_height, out_width] = [shape.out_height(), shape.out_width()];
        let x = ImagesRef::batch_innermost(x, batch, channels, height, width)?;
        let dy = ImagesRef::batch_innermost(dy, batch, outputs, out_height, out_width)?;
        match operation {
            InputGradient => {
                let dx = ImagesMut::batch_innermost(out, batch, channels, height, width)?;
                input_gradient(engine, filters, dy, None, dx, workspace)?;
            }
            WeightGradient => {
                let dw = MatMut::row_major(out, outputs, self.weights.len() / outputs)?;
                weight_gradient(engine, shape, dy, x, dw, workspace)?;
            }
            _ => {
                let y = ImagesMut::batch_innermost(out, batch, outputs, out_height, out_width)?;
                forward(engine, filters, x, &Epilogue::default(), y, workspace)?;
            }
        }
        Ok(())
    }

    /// The terms of an element of the result, by definition.
    fn terms(&self, operation: LayerOperation, at: usize) -> Vec<f64> {
        let Self { batch, ref x, ref dy, .. } = *self;
        let (plane, b) = (at / batch, at % batch);
        let weight = |at: usize| if self.mask.get(at) { f64::from(self.weights[at]) } else { 0.0 };
        let [x, dy] =
            [x, dy].map(|images| move |plane: usize, b: usize| f64::from(images[plane * batch + b]));
        let Shape { channels, height, width, kernel: [rows, columns], .. } = self.shape;
        let (window, n) = (rows * columns, self.weights.len());
        match operation {
            InputGradient => {
                let channel = plane / (height * width);
                let of_channel = (0..n).filter(|weight| weight / window % channels == channel);
                meetings(&self.shape, of_channel)
                    .filter(|m| m.input == plane)
                    .map(|m| weight(m.weight) * dy(m.output, b))
                    .collect()
            }
            WeightGradient => {
                let of_image = |m: Meeting| (0..batch).map(move |b| dy(m.output, b) * x(m.input, b));
                meetings(&self.shape, at..at + 1).flat_map(of_image).collect()
            }
            _ => {
                let output = plane / (self.shape.out_height() * self.shape.out_width());
                let of_output = channels * window * output..channels * window * (output + 1);
                meetings(&self.shape, of_output)
                    .filter(|m| m.output == plane)
                    .map(|m| weight(m.weight) * x(m.input, b))
                    .collect()
            }
        }
    }
}

/// The indices of a weight, an input and an output, where the weight times the input is a term of the output.
#[derive(Clone, Copy)]
struct Meeting {
    weight: usize,
    input: usize,
    output: usize,
}

/// The meetings of these weights, without terms in the padding.
fn meetings<W: Iterator<Item = usize>>(shape: &Shape, weights: W) -> impl Iterator<Item = Meeting> + use<W> {
    let &Shape { channels, height, width, kernel: [rows, columns], stride, padding, .. } = shape;
    let [out_height, out_width] = [shape.out_height(), shape.out_width()];
    weights.flat_map(move |weight| {
        let (o, c) = (weight / (channels * rows * columns), weight / (rows * columns) % channels);
        let (i, j) = (weight / columns % rows, weight % columns);
        (0..out_height * out_width).filter_map(move |place| {
            let (y, x) = (place / out_width * stride + i, place % out_width * stride + j);
            let row = y.checked_sub(padding).filter(|&row| row < height)?;
            let column = x.checked_sub(padding).filter(|&column| column < width)?;
            let input = (c * height + row) * width + column;
            Some(Meeting { weight, input, output: o * out_height * out_width + place })
        })
    })
}

/// Number of multiply-adds for one image with the weights for which `kept` holds.
pub(super) fn terms(shape: &Shape, kept: impl Fn(usize) -> bool) -> usize {
    let window: usize = shape.kernel.iter().product();
    // The number of terms depends only on the weight's place in the window.
    let places: Vec<usize> = (0..window).map(|place| meetings(shape, place..place + 1).count()).collect();
    (0..shape.outputs * shape.channels * window)
        .filter(|&weight| kept(weight))
        .map(|weight| places[weight % window])
        .sum()
}

/// All windows of X as a matrix `[channels · kernel rows · kernel columns, out height · out width · batch]`.
#[cfg(feature = "peers")]
fn windows(inputs: &Inputs) -> Aligned {
    let (shape, batch) = (Shape { outputs: 1, ..inputs.shape }, inputs.batch);
    let columns = shape.out_height() * shape.out_width() * batch;
    let mut windows = Aligned::filled(inputs.weights.len() / inputs.shape.outputs * columns, 0.0);
    for Meeting { weight, input, output } in meetings(&shape, 0..inputs.weights.len() / inputs.shape.outputs)
    {
        windows[weight * columns + output * batch..][..batch]
            .copy_from_slice(&inputs.x[input * batch..][..batch]);
    }
    windows
}

fn contestants(
    machinery: &Machinery,
    task: &Task,
    operation: LayerOperation,
    inputs: &Arc<Inputs>,
) -> Result<Vec<Contestant>, Error> {
    let len = match operation {
        InputGradient => inputs.x.len(),
        WeightGradient => inputs.weights.len(),
        _ => inputs.dy.len(),
    };
    let expected = Expected::new(len, |at| inputs.terms(operation, at));
    let flops = 2.0 * (terms(&inputs.shape, |at| inputs.mask.get(at)) * inputs.batch) as f64;
    let contestants = multiply_adds(machinery, Unit::Flop, 1.0);
    let mut all = Products { machinery, task, expected, len, flops, contestants };
    let filters = Arc::new(inputs.filters(machinery.best())?);
    for engine in machinery.engines(flops < 1e8) {
        let (inputs, filters, mut workspace) = (inputs.clone(), filters.clone(), Workspace::default());
        all.add(Who::ours(engine), move |out| {
            inputs.compute(engine, operation, &filters, out, &mut workspace)
        })?;
    }
    #[cfg(feature = "peers")]
    if operation != InputGradient {
        peers(&mut all, inputs, operation)?;
    }
    Ok(all.contestants)
}

#[cfg(feature = "peers")]
fn peers(all: &mut Products, inputs: &Arc<Inputs>, operation: LayerOperation) -> Result<(), Error> {
    use slth_peers::{Dense, Matrix};
    let (Shape { outputs, .. }, n) = (inputs.shape, inputs.weights.len());
    let masked = inputs.weights.iter().zip(inputs.mask.iter()).map(|(&w, keep)| if keep { w } else { 0.0 });
    let effective: Arc<Vec<f32>> = Arc::new(masked.collect());
    let windows = Arc::new(windows(inputs));
    for peer in [Dense::Gemm, Dense::Faer] {
        for threads in all.machinery.one_and_all() {
            let (inputs, effective, windows) = (inputs.clone(), effective.clone(), windows.clone());
            all.add(Who::peer(peer.name(), threads).variant("windows given"), move |out| {
                let (columns, places) = (n / outputs, inputs.dy.len() / outputs);
                let windows = Matrix::new(&windows, columns, places);
                let (a, b) = match operation {
                    Forward => (Matrix::new(&effective, outputs, columns), windows),
                    _ => (Matrix::new(&inputs.dy, outputs, places), windows.transpose()),
                };
                peer.multiply(a, b, out, threads > 1);
                Ok(())
            })?;
        }
    }
    Ok(())
}
