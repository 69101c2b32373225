//! Prepared weights: made once, rebuilt for a new mask.
//!
//! Each format is a file of this folder: it defines what is stored, builds it from weights and mask, and offers it to the
//! products in [`matmul`](crate::matmul). No format imports another. [`format`](mod@format) chooses between them by one table.
//!
//! | format | what it stores | for |
//! |---|---|---|
//! | [`blocked`] | value and column of each kept weight, by cache block | sparse products with more columns, or masks used once |
//! | [`interleaved`] | values and columns of eight rows, interleaved | sparse products with up to 32 columns |
//! | [`panels`] | all weights by panels of 16 rows, zeros for the removed ones | dense products with up to 32 columns |
//! | [`bitmask`] | values of the kept weights by panels of 16 rows, 16 bits for each column | sparse products with up to 8 columns, many weights kept |
//! | [`dense`] | all weights, row-major, zeros for the removed ones | dense products with more columns, or masks used once |
//! | `conv_taps` | value and offset of each kept weight of a convolution | [`conv2d`](crate::conv2d) |
//!
//! The input gradient multiplies by the transpose, which is prepared from transposed weights and a transposed mask. So both
//! products share their code.

pub(crate) mod bitmask;
mod blocked;
mod bytes;
pub(crate) mod conv_taps;
mod dense;
pub(crate) mod entry;
mod format;
pub(crate) mod interleaved;
mod options;
pub(crate) mod panels;
pub(crate) mod stored;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use blocked::{BlockRows, Blocked};
pub use format::Format;
pub(crate) use interleaved::Interleaved;
pub use options::{MaskReuse, PrepareOptions, Strategy};
pub use stored::Storage;
pub(crate) use tile::{CacheTile, KC_MAX, KC_USUAL, NC_MAX};

use crate::engine::Engine;
use crate::error::KernelError;
use crate::mask::{PackedMask, PackedMaskRef};
use crate::panel::{self, Block};
use crate::simd::{Kernel, Simd};
use crate::view::MatRef;
use bitmask::Bitmask;
use dense::Dense;
use entry::Entry;
use format::{LEAST_PANEL, choose, for_few_columns};
use panels::Panels;

/// Weights `[outputs, inputs]`, with or without a mask, prepared for products.
///
/// ```
/// use slth_kernels::{Engine, MatRef, PackedMask, PackedWeights, PrepareOptions};
/// let engine = Engine::serial();
/// let weights = MatRef::row_major(&[1.0, 2.0, 3.0, 4.0], 2, 2)?;
/// let mask = PackedMask::from_fn(4, |i| i != 1);
/// let mut layer = PackedWeights::prepare(engine, weights, Some(&mask), &PrepareOptions::default())?;
/// assert_eq!((layer.outputs(), layer.inputs(), layer.kept()), (2, 2, 3));
/// layer.rebuild(engine, &PackedMask::from_fn(4, |i| i == 0))?;
/// assert_eq!(layer.kept(), 1);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PackedWeights {
    options: PrepareOptions,
    kept: usize,
    /// Without it all weights are kept.
    mask: Option<PackedMask>,
    forward: Oriented,
    /// For the input gradient, unless the format is dense.
    transpose: Option<Transpose>,
}

/// The transposed weights under the transposed mask.
#[derive(Clone, Debug)]
struct Transpose {
    mask: PackedMask,
    weights: Oriented,
}

/// Weights in one orientation.
#[derive(Clone, Debug)]
struct Oriented {
    rows: usize,
    columns: usize,
    /// All weights, row-major; empty if they were dropped.
    source: Vec<f32>,
    packed: Packed,
}

#[derive(Clone, Debug)]
enum Packed {
    /// All weights are kept, and products read the source.
    Source,
    Dense(Dense),
    Panels(Panels),
    Blocked(Blocked),
    Interleaved(Interleaved),
    Bitmask(Bitmask),
}

/// The weights as a product reads them.
pub(crate) enum Operand<'a> {
    /// All weights, zeros for the removed ones.
    Dense(MatRef<'a>),
    Panels(&'a Panels),
    /// The kept weights.
    Blocked(&'a Blocked),
    Interleaved(&'a Interleaved),
    Bitmask(&'a Bitmask),
}

impl PackedWeights {
    /// Prepares `weights` `[outputs, inputs]`: those that `mask` keeps, or all. Bit `o * inputs + i` of the mask is the weight
    /// from input i to output o.
    ///
    /// Takes one pass over weights and mask, and one more with [`input_gradient`](PrepareOptions::input_gradient). Holds 8 bytes
    /// for each kept weight, 6 in the interleaved format, 4 and one bit for each weight with a bit mask, or 4 for each weight in a
    /// dense format; fewer with bf16 [`storage`](PrepareOptions::storage). The source ([`keep_source`](PrepareOptions::keep_source)) takes 4 bytes for each
    /// weight.
    ///
    /// ```
    /// use slth_kernels::{Engine, MatRef, PackedMask, PackedWeights, PrepareOptions};
    /// let weights: Vec<f32> = (0..100 * 40).map(|i| i as f32).collect();
    /// let view = MatRef::row_major(&weights, 100, 40)?;
    /// let tenth = PackedMask::from_fn(weights.len(), |i| i % 10 == 0);
    /// let one_input_at_a_time = PrepareOptions::default().max_batch(1);
    /// let layer = PackedWeights::prepare(Engine::detect()?, view, Some(&tenth), &one_input_at_a_time)?;
    /// assert_eq!((layer.outputs(), layer.inputs(), layer.kept()), (100, 40, 400));
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    ///
    /// # Errors
    /// When the mask has another number of weights, or there are more weights than memory could hold (a view that repeats its
    /// elements).
    pub fn prepare(
        engine: Engine,
        weights: MatRef<'_>,
        mask: Option<&PackedMask>,
        options: &PrepareOptions,
    ) -> Result<Self, KernelError> {
        let [outputs, inputs] = weights.shape();
        let count = KernelError::product("weights", [outputs, inputs])?;
        if count > isize::MAX as usize / size_of::<Entry>() {
            return Err(KernelError::Overflow { what: "weights" });
        }
        if let Some(mask) = mask {
            KernelError::check_len("mask", &[outputs, inputs], mask.len())?;
        }
        let mut new = Self {
            options: *options,
            kept: 0,
            mask: mask.cloned(),
            forward: Oriented::new(outputs, inputs),
            transpose: options.input_gradient.then(|| Transpose {
                mask: PackedMask::none_kept(0),
                weights: Oriented::new(inputs, outputs),
            }),
        };
        new.set_weights(engine, weights)?;
        Ok(new)
    }

    /// Sets another mask. Reuses every buffer: reallocates only when the number of kept weights or of blocks exceeds its previous
    /// maximum, or the format changes. O(outputs · inputs).
    ///
    /// ```
    /// use slth_kernels::{Engine, MaskReuse, MatRef, PackedMask, PackedWeights, PrepareOptions};
    /// let engine = Engine::detect()?;
    /// let weights = MatRef::row_major(&[1.0, 2.0, 3.0, 4.0], 2, 2)?;
    /// // For training, where each mask serves one product.
    /// let options = PrepareOptions::default().reuse(MaskReuse::Once);
    /// let mut layer = PackedWeights::prepare(engine, weights, None, &options)?;
    /// layer.rebuild(engine, &PackedMask::from_fn(4, |i| i % 2 == 0))?;
    /// assert_eq!(layer.to_dense(), [1.0, 0.0, 3.0, 0.0]);
    /// layer.rebuild(engine, &PackedMask::from_fn(4, |i| i == 1))?;
    /// assert_eq!(layer.to_dense(), [0.0, 2.0, 0.0, 0.0]);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    ///
    /// # Errors
    /// When the mask has another number of weights, or the source was not kept ([`NoSource`](KernelError::NoSource)).
    pub fn rebuild<'m>(
        &mut self,
        engine: Engine,
        mask: impl Into<PackedMaskRef<'m>>,
    ) -> Result<(), KernelError> {
        let mask = mask.into();
        KernelError::check_len("mask", &[self.outputs(), self.inputs()], mask.len())?;
        if !self.options.keep_source {
            return Err(KernelError::NoSource);
        }
        match &mut self.mask {
            Some(own) => own.copy_from(mask),
            none => *none = Some(mask.to_owned()),
        }
        self.build(engine, None);
        Ok(())
    }

    /// Sets other weights of the same shape; the mask stays. O(outputs · inputs).
    ///
    /// # Errors
    /// When the shape differs.
    pub fn set_weights(&mut self, engine: Engine, weights: MatRef<'_>) -> Result<(), KernelError> {
        KernelError::check_shape("weights", [self.outputs(), self.inputs()], weights.shape())?;
        // A source that is not kept is read in place.
        let readable = !self.options.keep_source && self.options.storage == Storage::F32;
        let borrowed = weights.as_slice().filter(|_| readable);
        if borrowed.is_none() {
            self.forward.set_source(engine, weights, self.options.storage);
        }
        if let Some(transpose) = &mut self.transpose {
            // Formats that need a transposed copy rebuild it.
            transpose.weights.source.clear();
        }
        self.build(engine, borrowed);
        Ok(())
    }

    /// Builds the format that the table chooses from the mask and the source: the stored one, or else `borrowed`, row-major.
    fn build(&mut self, engine: Engine, borrowed: Option<&[f32]>) {
        let Self { options, kept, mask, forward, transpose } = self;
        let weights = forward.rows * forward.columns;
        *kept = mask.as_ref().map_or(weights, |mask| mask.view().kept_on(engine));
        let format = choose(engine, weights, *kept, options);
        if format != Format::Dense && mask.is_none() {
            *mask = Some(PackedMask::all_kept(weights));
        }
        forward.build(engine, borrowed, mask.as_ref().map(PackedMask::view), *kept, format, options);
        if let Some(Transpose { mask: across, weights }) = transpose {
            if format == Format::Dense && !for_few_columns(options) {
                // A dense product reads either orientation in place.
                *weights = Oriented::new(weights.rows, weights.columns);
                *across = PackedMask::none_kept(0);
            } else {
                if weights.source.is_empty() {
                    let source = view(borrowed.unwrap_or(&forward.source), forward.rows, forward.columns);
                    weights.set_source(engine, source.t(), Storage::F32);
                }
                let across = mask.as_ref().map(|mask| {
                    if across.len() != mask.len() {
                        *across = PackedMask::none_kept(mask.len());
                    }
                    mask.view().transpose_into(forward.rows, forward.columns, across);
                    across.view()
                });
                weights.build(engine, None, across, *kept, format, options);
            }
        }
        if !options.keep_source {
            forward.drop_source();
            if let Some(transpose) = transpose {
                transpose.weights.drop_source();
                transpose.mask = PackedMask::none_kept(0);
            }
        }
    }

    /// Outputs (rows).
    pub fn outputs(&self) -> usize {
        self.forward.rows
    }

    /// Inputs (columns).
    pub fn inputs(&self) -> usize {
        self.forward.columns
    }

    /// Number of weights kept.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let mask = |mask: &PackedMask| size_of_val(mask.words());
        self.mask.as_ref().map_or(0, mask)
            + self.forward.bytes()
            + self.transpose.as_ref().map_or(0, |transpose| mask(&transpose.mask) + transpose.weights.bytes())
    }

    /// How the weights are stored.
    pub fn format(&self) -> Format {
        match &self.forward.packed {
            Packed::Source | Packed::Dense(_) | Packed::Panels(_) => Format::Dense,
            Packed::Blocked(_) => Format::Blocked,
            Packed::Interleaved(_) => Format::Interleaved,
            Packed::Bitmask(_) => Format::Bitmask,
        }
    }

    /// The mask; `None` only while all weights are kept and stored densely without one.
    pub fn mask(&self) -> Option<&PackedMask> {
        self.mask.as_ref()
    }

    /// The weights `[outputs, inputs]`, row-major, with 0 for the removed ones. O(outputs · inputs).
    ///
    /// ```
    /// use slth_kernels::{Engine, MatRef, PackedMask, PackedWeights, PrepareOptions};
    /// let weights = MatRef::row_major(&[1.0, 2.0], 1, 2)?;
    /// let mask = PackedMask::from_fn(2, |i| i == 1);
    /// let layer = PackedWeights::prepare(Engine::serial(), weights, Some(&mask), &PrepareOptions::default())?;
    /// assert_eq!((layer.mask(), layer.to_dense()), (Some(&mask), vec![0.0, 2.0]));
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn to_dense(&self) -> Vec<f32> {
        self.forward.kept_in_place()
    }

    /// The options that the weights were prepared with.
    pub fn options(&self) -> &PrepareOptions {
        &self.options
    }

    /// The operand of [`forward`](crate::matmul::forward).
    pub(crate) fn operand(&self) -> Operand<'_> {
        self.forward.operand()
    }

    /// The operand of [`input_gradient`](crate::matmul::input_gradient).
    pub(crate) fn transposed_operand(&self) -> Result<Operand<'_>, KernelError> {
        let transpose = self.transpose.as_ref().ok_or(KernelError::NoInputGradient)?;
        Ok(match self.forward.operand() {
            Operand::Dense(weights) if !for_few_columns(&self.options) => Operand::Dense(weights.t()),
            _ => transpose.weights.operand(),
        })
    }
}

impl Oriented {
    fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, source: Vec::new(), packed: Packed::Source }
    }

    fn set_source(&mut self, engine: Engine, weights: MatRef<'_>, storage: Storage) {
        let len = self.rows * self.columns;
        if self.source.capacity() < len {
            // Zeroed by the system, which saves a pass over the memory.
            self.source = vec![0.0; len];
        } else {
            self.source.resize(len, 0.0);
        }
        copy(engine, weights, &mut self.source, storage);
    }

    fn source_view(&self) -> MatRef<'_> {
        view(&self.source, self.rows, self.columns)
    }

    /// Builds from `borrowed`, all weights, row-major, or else from the stored source.
    fn build(
        &mut self,
        engine: Engine,
        borrowed: Option<&[f32]>,
        mask: Option<PackedMaskRef<'_>>,
        kept: usize,
        format: Format,
        options: &PrepareOptions,
    ) {
        let Self { rows, columns, source: held, packed } = self;
        let source = borrowed.unwrap_or(held);
        match (format, mask) {
            (Format::Dense, mask) if for_few_columns(options) && *rows >= LEAST_PANEL => {
                if !matches!(packed, Packed::Panels(_)) {
                    *packed = Packed::Panels(Panels::new(*rows, *columns, options.storage));
                }
                let Packed::Panels(panels) = packed else { unreachable!("made just now") };
                panels.build(engine, view(source, *rows, *columns), mask);
            }
            (Format::Dense, None) => {
                *packed = Packed::Source;
                if let Some(weights) = borrowed {
                    self.set_source(engine, view(weights, self.rows, self.columns), Storage::F32);
                }
            }
            (Format::Dense, Some(mask)) => {
                if !matches!(packed, Packed::Dense(_)) {
                    *packed = Packed::Dense(Dense::default());
                }
                let Packed::Dense(dense) = packed else { unreachable!("made just now") };
                dense.build(engine, source, mask);
            }
            (_, None) => unreachable!("a sparse format has a mask"),
            (Format::Blocked, Some(mask)) => {
                if !matches!(packed, Packed::Blocked(_)) {
                    *packed = Packed::Blocked(Blocked::new(*rows, *columns));
                }
                let Packed::Blocked(blocked) = packed else { unreachable!("made just now") };
                blocked.build(engine, source, mask, kept);
            }
            (Format::Interleaved, Some(mask)) => {
                if !matches!(packed, Packed::Interleaved(_)) {
                    *packed = Packed::Interleaved(Interleaved::new(*rows, *columns, options.storage));
                }
                let Packed::Interleaved(interleaved) = packed else { unreachable!("made just now") };
                interleaved.build(engine, source, mask, kept);
            }
            (Format::Bitmask, Some(mask)) => {
                if !matches!(packed, Packed::Bitmask(_)) {
                    *packed = Packed::Bitmask(Bitmask::new(*rows, *columns, options.storage));
                }
                let Packed::Bitmask(bitmask) = packed else { unreachable!("made just now") };
                bitmask.build(engine, view(source, *rows, *columns), mask, kept);
            }
        }
    }

    /// Frees the source where products do not need it.
    fn drop_source(&mut self) {
        if !matches!(self.packed, Packed::Source) {
            self.source = Vec::new();
        }
    }

    fn bytes(&self) -> usize {
        let packed = match &self.packed {
            Packed::Source => 0,
            Packed::Dense(dense) => dense.bytes_held(),
            Packed::Panels(panels) => panels.bytes_held(),
            Packed::Blocked(blocked) => blocked.bytes_held(),
            Packed::Interleaved(interleaved) => interleaved.bytes_held(),
            Packed::Bitmask(bitmask) => bitmask.bytes_held(),
        };
        packed + self.source.capacity() * size_of::<f32>()
    }

    fn operand(&self) -> Operand<'_> {
        match &self.packed {
            Packed::Source => Operand::Dense(self.source_view()),
            Packed::Dense(dense) => Operand::Dense(view(dense.weights(), self.rows, self.columns)),
            Packed::Panels(panels) => Operand::Panels(panels),
            Packed::Blocked(blocked) => Operand::Blocked(blocked),
            Packed::Interleaved(interleaved) => Operand::Interleaved(interleaved),
            Packed::Bitmask(bitmask) => Operand::Bitmask(bitmask),
        }
    }
}

fn view(weights: &[f32], rows: usize, columns: usize) -> MatRef<'_> {
    MatRef::row_major(weights, rows, columns).expect("as many weights as rows times columns")
}

/// Rows that a thread copies at a time: enough that a transposing copy reads several cache lines of a page at once.
const STRIP: usize = 256;

/// Copies a matrix into row-major memory, rounded.
fn copy(engine: Engine, from: MatRef<'_>, to: &mut [f32], storage: Storage) {
    let width = from.cols();
    if to.is_empty() {
        return;
    }
    engine.for_work(to.len()).for_each_chunk(to, STRIP * width, |strip, to| {
        let block = Block { row: strip * STRIP, rows: to.len() / width, col: 0, cols: width };
        engine.backend().run(Copy { from, block, to, storage });
    });
}

struct Copy<'a> {
    from: MatRef<'a>,
    block: Block,
    to: &'a mut [f32],
    storage: Storage,
}

impl Kernel for Copy<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, block, to, storage } = self;
        panel::pack(s, from, block, to, block.cols);
        if storage != Storage::F32 {
            to.iter_mut().for_each(|weight| *weight = storage.round(*weight));
        }
    }
}
