//! Products with masked weights: forward, input gradient, weight gradient; forward in both layouts of the activations.
//!
//! Dense peers multiply by weights with zeros for removed ones. They do the same task and are credited with the same useful work,
//! 2 · kept · batch operations. The variant `rebuilt` includes a new mask for every product. For at most [`FEW_COLUMNS`] columns all
//! formats are measured, as variants `interleaved`, `bitmask`, `blocked` and `panels`, and also weights stored in `bf16`.

use std::sync::Arc;

use slth::random::{Purpose, Stream};
use slth_kernels::matmul::{Workspace, dense, forward, input_gradient, weight_gradient};
use slth_kernels::{
    Engine, Epilogue, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions, Storage, Strategy,
};

use crate::aligned::Aligned;
use crate::case::{Case, Products, Scale};
use crate::check::Expected;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::limits::{multiply_adds, read};
use crate::machinery::Machinery;
use crate::row::{Unit, Who};
use crate::task::LayerOperation::{self, Forward, InputGradient, Layout, WeightGradient};
use crate::task::{Matmul, Task};

/// Batch, inputs, outputs.
pub(super) type Sizes = [usize; 3];

pub(super) const TINY: Sizes = [5, 33, 20];
pub(super) const SMALL: Sizes = [128, 784, 500];
const WIDE: Sizes = [512, 784, 500];
const CUBE: Sizes = [1024, 1024, 1024];
pub(super) const LARGE: Sizes = [256, 4096, 4096];
const ONE: Sizes = [1, 4096, 4096];

pub(super) const SPARSITIES: [f64; 8] = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99];
/// Sparsities for sizes with long run times.
const FEW: [f64; 4] = [0.5, 0.8, 0.9, 0.95];
/// Sparsities in finer steps, to locate the crossover with dense products.
const FINE: [f64; 13] = [0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99];

/// Small batches: every number of columns with every layer (inputs, outputs) at every sparsity.
const COLUMNS: [usize; 10] = [1, 2, 3, 4, 8, 16, 17, 32, 64, 128];
const LAYERS: [[usize; 2]; 5] = [[784, 500], [1024, 1024], [4096, 4096], [384, 1536], [1536, 384]];
const FEW_COLUMNS_AT: [f64; 5] = [0.0, 0.5, 0.8, 0.9, 0.95];
/// Up to this number of columns all formats are measured.
const FEW_COLUMNS: usize = 128;
/// Up to this number of columns the kernels have special formats.
const OWN_FORMATS: usize = 32;

/// The scalar backend, which is about 60 times slower, is left out above this number of operations.
const SCALAR_FLOPS: f64 = 1.5e8;

/// An operation, with layers of these sizes and at each of these sparsities.
pub(super) type Group<'a> = (LayerOperation, Sizes, &'a [f64]);

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let groups: Vec<Group> = match scale {
        Scale::Smoke => vec![
            (Forward, TINY, &[0.0, 0.5]),
            (Forward, [1, 33, 20], &[0.9]),
            (InputGradient, TINY, &[0.5]),
            (WeightGradient, TINY, &[0.0]),
            (Layout, TINY, &[0.5]),
        ],
        Scale::Quick => vec![
            (Forward, SMALL, &[0.0, 0.5, 0.8, 0.9, 0.95]),
            (Forward, WIDE, &[0.0, 0.5, 0.8, 0.9, 0.95]),
            (Forward, CUBE, &[0.5, 0.9]),
            (Forward, LARGE, &[0.8]),
            (Forward, ONE, &[0.9]),
            (Forward, [8, 784, 500], &[0.9]),
            (InputGradient, SMALL, &[0.5]),
            (InputGradient, WIDE, &[0.5, 0.9]),
            (WeightGradient, SMALL, &[0.0]),
            (Layout, SMALL, &[0.5, 0.9]),
        ],
        Scale::Full => {
            let sizes = [SMALL, WIDE, CUBE, LARGE, ONE];
            let mut groups: Vec<Group> = sizes
                .map(|size| (Forward, size, if size == SMALL { &FINE } else { &SPARSITIES[..] }))
                .to_vec();
            groups.extend(
                sizes.map(|size| (InputGradient, size, if size == LARGE { &FEW } else { &SPARSITIES[..] })),
            );
            let few = LAYERS.iter().flat_map(|&[inputs, outputs]| COLUMNS.map(|n| [n, inputs, outputs]));
            groups.extend(
                few.filter(|size| !sizes.contains(size)).map(|size| (Forward, size, &FEW_COLUMNS_AT[..])),
            );
            groups.extend(sizes.map(|size| (WeightGradient, size, &[0.0][..])));
            for [inputs, outputs] in [[784, 500], [1024, 1024]] {
                groups.extend([16, 128, 512].map(|n| (Layout, [n, inputs, outputs], &[0.0, 0.5, 0.9][..])));
            }
            groups
        }
    };
    each(&groups, contestants)
}

/// Makes the contestants of a case.
type Prepare = fn(&Machinery, &Task, &Arc<Inputs>, LayerOperation) -> Result<Vec<Contestant>, Error>;

/// A case for each operation, size and sparsity.
pub(super) fn each(groups: &[Group], prepare: Prepare) -> Vec<Case> {
    let case = |operation, sizes: Sizes, sparsity| {
        let [batch, inputs, outputs] = sizes;
        let kept = (operation != WeightGradient).then_some(sparsity);
        let task = Task::MaskedMatmul(Matmul { operation, batch, inputs, outputs, sparsity: kept });
        Case::new(task, move |machinery, task| {
            prepare(machinery, task, &Arc::new(Inputs::new(sizes, sparsity)), operation)
        })
    };
    let of_group = |&(operation, sizes, sparsities): &Group| {
        sparsities.iter().map(|&sparsity| case(operation, sizes, sparsity)).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_group).collect()
}

/// A layer and its activations and gradients.
pub(super) struct Inputs {
    batch: usize,
    inputs: usize,
    outputs: usize,
    pub(super) weights: Arc<Aligned>,
    pub(super) mask: PackedMask,
    /// Another mask of the same sparsity.
    pub(super) other_mask: PackedMask,
    /// The weights with zeros for those removed.
    effective: Aligned,
    /// `[inputs, batch]`
    pub(super) x: Aligned,
    /// `[outputs, batch]`
    pub(super) dy: Aligned,
}

impl Inputs {
    fn new([batch, inputs, outputs]: Sizes, sparsity: f64) -> Self {
        let array = |index, len| {
            let mut stream = Stream::new(1, Purpose::Benchmark, index, 0);
            (0..len).map(|_| stream.symmetric(1.0)).collect::<Aligned>()
        };
        let weights = array(0, outputs * inputs);
        let [mask, other_mask] = [3, 4].map(|index| {
            let mut stream = Stream::new(1, Purpose::Benchmark, index, 0);
            let keep: Vec<bool> = weights.iter().map(|_| f64::from(stream.unit()) >= sparsity).collect();
            PackedMask::from_fn(weights.len(), |i| keep[i])
        });
        let effective =
            weights.iter().zip(mask.iter()).map(|(&w, keep)| if keep { w } else { 0.0 }).collect();
        let (x, dy) = (array(1, inputs * batch), array(2, outputs * batch));
        Self { batch, inputs, outputs, weights: Arc::new(weights), mask, other_mask, effective, x, dy }
    }

    /// The same inputs with weights rounded to bf16, to nearest, ties to even.
    fn rounded(&self) -> Self {
        let bits = |w: &f32| w.to_bits() + 0x7fff + (w.to_bits() >> 16 & 1);
        let effective = self.effective.iter().map(|w| f32::from_bits(bits(w) & 0xffff_0000)).collect();
        let (weights, mask, other_mask) = (self.weights.clone(), self.mask.clone(), self.other_mask.clone());
        let [x, dy] = [&self.x, &self.dy].map(|of| of.iter().copied().collect());
        Self { weights, mask, other_mask, effective, x, dy, ..*self }
    }

    pub(super) fn options(&self) -> PrepareOptions {
        PrepareOptions::default().max_batch(self.batch)
    }

    pub(super) fn prepare(&self, engine: Engine, options: &PrepareOptions) -> Result<PackedWeights, Error> {
        let weights = MatRef::row_major(&self.weights, self.outputs, self.inputs)?;
        Ok(PackedWeights::prepare(engine, weights, Some(&self.mask), options)?)
    }

    fn flops(&self) -> f64 {
        2.0 * self.mask.kept() as f64 * self.batch as f64
    }

    /// Computes a product into `out`; `Layout` is the forward product with batch-major activations.
    pub(super) fn multiply(
        &self,
        operation: LayerOperation,
        engine: Engine,
        layer: &PackedWeights,
        out: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let Self { batch, inputs, outputs, .. } = *self;
        let dy = MatRef::row_major(&self.dy, outputs, batch)?;
        match operation {
            InputGradient => {
                let dx = MatMut::row_major(out, inputs, batch)?;
                input_gradient(engine, layer, dy, None, dx, workspace)?;
            }
            WeightGradient => {
                let x = MatRef::row_major(&self.x, inputs, batch)?;
                weight_gradient(engine, dy, x, None, MatMut::row_major(out, outputs, inputs)?, workspace)?;
            }
            // The same numbers in memory, read as `[batch, inputs]`.
            Layout => {
                let x = MatRef::row_major(&self.x, batch, inputs)?.t();
                let y = MatMut::row_major(out, batch, outputs)?.t();
                forward(engine, layer, x, &Epilogue::default(), y, workspace)?;
            }
            _ => {
                let x = MatRef::row_major(&self.x, inputs, batch)?;
                let y = MatMut::row_major(out, outputs, batch)?;
                forward(engine, layer, x, &Epilogue::default(), y, workspace)?;
            }
        }
        Ok(())
    }

    /// Y = W · X by all weights.
    fn dense(&self, engine: Engine, y: &mut [f32], workspace: &mut Workspace) -> Result<(), Error> {
        let weights = MatRef::row_major(&self.effective, self.outputs, self.inputs)?;
        let x = MatRef::row_major(&self.x, self.inputs, self.batch)?;
        let y = MatMut::row_major(y, self.outputs, self.batch)?;
        Ok(dense::forward(engine, weights, x, &Epilogue::default(), y, workspace)?)
    }

    /// The two factors of a product.
    fn factors(&self, operation: LayerOperation) -> [Matrix<'_>; 2] {
        let Self { batch, inputs, outputs, .. } = *self;
        let w = Matrix::new(&self.effective, outputs, inputs);
        let (x, dy) = (Matrix::new(&self.x, inputs, batch), Matrix::new(&self.dy, outputs, batch));
        match operation {
            InputGradient => [w.transpose(), dy],
            WeightGradient => [dy, x.transpose()],
            Layout => [w, Matrix::new(&self.x, batch, inputs).transpose()],
            _ => [w, x],
        }
    }

    /// Some elements of the expected result.
    fn expected(&self, operation: LayerOperation) -> Expected {
        let [a, b] = self.factors(operation);
        Expected::new(a.rows * b.columns, |at| {
            let [row, column] = match operation {
                Layout => [at % a.rows, at / a.rows],
                _ => [at / b.columns, at % b.columns],
            };
            (0..a.columns).map(move |l| a.at(row, l) * b.at(l, column))
        })
    }

    fn products<'a>(
        &self,
        machinery: &'a Machinery,
        task: &'a Task,
        operation: LayerOperation,
        contestants: Vec<Contestant>,
    ) -> Products<'a> {
        let [a, b] = self.factors(operation);
        let (len, expected) = (a.rows * b.columns, self.expected(operation));
        Products { machinery, task, expected, len, flops: self.flops(), contestants }
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

/// A product by our kernels.
pub(super) fn ours(
    engine: Engine<'static>,
    operation: LayerOperation,
    inputs: &Arc<Inputs>,
    layer: &Arc<PackedWeights>,
) -> impl FnMut(&mut [f32]) -> Result<(), Error> + Send + 'static {
    let (inputs, layer, mut workspace) = (inputs.clone(), layer.clone(), Workspace::default());
    move |out| inputs.multiply(operation, engine, &layer, out, &mut workspace)
}

fn contestants(
    machinery: &Machinery,
    task: &Task,
    inputs: &Arc<Inputs>,
    operation: LayerOperation,
) -> Result<Vec<Contestant>, Error> {
    let (flops, best) = (inputs.flops(), machinery.best());
    let mut limits = multiply_adds(machinery, Unit::Flop, 1.0);
    if inputs.batch == 1 {
        // The limit reads each kept weight and each bit of the mask once.
        let floats = inputs.mask.kept() + inputs.mask.len() / 32;
        limits.extend(read(machinery, &Arc::new(Aligned::filled(floats, 1.0)), Unit::Flop, flops));
    }
    let feature_major = if operation == Layout { Forward } else { operation };
    let mut all = inputs.products(machinery, task, feature_major, limits);
    let options = inputs.options().input_gradient(operation == InputGradient);
    let layer = Arc::new(inputs.prepare(best, &options)?);
    for engine in machinery.engines(flops < SCALAR_FLOPS) {
        all.add(Who::ours(engine), ours(engine, feature_major, inputs, &layer))?;
    }
    match operation {
        Forward => {
            if inputs.batch <= FEW_COLUMNS {
                let own = options.max_batch(inputs.batch.min(OWN_FORMATS));
                let sparse = options.strategy(Strategy::Sparse);
                for (variant, options) in [
                    ("interleaved", own.strategy(Strategy::Sparse)),
                    ("bitmask", own.strategy(Strategy::Bitmask)),
                    ("blocked", sparse.max_batch(usize::MAX)),
                    ("panels", own.strategy(Strategy::Dense)),
                ] {
                    let layer = Arc::new(inputs.prepare(best, &options)?);
                    all.add(Who::ours(best).variant(variant), ours(best, Forward, inputs, &layer))?;
                }
                let rounded = inputs.rounded();
                let layer = Arc::new(inputs.prepare(best, &options.storage(Storage::Bf16))?);
                let mut bf16 = rounded.products(machinery, task, Forward, Vec::new());
                bf16.add(Who::ours(best).variant("bf16"), ours(best, Forward, inputs, &layer))?;
                all.contestants.append(&mut bf16.contestants);
            }
            let mut layer = inputs.prepare(best, &options)?;
            let (data, mut workspace) = (inputs.clone(), Workspace::default());
            all.add(Who::ours(best).variant("rebuilt"), move |y| {
                layer.rebuild(best, &data.mask)?;
                data.multiply(Forward, best, &layer, y, &mut workspace)
            })?;
            let (data, mut workspace) = (inputs.clone(), Workspace::default());
            all.add(Who::ours(best).variant("dense"), move |y| data.dense(best, y, &mut workspace))?;
        }
        Layout => {
            let mut batch_major = inputs.products(machinery, task, Layout, Vec::new());
            for engine in machinery.engines(flops < SCALAR_FLOPS) {
                batch_major
                    .add(Who::ours(engine).variant("batch-major"), ours(engine, Layout, inputs, &layer))?;
            }
            all.contestants.append(&mut batch_major.contestants);
            return Ok(all.contestants);
        }
        _ => {}
    }
    #[cfg(feature = "peers")]
    peers(&mut all, inputs, operation)?;
    Ok(all.contestants)
}

#[cfg(feature = "peers")]
fn peers(all: &mut Products, inputs: &Arc<Inputs>, operation: LayerOperation) -> Result<(), Error> {
    use slth_peers::{Dense, Sprs};
    for peer in Dense::ALL {
        for threads in all.machinery.one_and_all().filter(|&threads| threads == 1 || peer.is_parallel()) {
            let data = inputs.clone();
            all.add(Who::peer(peer.name(), threads), move |out| {
                let [a, b] = data.factors(operation).map(Matrix::of_peers);
                peer.multiply(a, b, out, threads > 1);
                Ok(())
            })?;
        }
    }
    if operation == Forward {
        let data = inputs.clone();
        let sprs = Sprs::new(&inputs.weights, inputs.outputs, inputs.inputs, |i| inputs.mask.get(i));
        all.add(Who::peer("sprs", 1), move |y| {
            sprs.multiply(&data.x, data.batch, y);
            Ok(())
        })?;
    }
    Ok(())
}
