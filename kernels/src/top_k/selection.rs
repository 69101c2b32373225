//! What is selected, and the threshold that a selection has found.

use super::keys::{self, Order};
use crate::error::KernelError;

/// What [`Selector::select`](super::Selector::select) keeps.
///
/// ```
/// use slth_kernels::top_k::{Order, Selection};
/// let tenth = Selection::largest(100, Order::Magnitude);
/// assert_ne!(tenth, Selection::smallest(100, Order::Magnitude));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    pub(super) keep: usize,
    pub(super) order: Order,
    pub(super) smallest: bool,
    pub(super) hint: Option<Threshold>,
}

impl Selection {
    /// The `keep` largest.
    pub const fn largest(keep: usize, order: Order) -> Self {
        Self { keep, order, smallest: false, hint: None }
    }

    /// The `keep` smallest: those that remain without the n − `keep` largest. Of equal scores the lower index is kept.
    pub const fn smallest(keep: usize, order: Order) -> Self {
        Self { keep, order, smallest: true, hint: None }
    }

    /// The same, starting from the threshold of an earlier selection. No threshold changes the result; where the scores have
    /// moved little since, the selection takes about a third less time.
    ///
    /// ```
    /// use slth_kernels::{Engine, PackedMask, top_k::{Order, Selection, Selector}};
    /// let engine = Engine::detect()?;
    /// let mut selector = Selector::default();
    /// let mut masks = [PackedMask::none_kept(1000)];
    /// let mut scores: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
    /// let keep_half = Selection::largest(500, Order::Magnitude);
    /// let mut threshold = selector.select(engine, &[&scores], keep_half, &mut masks)?;
    /// for step in 0..3 {
    ///     scores[step] += 0.01;
    ///     threshold = selector.select(engine, &[&scores], keep_half.near(threshold), &mut masks)?;
    ///     assert_eq!(masks[0].kept(), 500);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn near(self, threshold: Threshold) -> Self {
        Self { hint: Some(threshold), ..self }
    }
}

/// How many of `n` scores are kept at `sparsity`, the fraction removed: all but int(s · n), truncated in f64. Below 0 and NaN count as 0,
/// above 1 as 1: so 90, for 90 %, keeps nothing.
///
/// ```
/// use slth_kernels::top_k::keep_at;
/// assert_eq!(keep_at(0.9, 784 * 500), 39_200);
/// assert_eq!((keep_at(0.0, 10), keep_at(0.25, 10), keep_at(1.0, 10)), (10, 8, 0));
/// ```
pub fn keep_at(sparsity: f64, n: usize) -> usize {
    n.saturating_sub((sparsity * n as f64) as usize)
}

/// Where a selection has cut the order by (key, index): at the first score of the upper part. That is the smallest score kept by
/// [`Selection::largest`], or the smallest one removed by [`Selection::smallest`].
///
/// ```
/// use slth_kernels::{Engine, PackedMask, top_k::{Order, Selector}};
/// let scores = [0.5, -2.0, 0.5, 0.1];
/// let mut mask = PackedMask::none_kept(4);
/// let threshold =
///     Selector::default().keep_largest(Engine::detect()?, &scores, 2, Order::Magnitude, &mut mask)?;
/// assert_eq!((threshold.value(), threshold.index()), (Some(0.5), Some(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threshold {
    pub(super) order: Order,
    /// Rank of that score; `None` when the upper part is empty.
    pub(super) rank: Option<u64>,
}

impl Threshold {
    /// Length of [`to_bytes`](Self::to_bytes).
    pub const BYTES: usize = 12;

    /// The score at the cut, in [`Order::Magnitude`] its magnitude; `None` when nothing lies above the cut.
    pub fn value(self) -> Option<f32> {
        self.rank.map(|rank| keys::score(self.order, keys::unrank(rank).0))
    }

    /// Its index; over several layers, counted through all of them.
    pub fn index(self) -> Option<usize> {
        self.rank.map(|rank| keys::unrank(rank).1 as usize)
    }

    /// This threshold as bytes, the same on every machine: a version (1), the order (0: magnitude, 1: signed), whether there is a
    /// score (0 or 1), a zero; then, little-endian, the score as an `f32` and its index as a `u32`, both 0 where there is none.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let order = match self.order {
            Order::Magnitude => 0,
            Order::Signed => 1,
        };
        let mut bytes = [0; Self::BYTES];
        bytes[..3].copy_from_slice(&[VERSION, order, u8::from(self.rank.is_some())]);
        if let Some((key, index)) = self.rank.map(keys::unrank) {
            bytes[4..8].copy_from_slice(&keys::score(self.order, key).to_bits().to_le_bytes());
            bytes[8..].copy_from_slice(&index.to_le_bytes());
        }
        bytes
    }

    /// The threshold that [`to_bytes`](Self::to_bytes) gave these bytes. Bytes from elsewhere are refused or are a threshold of
    /// some scores, which as a hint changes no result.
    ///
    /// ```
    /// use slth_kernels::{Engine, PackedMask, top_k::{Order, Selector, Threshold}};
    /// let mut mask = PackedMask::none_kept(3);
    /// let scores = [0.5, -2.0, 0.1];
    /// let threshold = Selector::default().keep_largest(Engine::serial(), &scores, 2, Order::Magnitude, &mut mask)?;
    /// assert_eq!(Threshold::from_bytes(&threshold.to_bytes()), Ok(threshold));
    /// assert!(Threshold::from_bytes(b"no threshold").is_err());
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    ///
    /// # Errors
    /// [`Malformed`](KernelError::Malformed) when `to_bytes` gives these bytes for no threshold.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KernelError> {
        Self::parse(bytes).ok_or(KernelError::Malformed { what: "threshold", why: "no selection gives them" })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[VERSION, order, present, 0, s0, s1, s2, s3, i0, i1, i2, i3] = bytes else { return None };
        let order = match order {
            0 => Order::Magnitude,
            1 => Order::Signed,
            _ => return None,
        };
        let (score, index) = (u32::from_le_bytes([s0, s1, s2, s3]), u32::from_le_bytes([i0, i1, i2, i3]));
        let rank = match present {
            0 if (score, index) == (0, 0) => None,
            // Not a NaN, nor a negative magnitude, nor an index that no selection has.
            1 if score << 1 <= (keys::INFINITE as u32) << 1
                && (order == Order::Signed || score >> 31 == 0)
                && index < u32::MAX =>
            {
                Some(keys::rank(keys::key_by(order, f32::from_bits(score)), index))
            }
            _ => return None,
        };
        Some(Self { order, rank })
    }
}

/// The first of a threshold's bytes.
const VERSION: u8 = 1;
