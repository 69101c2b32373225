//! Products with masked weights: forward, input gradient, weight gradient; forward in both layouts of the activations; what
//! preparing weights takes, and putting another mask over them ("compression").
//!
//! Dense peers multiply by weights with zeros for those removed: they do the same task, and their useful work is the same,
//! 2 · kept · batch operations. "With compression" pays for a new mask at every product.

use std::hint::black_box;
use std::sync::Arc;

use slth_kernels::matmul::{Workspace, dense, forward, input_gradient, weight_gradient};
use slth_kernels::{
    Backend, Engine, Epilogue, KernelError, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions,
    Strategy, roofline,
};

use super::aligned::Aligned;
use super::case::{Case, Contestant, Kernel, Machinery, Scale, fma_peak, read};
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
/// Where a run takes long.
const FEW: [f64; 4] = [0.5, 0.8, 0.9, 0.95];
/// Where the crossover is looked for, it is looked for closely.
const FINE: [f64; 13] = [0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99];

/// A product of a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Product {
    Forward,
    InputGradient,
    WeightGradient,
}

impl Product {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        }
    }
}

/// A product of a layer of these sizes at each of these sparsities.
type Sweep = (Product, Sizes, &'static [f64]);

/// Something else with such a layer likewise.
type Others = (Other, Sizes, &'static [f64]);

/// Makes the contestants of a case.
type Other = (&'static str, fn(&Machinery, &Task, &Arc<Inputs>) -> Result<Vec<Contestant>, Error>);

const LAYOUTS: Other = ("layouts", layouts);
const COMPRESSION: Other = ("compression", compression);
const PREPARE: Other = ("prepare", preparation);

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    use Product::{Forward, InputGradient, WeightGradient};
    let (products, others): (Vec<Sweep>, Vec<Others>) = match scale {
        Scale::Smoke => (
            vec![
                (Forward, [5, 33, 20], &[0.0, 0.5]),
                (Forward, [1, 33, 20], &[0.9]),
                (InputGradient, [5, 33, 20], &[0.5]),
                (WeightGradient, [5, 33, 20], &[0.0]),
            ],
            [LAYOUTS, COMPRESSION, PREPARE].map(|other| (other, [5, 33, 20], [0.5].as_slice())).to_vec(),
        ),
        Scale::Quick => (
            vec![
                (Forward, SMALL, &[0.0, 0.5, 0.8, 0.9, 0.95]),
                (Forward, WIDE, &[0.0, 0.5, 0.8, 0.9, 0.95]),
                (Forward, CUBE, &[0.5, 0.9]),
                (Forward, LARGE, &[0.8]),
                (Forward, ONE, &[0.9]),
                (InputGradient, SMALL, &[0.5]),
                (InputGradient, WIDE, &[0.5, 0.9]),
                (WeightGradient, SMALL, &[0.0]),
            ],
            vec![(LAYOUTS, SMALL, &[0.5, 0.9]), (COMPRESSION, SMALL, &[0.5, 0.9]), (PREPARE, SMALL, &[0.5])],
        ),
        Scale::Full => {
            let shapes = [SMALL, WIDE, CUBE, LARGE, ONE];
            let forward = shapes.map(|shape| {
                (Forward, shape, if shape == SMALL { FINE.as_slice() } else { SPARSITIES.as_slice() })
            });
            let mut products = forward.to_vec();
            products.extend(shapes.map(|shape| {
                (InputGradient, shape, if shape == LARGE { FEW.as_slice() } else { SPARSITIES.as_slice() })
            }));
            products.extend(shapes.map(|shape| (WeightGradient, shape, [0.0].as_slice())));
            let mut others: Vec<Others> = Vec::new();
            for [inputs, outputs] in [[784, 500], [1024, 1024]] {
                others.extend(
                    [16, 128, 512]
                        .map(|batch| (LAYOUTS, [batch, inputs, outputs], [0.0, 0.5, 0.9].as_slice())),
                );
            }
            others.extend([(COMPRESSION, SMALL, SPARSITIES.as_slice()), (COMPRESSION, LARGE, &[0.5, 0.9])]);
            others.extend(
                [SMALL, [128, 1024, 1024], LARGE].map(|shape| (PREPARE, shape, [0.5, 0.9].as_slice())),
            );
            (products, others)
        }
    };
    let each = |sparsities: &'static [f64]| sparsities.iter().copied();
    let products = products.into_iter().flat_map(|(product, shape, all)| {
        each(all).map(move |sparsity| {
            let task = task(product.name(), shape, (product != WeightGradient).then_some(sparsity));
            Case::new(task, move |machinery, task| {
                contestants(machinery, task, product, &Arc::new(Inputs::new(shape, sparsity)))
            })
        })
    });
    let others = others.into_iter().flat_map(|((name, prepare), shape, all)| {
        each(all).map(move |sparsity| {
            Case::new(task(name, shape, Some(sparsity)), move |machinery, task| {
                prepare(machinery, task, &Arc::new(Inputs::new(shape, sparsity)))
            })
        })
    });
    products.chain(others).collect()
}

fn task(operation: &str, shape: Sizes, sparsity: Option<f64>) -> Task {
    let (operation, shape) = (operation.to_owned(), shape.to_vec());
    Task { kernel: Kernel::MaskedMatmul, operation, shape, sparsity, epsilon: None }
}

struct Inputs {
    batch: usize,
    inputs: usize,
    outputs: usize,
    weights: Arc<Aligned>,
    mask: PackedMask,
    /// The weights with zeros for those removed.
    effective: Aligned,
    /// `[inputs, batch]`
    x: Aligned,
    /// `[outputs, batch]`
    dy: Aligned,
}

impl Inputs {
    fn new([batch, inputs, outputs]: Sizes, sparsity: f64) -> Self {
        let array = |index, len| {
            let mut stream = Stream::new(1, Purpose::Benchmark, index, 0);
            (0..len).map(|_| stream.symmetric(1.0)).collect::<Aligned>()
        };
        let weights = array(0, outputs * inputs);
        let mask = Self::mask(&weights, sparsity, 3);
        let effective =
            weights.iter().zip(mask.iter()).map(|(&w, keep)| if keep { w } else { 0.0 }).collect();
        let (x, dy) = (array(1, inputs * batch), array(2, outputs * batch));
        Self { batch, inputs, outputs, weights: Arc::new(weights), mask, effective, x, dy }
    }

    fn mask(weights: &[f32], sparsity: f64, index: usize) -> PackedMask {
        let mut stream = Stream::new(1, Purpose::Benchmark, index, 0);
        let keep: Vec<bool> = weights.iter().map(|_| f64::from(stream.unit()) >= sparsity).collect();
        PackedMask::from_fn(weights.len(), |i| keep[i])
    }

    fn options(&self) -> PrepareOptions {
        PrepareOptions::default().max_batch(self.batch)
    }

    fn prepare(&self, engine: Engine, options: &PrepareOptions) -> Result<PackedWeights, KernelError> {
        let weights = MatRef::row_major(&self.weights, self.outputs, self.inputs)?;
        PackedWeights::prepare(engine, weights, Some(&self.mask), options)
    }

    fn layer(&self, options: &PrepareOptions) -> Result<PackedWeights, Error> {
        Ok(self.prepare(Engine::new(Backend::best()), options)?)
    }

    /// Y = W · X.
    fn forward(
        &self,
        engine: Engine,
        layer: &PackedWeights,
        y: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), KernelError> {
        let x = MatRef::row_major(&self.x, self.inputs, self.batch)?;
        let y = MatMut::row_major(y, self.outputs, self.batch)?;
        forward(engine, layer, x, &Epilogue::default(), y, workspace)
    }

    /// dX = Wᵀ · dY.
    fn input_gradient(
        &self,
        engine: Engine,
        layer: &PackedWeights,
        dx: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), KernelError> {
        let dy = MatRef::row_major(&self.dy, self.outputs, self.batch)?;
        let dx = MatMut::row_major(dx, self.inputs, self.batch)?;
        input_gradient(engine, layer, dy, None, dx, workspace)
    }

    /// dW = dY · Xᵀ.
    fn weight_gradient(
        &self,
        engine: Engine,
        dw: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), KernelError> {
        let x = MatRef::row_major(&self.x, self.inputs, self.batch)?;
        let dy = MatRef::row_major(&self.dy, self.outputs, self.batch)?;
        let dw = MatMut::row_major(dw, self.outputs, self.inputs)?;
        weight_gradient(engine, dy, x, None, dw, workspace)
    }

    /// Y = W · X by all weights.
    fn dense(&self, engine: Engine, y: &mut [f32], workspace: &mut Workspace) -> Result<(), KernelError> {
        let weights = MatRef::row_major(&self.effective, self.outputs, self.inputs)?;
        let x = MatRef::row_major(&self.x, self.inputs, self.batch)?;
        let y = MatMut::row_major(y, self.outputs, self.batch)?;
        dense::forward(engine, weights, x, &Epilogue::default(), y, workspace)
    }

    /// What a product multiplies.
    fn factors(&self, product: Product) -> [Matrix<'_>; 2] {
        let Self { batch, inputs, outputs, .. } = *self;
        let w = Matrix::new(&self.effective, outputs, inputs);
        let (x, dy) = (Matrix::new(&self.x, inputs, batch), Matrix::new(&self.dy, outputs, batch));
        match product {
            Product::Forward => [w, x],
            Product::InputGradient => [w.transpose(), dy],
            Product::WeightGradient => [dy, x.transpose()],
        }
    }
}

/// A row-major matrix, or the transpose of one.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, transposed: false }
    }

    fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    fn at(self, row: usize, column: usize) -> f64 {
        let at = if self.transposed { column * self.rows + row } else { row * self.columns + column };
        f64::from(self.data[at])
    }

    #[cfg(feature = "peers")]
    fn of_peers(self) -> slth_peers::Matrix<'a> {
        if self.transposed {
            slth_peers::Matrix::new(self.data, self.columns, self.rows).transpose()
        } else {
            slth_peers::Matrix::new(self.data, self.rows, self.columns)
        }
    }
}

/// A product by our kernels, into its argument. A refusal leaves that as it is, and does not pass the check.
fn ours(
    engine: Engine<'static>,
    product: Product,
    inputs: &Arc<Inputs>,
    layer: &Arc<PackedWeights>,
) -> impl FnMut(&mut [f32]) + Send + 'static {
    let (inputs, layer, mut workspace) = (inputs.clone(), layer.clone(), Workspace::default());
    move |out| {
        let _ = match product {
            Product::Forward => inputs.forward(engine, &layer, out, &mut workspace),
            Product::InputGradient => inputs.input_gradient(engine, &layer, out, &mut workspace),
            Product::WeightGradient => inputs.weight_gradient(engine, out, &mut workspace),
        };
    }
}

/// The contestants of a product, each of which is checked.
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
        (who, role): (&str, Role),
        backend: Option<Backend>,
        threads: usize,
        mut run: impl FnMut(&mut [f32]) + Send + 'static,
    ) -> Result<(), Error> {
        let mut out = Aligned::filled(self.len, f32::NAN);
        self.machinery.on(role, threads, || run(&mut out));
        ensure(self.expected.is(&out), self.task, who)?;
        let contestant = Contestant::new(who, role, Unit::Flop, self.flops, move || run(&mut out));
        let contestant = contestant.with_threads(self.machinery, threads);
        self.contestants.push(match backend {
            Some(backend) => contestant.on(backend),
            None => contestant,
        });
        Ok(())
    }
}

fn contestants(
    machinery: &Machinery,
    task: &Task,
    product: Product,
    inputs: &Arc<Inputs>,
) -> Result<Vec<Contestant>, Error> {
    let batch = inputs.batch;
    let [a, b] = inputs.factors(product);
    let (len, n) = (a.rows * b.columns, b.columns);
    let expected = Expected::new(len, |at| (0..a.columns).map(move |l| a.at(at / n, l) * b.at(l, at % n)));
    let flops = 2.0 * inputs.mask.kept() as f64 * batch as f64;
    let mut contestants = fma_peak(machinery);
    if batch == 1 {
        // Each kept weight and each bit of the mask, once.
        let floats = inputs.mask.kept() + inputs.mask.len() / 32;
        contestants.extend(read(machinery, &Arc::new(Aligned::filled(floats, 1.0)), Unit::Flop, flops));
    }
    let mut all = Products { machinery, task, expected, len, flops, contestants };

    let slth = ("slth", Role::Ours);
    let options = inputs.options().input_gradient(product == Product::InputGradient);
    let layer = Arc::new(inputs.layer(&options)?);
    for (engine, threads) in machinery.engines() {
        // The scalar fallback takes 60 times as long; it is there where that is a tenth of a second.
        if engine.backend() != Backend::scalar() || flops < 1.5e8 {
            all.add(slth, Some(engine.backend()), threads, ours(engine, product, inputs, &layer))?;
        }
    }
    let (best, engine) = (Some(machinery.best()), Engine::new(machinery.best()));
    match product {
        Product::Forward => {
            let mut layer = inputs.layer(&options)?;
            let (data, mut workspace) = (inputs.clone(), Workspace::default());
            all.add(("slth with compression", Role::Ours), best, 1, move |y| {
                let _ = layer.rebuild(engine, &data.mask);
                let _ = data.forward(engine, &layer, y, &mut workspace);
            })?;
            let (data, mut workspace) = (inputs.clone(), Workspace::default());
            all.add(("slth dense", Role::Ours), best, 1, move |y| {
                let _ = data.dense(engine, y, &mut workspace);
            })?;
        }
        Product::InputGradient => {
            // The same number of operations the other way, to be compared with.
            let mut y = Aligned::filled(inputs.dy.len(), 0.0);
            let mut run = ours(engine, Product::Forward, inputs, &layer);
            let forward = Contestant::new("slth forward", Role::Ours, Unit::Flop, flops, move || run(&mut y));
            all.contestants.push(forward.on(machinery.best()));
        }
        Product::WeightGradient => {}
    }
    #[cfg(feature = "peers")]
    {
        use slth_peers::{Dense, Sprs};
        for peer in Dense::ALL {
            for threads in machinery.one_and_all().filter(|&threads| threads == 1 || peer.is_parallel()) {
                let data = inputs.clone();
                all.add((peer.name(), Role::Peer), None, threads, move |out| {
                    let [a, b] = data.factors(product).map(Matrix::of_peers);
                    peer.multiply(a, b, out, threads > 1);
                })?;
            }
        }
        if product == Product::Forward {
            let (data, kept) = (inputs.clone(), |i| inputs.mask.get(i));
            let sprs = Sprs::new(&inputs.weights, inputs.outputs, inputs.inputs, kept);
            all.add(("sprs", Role::Peer), None, 1, move |y| sprs.multiply(&data.x, batch, y))?;
        }
    }
    Ok(all.contestants)
}

/// Forward with activations `[inputs, batch]`, as in the other cases, and `[batch, inputs]`, as frameworks have them.
fn layouts(machinery: &Machinery, task: &Task, inputs: &Arc<Inputs>) -> Result<Vec<Contestant>, Error> {
    let Inputs { batch, outputs, .. } = **inputs;
    let [w, x] = inputs.factors(Product::Forward);
    let flops = 2.0 * inputs.mask.kept() as f64 * batch as f64;
    let layer = Arc::new(inputs.layer(&inputs.options())?);
    // Element (b, i), the i-th input of image b.
    let across: Arc<Aligned> =
        Arc::new((0..inputs.x.len()).map(|at| x.at(at % x.rows, at / x.rows) as f32).collect());
    let products = |expected| Products {
        machinery,
        task,
        expected,
        len: outputs * batch,
        flops,
        contestants: Vec::new(),
    };
    let element = |o: usize, b: usize| (0..w.columns).map(move |l| w.at(o, l) * x.at(l, b));
    let mut feature_major = products(Expected::new(outputs * batch, |at| element(at / batch, at % batch)));
    let mut batch_major = products(Expected::new(outputs * batch, |at| element(at % outputs, at / outputs)));
    for (engine, threads) in machinery.engines() {
        if engine.backend() == Backend::scalar() && flops > 1.5e8 {
            continue;
        }
        let on = Some(engine.backend());
        let run = ours(engine, Product::Forward, inputs, &layer);
        feature_major.add(("slth", Role::Ours), on, threads, run)?;
        let (data, layer, across) = (inputs.clone(), layer.clone(), across.clone());
        let mut workspace = Workspace::default();
        batch_major.add(("slth batch-major", Role::Ours), on, threads, move |y| {
            let Inputs { batch, inputs, outputs, .. } = *data;
            let views = MatRef::row_major(&across, batch, inputs)
                .and_then(|x| Ok((x.t(), MatMut::row_major(y, batch, outputs)?.t())));
            let _ =
                views.and_then(|(x, y)| forward(engine, &layer, x, &Epilogue::default(), y, &mut workspace));
        })?;
    }
    let mut contestants = fma_peak(machinery);
    contestants.extend(feature_major.contestants);
    contestants.extend(batch_major.contestants);
    Ok(contestants)
}

/// Reading all weights, and the clock, to count cycles per weight; a copy of all weights, at s = 0.5 as many bytes as are read and
/// written by what builds a format.
fn beside_building(machinery: &Machinery, inputs: &Arc<Inputs>) -> Vec<Contestant> {
    let count = inputs.weights.len() as f64;
    let mut contestants = read(machinery, &inputs.weights, Unit::Weight, count);
    contestants.push(Contestant::new("clock", Role::Limit, Unit::Cycle, 600_000.0, || {
        roofline::chain_of_cycles(100_000);
    }));
    let (weights, mut copy) = (inputs.weights.clone(), Aligned::filled(inputs.weights.len(), 0.0));
    contestants.push(Contestant::new("copy", Role::Peer, Unit::Weight, count, move || {
        black_box(&mut copy[..]).copy_from_slice(&weights);
    }));
    contestants
}

/// The results of the products that a layer was prepared for.
fn results(inputs: &Inputs, layer: &PackedWeights) -> Result<Vec<f32>, Error> {
    let (best, workspace) = (Engine::new(Backend::best()), &mut Workspace::default());
    let mut all = vec![0.0; inputs.dy.len()];
    inputs.forward(best, layer, &mut all, workspace)?;
    if layer.options().input_gradient {
        let mut dx = vec![0.0; inputs.x.len()];
        inputs.input_gradient(best, layer, &mut dx, workspace)?;
        all.append(&mut dx);
    }
    Ok(all)
}

/// What layers are prepared for, and how a contestant's name says so.
const PREPARED_FOR: [(&str, bool); 2] = [("", false), (" for both products", true)];

/// A new mask over the same weights, two of them in turns; for both products, and, to be compared with, a product.
fn compression(machinery: &Machinery, task: &Task, inputs: &Arc<Inputs>) -> Result<Vec<Contestant>, Error> {
    let count = inputs.weights.len() as f64;
    let mut contestants = beside_building(machinery, inputs);
    let other = Inputs::mask(&inputs.weights, task.sparsity.unwrap_or(0.0), 4);
    let masks = Arc::new([inputs.mask.clone(), other]);
    let both = |layer: &mut PackedWeights, engine| -> Result<Vec<Vec<f32>>, Error> {
        let of_mask = |mask| {
            layer.rebuild(engine, mask)?;
            results(inputs, layer)
        };
        masks.iter().map(of_mask).collect()
    };
    for (products, gradient) in PREPARED_FOR {
        let (who, options) = (format!("slth{products}"), inputs.options().input_gradient(gradient));
        let mut dense = inputs.layer(&options.strategy(Strategy::Dense))?;
        let expected = both(&mut dense, Engine::new(machinery.best()))?;
        for (engine, threads) in machinery.engines() {
            let (masks, mut turn) = (masks.clone(), 0);
            let mut layer = inputs.layer(&options)?;
            ensure(both(&mut layer, engine)? == expected, task, &who)?;
            let run = move || {
                turn = 1 - turn;
                let _ = layer.rebuild(engine, &masks[turn]);
            };
            let contestant = Contestant::new(&who, Role::Ours, Unit::Weight, count, run);
            contestants.push(contestant.on(engine.backend()).with_threads(machinery, threads));
        }
    }
    let layer = Arc::new(inputs.layer(&inputs.options())?);
    let mut run = ours(Engine::new(machinery.best()), Product::Forward, inputs, &layer);
    let mut y = Aligned::filled(inputs.dy.len(), 0.0);
    let forward =
        Contestant::new("slth forward, beside it", Role::Ours, Unit::Weight, count, move || run(&mut y));
    contestants.push(forward.on(machinery.best()));
    Ok(contestants)
}

/// From weights and a mask to what products take, its memory being allocated each time; for both products too.
fn preparation(machinery: &Machinery, task: &Task, inputs: &Arc<Inputs>) -> Result<Vec<Contestant>, Error> {
    let count = inputs.weights.len() as f64;
    let mut contestants = beside_building(machinery, inputs);
    for (products, gradient) in PREPARED_FOR {
        let (who, options) = (format!("slth{products}"), inputs.options().input_gradient(gradient));
        let expected = results(inputs, &inputs.layer(&options.strategy(Strategy::Dense))?)?;
        for (engine, threads) in machinery.engines() {
            let found = results(inputs, &inputs.prepare(engine, &options)?)?;
            ensure(found == expected, task, &who)?;
            let data = inputs.clone();
            let run = move || drop(black_box(data.prepare(engine, &options)));
            let contestant = Contestant::new(&who, Role::Ours, Unit::Weight, count, run);
            contestants.push(contestant.on(engine.backend()).with_threads(machinery, threads));
        }
    }
    Ok(contestants)
}
