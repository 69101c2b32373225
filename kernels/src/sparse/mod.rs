//! Weights under a mask, compressed.
//!
//! [`rows`]: what is stored, and how the products walk it. [`compress`]: how it is made of weights and mask. [`slice`]: by how
//! many columns at once.
//!
//! The input gradient multiplies by the transpose. It is compressed a second time, from transposed weights and mask, so
//! that both products are the same walk; scattering instead would write every activation once per kept weight.
//!
//! Cost of a new mask: one pass over weights and mask per orientation; 8 bytes per kept weight and orientation. Where masks are
//! [used once](MaskedWeights::with_masks_used_once): one pass over the mask; 1 byte per kept weight and 4 per weight.

mod compress;
mod rows;
mod slice;

use rows::Layout;
pub(crate) use rows::{CompressedRows, Entry, Kept, KeptRow, KeptRows, LINE, column, entry, value};
pub(crate) use slice::{BLOCK_MOST, BLOCK_USUAL, PANEL_MOST, Slice};

use crate::engine::Engine;
use crate::error::ShapeError;
use crate::mask::PackedMask;

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
    /// Whether every product has a mask of its own, from the next mask on.
    used_once: bool,
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
            used_once: false,
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

    /// Says whether each mask is for one product, or one of each kind, as in edge-popup, from the next [`set_mask`](Self::set_mask)
    /// on. A new mask then costs about half, and a product more: a tenth at s = 0.5, a third at 0.95; at 128 columns both together
    /// take up to 14 % less, and hardly ever more. It takes 4 bytes per weight and 1 per kept one instead of 8 per kept one. The
    /// numbers are the same.
    ///
    /// It changes nothing without [`with_batch`](Self::with_batch) or for batches that are not 4 to 256, and where less than a
    /// seventh is kept of more than 2²⁰ weights.
    ///
    /// ```
    /// use slth_kernels::masked_matmul::{Activation, Workspace, forward};
    /// use slth_kernels::{Engine, MaskedWeights, PackedMask, Path};
    /// let engine = Engine::detect()?;
    /// let (x, mut y, mut workspace) = ([1.0; 2 * 4], [0.0; 4], Workspace::default());
    /// let layer = MaskedWeights::new(engine, &[1.0, 2.0], 1, 2)?;
    /// let mut layer = layer.with_path(Path::Sparse).with_batch(4).with_masks_used_once(true);
    /// for (kept, expected) in [(0, 1.0), (1, 2.0)] {
    ///     layer.set_mask(engine, &PackedMask::from_fn(2, |i| i == kept))?;
    ///     forward(engine, &layer, &x, 4, Activation::Identity, &mut y, &mut workspace)?;
    ///     assert_eq!(y, [expected; 4]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_masks_used_once(self, used_once: bool) -> Self {
        Self { used_once, ..self }
    }

    /// Puts another mask over the weights; bit `o * inputs + i` is the weight from input i to output o.
    /// Allocates only where what earlier masks needed does not suffice: for more kept weights, or for their first being stored in
    /// another way, which follows from the path, [`with_batch`](Self::with_batch), [`with_masks_used_once`](Self::with_masks_used_once), the
    /// engine's backend, and how many are kept.
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
        let layout = if self.batch <= FEW_COLUMNS {
            Layout::WholeRows
        } else if self.used_once && self.batch <= LISTED_COLUMNS && listing_pays(mask.len(), self.kept) {
            Layout::Listed
        } else {
            Layout::Copied
        };
        self.compressed.compress(engine, &self.weights, mask, self.kept, layout);
        if let Some(transpose) = &mut self.transpose {
            mask.transpose_into(outputs, inputs, &mut transpose.mask);
            let Transpose { weights, mask, compressed } = transpose;
            compressed.compress(engine, weights, mask, self.kept, layout);
        }
        Ok(())
    }

    /// Outputs (rows).
    pub fn outputs(&self) -> usize {
        self.compressed.rows()
    }

    /// Inputs (columns).
    pub fn inputs(&self) -> usize {
        self.compressed.columns()
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

/// Most columns of activations for which rows are left whole when asked for: a product with one is so fast then (0.37 ns
/// per kept weight in cache against 1.2 for up to 16 columns at once) that three of them take as long.
const FEW_COLUMNS: usize = 3;

/// Most columns of activations for which kept weights are listed: at 256 both ways take as long, where each mask is used once.
const LISTED_COLUMNS: usize = 256;

/// Whether kept weights are listed, where each mask is used once for that many columns. Not where all weights are far more to
/// read than the kept ones, from L3 or beyond. Time of product and compression listed, of that copied, 128 columns, Emerald Rapids,
/// AVX-512 / AVX2:
///
/// | | s = 0.5 | 0.8 | 0.9 | 0.95 |
/// |---|---|---|---|---|
/// | 1024×1024 | 0.9 / 0.9 | 0.86 / 0.9 | 0.9 / 1.0 | 0.9 / 1.0 |
/// | 2048×2048 | 0.86 / 0.9 | 0.9 / 0.92 | 0.88 / 1.01 | 0.93 / 1.03 |
/// | 4096×4096 | 0.75 / 0.9 | 0.75 / 0.97 | 0.9 / 1.3 | 1.05 / 1.07 |
fn listing_pays(weights: usize, kept: usize) -> bool {
    weights <= 1 << 20 || kept >= weights / 7
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
            let both = |backend| [(backend, false), (backend, true)];
            for (of, listed) in Backend::available().into_iter().flat_map(both) {
                let mut layer = MaskedWeights::new(Engine::new(of), &weights, rows, columns).unwrap();
                layer = layer.with_path(Path::Sparse).with_batch(batch).with_masks_used_once(listed);
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
    fn what_is_stored_are_the_kept_weights_in_order() {
        for backend in Backend::available() {
            let engine = Engine::new(backend);
            for (rows, columns) in [(1, 1), (3, 7), (5, 96), (2, 97), (7, 193), (11, 400), (0, 5), (5, 0)] {
                let weights: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 0.5).collect();
                let mut layer = MaskedWeights::with_input_gradient(engine, &weights, rows, columns).unwrap();
                layer = layer.with_path(Path::Sparse);
                for (modulus, listed) in [1, 2, 3, 10, 97].into_iter().flat_map(|m| [(m, false), (m, true)]) {
                    layer = layer.with_batch(LISTED_COLUMNS).with_masks_used_once(listed);
                    let mask = PackedMask::from_fn(rows * columns, |i| i * 7 % modulus == 0);
                    layer.set_mask(engine, &mask).unwrap();
                    assert_eq!(layer.kept(), mask.kept());
                    assert_eq!(layer.compressed.is_listed(), listed);
                    check(&layer.compressed, &|r, c| {
                        mask.get(r * columns + c).then(|| weights[r * columns + c])
                    });
                    let transpose = &layer.transpose.as_ref().unwrap().compressed;
                    check(transpose, &|r, c| mask.get(c * columns + r).then(|| weights[c * columns + r]));
                }
            }
        }
    }

    fn check(rows: &CompressedRows, weight: &dyn Fn(usize, usize) -> Option<f32>) {
        fn all(rows: impl KeptRows) -> Vec<(usize, f32)> {
            rows.iter().flat_map(|row| (0..row.count()).map(move |i| row.get(i))).collect()
        }
        let mut inputs = 0;
        for b in 0..rows.blocks() {
            for r in 0..rows.rows() {
                let block = rows.block_rows(b, r..r + 1);
                let found = match block.kept {
                    Kept::Copied(rows) => all(rows),
                    Kept::Listed(rows) => all(rows),
                };
                let expected: Vec<_> = (0..block.inputs)
                    .filter_map(|c| weight(r, block.first_input + c).map(|w| (c, w)))
                    .collect();
                assert_eq!(found, expected, "{}×{} block {b} row {r}", rows.rows(), rows.columns());
            }
            inputs += rows.block_rows(b, 0..0).inputs;
        }
        assert_eq!(inputs, rows.columns());
    }

    /// One layer in every form after every other, on whichever backend.
    #[test]
    fn forms_and_backends_follow_each_other() {
        let (rows, columns) = (23, 700);
        let weights: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 0.5).collect();
        let forms = [(Path::Sparse, 1, false), (Path::Sparse, 9, true), (Path::Dense, 9, true)];
        let forms = [forms.as_slice(), &[(Path::Sparse, 9, false), (Path::Sparse, 256, true)]].concat();
        let mut layer =
            MaskedWeights::with_input_gradient(Engine::new(Backend::best()), &weights, rows, columns)
                .unwrap();
        for step in 0..120_usize {
            let (path, batch, used_once) = forms[step * step % 11 % forms.len()];
            let backends = Backend::available();
            let engine = Engine::new(backends[step / 3 % backends.len()]);
            layer = layer.with_path(path).with_batch(batch).with_masks_used_once(used_once);
            let mask = PackedMask::from_fn(weights.len(), |i| i * 7 % (1 + step * 5 % 31) == 0);
            layer.set_mask(engine, &mask).unwrap();
            if path == Path::Dense {
                continue;
            }
            assert_eq!(layer.compressed.is_listed(), used_once);
            check(&layer.compressed, &|r, c| mask.get(r * columns + c).then(|| weights[r * columns + c]));
            let transpose = &layer.transpose.as_ref().unwrap().compressed;
            check(transpose, &|r, c| mask.get(c * columns + r).then(|| weights[c * columns + r]));
        }
    }

    #[test]
    fn listing_needs_a_reason() {
        let engine = Engine::new(Backend::best());
        let is_listed = |rows: usize, columns: usize, modulus: usize, batch: Option<usize>| {
            let layer = MaskedWeights::new(engine, &vec![1.0; rows * columns], rows, columns).unwrap();
            let layer = layer.with_path(Path::Sparse).with_masks_used_once(true);
            let mut layer = if let Some(batch) = batch { layer.with_batch(batch) } else { layer };
            layer.set_mask(engine, &PackedMask::from_fn(rows * columns, |i| i % modulus == 0)).unwrap();
            layer.compressed.is_listed()
        };
        assert!(is_listed(10, 10, 2, Some(4)) && is_listed(10, 10, 2, Some(256)));
        assert!(
            !is_listed(10, 10, 2, Some(3)) && !is_listed(10, 10, 2, Some(257)) && !is_listed(10, 10, 2, None)
        );
        assert!(is_listed(1024, 1025, 7, Some(4)) && !is_listed(1024, 1025, 8, Some(4)));
        assert!(is_listed(1024, 1024, 8, Some(4)));
    }

    #[cfg(feature = "rayon")]
    #[test]
    fn threads_change_nothing() {
        let (rows, columns) = (13, 1000);
        let weights: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        for modulus in [1, 2, 11, 100_000] {
            let mask = PackedMask::from_fn(weights.len(), |i| i % modulus == 0);
            for (threads, listed) in [(2, false), (3, true), (3, false), (7, true), (7, false)] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let engine = Engine::new(Backend::best()).parallel();
                let layer = MaskedWeights::new(engine, &weights, rows, columns).unwrap();
                let layer = layer.with_path(Path::Sparse).with_batch(LISTED_COLUMNS);
                let mut layer = layer.with_masks_used_once(listed);
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
