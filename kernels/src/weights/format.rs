//! The choice of a format, by one table.

use super::options::{MaskReuse, PrepareOptions, Strategy};
use super::stored::Storage;
use crate::engine::Engine;
use crate::simd::{Kernel, Simd};

/// How prepared weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// All weights: row-major, or for up to 32 columns by panels of 16 rows.
    Dense,
    /// Kept weights by cache block.
    Blocked,
    /// Kept weights of eight rows, interleaved.
    Interleaved,
    /// Kept weights by panels of 16 rows, with one bit for each weight.
    Bitmask,
}

/// The table of [`Strategy::Auto`]: the largest number of columns of a row, and percentages kept. From the first four on the dense
/// format is faster: for masks of many products with weights that stay in L2, with more weights ([`FAR`]), and with bf16; and for a
/// mask of one product. From the last on up to the second, a bit mask is faster where one instruction expands lanes. Measurements:
/// docs/tuning.md, "Choice of the format".
///
/// Dense or sparse can change the sign of a zero, so that choice is the same on every CPU.
const PERCENTAGES: [(usize, [u64; 4], u64); 8] = [
    (1, [22, 66, 25, 20], 30),
    (2, [22, 66, 25, 30], 30),
    (4, [22, 66, 22, 35], 30),
    (8, [30, 66, 28, 35], 45),
    (16, [55, 65, 48, 35], 100),
    (32, [55, 70, 55, 60], 100),
    (63, [60, 60, 60, 60], 100),
    (usize::MAX, [85, 85, 85, 85], 100),
];

/// Above this number, dense weights do not stay in L2: 3 MiB.
const FAR: usize = 3 << 18;

/// Maximum number of columns of the formats for few columns. With more, the columns of one output fill the registers, and give
/// enough chains.
const FEW_COLUMNS: usize = 32;

/// Fewer rows are not stored as panels, because too much would be padding.
pub(super) const LEAST_PANEL: usize = 8;

/// Whether formats for few columns are used. For a single product the others are better, because they are built faster.
pub(super) fn for_few_columns(options: &PrepareOptions) -> bool {
    options.max_batch <= FEW_COLUMNS && options.reuse == MaskReuse::Many
}

/// [`Tiles::expands`](crate::tiles::Tiles::expands) of a backend.
struct Expands;

impl Kernel for Expands {
    type Out = bool;
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> bool {
        S::TILES.expands
    }
}

/// Chooses a format for `kept` of `weights` weights.
pub(super) fn choose(engine: Engine, weights: usize, kept: usize, options: &PrepareOptions) -> Format {
    let &(_, [near, far, bf16, once], bitmask) = PERCENTAGES
        .iter()
        .find(|(columns, ..)| options.max_batch <= *columns)
        .expect("the last one is the most that there are");
    let is_far = weights > FAR;
    let dense = match (options.reuse, options.storage) {
        (MaskReuse::Once, _) => once,
        (MaskReuse::Many, Storage::Bf16) => bf16,
        (MaskReuse::Many, Storage::F32) if is_far => far,
        (MaskReuse::Many, Storage::F32) => near,
    };
    let is_kept = |percent: u64| kept as u128 * 100 >= weights as u128 * u128::from(percent);
    let few = for_few_columns(options);
    match options.strategy {
        Strategy::Dense => Format::Dense,
        Strategy::Auto if is_kept(dense) => Format::Dense,
        Strategy::Bitmask => Format::Bitmask,
        Strategy::Auto if few && is_far && is_kept(bitmask) && engine.backend().run(Expands) => {
            Format::Bitmask
        }
        _ if few => Format::Interleaved,
        _ => Format::Blocked,
    }
}
