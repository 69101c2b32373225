//! Products with masked weights: forward, input gradient, weight gradient, compression.
//!
//! Dense peers multiply by weights with zeros for those removed: they do the same task, and their useful work is the same,
//! 2 · kept · batch operations. "With compression" pays for a new mask at every product.

use std::sync::Arc;

use slth_kernels::masked_matmul::{
    Activation, Shape, Workspace, dense, forward, input_gradient, weight_gradient,
};
use slth_kernels::{Backend, Engine, MaskedWeights, PackedMask, limits};

use super::case::{Case, Contestant, Kernel, Machinery, Scale, fma_peak};
use super::check::{Expected, ensure};
use super::measurement::{Role, Task, Unit};
use crate::error::Error;
use crate::random::{Purpose, Stream};

/// Batch, inputs, outputs.
type Sizes = [usize; 3];

const SMALL: Sizes = [128, 784, 500];
const WIDE: Sizes = [512, 784, 500];
const CUBE: Sizes = [1024, 1024, 1024];
const LARGE: Sizes = [256, 4096, 4096];
const ONE: Sizes = [1, 4096, 4096];

const SPARSITIES: [f64; 8] = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99];
/// Where the crossover is looked for, it is looked for closely.
const FINE: [f64; 13] = [0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99];

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |operation: &str, shapes: &[(Sizes, &[f64])], prepare: Prepare| {
        for &(shape, sparsities) in shapes {
            for &sparsity in sparsities {
                let task = Task {
                    kernel: Kernel::MaskedMatmul,
                    operation: operation.to_owned(),
                    shape: shape.to_vec(),
                    sparsity: (operation != "weight gradient").then_some(sparsity),
                    epsilon: None,
                };
                cases.push(Case::new(task, move |machinery, task| {
                    prepare(machinery, task, &Arc::new(Inputs::new(shape, sparsity)))
                }));
            }
        }
    };
    match scale {
        Scale::Smoke => {
            add("forward", &[([5, 33, 20], &[0.0, 0.5]), ([1, 33, 20], &[0.9])], products_forward);
            add("input gradient", &[([5, 33, 20], &[0.5])], products_input_gradient);
            add("weight gradient", &[([5, 33, 20], &[0.0])], products_weight_gradient);
            add("compression", &[([5, 33, 20], &[0.5])], compression);
        }
        Scale::Quick => {
            add(
                "forward",
                &[(SMALL, &[0.0, 0.5, 0.8, 0.9, 0.95]), (WIDE, &[0.0, 0.5, 0.8, 0.9, 0.95])],
                products_forward,
            );
            add("forward", &[(CUBE, &[0.5, 0.9]), (LARGE, &[0.8]), (ONE, &[0.9])], products_forward);
            add("input gradient", &[(SMALL, &[0.5]), (WIDE, &[0.5, 0.9])], products_input_gradient);
            add("weight gradient", &[(SMALL, &[0.0])], products_weight_gradient);
            add("compression", &[(SMALL, &[0.5, 0.9])], compression);
        }
        Scale::Full => {
            add("forward", &[(SMALL, &FINE), (WIDE, &SPARSITIES), (CUBE, &SPARSITIES)], products_forward);
            add("forward", &[(LARGE, &SPARSITIES), (ONE, &SPARSITIES)], products_forward);
            add("input gradient", &[(SMALL, &SPARSITIES), (WIDE, &SPARSITIES)], products_input_gradient);
            add("input gradient", &[(CUBE, &SPARSITIES), (LARGE, &SPARSITIES)], products_input_gradient);
            add(
                "weight gradient",
                &[(SMALL, &[0.0]), (WIDE, &[0.0]), (CUBE, &[0.0]), (LARGE, &[0.0])],
                products_weight_gradient,
            );
            add("compression", &[(SMALL, &SPARSITIES), (LARGE, &[0.5, 0.9])], compression);
        }
    }
    cases
}

type Prepare = fn(&Machinery, &Task, &Arc<Inputs>) -> Result<Vec<Contestant>, Error>;

struct Inputs {
    batch: usize,
    inputs: usize,
    outputs: usize,
    weights: Vec<f32>,
    mask: PackedMask,
    /// The weights with zeros for those removed.
    effective: Vec<f32>,
    /// `[inputs, batch]`
    x: Vec<f32>,
    /// `[outputs, batch]`
    dy: Vec<f32>,
}

impl Inputs {
    fn new([batch, inputs, outputs]: Sizes, sparsity: f64) -> Self {
        let array = |index, len| {
            let mut stream = Stream::new(1, Purpose::Benchmark, index, 0);
            (0..len).map(|_| stream.symmetric(1.0)).collect::<Vec<f32>>()
        };
        let weights = array(0, outputs * inputs);
        let mask = Self::mask(&weights, sparsity, 3);
        let effective =
            weights.iter().zip(mask.iter()).map(|(&w, keep)| if keep { w } else { 0.0 }).collect();
        let (x, dy) = (array(1, inputs * batch), array(2, outputs * batch));
        Self { batch, inputs, outputs, weights, mask, effective, x, dy }
    }

    fn mask(weights: &[f32], sparsity: f64, index: usize) -> PackedMask {
        let mut stream = Stream::new(1, Purpose::Benchmark, index, 0);
        let keep: Vec<bool> = weights.iter().map(|_| f64::from(stream.unit()) >= sparsity).collect();
        PackedMask::from_fn(weights.len(), |i| keep[i])
    }

    fn shape(&self) -> Shape {
        Shape { outputs: self.outputs, inputs: self.inputs, batch: self.batch }
    }

    fn useful_flops(&self) -> f64 {
        2.0 * self.mask.kept() as f64 * self.batch as f64
    }

    fn layer(&self, gradient: bool) -> Result<MaskedWeights, Error> {
        let engine = Engine::new(Backend::best());
        let new = if gradient { MaskedWeights::with_input_gradient } else { MaskedWeights::new };
        let mut layer = new(engine, &self.weights, self.outputs, self.inputs)?;
        layer.set_mask(engine, &self.mask)?;
        Ok(layer)
    }
}

/// The contestants of a product with `len` results.
struct Products<'a> {
    machinery: &'a Machinery,
    task: &'a Task,
    expected: Expected,
    len: usize,
    flops: f64,
    contestants: Vec<Contestant>,
}

impl Products<'_> {
    fn add(
        &mut self,
        who: impl Into<String>,
        role: Role,
        backend: Option<Backend>,
        threads: usize,
        mut run: impl FnMut(&mut [f32]) + Send + 'static,
    ) -> Result<(), Error> {
        let who = who.into();
        let mut y = vec![f32::NAN; self.len];
        match threads {
            1 => run(&mut y),
            _ => self.machinery.pool.install(|| run(&mut y)),
        }
        ensure(self.expected.is(&y), self.task, &who)?;
        let run = self.machinery.on(threads, move || run(&mut y));
        let contestant = Contestant::new(who, role, Unit::Flop, self.flops, run).with_threads(threads);
        self.contestants.push(match backend {
            Some(backend) => contestant.on(backend, threads),
            None => contestant,
        });
        Ok(())
    }

    /// Ours on every engine; the scalar fallback, 500 times slower, where that takes seconds only.
    fn add_ours<F: FnMut(&mut [f32]) + Send + 'static>(
        &mut self,
        ours: impl Fn(Engine) -> F,
    ) -> Result<(), Error> {
        for (engine, threads) in self.machinery.engines() {
            if engine.backend() != Backend::scalar() || self.flops < 2e8 {
                self.add("slth", Role::Ours, Some(engine.backend()), threads, ours(engine))?;
            }
        }
        Ok(())
    }

    /// The dense peers, on one thread and on all.
    #[cfg(feature = "peers")]
    fn add_dense(
        &mut self,
        multiply: impl Fn(slth_peers::Dense, bool, &mut [f32]) + Clone + Send + 'static,
    ) -> Result<(), Error> {
        for peer in slth_peers::Dense::ALL {
            for threads in [1, self.machinery.threads] {
                let multiply = multiply.clone();
                if threads == 1 {
                    self.add(peer.name(), Role::Peer, None, 1, move |y| multiply(peer, false, y))?;
                } else if peer.is_parallel() {
                    self.add(peer.name(), Role::Peer, None, threads, move |y| multiply(peer, true, y))?;
                }
            }
        }
        Ok(())
    }
}

fn products_forward(
    machinery: &Machinery,
    task: &Task,
    inputs: &Arc<Inputs>,
) -> Result<Vec<Contestant>, Error> {
    let Inputs { batch, inputs: k, outputs: m, .. } = **inputs;
    let expected =
        Expected::new([m, k, batch], |o, i| inputs.effective[o * k + i], |i, b| inputs.x[i * batch + b]);
    let mut all = Products {
        machinery,
        task,
        expected,
        len: m * batch,
        flops: inputs.useful_flops(),
        contestants: fma_peak(machinery, true),
    };
    if batch == 1 {
        // Each kept weight and each bit of the mask, once.
        let bytes = inputs.mask.kept() * 4 + inputs.mask.len() / 8;
        let (engine, data) = (Engine::new(machinery.best()), vec![1.0_f32; bytes / 4]);
        let read = move || {
            std::hint::black_box(limits::read(engine, std::hint::black_box(&data)));
        };
        let read = Contestant::new("read", Role::Limit, Unit::Flop, all.flops, read);
        all.contestants.push(read.on(machinery.best(), 1));
    }
    let layer = Arc::new(inputs.layer(false)?);
    all.add_ours(|engine| {
        let (inputs, layer, mut workspace) = (inputs.clone(), layer.clone(), Workspace::default());
        move |y| {
            // A refusal would leave y as it is, and would not pass the check.
            let _ = forward(engine, &layer, &inputs.x, batch, Activation::Identity, y, &mut workspace);
        }
    })?;
    let (best, engine) = (Some(machinery.best()), Engine::new(machinery.best()));
    let mut layer = inputs.layer(false)?;
    let (data, mut workspace) = (inputs.clone(), Workspace::default());
    all.add("slth with compression", Role::Ours, best, 1, move |y| {
        let _ = layer.set_mask(engine, &data.mask);
        let _ = forward(engine, &layer, &data.x, batch, Activation::Identity, y, &mut workspace);
    })?;
    if task.sparsity > Some(0.0) {
        let (data, mut workspace) = (inputs.clone(), Workspace::default());
        all.add("slth dense", Role::Ours, best, 1, move |y| {
            let identity = Activation::Identity;
            let _ =
                dense::forward(engine, data.shape(), &data.effective, &data.x, identity, y, &mut workspace);
        })?;
    }
    #[cfg(feature = "peers")]
    {
        use slth_peers::{Matrix, Sprs};
        let data = inputs.clone();
        all.add_dense(move |peer, parallel, y| {
            peer.multiply(Matrix::new(&data.effective, m, k), Matrix::new(&data.x, k, batch), y, parallel);
        })?;
        let (data, sprs) = (inputs.clone(), Sprs::new(&inputs.weights, m, k, |i| inputs.mask.get(i)));
        all.add("sprs", Role::Peer, None, 1, move |y| sprs.multiply(&data.x, batch, y))?;
    }
    Ok(all.contestants)
}

fn products_input_gradient(
    machinery: &Machinery,
    task: &Task,
    inputs: &Arc<Inputs>,
) -> Result<Vec<Contestant>, Error> {
    let Inputs { batch, inputs: m, outputs: k, .. } = **inputs;
    let expected =
        Expected::new([m, k, batch], |i, o| inputs.effective[o * m + i], |o, b| inputs.dy[o * batch + b]);
    let mut all = Products {
        machinery,
        task,
        expected,
        len: m * batch,
        flops: inputs.useful_flops(),
        contestants: fma_peak(machinery, true),
    };
    let layer = Arc::new(inputs.layer(true)?);
    all.add_ours(|engine| {
        let (inputs, layer, mut workspace) = (inputs.clone(), layer.clone(), Workspace::default());
        move |dx| {
            let _ = input_gradient(engine, &layer, &inputs.dy, batch, None, dx, &mut workspace);
        }
    })?;
    // The same number of operations the other way, to be compared with.
    let (layer, data, engine) = (layer, inputs.clone(), Engine::new(machinery.best()));
    let (mut y, mut workspace) = (vec![0.0; k * batch], Workspace::default());
    let run = move || {
        let _ = forward(engine, &layer, &data.x, batch, Activation::Identity, &mut y, &mut workspace);
    };
    let reference = Contestant::new("slth forward", Role::Ours, Unit::Flop, all.flops, run);
    all.contestants.push(reference.on(machinery.best(), 1));
    #[cfg(feature = "peers")]
    {
        use slth_peers::Matrix;
        let data = inputs.clone();
        all.add_dense(move |peer, parallel, dx| {
            let (w, dy) = (Matrix::new(&data.effective, k, m).transpose(), Matrix::new(&data.dy, k, batch));
            peer.multiply(w, dy, dx, parallel);
        })?;
    }
    Ok(all.contestants)
}

fn products_weight_gradient(
    machinery: &Machinery,
    task: &Task,
    inputs: &Arc<Inputs>,
) -> Result<Vec<Contestant>, Error> {
    let Inputs { batch, inputs: n, outputs: m, .. } = **inputs;
    let expected =
        Expected::new([m, batch, n], |o, b| inputs.dy[o * batch + b], |b, i| inputs.x[i * batch + b]);
    let flops = inputs.useful_flops();
    let contestants = fma_peak(machinery, true);
    let mut all = Products { machinery, task, expected, len: m * n, flops, contestants };
    all.add_ours(|engine| {
        let (inputs, mut workspace) = (inputs.clone(), Workspace::default());
        move |dw| {
            let _ = weight_gradient(engine, inputs.shape(), &inputs.dy, &inputs.x, dw, &mut workspace);
        }
    })?;
    #[cfg(feature = "peers")]
    {
        use slth_peers::Matrix;
        let data = inputs.clone();
        all.add_dense(move |peer, parallel, dw| {
            let (dy, x) = (Matrix::new(&data.dy, m, batch), Matrix::new(&data.x, n, batch).transpose());
            peer.multiply(dy, x, dw, parallel);
        })?;
    }
    Ok(all.contestants)
}

/// A new mask over the same weights, two of them in turns.
fn compression(machinery: &Machinery, task: &Task, inputs: &Arc<Inputs>) -> Result<Vec<Contestant>, Error> {
    let count = inputs.weights.len() as f64;
    let other = Inputs::mask(&inputs.weights, task.sparsity.unwrap_or(0.0), 4);
    let masks = Arc::new([inputs.mask.clone(), other]);
    let (data, engine) = (inputs.clone(), Engine::new(machinery.best()));
    let read = move || {
        std::hint::black_box(limits::read(engine, std::hint::black_box(&data.weights)));
    };
    let read = Contestant::new("read", Role::Limit, Unit::Weight, count, read).on(machinery.best(), 1);
    let clock = Contestant::new("clock", Role::Limit, Unit::Cycle, 600_000.0, || {
        limits::chain_of_cycles(100_000);
    });
    let mut contestants = vec![read, clock];
    for (who, gradient) in [("slth", false), ("slth both ways", true)] {
        for (engine, threads) in machinery.engines() {
            let (masks, mut turn) = (masks.clone(), 0);
            let mut layer = inputs.layer(gradient)?;
            let run = machinery.on(threads, move || {
                turn = 1 - turn;
                let _ = layer.set_mask(engine, &masks[turn]);
            });
            let contestant = Contestant::new(who, Role::Ours, Unit::Weight, count, run);
            contestants.push(contestant.on(engine.backend(), threads));
        }
    }
    // What it prepares, to be compared with.
    let (layer, data) = (inputs.layer(false)?, inputs.clone());
    let (mut y, mut workspace) = (vec![0.0; inputs.outputs * inputs.batch], Workspace::default());
    let run = move || {
        let _ = forward(engine, &layer, &data.x, data.batch, Activation::Identity, &mut y, &mut workspace);
    };
    contestants
        .push(Contestant::new("slth forward", Role::Ours, Unit::Weight, count, run).on(machinery.best(), 1));
    Ok(contestants)
}
