//! Weights under a mask, compressed.
//!
//! The sparse kernels walk, for a slice of the inputs that fits in L1 or nearly, one output after another: so the kept weights
//! are stored slice by slice ("block"), within a block row by row, within a row by ascending column. Each is one 8-byte
//! entry of value and column: a single integer load brings both, which leaves the machine's two vector load ports to
//! the activations. (A batch of 1 has loads to spare, and takes [`halves`]. Two arrays, of values and of 16-bit columns, were
//! 5 % slower at s = 0.5 for the weights' broadcast loads.)
//!
//! The input gradient multiplies by the transpose. It is compressed a second time, from transposed weights and mask, so
//! that both products are the same walk; scattering instead would write every activation once per kept weight.
//!
//! Cost of a new mask: one pass over weights and mask per orientation; 8 bytes per kept weight and orientation.

use crate::engine::Engine;
use crate::error::ShapeError;
use crate::mask::PackedMask;
use crate::simd::{Kernel, Simd};

/// Frozen weights `[outputs, inputs]` and the mask over them, in the form the sparse kernels walk.
///
/// ```
/// use slth_kernels::{Backend, Engine, MaskedWeights, PackedMask};
/// let engine = Engine::new(Backend::best());
/// let mut layer = MaskedWeights::new(engine, &[1.0, 2.0, 3.0, 4.0], 2, 2)?; // all kept
/// layer.set_mask(engine, &PackedMask::from_fn(4, |i| i != 1))?;
/// assert_eq!((layer.outputs(), layer.inputs(), layer.kept()), (2, 2, 3));
/// # Ok::<(), slth_kernels::ShapeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MaskedWeights {
    weights: Vec<f32>,
    kept: usize,
    path: Path,
    /// The most columns that products will have, from the next mask on.
    batch: usize,
    /// Whether products take the dense path, since the last mask.
    dense: bool,
    /// The weights with zeros for the removed ones, while products take the dense path; otherwise empty or stale.
    effective: Vec<f32>,
    compressed: CompressedRows,
    transpose: Option<Transpose>,
}

/// How products with masked weights are computed. Both ways give the same numbers for finite activations (only
/// the sign of a zero may differ); for infinite ones and NaN the dense one makes NaN of 0 · ∞.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// Whichever is faster at the mask's density: [`Dense`](Path::Dense) from 85 % kept on; for small batches, as
    /// [`MaskedWeights::with_batch`] announces them, from 60 % (below 64 columns), 35 % (up to 16), 30 % (2 and 3)
    /// or 45 % (a single one).
    #[default]
    Auto,
    /// Walk the kept weights only.
    Sparse,
    /// Multiply by all weights, zeros for the removed ones.
    Dense,
}

/// Fraction kept, of 100, from which the dense path is the faster one for products of up to `batch` columns. The sparse
/// path costs time in proportion to the weights kept, the dense one in proportion to the vectors of columns, of which the
/// sparse one fills 4 as fast as 2 or 1. Measured at 500×784 and 1024×1024 on Zen 4, where both take as long: 64 columns and
/// more 0.77–0.85 (AVX-512), 0.67–0.81 (AVX2); 17 to 48: 0.58–0.64, 0.47–0.61; 4 to 16: 0.34–0.39, 0.23–0.40; rows left
/// whole, 2 and 3: 0.25–0.39, 0.19–0.28; 1: 0.22–0.48, 0.67–0.79, and 0.59, 0.74 for 4096×4096, where memory counts, so 0.45
/// between them. (Sapphire Rapids, 128 columns: 0.68 and 0.75. The choice may decide the sign of a zero, so it is the same on
/// every CPU.)
fn dense_from_percent(batch: usize) -> u64 {
    const FEWER_THAN: [(usize, u64); 4] = [(2, 45), (FEW_COLUMNS + 1, 30), (17, 35), (64, 60)];
    FEWER_THAN.iter().find(|(columns, _)| batch < *columns).map_or(85, |&(_, percent)| percent)
}

#[derive(Clone, Debug)]
struct Transpose {
    weights: Vec<f32>,
    mask: PackedMask,
    compressed: CompressedRows,
}

impl MaskedWeights {
    /// Takes weights `[outputs, inputs]`, row-major, all kept; for [`forward`](crate::masked_matmul::forward) only.
    ///
    /// # Errors
    /// When `weights` is not `outputs * inputs` long.
    pub fn new(engine: Engine, weights: &[f32], outputs: usize, inputs: usize) -> Result<Self, ShapeError> {
        Self::build(engine, weights, outputs, inputs, None)
    }

    /// [`new`](Self::new), and for [`input_gradient`](crate::masked_matmul::input_gradient) too: this keeps a transposed
    /// copy and doubles the cost of [`set_mask`](Self::set_mask).
    ///
    /// # Errors
    /// When `weights` is not `outputs * inputs` long.
    pub fn with_input_gradient(
        engine: Engine,
        weights: &[f32],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, ShapeError> {
        ShapeError::check("weights", &[outputs, inputs], weights.len())?;
        let mut transposed = vec![0.0; weights.len()];
        for (o, row) in weights.chunks(inputs.max(1)).enumerate() {
            for (i, &w) in row.iter().enumerate() {
                transposed[i * outputs + o] = w;
            }
        }
        let transpose = Transpose {
            weights: transposed,
            mask: PackedMask::none_kept(weights.len()),
            compressed: CompressedRows::new(inputs, outputs),
        };
        Self::build(engine, weights, outputs, inputs, Some(transpose))
    }

    fn build(
        engine: Engine,
        weights: &[f32],
        outputs: usize,
        inputs: usize,
        transpose: Option<Transpose>,
    ) -> Result<Self, ShapeError> {
        ShapeError::check("weights", &[outputs, inputs], weights.len())?;
        let compressed = CompressedRows::new(outputs, inputs);
        let mut built = Self {
            weights: weights.to_vec(),
            kept: 0,
            path: Path::Auto,
            batch: usize::MAX,
            dense: false,
            effective: Vec::new(),
            compressed,
            transpose,
        };
        built.set_mask(engine, &PackedMask::all_kept(weights.len()))?;
        Ok(built)
    }

    /// Overrides the choice between the sparse and the dense path, from the next [`set_mask`](Self::set_mask) on.
    ///
    /// ```
    /// use slth_kernels::{Engine, MaskedWeights, PackedMask, Path};
    /// let engine = Engine::detect()?;
    /// let mut layer = MaskedWeights::new(engine, &[1.0, 2.0], 1, 2)?.with_path(Path::Sparse);
    /// layer.set_mask(engine, &PackedMask::all_kept(2))?; // although nothing is removed
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_path(self, path: Path) -> Self {
        Self { path, ..self }
    }

    /// Says that products will have at most `batch` columns, from the next [`set_mask`](Self::set_mask) on; without it
    /// they are taken to have many. [`Path::Auto`] then chooses for that many, and for up to 3, one image at a time say, the
    /// weights are laid out for them: with 4096 × 4096 weights, s = 0.9 and a batch of 1 a product takes little more than half the time.
    /// Larger batches are still computed, if slower.
    ///
    /// ```
    /// use slth_kernels::{Engine, MaskedWeights, PackedMask};
    /// use slth_kernels::masked_matmul::{Activation, Workspace, forward};
    /// let engine = Engine::detect()?;
    /// let mut layer = MaskedWeights::new(engine, &[1.0, 2.0, 3.0, 4.0], 2, 2)?.with_batch(1);
    /// layer.set_mask(engine, &PackedMask::from_fn(4, |i| i != 1))?;
    /// let mut y = [0.0; 2];
    /// forward(engine, &layer, &[1.0, 10.0], 1, Activation::Identity, &mut y, &mut Workspace::default())?;
    /// assert_eq!(y, [1.0, 43.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Puts another mask over the weights; bit `o * inputs + i` is the weight from input i to output o.
    /// Allocates only when more weights are kept than ever before on this path, sparse or dense, or when it is the first
    /// mask after [`with_batch`](Self::with_batch) or of an engine on another backend.
    ///
    /// # Errors
    /// When the mask is not over `outputs * inputs` weights.
    pub fn set_mask(&mut self, engine: Engine, mask: &PackedMask) -> Result<(), ShapeError> {
        let (outputs, inputs) = (self.outputs(), self.inputs());
        ShapeError::check("mask", &[outputs, inputs], mask.len())?;
        self.kept = mask.kept_on(engine);
        self.dense = match self.path {
            Path::Auto => {
                self.kept as u64 * 100 >= self.weights.len() as u64 * dense_from_percent(self.batch)
            }
            Path::Sparse => false,
            Path::Dense => true,
        };
        if self.dense {
            self.effective.clear();
            self.effective.extend_from_slice(&self.weights);
            mask.apply_on(engine, &mut self.effective);
            return Ok(());
        }
        let whole_rows = self.batch <= FEW_COLUMNS;
        self.compressed.compress(engine, &self.weights, mask, self.kept, whole_rows);
        if let Some(transpose) = &mut self.transpose {
            mask.transpose_into(outputs, inputs, &mut transpose.mask);
            let Transpose { weights, mask, compressed } = transpose;
            compressed.compress(engine, weights, mask, self.kept, whole_rows);
        }
        Ok(())
    }

    /// Outputs (rows).
    pub fn outputs(&self) -> usize {
        self.compressed.rows
    }

    /// Inputs (columns).
    pub fn inputs(&self) -> usize {
        self.compressed.columns
    }

    /// Number of weights kept.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// What products multiply by.
    pub(crate) fn factor(&self) -> Factor<'_> {
        if self.dense { Factor::Dense(&self.effective) } else { Factor::Sparse(&self.compressed) }
    }

    /// What products with the transpose multiply by, the dense one not transposed; `None` where the weights were not
    /// built for it.
    pub(crate) fn transposed_factor(&self) -> Option<Factor<'_>> {
        let transpose = self.transpose.as_ref()?;
        Some(if self.dense { Factor::Dense(&self.effective) } else { Factor::Sparse(&transpose.compressed) })
    }
}

/// Masked weights as a product takes them.
pub(crate) enum Factor<'a> {
    /// All of them, row-major, zeros for the removed ones.
    Dense(&'a [f32]),
    /// The kept ones.
    Sparse(&'a CompressedRows),
}

/// The kept weights of a matrix by block of columns, row and column, ascending.
#[derive(Clone, Debug)]
pub(crate) struct CompressedRows {
    rows: usize,
    columns: usize,
    block: usize,
    /// Whether rows were left whole when asked for.
    whole_rows: bool,
    /// Where each (block, row) begins in `entries`, block-major, and where the last one ends.
    starts: Vec<usize>,
    /// The kept weights; as many as were ever kept at once.
    entries: Vec<Entry>,
}

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// A kept weight: its value in the high half, its column within the block in the low half.
pub(crate) type Entry = u64;

#[inline(always)]
pub(crate) fn entry(column: usize, value: f32) -> Entry {
    u64::from(value.to_bits()) << 32 | column as u64
}

/// The column of an entry, within its block.
#[inline(always)]
pub(crate) fn column(entry: Entry) -> usize {
    entry as u32 as usize
}

/// The value of an entry.
#[inline(always)]
pub(crate) fn value(entry: Entry) -> f32 {
    f32::from_bits((entry >> 32) as u32)
}

/// Column and value of an entry by a load each, for kernels that have loads to spare.
#[inline(always)]
pub(crate) fn halves(entry: &Entry) -> (usize, f32) {
    let &[first, second]: &[u32; 2] = bytemuck::cast_ref(entry);
    let (column, value) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    (column as usize, f32::from_bits(value))
}

/// The kept weights of one block, row after row.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    /// The first of the block's columns, and how many there are.
    pub(crate) first_input: usize,
    pub(crate) inputs: usize,
    /// Where each row begins in `entries`, and where the last one ends.
    starts: &'a [usize],
    entries: &'a [Entry],
}

impl<'a> Block<'a> {
    /// Cache lines of a row's kept weights, on average.
    pub(crate) fn lines_of_a_row(self) -> usize {
        let rows = self.starts.len() - 1;
        let kept = self.starts[rows] - self.starts[0];
        (kept * size_of::<Entry>()).div_ceil(rows.max(1) * LINE)
    }

    /// The kept weights of each row.
    #[inline(always)]
    pub(crate) fn rows(self) -> impl ExactSizeIterator<Item = &'a [Entry]> {
        let (mut start, mut entries) = (self.starts[0], &self.entries[self.starts[0]..]);
        self.starts[1..].iter().map(move |&end| {
            let (row, rest) = entries.split_at(end - start);
            (start, entries) = (end, rest);
            row
        })
    }
}

/// A slice of activations, which the sparse products keep in L1, or partly in L2, while all outputs walk over it.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    /// Columns of activations.
    pub(crate) columns: usize,
    /// Inputs that fill 7/8 of L1.
    fitting: usize,
}

impl Slice {
    /// Eight vectors: with fewer chains of multiply-adds their latency shows, and there are 16 registers. But a short slice
    /// starts on outputs too often: no more than 64 columns in 32 KiB. (Measured on Zen 4, where four chains do for 512-bit
    /// vectors; not on CPUs with 32 KiB and two 512-bit multiply-adds per cycle, as Skylake-SP.)
    #[inline(always)]
    pub(crate) fn of<S: Simd>(s: S) -> Self {
        let l1 = s.l1_bytes();
        let columns = if l1 < 48 << 10 { PANEL_MOST / 2 } else { PANEL_MOST }.min(8 * S::LANES);
        Self { columns, fitting: l1 / 8 * 7 / (columns * size_of::<f32>()) }
    }

    /// Inputs, one block of the weights, of `weights` of which `kept` are kept.
    ///
    /// As many as fit in L1; more where few weights are kept, since a start on an output, of which there is one per block,
    /// then costs more than reading part of the slice from L2. For each output, starts cost in proportion to 1/inputs, and reads
    /// beyond L1 to keep · inputs, about; so the best number is in inverse proportion to √keep. More still where kept
    /// weights are too many to stay in L2 beside the rest: a start waits for them.
    ///
    /// Measured on Zen 4 (64 columns, L1 of 32 KiB), fraction of FMA peak by inputs, AVX-512 / AVX2:
    ///
    /// | | 112 | 136 | 160 | 200 | 264 |
    /// |---|---|---|---|---|---|
    /// | 128×784×500, s = 0.9 | 0.67 / 0.63 | 0.67 / 0.62 | 0.67 / 0.61 | 0.65 / 0.58 | 0.59 / 0.54 |
    /// | 128×784×500, s = 0.95 | 0.55 / 0.51 | 0.56 / 0.52 | 0.57 / 0.52 | 0.56 / 0.50 | 0.52 / 0.48 |
    /// | 512×784×500, s = 0.95 | 0.53 / 0.50 | 0.54 / 0.50 | 0.55 / 0.50 | 0.54 / 0.49 | 0.51 / 0.46 |
    /// | 512×784×500, s = 0.98 | 0.33 / 0.32 | 0.35 / 0.33 | 0.35 / 0.34 | 0.36 / 0.34 | 0.35 / 0.34 |
    ///
    /// | 256×4096×4096 | 112 | 128 | 152 | 176 | 208 | 248 | 320 | 456 |
    /// |---|---|---|---|---|---|---|---|---|
    /// | s = 0.8 | 0.59 / 0.55 | 0.62 / 0.57 | 0.56 / 0.54 | 0.58 / 0.54 | 0.56 / 0.53 | 0.50 / 0.50 | 0.44 / 0.47 | 0.38 / 0.39 |
    /// | s = 0.9 | 0.56 / 0.51 | 0.55 / 0.52 | 0.55 / 0.53 | 0.57 / 0.52 | 0.53 / 0.52 | 0.51 / 0.51 | 0.45 / 0.49 | 0.40 / 0.46 |
    /// | s = 0.95 | 0.39 / 0.38 | 0.42 / 0.41 | 0.46 / 0.43 | 0.49 / 0.42 | 0.50 / 0.45 | 0.51 / 0.45 | 0.48 / 0.45 | 0.44 / 0.44 |
    /// | s = 0.98 | 0.20 / 0.20 | 0.22 / 0.23 | 0.25 / 0.25 | 0.27 / 0.27 | 0.30 / 0.31 | 0.34 / 0.33 | 0.39 / 0.36 | 0.41 / 0.39 |
    ///
    /// On Sapphire Rapids (48 KiB, 128 columns), 128×784×500, s = 0.5 / 0.8 / 0.95: 80 → 0.56 / 0.51 / 0.31, 96 → 0.55 / 0.51 /
    /// 0.31, 128 → 0.50 / 0.48 / 0.34, 160 → 0.37 / 0.44 / 0.34, where this says 84 / 93 / 140. AVX2
    /// there, s = 0.8: 0.64 with 168 inputs, 0.70 with 256, where this says 187. Not measured: NEON, scalar, and there what is
    /// sparser or larger.
    fn inputs(self, weights: usize, kept: usize) -> usize {
        let far = kept * size_of::<Entry>() >= 384 << 10;
        let keep = kept as f64 / weights.max(1) as f64;
        let more = (if far { 0.25 } else { 0.14 } / keep).sqrt().max(1.0);
        ((self.fitting as f64 * more) as usize).clamp(8, BLOCK_MOST)
    }
}

/// Finds the slice for a backend.
struct FindSlice;

impl Kernel for FindSlice {
    type Out = Slice;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Slice {
        Slice::of(s)
    }
}

/// Most columns of activations for which rows are left whole when asked for: a product with one is so fast then (0.37 ns
/// per kept weight in cache against 1.2 for up to 16 columns at once) that three of them take as long.
const FEW_COLUMNS: usize = 3;

/// Most columns of a block where rows are left whole: an entry has 32 bits for one.
const MOST_COLUMNS: usize = 1 << 31;

/// No slice has more columns of activations.
pub(crate) const PANEL_MOST: usize = 128;

/// No block has more columns, unless rows are left whole: a power of two, so that a column within a block needs no check.
pub(crate) const BLOCK_MOST: usize = 512;

/// Most blocks of AVX2 and AVX-512 have no more columns: of a column within them the byte it is stored in is all that counts.
pub(crate) const BLOCK_USUAL: usize = 256;

impl CompressedRows {
    fn new(rows: usize, columns: usize) -> Self {
        // Both follow from the first mask; of a matrix without weights there may be any number of rows.
        Self { rows, columns, block: 1, whole_rows: false, starts: Vec::new(), entries: Vec::new() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the kept weights.
    pub(crate) fn bytes(&self) -> usize {
        self.starts[self.segments()] * size_of::<Entry>()
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.columns.div_ceil(self.block)
    }

    /// Whether whole rows are too long for a usual block; no other block has more than [`BLOCK_MOST`] columns.
    pub(crate) fn has_wide_blocks(&self) -> bool {
        self.whole_rows && self.block > BLOCK_USUAL
    }

    fn segments(&self) -> usize {
        self.blocks() * self.rows
    }

    /// The kept weights of `rows` in block `block`.
    pub(crate) fn block_rows(&self, block: usize, rows: core::ops::Range<usize>) -> Block<'_> {
        let first = block * self.rows;
        let first_input = block * self.block;
        Block {
            first_input,
            inputs: self.block.min(self.columns - first_input),
            starts: &self.starts[first + rows.start..=first + rows.end],
            entries: &self.entries,
        }
    }

    /// Calls `take(column, weight)` for the kept weights of a row, ascending.
    pub(crate) fn for_each_in_row(&self, row: usize, mut take: impl FnMut(usize, f32)) {
        for block in 0..self.blocks() {
            let Block { first_input, starts, entries, .. } = self.block_rows(block, row..row + 1);
            for &entry in &entries[starts[0]..starts[1]] {
                take(first_input + column(entry), value(entry));
            }
        }
    }

    /// Takes the `kept` weights of `weights` `[rows, columns]`.
    fn compress(
        &mut self,
        engine: Engine,
        weights: &[f32],
        mask: &PackedMask,
        kept: usize,
        whole_rows: bool,
    ) {
        self.whole_rows = whole_rows;
        let most = if whole_rows {
            self.columns.clamp(1, MOST_COLUMNS)
        } else {
            engine.backend().run(FindSlice).inputs(weights.len(), kept)
        };
        // Blocks of about the same size: a short last one would cost as much as a full one.
        self.block =
            self.columns.div_ceil(self.columns.div_ceil(most).max(1)).next_multiple_of(8).clamp(1, most);
        if self.entries.len() < kept {
            self.entries.resize(kept, 0);
        }
        let segments = self.segments();
        if self.starts.len() <= segments {
            self.starts.resize(segments + 1, 0);
        }
        self.starts[segments] = kept;
        let shape = Shape { rows: self.rows, columns: self.columns, block: self.block };
        let (starts, entries) = (&mut self.starts[..segments], &mut self.entries[..kept]);
        Compress { weights, mask, shape, first: 0, base: 0, starts, entries }.run_on(engine);
    }
}

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    block: usize,
}

/// The compression of consecutive blocks.
struct Compress<'a> {
    weights: &'a [f32],
    mask: &'a PackedMask,
    shape: Shape,
    /// The first column.
    first: usize,
    /// How many weights are kept before it.
    base: usize,
    /// Of these blocks.
    starts: &'a mut [usize],
    entries: &'a mut [Entry],
}

impl Compress<'_> {
    /// Splits the blocks in two as long as there are threads for both halves.
    fn run_on(self, engine: Engine) {
        let Shape { rows, columns, block } = self.shape;
        let blocks = self.starts.len() / rows.max(1);
        if engine.threads() == 1 || blocks < 2 {
            return engine.backend().run(self);
        }
        let middle = self.first + blocks / 2 * block;
        let kept: usize =
            (0..rows).map(|row| self.mask.kept_in(row * columns + self.first, middle - self.first)).sum();
        let (starts, right_starts) = self.starts.split_at_mut(blocks / 2 * rows);
        let (entries, right_entries) = self.entries.split_at_mut(kept);
        let left = Compress { starts, entries, ..self };
        let right = Compress {
            first: middle,
            base: self.base + kept,
            starts: right_starts,
            entries: right_entries,
            ..left
        };
        engine.join(|| left.run_on(engine), || right.run_on(engine));
    }
}

impl Kernel for Compress<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Shape { rows, columns, block } = self.shape;
        // As many whole vectors as a word of the mask has bits for.
        let group = 64 / S::LANES * S::LANES;
        let mut end = 0;
        for (first, starts) in (self.first..columns).step_by(block).zip(self.starts.chunks_mut(rows.max(1))) {
            let width = block.min(columns - first);
            for (row, start) in starts.iter_mut().enumerate() {
                *start = self.base + end;
                let at = row * columns + first;
                let weights = &self.weights[at..at + width];
                // Whole groups have a length that the compiler knows.
                let groups = weights.chunks_exact(group);
                let rest = groups.remainder();
                for (index, weights) in groups.enumerate() {
                    let (column, room) = (index * group, &mut self.entries[end..]);
                    end += compress(s, weights, self.mask, at, column, 3 * columns, room);
                }
                if !rest.is_empty() {
                    let (column, room) = (width - rest.len(), &mut self.entries[end..]);
                    end += compress(s, rest, self.mask, at, column, 3 * columns, room);
                }
            }
        }
    }
}

/// Puts the kept ones of up to 64 weights to the front of `room`, and returns how many. They are those from `column` on of a piece
/// of a row whose first bit in the mask is `at`. May write anything up to the 64th entry. `ahead` is how many weights further on
/// those are that are needed soon.
///
/// Two things count. One is the number of instructions: all of a word's entries begin at the number of bits set below them, which
/// the compiler knows to be within `room`. With a check for each vector 784×100 weights took 0.79 cycles each, this 0.68 (AVX-512,
/// a Xeon with 2 MiB of L2). The other is what lies in L2 and beyond. Short pieces of rows far apart are no stream to the
/// processor's prefetching: Zen 4, cycles a weight at 784×500 and 4096×4096, s = 0.5, weights three rows ahead into L1 0.73 and
/// 1.53, two 0.75 and 1.64, two into L2 0.79 and 1.92. Entries are a stream, yet asking for a line of them per line of weights,
/// which is what is written at s = 0.5, saves more: on that Xeon, 784×500, s = 0.3 / 0.5 / 0.8, 1.39 / 1.04 / 0.84 instead of
/// 1.51 / 1.24 / 0.84, be they 32 or 1024 entries ahead. (Without both 1.56 / 1.31 / 1.03.)
#[inline(always)]
fn compress<S: Simd>(
    s: S,
    weights: &[f32],
    mask: &PackedMask,
    at: usize,
    column: usize,
    ahead: usize,
    room: &mut [Entry],
) -> usize {
    let word = mask.word(at + column) & (u64::MAX >> (64 - weights.len()));
    let kept = word.count_ones() as usize;
    let Some(room) = room.first_chunk_mut::<64>() else {
        compress_last(weights, word, column, room);
        return kept;
    };
    let first = s.splat_i32(column as i32);
    for i in (0..64 / S::LANES * S::LANES).step_by(S::LANES) {
        let Some(weights) = weights.get(i..).filter(|weights| !weights.is_empty()) else { break };
        if i % (LINE / size_of::<f32>()) == 0 {
            s.prefetch::<true, _>(weights.as_ptr().wrapping_add(ahead));
            s.prefetch::<true, _>(room.as_ptr().wrapping_add(128 + i / 2));
        }
        let values = if weights.len() < S::LANES { s.load_partial(weights) } else { s.load(weights) };
        let bits = (word >> i) as u32 & (u32::MAX >> (32 - S::LANES));
        let before = (word & !(u64::MAX << i)).count_ones() as usize;
        s.compress_entries(s.add_i32(first, s.splat_i32(i as i32)), values, bits, &mut room[before..]);
    }
    kept
}

/// [`compress`], without writing more than what is kept: at the end of all entries there may be no room.
#[cold]
fn compress_last(weights: &[f32], mut word: u64, first: usize, room: &mut [Entry]) {
    for to in room {
        if word == 0 {
            break;
        }
        let column = word.trailing_zeros() as usize;
        *to = entry(first + column, weights[column]);
        word &= word - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::masked_matmul::{Activation, Workspace, forward};

    #[test]
    fn another_path_waits_for_the_next_mask() {
        let engine = Engine::new(Backend::best());
        let product = |layer: &MaskedWeights| {
            let mut y = [f32::NAN];
            let workspace = &mut Workspace::default();
            forward(engine, layer, &[1.0, 1.0], 1, Activation::Identity, &mut y, workspace).unwrap();
            y[0]
        };
        let first = PackedMask::from_fn(2, |i| i == 0);
        for path in [Path::Sparse, Path::Dense] {
            let mut layer = MaskedWeights::new(engine, &[1.0, 2.0], 1, 2).unwrap().with_path(path);
            assert_eq!(product(&layer), 3.0);
            layer.set_mask(engine, &first).unwrap();
            for other in [Path::Dense, Path::Sparse, Path::Auto] {
                layer = layer.with_path(other);
                assert_eq!(product(&layer), 1.0);
            }
        }
    }

    #[test]
    fn weights_compressed_on_one_backend_serve_every_other() {
        let (rows, columns, batch) = (21, 600, 150);
        let weights: Vec<f32> = (0..rows * columns).map(|i| (i * 37 % 101) as f32 / 7.0 - 6.0).collect();
        let x: Vec<f32> = (0..columns * batch).map(|i| (i * 53 % 97) as f32 / 5.0 - 9.0).collect();
        for modulus in [2, 3, 10] {
            let mask = PackedMask::from_fn(rows * columns, |i| i * 7 % modulus == 0);
            let mut first: Option<Vec<f32>> = None;
            for of in Backend::available() {
                let mut layer = MaskedWeights::new(Engine::new(of), &weights, rows, columns).unwrap();
                layer = layer.with_path(Path::Sparse);
                layer.set_mask(Engine::new(of), &mask).unwrap();
                for on in Backend::available() {
                    let mut y = vec![f32::NAN; rows * batch];
                    let (engine, workspace) = (Engine::new(on), &mut Workspace::default());
                    forward(engine, &layer, &x, batch, Activation::Identity, &mut y, workspace).unwrap();
                    let expected = first.get_or_insert_with(|| y.clone());
                    assert_eq!(*expected, y, "{} for {}", on.name(), of.name());
                }
            }
        }
    }

    #[test]
    fn entries_are_the_kept_weights_in_order() {
        for backend in Backend::available() {
            let engine = Engine::new(backend);
            for (rows, columns) in [(1, 1), (3, 7), (5, 96), (2, 97), (7, 193), (11, 400), (0, 5), (5, 0)] {
                let weights: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 0.5).collect();
                let mut layer = MaskedWeights::with_input_gradient(engine, &weights, rows, columns).unwrap();
                layer = layer.with_path(Path::Sparse);
                for modulus in [1, 2, 3, 10, 97] {
                    let mask = PackedMask::from_fn(rows * columns, |i| i * 7 % modulus == 0);
                    layer.set_mask(engine, &mask).unwrap();
                    assert_eq!(layer.kept(), mask.kept());
                    check(&layer.compressed, &|r, c| {
                        mask.get(r * columns + c).then(|| weights[r * columns + c])
                    });
                    let transpose = &layer.transpose.as_ref().unwrap().compressed;
                    check(transpose, &|r, c| mask.get(c * columns + r).then(|| weights[c * columns + r]));
                }
            }
        }
    }

    fn entries(rows: &CompressedRows, block: usize, row: usize) -> Vec<(usize, f32)> {
        let Block { starts, entries, .. } = rows.block_rows(block, row..row + 1);
        entries[starts[0]..starts[1]].iter().map(|&entry| (column(entry), value(entry))).collect()
    }

    fn check(rows: &CompressedRows, weight: &dyn Fn(usize, usize) -> Option<f32>) {
        for b in 0..rows.columns.div_ceil(rows.block) {
            for r in 0..rows.rows {
                let found = entries(rows, b, r);
                let length = rows.block.min(rows.columns - b * rows.block);
                let expected: Vec<_> =
                    (0..length).filter_map(|c| weight(r, b * rows.block + c).map(|w| (c, w))).collect();
                assert_eq!(found, expected, "{}×{} block {b} row {r}", rows.rows, rows.columns);
            }
        }
    }

    #[cfg(feature = "rayon")]
    #[test]
    fn threads_change_nothing() {
        let (rows, columns) = (13, 1000);
        let weights: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        for modulus in [1, 2, 11, 100_000] {
            let mask = PackedMask::from_fn(weights.len(), |i| i % modulus == 0);
            for threads in [2, 3, 7] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let engine = Engine::new(Backend::best()).parallel();
                let layer = MaskedWeights::new(engine, &weights, rows, columns).unwrap();
                let mut layer = layer.with_path(Path::Sparse);
                pool.install(|| layer.set_mask(engine, &mask)).unwrap();
                check(&layer.compressed, &|r, c| mask.get(r * columns + c).then(|| weights[r * columns + c]));
            }
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let engine = Engine::new(Backend::best());
        assert!(MaskedWeights::new(engine, &[0.0; 5], 2, 3).is_err());
        assert!(MaskedWeights::with_input_gradient(engine, &[0.0; 5], usize::MAX, 3).is_err());
        let mut layer = MaskedWeights::new(engine, &[0.0; 6], 2, 3).unwrap();
        assert!(layer.set_mask(engine, &PackedMask::all_kept(7)).is_err());
    }
}
