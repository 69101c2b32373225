//! The kept weights of a convolution, as lists of (value, offset of its source element).
//!
//! For the element (plane, y, x) of the destination a product needs the taps of the kernel whose source is not padding. For each
//! y these are a range of kernel rows: the list of a destination plane is ordered by kernel row, and each y uses a part of it. In
//! x the taps differ only at the edges, and between the phases of the stride in the input gradient: each class of x has its own
//! lists. So no term with padding is computed, and the source is not padded with zeros.
//!
//! Positions that use the same lists, and whose sources are contiguous, form a [`Span`]: lanes run over positions and batch
//! together. With a stride, neighbouring positions are `stride` apart in the larger plane, so its rows are deinterleaved: all
//! columns of one phase (x mod stride), then those of the next. The forward product copies the source this way; the input
//! gradient stores its results this way, unless the batch alone fills the lanes.
//!
//! A list is cut into blocks of kernel rows and source planes. Each is small enough that the source of its taps stays in L1 from
//! one strip of positions to the next, and that offsets fit 32 bits.

use super::entry::{Entry, entry};
use super::stored::Storage;
use crate::conv_shape::Shape;
use crate::error::KernelError;
use crate::mask::PackedMask;
use crate::view::MatRef;
use geometry::deinterleaved;

mod geometry;

pub(crate) use geometry::{Direction, Geometry, Reach, TapBlock, even};

/// Positions in a destination row that use the same lists, and whose sources are contiguous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The class of their lists.
    pub(crate) class: usize,
    /// Where the first one is stored in the row; each next one is [`Geometry::span_step`] further.
    pub(crate) first: usize,
    pub(crate) positions: usize,
    /// Where the least source of the first one is stored in its row; `None` if the sources of all taps are padding.
    pub(crate) source: Option<usize>,
}

/// A class of x: positions with the same taps.
#[derive(Clone, Copy, Debug)]
struct Class {
    reach: Reach,
    /// One x of the class, and the tap whose source is stored first.
    position: usize,
    tap: usize,
}

/// All weights of a convolution and which of them are kept, in the order of the rows; or the kept ones only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    columns: usize,
    weights: Vec<f32>,
    /// Of all weights, held or not.
    mask: PackedMask,
    kept: usize,
    /// Whether removed weights are held as well.
    complete: bool,
    storage: Storage,
}

impl Filters {
    /// None yet.
    pub(crate) fn new(complete: bool, storage: Storage) -> Self {
        Self { complete, storage, ..Self::default() }
    }

    /// Whether less than a quarter of the weights is kept.
    fn is_sparse(&self) -> bool {
        self.kept < self.mask.len() / 4
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.weights[..]) + size_of_val(self.mask.words())
    }

    /// Sets another mask.
    pub(crate) fn set_mask(&mut self, mask: &PackedMask) {
        self.kept = mask.kept();
        self.mask.copy_from(mask.view());
    }

    pub(crate) fn mask(&self) -> &PackedMask {
        &self.mask
    }

    /// The weights, row by row, with 0 for the removed ones.
    pub(crate) fn to_dense(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.mask.len()];
        self.for_each(|output, column, weight| weights[output * self.columns + column] = weight);
        weights
    }

    /// Sets the weights, rounded to their storage type; the mask must be set.
    pub(crate) fn set_weights(&mut self, weights: MatRef<'_>) {
        self.columns = weights.cols();
        self.weights.clear();
        // Without columns there may be any number of rows.
        let rows = if weights.cols() > 0 { weights.rows() } else { 0 };
        for row in 0..rows {
            if weights.has_runs() {
                self.weights.extend_from_slice(weights.run(row, 0, weights.cols()));
            } else {
                self.weights.extend((0..weights.cols()).map(|col| weights.get(row, col)));
            }
        }
        self.weights.iter_mut().for_each(|weight| *weight = self.storage.round(*weight));
        if !self.complete {
            let mut kept = 0;
            for index in self.mask.kept_indices() {
                self.weights[kept] = self.weights[index];
                kept += 1;
            }
            self.weights.truncate(kept);
            self.weights.shrink_to_fit();
        }
    }

    /// Calls `take(output, column, weight)` for the kept weights, row by row, ascending.
    fn for_each(&self, mut take: impl FnMut(usize, usize, f32)) {
        let (mut output, mut row) = (0, 0);
        for (ordinal, index) in self.mask.kept_indices().enumerate() {
            while index - row >= self.columns {
                (output, row) = (output + 1, row + self.columns);
            }
            take(output, index - row, self.weights[if self.complete { index } else { ordinal }]);
        }
    }
}

/// The lists of one product with one convolution and batch.
#[derive(Clone, Debug)]
pub(crate) struct TapLists {
    shape: Shape,
    geometry: Geometry,
    spans: Vec<Span>,
    classes: Vec<Class>,
    /// Where each (block, class, row, slot) begins in `entries`, and where the last one ends.
    starts: Vec<usize>,
    /// Kept weight and the offset of its source, in floats, from the least source of the first plane of the block.
    entries: Vec<Entry>,
    /// Where each column of a row is stored; empty if rows are stored in order.
    source_places: Vec<u32>,
    destination_places: Vec<u32>,
    taps: Vec<Tap>,
    /// For each kernel column j, from `column_starts[j]` to the next start: the classes that reach it, ascending, each with the offset of
    /// the column's source.
    columns: Vec<(usize, usize)>,
    column_starts: Vec<usize>,
}

/// One column of the weights.
#[derive(Clone, Copy, Debug)]
struct Tap {
    channel: usize,
    row: usize,
    column: usize,
}

impl TapLists {
    /// Makes the lists for `filters`.
    pub(crate) fn new(
        direction: Direction,
        shape: &Shape,
        batch: usize,
        filters: &Filters,
    ) -> Result<Self, KernelError> {
        let mut lists = Self {
            shape: *shape,
            geometry: Geometry::new(direction, shape, batch, filters.is_sparse())?,
            spans: Vec::new(),
            classes: Vec::new(),
            starts: Vec::new(),
            entries: Vec::new(),
            source_places: Vec::new(),
            destination_places: Vec::new(),
            taps: Vec::new(),
            columns: Vec::new(),
            column_starts: Vec::new(),
        };
        lists.plan(shape);
        lists.list(filters)?;
        Ok(lists)
    }

    /// The same for other filters or another batch, in the same buffers.
    pub(crate) fn replace(
        &mut self,
        direction: Direction,
        shape: &Shape,
        batch: usize,
        filters: &Filters,
    ) -> Result<(), KernelError> {
        let planned =
            (self.geometry.direction, self.shape, self.geometry.batch) == (direction, *shape, batch);
        let classes = self.geometry.classes;
        self.geometry = Geometry::new(direction, shape, batch, filters.is_sparse())?;
        if planned {
            self.geometry.classes = classes;
        } else {
            self.shape = *shape;
            self.plan(shape);
        }
        self.list(filters)
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    pub(crate) fn starts(&self) -> &[usize] {
        &self.starts
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where each column of a source row is stored; empty if rows are stored in order.
    pub(crate) fn source_places(&self) -> &[u32] {
        &self.source_places
    }

    /// The same for destination rows.
    pub(crate) fn destination_places(&self) -> &[u32] {
        &self.destination_places
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.spans[..])
            + size_of_val(&self.classes[..])
            + size_of_val(&self.starts[..])
            + size_of_val(&self.entries[..])
            + size_of_val(&self.source_places[..])
            + size_of_val(&self.destination_places[..])
            + size_of_val(&self.taps[..])
            + size_of_val(&self.columns[..])
            + size_of_val(&self.column_starts[..])
    }

    /// Everything that does not depend on the weights.
    fn plan(&mut self, shape: &Shape) {
        let Self {
            geometry,
            spans,
            classes,
            source_places,
            destination_places,
            taps,
            columns,
            column_starts,
            ..
        } = self;
        let Geometry { horizontal, batch, span_step, .. } = *geometry;
        for list in [&mut *source_places, &mut *destination_places] {
            list.clear();
        }
        spans.clear();
        classes.clear();
        taps.clear();
        columns.clear();
        column_starts.clear();
        geometry.classes = 0;
        if geometry.is_empty() {
            return;
        }
        let place_all = |places: &mut Vec<u32>, size: usize, phases: usize| {
            // With at least as many phases as columns, columns stay in order.
            if phases > 1 && phases < size {
                places.extend((0..size).map(|x| deinterleaved(x, size, phases) as u32));
            }
        };
        if horizontal.direction == Direction::Forward {
            place_all(source_places, horizontal.source, horizontal.stride);
        } else if span_step == 1 {
            place_all(destination_places, horizontal.destination, horizontal.stride);
        }
        let source_place = |x: usize| source_places.get(x).map_or(x, |&place| place as usize);
        let destination_place = |x: usize| destination_places.get(x).map_or(x, |&place| place as usize);

        let step = horizontal.step();
        // The class of positions without taps.
        let mut without_taps = None;
        for phase in 0..step.min(horizontal.destination) {
            for position in (phase..horizontal.destination).step_by(step) {
                let reach = horizontal.reach(position);
                // Along a phase both ends of the reach are monotonic, and no other phase has the same taps.
                let last = classes.len().checked_sub(1).filter(|&last| classes[last].reach == reach);
                let known = if reach.count > 0 { last } else { without_taps };
                let class = known.unwrap_or_else(|| {
                    let reached = (0..reach.count).map(|i| reach.first + i * step);
                    let tap = reached.min_by_key(|&tap| source_place(horizontal.source_of(position, tap)));
                    classes.push(Class { reach, position, tap: tap.unwrap_or(0) });
                    classes.len() - 1
                });
                if reach.count == 0 {
                    without_taps = Some(class);
                }
                let place = destination_place(position);
                let source = (reach.count > 0)
                    .then(|| source_place(horizontal.source_of(position, classes[class].tap)));
                match spans.last_mut() {
                    Some(span)
                        if span.class == class
                            && place == span.first + span.positions * span_step
                            && source == span.source.map(|source| source + span.positions) =>
                    {
                        span.positions += 1;
                    }
                    _ => spans.push(Span { class, first: place, positions: 1, source }),
                }
            }
        }
        geometry.classes = classes.len();

        let [kernel_rows, kernel_columns] = shape.kernel;
        let all = (0..shape.channels).flat_map(|channel| {
            (0..kernel_rows)
                .flat_map(move |row| (0..kernel_columns).map(move |column| (channel, row, column)))
        });
        taps.extend(all.map(|(channel, row, column)| Tap { channel, row, column }));
        let reached = |&Class { reach, .. }: &Class| (0..reach.count).map(move |i| reach.first + i * step);
        column_starts.resize(kernel_columns + 1, 0);
        classes.iter().flat_map(reached).for_each(|column| column_starts[column + 1] += 1);
        // Each start is stored at the next index. While the column is filled, this element is the next free place, and ends as
        // the start of the next column.
        let mut total = 0;
        for start in column_starts.iter_mut().skip(1) {
            total += core::mem::replace(start, total);
        }
        columns.resize(total, (0, 0));
        for (index, class) in classes.iter().enumerate() {
            let place = |tap| source_place(horizontal.source_of(class.position, tap));
            for column in reached(class) {
                columns[column_starts[column + 1]] = (index, (place(column) - place(class.tap)) * batch);
                column_starts[column + 1] += 1;
            }
        }
    }

    /// Sorts the weights into their segments: counts, sums the counts, stores.
    fn list(&mut self, filters: &Filters) -> Result<(), KernelError> {
        let Self { geometry, starts, entries, taps, columns, column_starts, .. } = self;
        let Geometry { direction, vertical, rows, pitch, plane, block_slots, block_planes, classes, .. } =
            *geometry;
        starts.clear();
        entries.clear();
        if geometry.is_empty() {
            return Ok(());
        }
        let blocks = [geometry.slot_blocks(), geometry.plane_blocks()];
        let segments =
            KernelError::product("segments", blocks.into_iter().chain([classes, rows, block_slots]))?;
        starts.resize(segments + 1, 0);
        let for_each = |take: &mut dyn FnMut(usize, usize, f32)| {
            filters.for_each(|output, at, weight| {
                let Tap { channel, row, column } = taps[at];
                let (to, from) = match direction {
                    Direction::Forward => (output, channel),
                    Direction::InputGradient => (channel, output),
                };
                let slot = vertical.slot(row);
                let place = to * block_slots + slot % block_slots;
                let offset = from % block_planes * plane + vertical.distance(row) * pitch;
                for &(class, column) in &columns[column_starts[column]..column_starts[column + 1]] {
                    let first = geometry.segment(slot / block_slots, from / block_planes, class);
                    take(first + place, offset + column, weight);
                }
            });
        };
        // Each count is stored at the next index. While the segment is filled, this element is the next free place, and ends as
        // the start of the next segment.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_every_position_once() {
        for direction in [Direction::Forward, Direction::InputGradient] {
            for (width, kernel, stride, padding) in [
                (1, 1, 1, 0),
                (9, 3, 1, 1),
                (10, 3, 2, 1),
                (11, 2, 3, 4),
                (13, 5, 4, 0),
                (3, 2, 9, 9),
                (7, 1, 2, 0),
            ] {
                for batch in [1, 3, 64] {
                    let shape = Shape {
                        channels: 1,
                        height: 9,
                        width,
                        outputs: 1,
                        kernel: [kernel; 2],
                        stride,
                        padding,
                    };
                    let filters = Filters::default();
                    let lists = TapLists::new(direction, &shape, batch, &filters).unwrap();
                    let horizontal = lists.geometry.horizontal;
                    let mut seen = vec![0; horizontal.destination];
                    let place = |places: &[u32], x: usize| places.get(x).map_or(x, |&p| p as usize);
                    for span in &lists.spans {
                        for i in 0..span.positions {
                            let at = span.first + i * lists.geometry.span_step;
                            seen[at] += 1;
                            let x = (0..horizontal.destination)
                                .find(|&x| place(&lists.destination_places, x) == at)
                                .unwrap();
                            let reach = horizontal.reach(x);
                            assert_eq!(reach, lists.classes[span.class].reach);
                            for tap in (0..reach.count).map(|i| reach.first + i * horizontal.step()) {
                                let of_tap = lists.column_starts[tap]..lists.column_starts[tap + 1];
                                let mut reaching = lists.columns[of_tap].iter();
                                let offset = reaching.find(|column| column.0 == span.class).unwrap().1;
                                let source = place(&lists.source_places, horizontal.source_of(x, tap));
                                assert_eq!(span.source.unwrap() + i + offset / batch, source);
                            }
                        }
                    }
                    assert!(seen.iter().all(|&seen| seen == 1), "{shape:?} {direction:?} {batch}: {seen:?}");
                    // If lanes run over positions, there are only a few spans for each phase and edge.
                    if horizontal.destination > 2 * (kernel + stride) && lists.geometry.span_step == 1 {
                        assert!(lists.spans.len() < horizontal.destination, "{shape:?} {direction:?}");
                    }
                }
            }
        }
    }

    /// A kernel whose width equals the stride has that many phases, each with one tap.
    #[test]
    fn lists_grow_with_the_weights() {
        let k = 4096;
        let shape =
            Shape { channels: 1, height: 1, width: 2 * k, outputs: 1, kernel: [1, k], stride: k, padding: 0 };
        let mut filters = Filters::new(false, Storage::F32);
        let values: Vec<f32> = (1..=k).map(|x| x as f32).collect();
        filters.set_mask(&PackedMask::all_kept(k));
        filters.set_weights(MatRef::row_major(&values, 1, k).unwrap());
        let lists = TapLists::new(Direction::InputGradient, &shape, 1, &filters).unwrap();
        assert_eq!(lists.geometry.classes, k);
        assert!(lists.bytes() < 300 * k, "{} bytes", lists.bytes());
    }
}
