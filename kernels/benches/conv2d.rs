//! Convolutions on one thread: fraction of the FMA peak, measured in turns with it, that the multiply-adds of kept weights
//! reach, everything a call does included; the minimum of the rounds, as other work on a machine only ever adds. Each
//! result is compared with plain loops in f64 before it is timed.
//!
//! `cargo bench -p slth-kernels --bench conv2d`

use std::hint::black_box;
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use slth_kernels::conv2d::{Shape, Workspace, forward, input_gradient, weight_gradient};
use slth_kernels::masked_matmul::Activation;
use slth_kernels::{Backend, Engine, MaskedWeights, PackedMask, limits};

const BATCH: usize = 64;

const SHAPES: [(&str, Shape); 3] = [
    ("LeNet-5, 6@5×5 on 28×28", shape([1, 28, 28], 6, 5, 2)),
    ("LeNet-5, 16@5×5 on 6×14×14", shape([6, 14, 14], 16, 5, 0)),
    ("64@3×3 on 64×14×14", shape([64, 14, 14], 64, 3, 1)),
];

const fn shape(
    [channels, height, width]: [usize; 3],
    outputs: usize,
    kernel: usize,
    padding: usize,
) -> Shape {
    Shape { channels, height, width, outputs, kernel: [kernel, kernel], stride: 1, padding }
}

fn main() {
    // `cargo test --benches` runs this without `--bench`: then it only has to start.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{:<28} {:>8} {:>5} {:>8} {:>8} {:>8}", "batch 64", "backend", "s", "forward", "dX", "dW");
    for (name, shape) in SHAPES {
        for backend in Backend::available().into_iter().filter(|backend| backend.name() != "scalar") {
            for sparsity in [0.0, 0.5, 0.8, 0.9] {
                let [y, dx, dw] = fractions(Engine::new(backend), &shape, sparsity);
                println!("{name:<28} {backend:>8} {sparsity:>5} {y:>8.2} {dx:>8.2} {dw:>8.2}");
            }
        }
    }
}

fn noise(len: usize, random: &mut Xoshiro256PlusPlus) -> Vec<f32> {
    (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
}

fn fractions(engine: Engine, shape: &Shape, sparsity: f64) -> [f64; 3] {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let n = shape.weights().unwrap();
    let weights = noise(n, &mut random);
    let kept: Vec<bool> = (0..n).map(|_| random.random_bool(1.0 - sparsity)).collect();
    let mut layer = MaskedWeights::new(engine, &weights, shape.outputs, n / shape.outputs).unwrap();
    layer.set_mask(engine, &PackedMask::from_fn(n, |i| kept[i])).unwrap();
    let x = noise(shape.channels * shape.height * shape.width * BATCH, &mut random);
    let dy = noise(shape.outputs * shape.out_height() * shape.out_width() * BATCH, &mut random);
    let [mut y, mut dx, mut dw] = [dy.len(), x.len(), n].map(|len| vec![f32::NAN; len]);
    let workspace = &mut Workspace::default();
    let none = Activation::Identity;

    let (terms, exact) = exact(shape, &weights, &kept, &x, &dy);
    forward(engine, shape, &layer, &x, BATCH, none, &mut y, workspace).unwrap();
    input_gradient(engine, shape, &layer, &dy, BATCH, None, &mut dx, workspace).unwrap();
    weight_gradient(engine, shape, &dy, &x, BATCH, &mut dw, workspace).unwrap();
    for (found, exact) in [&y, &dx, &dw].into_iter().zip(&exact) {
        let scale = exact.iter().fold(0.0_f64, |most, e| most.max(e.abs()));
        let error = found.iter().zip(exact).map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max);
        assert!(error <= 1e-5 * scale, "{error} of {scale}");
    }

    let (mut best, mut flops) = ([f64::INFINITY; 4], 0);
    for _ in 0..200 {
        flops = time(&mut best[3], || limits::fma_peak_work(engine, 2000));
        time(&mut best[0], || forward(engine, shape, &layer, &x, BATCH, none, &mut y, workspace)).unwrap();
        time(&mut best[1], || input_gradient(engine, shape, &layer, &dy, BATCH, None, &mut dx, workspace))
            .unwrap();
        time(&mut best[2], || weight_gradient(engine, shape, &dy, &x, BATCH, &mut dw, workspace)).unwrap();
    }
    let peak = flops as f64 / best[3];
    [0, 1, 2].map(|i| 2.0 * terms[i] as f64 / best[i] / peak)
}

fn time<T>(best: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let out = black_box(work());
    *best = best.min(start.elapsed().as_secs_f64());
    out
}

/// The number of multiply-adds and the results of the three functions.
fn exact(
    shape: &Shape,
    weights: &[f32],
    kept: &[bool],
    x: &[f32],
    dy: &[f32],
) -> ([usize; 3], [Vec<f64>; 3]) {
    let &Shape { channels, height, width, kernel: [rows, columns], stride, padding, .. } = shape;
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let mut sums = [dy.len(), x.len(), weights.len()].map(|len| vec![0.0_f64; len]);
    let mut terms = [0; 3];
    for w in 0..weights.len() {
        let (o, c, i, j) = (
            w / (channels * rows * columns),
            w / (rows * columns) % channels,
            w / columns % rows,
            w % columns,
        );
        for to in 0..out_height * out_width {
            let from_y = (to / out_width * stride + i).wrapping_sub(padding);
            let from_x = (to % out_width * stride + j).wrapping_sub(padding);
            if from_y >= height || from_x >= width {
                continue;
            }
            let at_x = ((c * height + from_y) * width + from_x) * BATCH;
            let at_y = (o * out_height * out_width + to) * BATCH;
            let used = usize::from(kept[w]) * BATCH;
            terms = [terms[0] + used, terms[1] + used, terms[2] + BATCH];
            for b in 0..BATCH {
                let [weight, x, dy] = [weights[w], x[at_x + b], dy[at_y + b]].map(f64::from);
                if kept[w] {
                    sums[0][at_y + b] += weight * x;
                    sums[1][at_x + b] += weight * dy;
                }
                sums[2][w] += dy * x;
            }
        }
    }
    (terms, sums)
}
