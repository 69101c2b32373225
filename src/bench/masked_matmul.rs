//! Products with masked weights: forward, input gradient, weight gradient, compression.
//!
//! Dense peers multiply by weights with zeros for those removed: they do the same task, and their useful work is the same,
//! 2 · kept · batch operations. "With compression" pays for a new mask at every product.

use std::hint::black_box;
use std::sync::Arc;

use slth_kernels::masked_matmul::{
    Activation, Shape, Workspace, dense, forward, input_gradient, weight_gradient,
};
use slth_kernels::{Backend, Engine, MaskedWeights, PackedMask, Path, limits};

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

/// Its compression likewise.
type Compressions = (Sizes, &'static [f64]);

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    use Product::{Forward, InputGradient, WeightGradient};
    let (products, compressions): (Vec<Sweep>, Vec<Compressions>) = match scale {
        Scale::Smoke => (
            vec![
                (Forward, [5, 33, 20], &[0.0, 0.5]),
                (Forward, [1, 33, 20], &[0.9]),
                (InputGradient, [5, 33, 20], &[0.5]),
                (WeightGradient, [5, 33, 20], &[0.0]),
            ],
            vec![([5, 33, 20], &[0.5])],
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
            vec![(SMALL, &[0.5, 0.9])],
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
            (products, vec![(SMALL, &SPARSITIES), (LARGE, &[0.5, 0.9])])
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
    let compressions = compressions.into_iter().flat_map(|(shape, all)| {
        each(all).map(move |sparsity| {
            Case::new(task("compression", shape, Some(sparsity)), move |machinery, task| {
                compression(machinery, task, &Arc::new(Inputs::new(shape, sparsity)))
            })
        })
    });
    products.chain(compressions).collect()
}

fn task(operation: &str, shape: Sizes, sparsity: Option<f64>) -> Task {
    let (operation, shape) = (operation.to_owned(), shape.to_vec());
    Task { kernel: Kernel::MaskedMatmul, operation, shape, sparsity, epsilon: None }
}

struct Inputs {
    shape: Shape,
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
        Self { shape: Shape { outputs, inputs, batch }, weights: Arc::new(weights), mask, effective, x, dy }
    }

    fn mask(weights: &[f32], sparsity: f64, index: usize) -> PackedMask {
        let mut stream = Stream::new(1, Purpose::Benchmark, index, 0);
        let keep: Vec<bool> = weights.iter().map(|_| f64::from(stream.unit()) >= sparsity).collect();
        PackedMask::from_fn(weights.len(), |i| keep[i])
    }

    fn layer(&self, gradient: bool) -> Result<MaskedWeights, Error> {
        let engine = Engine::new(Backend::best());
        let Shape { outputs, inputs, batch } = self.shape;
        let new = if gradient { MaskedWeights::with_input_gradient } else { MaskedWeights::new };
        let mut layer = new(engine, &self.weights, outputs, inputs)?.with_batch(batch);
        layer.set_mask(engine, &self.mask)?;
        Ok(layer)
    }

    /// What a product multiplies.
    fn factors(&self, product: Product) -> [Matrix<'_>; 2] {
        let Shape { outputs, inputs, batch } = self.shape;
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
    engine: Engine,
    product: Product,
    inputs: &Arc<Inputs>,
    layer: &Arc<MaskedWeights>,
) -> impl FnMut(&mut [f32]) + Send + 'static {
    let (inputs, layer, mut workspace) = (inputs.clone(), layer.clone(), Workspace::default());
    move |out| {
        let (Inputs { shape, x, dy, .. }, workspace) = (&*inputs, &mut workspace);
        let _ = match product {
            Product::Forward => forward(engine, &layer, x, shape.batch, Activation::Identity, out, workspace),
            Product::InputGradient => input_gradient(engine, &layer, dy, shape.batch, None, out, workspace),
            Product::WeightGradient => weight_gradient(engine, *shape, dy, x, out, workspace),
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
        self.machinery.on(threads, || run(&mut out));
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
    let Shape { outputs, batch, .. } = inputs.shape;
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
    let layer = Arc::new(inputs.layer(product == Product::InputGradient)?);
    for (engine, threads) in machinery.engines() {
        // The scalar fallback takes 60 times as long; it is there where that is a tenth of a second.
        if engine.backend() != Backend::scalar() || flops < 1.5e8 {
            all.add(slth, Some(engine.backend()), threads, ours(engine, product, inputs, &layer))?;
        }
    }
    let (best, engine) = (Some(machinery.best()), Engine::new(machinery.best()));
    match product {
        Product::Forward => {
            for (who, once) in
                [("slth with compression", false), ("slth with compression, mask used once", true)]
            {
                let mut layer = inputs.layer(false)?.with_masks_used_once(once);
                let (data, mut workspace) = (inputs.clone(), Workspace::default());
                all.add((who, Role::Ours), best, 1, move |y| {
                    let _ = layer.set_mask(engine, &data.mask);
                    let _ = forward(engine, &layer, &data.x, batch, Activation::Identity, y, &mut workspace);
                })?;
            }
            let (data, mut workspace) = (inputs.clone(), Workspace::default());
            all.add(("slth dense", Role::Ours), best, 1, move |y| {
                let (shape, identity) = (data.shape, Activation::Identity);
                let _ = dense::forward(engine, shape, &data.effective, &data.x, identity, y, &mut workspace);
            })?;
        }
        Product::InputGradient => {
            // The same number of operations the other way, to be compared with.
            let mut y = Aligned::filled(outputs * batch, 0.0);
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
            let sprs = Sprs::new(&inputs.weights, outputs, inputs.shape.inputs, kept);
            all.add(("sprs", Role::Peer), None, 1, move |y| sprs.multiply(&data.x, batch, y))?;
        }
    }
    Ok(all.contestants)
}

/// A new mask over the same weights, two of them in turns; for both products, for masks that are used once, and, to be compared
/// with, products and a copy of all weights (at s = 0.5 as many bytes as compression reads and writes).
fn compression(machinery: &Machinery, task: &Task, inputs: &Arc<Inputs>) -> Result<Vec<Contestant>, Error> {
    let count = inputs.weights.len() as f64;
    let mut contestants = read(machinery, &inputs.weights, Unit::Weight, count);
    contestants.push(Contestant::new("clock", Role::Limit, Unit::Cycle, 600_000.0, || {
        limits::chain_of_cycles(100_000);
    }));
    let other = Inputs::mask(&inputs.weights, task.sparsity.unwrap_or(0.0), 4);
    let masks = Arc::new([inputs.mask.clone(), other]);
    let results = |layer: &mut MaskedWeights, engine, gradient| -> Result<Vec<f32>, Error> {
        let (x, dy, batch, space) = (&inputs.x, &inputs.dy, inputs.shape.batch, &mut Workspace::default());
        let (mut all, best) = (Vec::new(), Engine::new(machinery.best()));
        for mask in masks.iter() {
            layer.set_mask(engine, mask)?;
            let mut y = vec![0.0; dy.len()];
            forward(best, layer, x, batch, Activation::Identity, &mut y, space)?;
            all.append(&mut y);
            if gradient {
                let mut dx = vec![0.0; x.len()];
                input_gradient(best, layer, dy, batch, None, &mut dx, space)?;
                all.append(&mut dx);
            }
        }
        Ok(all)
    };
    let compressions = [
        ("slth", false, false),
        ("slth mask used once", false, true),
        ("slth for both products", true, false),
        ("slth for both products, mask used once", true, true),
    ];
    for (who, gradient, once) in compressions {
        let mut dense = inputs.layer(gradient)?.with_path(Path::Dense);
        let expected = results(&mut dense, Engine::new(machinery.best()), gradient)?;
        for (engine, threads) in machinery.engines() {
            let (masks, mut turn) = (masks.clone(), 0);
            let mut layer = inputs.layer(gradient)?.with_masks_used_once(once);
            ensure(results(&mut layer, engine, gradient)? == expected, task, who)?;
            let run = move || {
                turn = 1 - turn;
                let _ = layer.set_mask(engine, &masks[turn]);
            };
            let contestant = Contestant::new(who, Role::Ours, Unit::Weight, count, run);
            contestants.push(contestant.on(engine.backend()).with_threads(machinery, threads));
        }
    }
    for (who, once) in [("slth forward, beside it", false), ("slth forward, mask used once, beside it", true)]
    {
        let engine = Engine::new(machinery.best());
        let mut layer = inputs.layer(false)?.with_masks_used_once(once);
        layer.set_mask(engine, &inputs.mask)?;
        let mut run = ours(engine, Product::Forward, inputs, &Arc::new(layer));
        let mut y = Aligned::filled(inputs.dy.len(), 0.0);
        let forward = Contestant::new(who, Role::Ours, Unit::Weight, count, move || run(&mut y));
        contestants.push(forward.on(machinery.best()));
    }
    let (weights, mut copy) = (inputs.weights.clone(), Aligned::filled(inputs.weights.len(), 0.0));
    contestants.push(Contestant::new("copy", Role::Peer, Unit::Weight, count, move || {
        black_box(&mut copy[..]).copy_from_slice(&weights);
    }));
    Ok(contestants)
}
