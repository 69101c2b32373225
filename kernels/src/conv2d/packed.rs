//! A convolution's weights, prepared once.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::conv_shape::Shape;
use crate::engine::Engine;
use crate::error::KernelError;
use crate::mask::PackedMask;
use crate::view::MatRef;
use crate::weights::PrepareOptions;
use crate::weights::conv_taps::{Direction, Filters, TapLists};

/// The batch that lists are made for if none is given.
const PLANNED_BATCH: usize = 64;

/// Approximate clock cycles per kept weight of making lists.
const CYCLES_TO_LIST: usize = 30;

/// The filters of a convolution, dense or pruned, prepared for [`forward`](super::forward) and, if asked for, for
/// [`input_gradient`](super::input_gradient).
///
/// Holds lists of the kept weights, the mask, and the weights: all of them, or only the kept ones without `keep_source`. Lists
/// take 8 bytes per kept weight, class of output column and direction; the columns at the edges, where the kernel overlaps the
/// padding, are separate classes. Lists are for one batch, `PrepareOptions::max_batch` or else 64. Calls with another batch make
/// their own lists once and keep them in the [`Workspace`](super::Workspace). `PrepareOptions::strategy` and `reuse` have no
/// effect here; `storage` rounds the filters, which are held as `f32`.
#[derive(Clone, Debug)]
pub struct PackedConv2d {
    shape: Shape,
    batch: usize,
    filters: Filters,
    /// Forward; then the input gradient, if prepared.
    lists: Vec<TapLists>,
    conv: u64,
    version: u64,
}

impl PackedConv2d {
    /// Prepares `filters` `[outputs, channels · kernel rows · kernel columns]`, those that `mask` keeps, or all.
    ///
    /// O(weights + kept · classes of column + width of Y).
    ///
    /// # Errors
    /// When filters or mask do not fit `shape`, its stride is 0, its sizes overflow, or a plane of the prepared batch has
    /// 2³² elements or more.
    pub fn prepare(
        engine: Engine,
        shape: &Shape,
        filters: MatRef<'_>,
        mask: Option<&PackedMask>,
        options: &PrepareOptions,
    ) -> Result<Self, KernelError> {
        shape.check()?;
        let [outputs, columns] = shape.filters()?;
        KernelError::check_shape("filters", [outputs, columns], filters.shape())?;
        let mut held = Filters::new(options.keep_source, options.storage);
        if let Some(mask) = mask {
            check_mask(shape, mask)?;
            held.set_mask(mask);
        } else {
            held.set_mask(&PackedMask::all_kept(outputs * columns));
        }
        held.set_weights(filters);
        let batch = if options.max_batch == usize::MAX { PLANNED_BATCH } else { options.max_batch.max(1) };

        let directions = [Direction::Forward, Direction::InputGradient];
        let directions = &directions[..if options.input_gradient { 2 } else { 1 }];
        let mut lists: [Option<Result<TapLists, KernelError>>; 2] = [None, None];
        for_lists(engine, &held).for_each(directions.iter().zip(&mut lists), |(&direction, lists)| {
            *lists = Some(TapLists::new(direction, shape, batch, &held));
        });
        let lists = lists.into_iter().flatten().collect::<Result<_, _>>()?;
        Ok(Self { shape: *shape, batch, filters: held, lists, conv: unique(), version: unique() })
    }

    /// Sets another mask. Reuses its buffers: reallocates only when the lists need more entries or segments than before.
    ///
    /// O(weights / 64 + kept · classes of column + width of Y).
    ///
    /// # Errors
    /// When the mask does not fit, or the removed weights were dropped: [`NoSource`](KernelError::NoSource).
    pub fn rebuild(&mut self, engine: Engine, mask: &PackedMask) -> Result<(), KernelError> {
        if !self.filters.is_complete() {
            return Err(KernelError::NoSource);
        }
        check_mask(&self.shape, mask)?;
        self.filters.set_mask(mask);
        self.list(engine)
    }

    /// Sets other weights of the same shape; the mask stays.
    ///
    /// O(weights + kept · classes of column + width of Y).
    ///
    /// # Errors
    /// When the filters do not fit.
    pub fn set_weights(&mut self, engine: Engine, filters: MatRef<'_>) -> Result<(), KernelError> {
        KernelError::check_shape("filters", self.shape.filters()?, filters.shape())?;
        self.filters.set_weights(filters);
        self.list(engine)
    }

    fn list(&mut self, engine: Engine) -> Result<(), KernelError> {
        let Self { ref shape, batch, ref filters, ref mut lists, ref mut version, .. } = *self;
        *version = unique();
        let mut results = [Ok(()), Ok(())];
        for_lists(engine, filters).for_each(lists.iter_mut().zip(&mut results), |(lists, result)| {
            *result = lists.replace(lists.geometry().direction, shape, batch, filters);
        });
        results.into_iter().collect()
    }

    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Number of weights kept.
    pub fn kept(&self) -> usize {
        self.filters.kept()
    }

    /// The mask; it keeps all if the filters were prepared without one.
    pub fn mask(&self) -> &PackedMask {
        self.filters.mask()
    }

    /// The filters `[outputs, channels · kernel rows · kernel columns]`, row-major, with 0 for the removed weights. O(weights).
    ///
    /// ```
    /// use slth_kernels::conv2d::{PackedConv2d, Shape};
    /// use slth_kernels::{Engine, MatRef, PackedMask, PrepareOptions};
    /// let shape = Shape { channels: 1, height: 8, width: 8, outputs: 1, kernel: [1, 3], stride: 1, padding: 0 };
    /// let filters = MatRef::row_major(&[1.0, 2.0, 3.0], 1, 3)?;
    /// let mask = PackedMask::from_fn(3, |i| i != 1);
    /// let mut conv = PackedConv2d::prepare(Engine::serial(), &shape, filters, Some(&mask), &PrepareOptions::default())?;
    /// assert_eq!((conv.mask(), conv.to_dense()), (&mask, vec![1.0, 0.0, 3.0]));
    /// conv.rebuild(Engine::serial(), &PackedMask::from_fn(3, |i| i == 1))?;
    /// assert_eq!(conv.to_dense(), [0.0, 2.0, 0.0]);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn to_dense(&self) -> Vec<f32> {
        self.filters.to_dense()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.filters.bytes() + self.lists.iter().map(TapLists::bytes).sum::<usize>()
    }

    /// The lists for a batch.
    pub(super) fn lists<'a>(
        &'a self,
        direction: Direction,
        batch: usize,
        others: &'a mut OtherBatches,
    ) -> Result<&'a TapLists, KernelError> {
        let prepared = self.lists.iter().find(|lists| lists.geometry().direction == direction);
        let prepared = prepared.ok_or(KernelError::NoInputGradient)?;
        if batch == self.batch { Ok(prepared) } else { others.get(self, direction, batch) }
    }
}

fn check_mask(shape: &Shape, mask: &PackedMask) -> Result<(), KernelError> {
    KernelError::check_len("mask", &shape.filters()?, mask.len())
}

fn for_lists<'a>(engine: Engine<'a>, filters: &Filters) -> Engine<'a> {
    engine.for_work(filters.kept().saturating_mul(CYCLES_TO_LIST))
}

/// A number that no other call gets.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Lists for batches that convolutions were not prepared for, the last used one first.
#[derive(Clone, Debug, Default)]
pub(super) struct OtherBatches {
    kept: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    conv: u64,
    /// Version of the weights and mask: copies that were changed separately have different versions.
    version: u64,
    lists: TapLists,
}

/// Maximum number of lists to keep: those of 16 layers, forward and backward.
const MOST_KEPT: usize = 32;

impl OtherBatches {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    fn get(
        &mut self,
        conv: &PackedConv2d,
        direction: Direction,
        batch: usize,
    ) -> Result<&TapLists, KernelError> {
        let &PackedConv2d { conv: id, version, ref shape, ref filters, .. } = conv;
        let same = |known: &Known| {
            let geometry = known.lists.geometry();
            known.version == version && (geometry.direction, geometry.batch) == (direction, batch)
        };
        if let Some(at) = self.kept.iter().position(same) {
            self.kept[..=at].rotate_right(1);
        } else {
            // Lists of former weights are not needed again; those of the same direction have buffers to reuse.
            let stale = self.kept.iter().position(|known| {
                known.conv == id && known.version != version && known.lists.geometry().direction == direction
            });
            let replaced = stale.or((self.kept.len() == MOST_KEPT).then_some(MOST_KEPT - 1));
            if let Some(at) = replaced {
                // If making the lists fails, no later call finds them.
                self.kept[at].version = unique();
                self.kept[at].lists.replace(direction, shape, batch, filters)?;
                (self.kept[at].conv, self.kept[at].version) = (id, version);
                self.kept[..=at].rotate_right(1);
            } else {
                let lists = TapLists::new(direction, shape, batch, filters)?;
                self.kept.insert(0, Known { conv: id, version, lists });
            }
        }
        Ok(&self.kept[0].lists)
    }
}
