//! Convolutions with masked weights: forward, input gradient, weight gradient.
//!
//! The peer is a dense product with the matrix of all windows ("im2col"), whose making is not counted. Useful operations are
//! 2 · batch · the terms of kept weights; those that fall on the padding are none.

use std::sync::Arc;

use slth_kernels::conv2d::{PackedConv2d, Shape, Workspace, forward, input_gradient, weight_gradient};
use slth_kernels::{
    Backend, Engine, Epilogue, ImagesMut, ImagesRef, KernelError, MatMut, MatRef, PackedMask, PrepareOptions,
};

use super::aligned::Aligned;
use super::case::{Case, Contestant, Kernel, Machinery, Scale, fma_peak};
use super::check::{Expected, ensure};
use super::measurement::{Role, Task, Unit};
use crate::error::Error;
use crate::random::{Purpose, Stream};

const fn shape(
    [channels, height, width]: [usize; 3],
    outputs: usize,
    kernel: usize,
    padding: usize,
) -> Shape {
    Shape { channels, height, width, outputs, kernel: [kernel, kernel], stride: 1, padding }
}

/// The two of LeNet-5, and one of a larger network.
const FIRST: (&str, Shape) = ("6@5x5p2", shape([1, 28, 28], 6, 5, 2));
const SECOND: (&str, Shape) = ("16@5x5", shape([6, 14, 14], 16, 5, 0));
const LARGE: (&str, Shape) = ("64@3x3p1", shape([64, 14, 14], 64, 3, 1));
const TINY: (&str, Shape) = ("3@3x3p1s2", Shape { stride: 2, ..shape([2, 6, 7], 3, 3, 1) });

#[derive(Clone, Copy, PartialEq, Eq)]
enum Convolution {
    Forward,
    InputGradient,
    WeightGradient,
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    use Convolution::{Forward, InputGradient, WeightGradient};
    let (shapes, batch, sparsities): (&[_], _, &'static [f64]) = match scale {
        Scale::Smoke => (&[TINY], 5, &[0.5]),
        Scale::Quick => (&[FIRST, SECOND], 128, &[0.5]),
        Scale::Full => (&[FIRST, SECOND, LARGE], 128, &[0.0, 0.5, 0.8, 0.9]),
    };
    let mut cases = Vec::new();
    for (name, convolution) in
        [("forward", Forward), ("input gradient", InputGradient), ("weight gradient", WeightGradient)]
    {
        for &(layer, shape) in shapes {
            let dense = convolution == WeightGradient;
            for &sparsity in if dense { &[0.0] } else { sparsities } {
                let task = Task {
                    kernel: Kernel::Conv2d,
                    operation: format!("{name}, {layer}"),
                    shape: vec![batch, shape.channels, shape.height, shape.width],
                    sparsity: (!dense).then_some(sparsity),
                    epsilon: None,
                };
                cases.push(Case::new(task, move |machinery, task| {
                    contestants(machinery, task, convolution, &Arc::new(Inputs::new(shape, batch, sparsity)))
                }));
            }
        }
    }
    cases
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

/// Where a weight stands: output, channel, row and column of the kernel.
type Weight = [usize; 4];

impl Inputs {
    fn new(shape: Shape, batch: usize, sparsity: f64) -> Self {
        let array = |index: usize, len| {
            let mut stream = Stream::new(1, Purpose::Benchmark, 50 + index, 0);
            (0..len).map(|_| stream.symmetric(1.0)).collect::<Vec<f32>>()
        };
        let n = shape.weights().unwrap_or(0);
        // As many as the sparsity says: of few weights chance would keep a quarter more.
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

    fn filters(&self) -> Result<PackedConv2d, Error> {
        let engine = Engine::new(Backend::best());
        let Shape { outputs, .. } = self.shape;
        let weights = MatRef::row_major(&self.weights, outputs, self.weights.len() / outputs)?;
        let options = PrepareOptions::default().max_batch(self.batch).input_gradient(true);
        Ok(PackedConv2d::prepare(engine, &self.shape, weights, Some(&self.mask), &options)?)
    }

    /// Computes a result.
    fn compute(
        &self,
        engine: Engine,
        convolution: Convolution,
        filters: &PackedConv2d,
        out: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), KernelError> {
        let Self { ref shape, batch, ref x, ref dy, .. } = *self;
        let Shape { channels, height, width, outputs, .. } = *shape;
        let [out_height, out_width] = [shape.out_height(), shape.out_width()];
        let x = ImagesRef::batch_innermost(x, batch, channels, height, width)?;
        let dy = ImagesRef::batch_innermost(dy, batch, outputs, out_height, out_width)?;
        match convolution {
            Convolution::Forward => {
                let y = ImagesMut::batch_innermost(out, batch, outputs, out_height, out_width)?;
                forward(engine, filters, x, &Epilogue::default(), y, workspace)
            }
            Convolution::InputGradient => {
                let dx = ImagesMut::batch_innermost(out, batch, channels, height, width)?;
                input_gradient(engine, filters, dy, None, dx, workspace)
            }
            Convolution::WeightGradient => {
                let dw = MatMut::row_major(out, outputs, self.weights.len() / outputs)?;
                weight_gradient(engine, shape, dy, x, dw, workspace)
            }
        }
    }

    /// The weight, 0 where it is removed.
    fn weight(&self, weight: Weight) -> f64 {
        let at = index(&self.shape, weight);
        if self.mask.get(at) { f64::from(self.weights[at]) } else { 0.0 }
    }

    /// What a place of the kernel put at (y, x) of the output meets, if no padding.
    fn met(&self, [_, c, i, j]: Weight, [y, x]: [usize; 2], b: usize) -> Option<f64> {
        let Shape { height, width, .. } = self.shape;
        let [row, column] = meets(&self.shape, [i, j], [y, x])?;
        Some(f64::from(self.x[((c * height + row) * width + column) * self.batch + b]))
    }

    fn gradient(&self, o: usize, [y, x]: [usize; 2], b: usize) -> f64 {
        let [height, width] = [self.shape.out_height(), self.shape.out_width()];
        f64::from(self.dy[((o * height + y) * width + x) * self.batch + b])
    }

    /// The terms of an element of the result, by the definition.
    fn terms(&self, convolution: Convolution, at: usize) -> Vec<f64> {
        let Shape { height, width, .. } = self.shape;
        let [out_height, out_width] = [self.shape.out_height(), self.shape.out_width()];
        let places = || (0..out_height * out_width).map(|at| [at / out_width, at % out_width]);
        let (b, plane) = (at % self.batch, at / self.batch);
        match convolution {
            Convolution::Forward => {
                let (o, at) = (plane / (out_height * out_width), plane % (out_height * out_width));
                let place = [at / out_width, at % out_width];
                let weights = weights(&self.shape).filter(|weight| weight[0] == o);
                weights.filter_map(|w| Some(self.weight(w) * self.met(w, place, b)?)).collect()
            }
            Convolution::InputGradient => {
                let (c, at) = (plane / (height * width), plane % (height * width));
                let here = [at / width, at % width];
                let weights = weights(&self.shape).filter(|weight| weight[1] == c);
                let of_weight = |w: Weight| {
                    let meeting =
                        places().filter(move |&place| meets(&self.shape, [w[2], w[3]], place) == Some(here));
                    meeting.map(move |place| self.weight(w) * self.gradient(w[0], place, b))
                };
                weights.flat_map(of_weight).collect()
            }
            Convolution::WeightGradient => {
                let weight = weights(&self.shape).nth(at).unwrap_or_default();
                let images = (0..self.batch).flat_map(|b| places().map(move |place| (b, place)));
                let term =
                    |(b, place)| Some(self.gradient(weight[0], place, b) * self.met(weight, place, b)?);
                images.filter_map(term).collect()
            }
        }
    }
}

fn weights(shape: &Shape) -> impl Iterator<Item = Weight> + use<> {
    let &Shape { channels, outputs, kernel: [rows, columns], .. } = shape;
    (0..outputs * channels * rows * columns).map(move |at| {
        [
            at / (channels * rows * columns),
            at / (rows * columns) % channels,
            at / columns % rows,
            at % columns,
        ]
    })
}

fn index(shape: &Shape, [o, c, i, j]: Weight) -> usize {
    ((o * shape.channels + c) * shape.kernel[0] + i) * shape.kernel[1] + j
}

/// The row and column of the input that a place of the kernel meets when put at a place of the output.
fn meets(shape: &Shape, [i, j]: [usize; 2], [y, x]: [usize; 2]) -> Option<[usize; 2]> {
    let row = (y * shape.stride + i).checked_sub(shape.padding).filter(|&row| row < shape.height)?;
    let column = (x * shape.stride + j).checked_sub(shape.padding).filter(|&column| column < shape.width)?;
    Some([row, column])
}

/// Multiply-adds for an image with the weights for which `kept` holds.
pub(super) fn terms(shape: &Shape, kept: impl Fn(usize) -> bool) -> usize {
    let places = |i: usize, out: usize, size: usize| {
        let meet = |at: &usize| (shape.padding..shape.padding + size).contains(&(at * shape.stride + i));
        (0..out).filter(meet).count()
    };
    weights(shape)
        .enumerate()
        .filter(|&(at, _)| kept(at))
        .map(|(_, [_, _, i, j])| {
            places(i, shape.out_height(), shape.height) * places(j, shape.out_width(), shape.width)
        })
        .sum()
}

/// All windows of X as a matrix `[channels · kernel rows · kernel columns, out height · out width · batch]`.
#[cfg(feature = "peers")]
fn windows(inputs: &Inputs) -> Aligned {
    let (shape, batch) = (inputs.shape, inputs.batch);
    let places = shape.out_height() * shape.out_width();
    let filter = weights(&Shape { outputs: 1, ..shape });
    let element = |weight, at: usize| {
        let place = [at / batch / shape.out_width(), at / batch % shape.out_width()];
        inputs.met(weight, place, at % batch).unwrap_or(0.0) as f32
    };
    filter.flat_map(|weight| (0..places * batch).map(move |at| element(weight, at))).collect()
}

fn contestants(
    machinery: &Machinery,
    task: &Task,
    convolution: Convolution,
    inputs: &Arc<Inputs>,
) -> Result<Vec<Contestant>, Error> {
    let batch = inputs.batch;
    let len = match convolution {
        Convolution::Forward => inputs.dy.len(),
        Convolution::InputGradient => inputs.x.len(),
        Convolution::WeightGradient => inputs.weights.len(),
    };
    let expected = Expected::new(len, |at| inputs.terms(convolution, at));
    let flops = 2.0 * (terms(&inputs.shape, |at| inputs.mask.get(at)) * batch) as f64;
    let mut all = fma_peak(machinery);
    let mut add = |who: &str, role, backend: Option<Backend>, threads, mut run: Run| -> Result<(), Error> {
        let mut out = Aligned::filled(len, f32::NAN);
        machinery.on(role, threads, || run(&mut out));
        ensure(expected.is(&out), task, who)?;
        let contestant = Contestant::new(who, role, Unit::Flop, flops, move || run(&mut out));
        let contestant = contestant.with_threads(machinery, threads);
        all.push(match backend {
            Some(backend) => contestant.on(backend),
            None => contestant,
        });
        Ok(())
    };
    let filters = Arc::new(inputs.filters()?);
    for (engine, threads) in machinery.engines() {
        if engine.backend() == Backend::scalar() && flops > 1e8 {
            continue;
        }
        let (inputs, filters, mut workspace) = (inputs.clone(), filters.clone(), Workspace::default());
        // A refusal would leave the result as it is, and would not pass the check.
        let run = move |out: &mut [f32]| {
            let _ = inputs.compute(engine, convolution, &filters, out, &mut workspace);
        };
        add("slth", Role::Ours, Some(engine.backend()), threads, Box::new(run))?;
    }
    #[cfg(feature = "peers")]
    if convolution != Convolution::InputGradient {
        use slth_peers::{Dense, Matrix};
        let (Shape { outputs, .. }, n) = (inputs.shape, inputs.weights.len());
        let masked =
            inputs.weights.iter().zip(inputs.mask.iter()).map(|(&w, keep)| if keep { w } else { 0.0 });
        let effective: Arc<Vec<f32>> = Arc::new(masked.collect());
        let windows = Arc::new(windows(inputs));
        for peer in [Dense::Gemm, Dense::Faer] {
            for threads in machinery.one_and_all() {
                let (inputs, effective, windows) = (inputs.clone(), effective.clone(), windows.clone());
                let run = move |out: &mut [f32]| {
                    let (columns, places) = (n / outputs, inputs.dy.len() / outputs);
                    let windows = Matrix::new(&windows, columns, places);
                    let (a, b) = match convolution {
                        Convolution::Forward => (Matrix::new(&effective, outputs, columns), windows),
                        _ => (Matrix::new(&inputs.dy, outputs, places), windows.transpose()),
                    };
                    peer.multiply(a, b, out, threads > 1);
                };
                add(&format!("{}, windows given", peer.name()), Role::Peer, None, threads, Box::new(run))?;
            }
        }
    }
    Ok(all)
}

/// Computes a result.
type Run = Box<dyn FnMut(&mut [f32]) + Send>;
