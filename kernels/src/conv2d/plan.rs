//! Which kept weight meets which part of the source, as lists to be walked.
//!
//! For the element (row, y, x) of the destination the walk needs the taps of the kernel whose source is not padding. Down
//! the plane these are a range of kernel rows, different from y to y: the list of a destination row is ordered by kernel
//! row, and a y takes its part. Across the plane they differ for the few x at the edges only (and for the phases of a
//! stride, in the input gradient): each kind of x has lists of its own. So no term is computed that padding
//! would make 0, and the source needs no frame of zeros.
//!
//! A list is cut into blocks of kernel rows and source planes, each so small that what its taps see of a panel stays in
//! L1 from one position to the next.

use super::{Shape, Weights, product};
use crate::error::ShapeError;
use crate::sparse::{Entry, entry};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    InputGradient,
}

/// The taps of one destination position along one axis whose source exists: `first`, `first + step`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) first: usize,
    pub(super) count: usize,
}

/// One of the two axes of a plane: where the kernel's taps find their source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    direction: Direction,
    /// Size of the source and of the destination.
    source: usize,
    pub(super) destination: usize,
    taps: usize,
    stride: usize,
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

    /// From one tap of a reach to the next.
    fn step(self) -> usize {
        match self.direction {
            Direction::Forward => 1,
            Direction::InputGradient => self.stride,
        }
    }

    pub(super) fn reach(self, position: usize) -> Reach {
        let Self { source, taps, stride, padding, .. } = self;
        match self.direction {
            Direction::Forward => {
                let start = position * stride;
                let first = padding.saturating_sub(start);
                let end = (source + padding).saturating_sub(start).min(taps);
                Reach { first, count: end.saturating_sub(first) }
            }
            Direction::InputGradient => {
                let at = position + padding;
                let last = (at / stride).min(source - 1);
                let first_source = (at + 1).saturating_sub(taps).div_ceil(stride);
                let count = (last + 1).saturating_sub(first_source);
                Reach { first: if count > 0 { at - last * stride } else { 0 }, count }
            }
        }
    }

    /// Where the taps of `reach` find their sources: the least one.
    pub(super) fn least_source(self, position: usize, reach: Reach) -> usize {
        match self.direction {
            Direction::Forward => position * self.stride + reach.first - self.padding,
            Direction::InputGradient => {
                (position + self.padding - self.tap_of_least_source(reach)) / self.stride
            }
        }
    }

    fn tap_of_least_source(self, Reach { first, count }: Reach) -> usize {
        match self.direction {
            Direction::Forward => first,
            Direction::InputGradient => first + (count - 1) * self.step(),
        }
    }

    /// How far the source of `tap` lies behind that of any other tap that a position can reach together with it, up to a
    /// constant.
    fn distance(self, tap: usize) -> usize {
        match self.direction {
            Direction::Forward => tap,
            Direction::InputGradient => (self.taps - 1) / self.stride - tap / self.stride,
        }
    }

    /// The distance of the least source of `reach`.
    pub(super) fn least_distance(self, reach: Reach) -> usize {
        self.distance(self.tap_of_least_source(reach))
    }

    /// The place of `tap` among all taps, ordered so that every reach is a range: by phase, then ascending.
    fn slot(self, tap: usize) -> usize {
        let step = self.step();
        let phase = tap % step;
        phase * (self.taps / step) + phase.min(self.taps % step) + tap / step
    }
}

/// Neighbouring positions of the same kind, contiguous in source and destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Which lists they take.
    pub(super) class: usize,
    pub(super) first: usize,
    pub(super) positions: usize,
    /// The least source of the first one.
    pub(super) source: usize,
}

/// Most activations that the taps of a block see from two neighbouring positions. For a batch of 64 they take 28 KiB of a
/// 32 KiB L1.
const BLOCK: usize = 112;

/// The lists of one convolution. Buffers are reused from call to call.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) runs: Vec<Run>,
    /// The taps each kind of x reaches.
    classes: Vec<Reach>,
    /// Where each (block, class, row, slot) begins in `entries`, and where the last one ends.
    pub(super) starts: Vec<usize>,
    /// Kept weight and the offset of what it meets, in floats, from the least source of the first plane of the block.
    pub(super) entries: Vec<Entry>,
    taps: Vec<Tap>,
    /// For each kernel column and class, the offset; `None` when the class does not reach it.
    columns: Vec<Option<usize>>,
}

/// One column of the weights.
#[derive(Clone, Copy, Debug)]
struct Tap {
    channel: usize,
    row: usize,
    column: usize,
}

/// The sizes of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) vertical: Axis,
    pub(super) horizontal: Axis,
    /// Planes of the destination and of the source.
    pub(super) rows: usize,
    pub(super) planes: usize,
    /// Floats between the rows, and between the planes, of the source's copy.
    pub(super) pitch: usize,
    pub(super) plane: usize,
    /// Slots and source planes of a block.
    pub(super) block_slots: usize,
    pub(super) block_planes: usize,
    classes: usize,
}

impl Layout {
    pub(super) fn plane_blocks(&self) -> usize {
        self.planes.div_ceil(self.block_planes)
    }

    pub(super) fn slot_blocks(&self) -> usize {
        self.vertical.taps.div_ceil(self.block_slots)
    }

    /// The segments of `class` in a block: `[rows, block_slots]`.
    pub(super) fn first_segment(&self, slot_block: usize, plane_block: usize, class: usize) -> usize {
        let block = slot_block * self.plane_blocks() + plane_block;
        (block * self.classes + class) * self.rows * self.block_slots
    }

    /// The slots of `reach` along the vertical axis.
    pub(super) fn slots(&self, reach: Reach) -> core::ops::Range<usize> {
        let first = self.vertical.slot(reach.first);
        first..first + reach.count
    }

    /// The part of `reach` that lies in `slots`, a part of its slots.
    pub(super) fn within(&self, reach: Reach, slots: &core::ops::Range<usize>) -> Reach {
        let skipped = slots.start - self.vertical.slot(reach.first);
        Reach { first: reach.first + skipped * self.vertical.step(), count: slots.len() }
    }
}

/// The size of the pieces that `all` is cut into so that none exceeds `most`, about equal: a small last one would take
/// nearly as long as a full one.
pub(super) fn even(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most.max(1)))
}

impl Plan {
    /// Makes the lists for `filters`; neither weights nor source are empty.
    pub(super) fn make(
        &mut self,
        direction: Direction,
        shape: &Shape,
        filters: Weights<'_>,
        batch: usize,
    ) -> Result<Layout, ShapeError> {
        let [kernel_rows, kernel_columns] = shape.kernel;
        let vertical = Axis::new(direction, shape.height, shape.out_height(), kernel_rows, shape);
        let horizontal = Axis::new(direction, shape.width, shape.out_width(), kernel_columns, shape);
        let (rows, planes) = match direction {
            Direction::Forward => (shape.outputs, shape.channels),
            Direction::InputGradient => (shape.channels, shape.outputs),
        };
        // Whole cache lines; an odd number of them, so that rows of a window do not compete for the same sets of L1.
        let lines = product("a row of the source", [horizontal.source, batch])?.div_ceil(16) | 1;
        let pitch = product("a row of the source", [lines, 16])?;
        let plane = product("a plane of the source", [pitch, vertical.source])?;

        let block_planes = even(planes, BLOCK / (kernel_columns + 1));
        let block_slots = if block_planes == planes {
            even(kernel_rows, BLOCK / ((kernel_columns + 1) * planes))
        } else {
            1
        };
        // Offsets have 32 bits.
        let reach = product("a block of the source", [plane, block_planes])?;
        if u32::try_from(reach).is_err() {
            let expected = u32::MAX as usize;
            return Err(ShapeError { what: "planes of the source, at most", expected, found: reach });
        }
        self.classify(horizontal);
        let classes = self.classes.len();
        let layout =
            Layout { vertical, horizontal, rows, planes, pitch, plane, block_slots, block_planes, classes };
        self.list(direction, shape, filters, batch, &layout)?;
        Ok(layout)
    }

    /// Finds the kinds of x and their runs.
    fn classify(&mut self, axis: Axis) {
        self.runs.clear();
        self.classes.clear();
        for position in 0..axis.destination {
            let reach = axis.reach(position);
            let known = self.classes.iter().rposition(|&class| class == reach);
            let class = known.unwrap_or_else(|| {
                self.classes.push(reach);
                self.classes.len() - 1
            });
            match self.runs.last_mut() {
                Some(run) if run.class == class && axis.stride == 1 => run.positions += 1,
                _ => {
                    let source = if reach.count > 0 { axis.least_source(position, reach) } else { 0 };
                    self.runs.push(Run { class, first: position, positions: 1, source });
                }
            }
        }
    }

    /// Sorts the weights into their segments: counts, sums the counts up, places.
    fn list(
        &mut self,
        direction: Direction,
        shape: &Shape,
        filters: Weights<'_>,
        batch: usize,
        layout: &Layout,
    ) -> Result<(), ShapeError> {
        let [kernel_rows, kernel_columns] = shape.kernel;
        let &Layout { vertical, horizontal, rows, pitch, plane, block_slots, block_planes, classes, .. } =
            layout;
        let blocks = [layout.slot_blocks(), layout.plane_blocks()];
        let segments = product("segments", blocks.into_iter().chain([classes, rows, block_slots]))?;
        self.starts.clear();
        self.starts.resize(segments + 1, 0);
        self.taps.clear();
        let tap = |at: usize| Tap {
            channel: at / (kernel_rows * kernel_columns),
            row: at / kernel_columns % kernel_rows,
            column: at % kernel_columns,
        };
        self.taps.extend((0..shape.channels * kernel_rows * kernel_columns).map(tap));
        self.columns.clear();
        for column in 0..kernel_columns {
            let offset = |reach: &Reach| {
                let steps = column.checked_sub(reach.first)?;
                let reached = steps % horizontal.step() == 0 && steps / horizontal.step() < reach.count;
                let offset = || horizontal.distance(column) - horizontal.least_distance(*reach);
                reached.then(|| offset() * batch)
            };
            self.columns.extend(self.classes.iter().map(offset));
        }

        let (starts, entries) = (&mut self.starts, &mut self.entries);
        // A segment's count, and its place while it is filled, is kept one further on: it ends as the start of the next.
        let (taps, columns) = (&self.taps, &self.columns);
        let for_each = |take: &mut dyn FnMut(usize, usize, f32)| {
            filters.for_each(taps.len(), |output, at, weight| {
                let Tap { channel, row, column } = taps[at];
                let (to, from) = match direction {
                    Direction::Forward => (output, channel),
                    Direction::InputGradient => (channel, output),
                };
                let slot = vertical.slot(row);
                let place = to * block_slots + slot % block_slots;
                let offset = from % block_planes * plane + vertical.distance(row) * pitch;
                for (class, column) in columns[column * classes..][..classes].iter().enumerate() {
                    if let Some(column) = column {
                        let first = layout.first_segment(slot / block_slots, from / block_planes, class);
                        take(first + place, offset + column, weight);
                    }
                }
            });
        };
        for_each(&mut |segment, _, _| starts[segment + 1] += 1);
        let mut total = 0;
        for start in starts.iter_mut().skip(1) {
            total += core::mem::replace(start, total);
        }
        entries.resize(total, 0);
        for_each(&mut |segment, offset, weight| {
            entries[starts[segment + 1]] = entry(offset, weight);
            starts[segment + 1] += 1;
        });
        Ok(())
    }
}
