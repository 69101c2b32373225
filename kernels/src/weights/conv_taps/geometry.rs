//! The sources of a convolution's taps, and how its lists are cut into blocks.

use core::ops::Range;

use crate::conv_shape::Shape;
use crate::error::KernelError;

/// Which product the lists are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From X to Y.
    Forward,
    /// From dY to dX.
    InputGradient,
}

/// The taps of one destination position along one axis whose source exists: `first`, `first + step`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// One of the two axes of a plane, and the sources of the kernel's taps along it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(super) direction: Direction,
    /// Size of the source and of the destination.
    pub(crate) source: usize,
    pub(crate) destination: usize,
    taps: usize,
    pub(super) stride: usize,
    padding: usize,
}

impl Axis {
    fn new(direction: Direction, size: usize, out: usize, taps: usize, shape: &Shape) -> Self {
        let (source, destination) = match direction {
            Direction::Forward => (size, out),
            Direction::InputGradient => (out, size),
        };
        Self { direction, source, destination, taps, stride: shape.stride, padding: shape.padding }
    }

    /// The step from one tap of a reach to the next, and from one position to the next that can have the same reach.
    pub(crate) fn step(self) -> usize {
        match self.direction {
            Direction::Forward => 1,
            Direction::InputGradient => self.stride,
        }
    }

    /// The source's step for one [`step`](Self::step) of the destination.
    pub(crate) fn advance(self) -> usize {
        match self.direction {
            Direction::Forward => self.stride,
            Direction::InputGradient => 1,
        }
    }

    pub(crate) fn reach(self, position: usize) -> Reach {
        let Self { source, taps, stride, padding, .. } = self;
        let (first, count) = match self.direction {
            Direction::Forward => {
                let start = position * stride;
                let first = padding.saturating_sub(start);
                let end = (source + padding).saturating_sub(start).min(taps);
                (first, end.saturating_sub(first))
            }
            Direction::InputGradient => {
                let at = position + padding;
                // Sources before this one.
                let end = (at / stride + 1).min(source);
                let first = (at + 1).saturating_sub(taps).div_ceil(stride);
                (at - end.saturating_sub(1) * stride, end.saturating_sub(first))
            }
        };
        Reach { first: if count > 0 { first } else { 0 }, count }
    }

    /// The source of `tap`, which must be within the position's reach.
    pub(super) fn source_of(self, position: usize, tap: usize) -> usize {
        match self.direction {
            Direction::Forward => position * self.stride + tap - self.padding,
            Direction::InputGradient => (position + self.padding - tap) / self.stride,
        }
    }

    /// The least source of the taps of `reach`.
    pub(crate) fn least_source(self, position: usize, reach: Reach) -> usize {
        self.source_of(position, self.tap_of_least_source(reach))
    }

    fn tap_of_least_source(self, Reach { first, count }: Reach) -> usize {
        match self.direction {
            Direction::Forward => first,
            Direction::InputGradient => first + (count - 1) * self.stride,
        }
    }

    /// Where the source of `tap` is, up to a constant that all taps of a reach share.
    pub(super) fn distance(self, tap: usize) -> usize {
        match self.direction {
            Direction::Forward => tap,
            Direction::InputGradient => (self.taps - 1) / self.stride - tap / self.stride,
        }
    }

    /// The distance of the least source of `reach`.
    pub(crate) fn least_distance(self, reach: Reach) -> usize {
        self.distance(self.tap_of_least_source(reach))
    }

    /// The place of `tap` among all taps, ordered so that every reach is a range.
    pub(super) fn slot(self, tap: usize) -> usize {
        deinterleaved(tap, self.taps, self.step())
    }
}

/// The place of `index` of `size` when all indices of one phase (index mod `step`) are contiguous, ascending.
pub(super) fn deinterleaved(index: usize, size: usize, step: usize) -> usize {
    let phase = index % step;
    phase * (size / step) + phase.min(size % step) + index / step
}

/// Maximum number of source floats of a block's taps for one strip of positions: 28 KiB of a 32 KiB L1.
const BLOCK: usize = 7168;

/// Floats of a strip of positions: 8 vectors of 16 lanes.
const STRIP: usize = 128;

/// Floats of a cache line.
const LINE: usize = 16;

/// Sets of an L1 cache, of a line each: those of addresses 4 KiB apart are the same.
const SETS: usize = 64;

/// The distance between planes of at least `plane` floats: each plane's window, of `window` floats, begins in the set of L1 where
/// that of the plane before ends, so that a block's windows fill the sets evenly.
fn apart(plane: usize, window: usize) -> usize {
    let (lines, window) = (plane.div_ceil(LINE), window.div_ceil(LINE));
    // A window of all sets has gaps, one strip wide, between its taps.
    let shift = if window.is_multiple_of(SETS) { STRIP / LINE } else { window % SETS };
    (lines + (shift + SETS - lines % SETS) % SETS) * LINE
}

/// From this batch on one position fills a strip of vectors of 8 lanes. Up to it the window of the taps grows with the batch; for
/// larger batches a strip is a part of one position.
const WIDE_BATCH: usize = 64;

/// The sizes behind the lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) direction: Direction,
    pub(crate) batch: usize,
    pub(crate) vertical: Axis,
    pub(crate) horizontal: Axis,
    /// Planes of the destination and of the source.
    pub(crate) rows: usize,
    pub(crate) planes: usize,
    /// Floats between the rows, and between the planes, of the source's copy.
    pub(crate) pitch: usize,
    pub(crate) plane: usize,
    /// From one position of a span to the next, in the stored row.
    pub(crate) span_step: usize,
    /// Slots and source planes of a block.
    pub(crate) block_slots: usize,
    pub(super) block_planes: usize,
    pub(super) classes: usize,
}

impl Geometry {
    /// With few kept weights (`sparse`) blocks are larger, because the starts of short lists cost more than the misses of L1.
    ///
    /// # Errors
    /// When a single plane has 2³² elements or more: offsets have 32 bits.
    pub(super) fn new(
        direction: Direction,
        shape: &Shape,
        batch: usize,
        sparse: bool,
    ) -> Result<Self, KernelError> {
        let [kernel_rows, kernel_columns] = shape.kernel;
        let vertical = Axis::new(direction, shape.height, shape.out_height(), kernel_rows, shape);
        let horizontal = Axis::new(direction, shape.width, shape.out_width(), kernel_columns, shape);
        let (rows, planes) = match direction {
            Direction::Forward => (shape.outputs, shape.channels),
            Direction::InputGradient => (shape.channels, shape.outputs),
        };
        let limit = u32::MAX as usize;
        let plane_of = |what, rows: usize, row: Option<usize>| {
            let found = row.and_then(|row| row.checked_mul(rows)).ok_or(KernelError::Overflow { what })?;
            if found > limit { Err(KernelError::PlaneTooLarge { what, limit, found }) } else { Ok(found) }
        };
        let (from, to) = match direction {
            Direction::Forward => ("a plane of x", "a plane of y"),
            Direction::InputGradient => ("a plane of dy", "a plane of dx"),
        };
        plane_of(to, vertical.destination, horizontal.destination.checked_mul(batch))?;
        // An odd number of full cache lines, so that rows of a window do not compete for the same sets of L1.
        let pitch =
            horizontal.source.checked_mul(batch).and_then(|row| (row.div_ceil(LINE) | 1).checked_mul(LINE));
        let plane = plane_of(from, vertical.source, pitch)?;
        let pitch = pitch.unwrap_or(0);

        let strip = STRIP.min(horizontal.destination.saturating_mul(batch)).max(1);
        let reach = (kernel_columns.max(1) - 1).saturating_mul(batch);
        let plane = if plane < SETS * LINE { plane } else { apart(plane, strip.saturating_add(reach)) };
        let taps = (kernel_columns.max(1) - 1).saturating_mul(batch.min(WIDE_BATCH));
        // Strips take several short rows, and full cache lines of each.
        let rows_at_once = STRIP / strip.next_power_of_two().max(LINE);
        let more_rows = (rows_at_once - 1).saturating_mul(vertical.advance());
        let window = strip.saturating_add(taps).min(BLOCK);
        let window = if rows_at_once > 1 { window.next_multiple_of(LINE) } else { window };
        let most = if rows_at_once > 1 && sparse { 2 * BLOCK } else { BLOCK } / window;
        let most_planes = most / more_rows.saturating_add(1);
        let block_planes = even(planes, most_planes.min(limit / plane.max(1)));
        let block_slots = if block_planes == planes {
            even(kernel_rows, (most / planes.max(1)).saturating_sub(more_rows))
        } else {
            1
        };
        let step = horizontal.step();
        let span_step = if batch < WIDE_BATCH || step >= horizontal.destination { 1 } else { step };
        Ok(Self {
            direction,
            batch,
            vertical,
            horizontal,
            rows,
            planes,
            pitch,
            plane,
            span_step,
            block_slots,
            block_planes,
            classes: 0,
        })
    }

    /// Whether no destination element has a term.
    pub(crate) fn is_empty(&self) -> bool {
        let any = |axis: &Axis| axis.source > 0 && axis.destination > 0 && axis.taps > 0;
        let sizes = [self.rows, self.planes, self.plane, self.batch];
        sizes.contains(&0) || !any(&self.vertical) || !any(&self.horizontal)
    }

    pub(super) fn plane_blocks(&self) -> usize {
        self.planes.div_ceil(self.block_planes)
    }

    pub(super) fn slot_blocks(&self) -> usize {
        self.vertical.taps.div_ceil(self.block_slots)
    }

    /// The blocks of kernel rows, for each of them those of source planes: the order of the sums.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = TapBlock> + use<> {
        let geometry = *self;
        let [slot_blocks, plane_blocks] =
            if self.is_empty() { [0, 0] } else { [self.slot_blocks(), self.plane_blocks()] };
        (0..slot_blocks).flat_map(move |slot_block| {
            (0..plane_blocks).map(move |plane_block| TapBlock {
                slot_block,
                plane_block,
                first_slot: slot_block * geometry.block_slots,
                source: plane_block * geometry.block_planes * geometry.plane,
                first: plane_block == 0,
                last: plane_block + 1 == plane_blocks,
            })
        })
    }

    /// The segments of `class` in a block: `[rows, block_slots]`.
    pub(crate) fn first_segment(&self, block: &TapBlock, class: usize) -> usize {
        self.segment(block.slot_block, block.plane_block, class)
    }

    pub(super) fn segment(&self, slot_block: usize, plane_block: usize, class: usize) -> usize {
        let block = slot_block * self.plane_blocks() + plane_block;
        (block * self.classes + class) * self.rows * self.block_slots
    }

    /// The slots of `reach` along the vertical axis.
    pub(crate) fn slots(&self, reach: Reach) -> Range<usize> {
        let first = self.vertical.slot(reach.first);
        first..first + reach.count
    }

    /// The part of `reach` that lies in `slots`, a part of its slots.
    pub(crate) fn within(&self, reach: Reach, slots: &Range<usize>) -> Reach {
        let skipped = slots.start - self.vertical.slot(reach.first);
        Reach { first: reach.first + skipped * self.vertical.step(), count: slots.len() }
    }
}

/// A block of the lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TapBlock {
    slot_block: usize,
    plane_block: usize,
    pub(crate) first_slot: usize,
    /// Where its first plane begins in the source's copy.
    pub(crate) source: usize,
    /// Whether its planes are the first, or last ones.
    pub(crate) first: bool,
    pub(crate) last: bool,
}

/// The size of about equal pieces of `all`, none larger than `most`, and not 0: a small last piece would take nearly as long as a
/// full one.
pub(crate) fn even(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most.max(1)).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape([channels, height, width]: [usize; 3], kernel: usize, stride: usize) -> Shape {
        Shape { channels, height, width, outputs: 64, kernel: [kernel; 2], stride, padding: kernel / 2 }
    }

    #[test]
    fn only_single_planes_can_be_too_large() {
        for direction in [Direction::Forward, Direction::InputGradient] {
            for (batch, stride) in [(1, 1), (64, 2), (512, 1)] {
                for (channels, side) in [(32, 512), (1000, 100), (3, 2048)] {
                    let shape = shape([channels, side, side], 1, stride);
                    let Ok(g) = Geometry::new(direction, &shape, batch, false) else {
                        // A plane of 2048 × 2048 × 512 floats plus 16 per row is beyond u32.
                        assert_eq!((side, batch), (2048, 512));
                        continue;
                    };
                    assert!(g.block_planes >= 1 && g.block_planes * g.plane <= u32::MAX as usize, "{g:?}");
                    assert!(g.block_slots == 1 || g.block_planes == g.planes);
                }
            }
        }
        let refused = |height, width, batch| {
            Geometry::new(Direction::Forward, &shape([1, height, width], 1, 1), batch, true).map(|_| ())
        };
        assert_eq!(refused(1, 1 << 26, 16), Ok(()));
        let limit = u32::MAX as usize;
        assert!(
            matches!(refused(4, 1 << 26, 16), Err(KernelError::PlaneTooLarge { limit: l, found, .. }) if l == limit && found > l)
        );
        assert!(matches!(refused(1 << 40, 1 << 40, 16), Err(KernelError::Overflow { .. })));
        assert_eq!(refused(0, 1 << 31, 1), Ok(()));
    }
}
