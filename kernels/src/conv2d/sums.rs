//! Forward and input gradient: sums over the lists of kept weights.
//!
//! The source is copied to rows of full cache lines, batch innermost. For each block of the lists, strip and destination plane,
//! the sums stay in registers while each kept weight is broadcast and multiplied with the source at its offset. A strip is up to
//! [`CONV_STRIP`] vectors of a span, where position and image are one index. If a span is shorter, as with small batches, a strip
//! takes several rows that use the same lists. Between blocks the sums are stored in memory, which changes no bit.
//!
//! Results are written in place if the destination has the working layout, and sums stay in L2 between the blocks. Otherwise some
//! rows at a time are summed in the workspace, and unpacked when they are complete.
//!
//! Cost per kept weight and strip: 8 multiply-adds with one load each. Per block, plane and strip: a start of the pipeline, and a
//! load and store of the sums, which dominate when few weights are kept. The copy is one pass over the source.

use core::ops::Range;

use super::buffers::Buffers;
use super::pack::{pack_row, unpack_row};
use crate::engine::Engine;
use crate::epilogue::{Epilogue, Finish};
use crate::panel::{load_row, store_row};
use crate::simd::{Kernel, Simd, array_of};
use crate::tiles::CONV_STRIP;
use crate::view::{ImagesMut, ImagesRef, MatRef};
use crate::weights::conv_taps::{Reach, TapBlock, TapLists};
use crate::weights::entry::{Entry, place, value};

/// The last strip may be read past its end.
const SLACK: usize = CONV_STRIP * 32;

/// Floats of results in the workspace at a time, for each thread: half of a usual L2.
const STAGED: usize = 64 << 10;

/// Floats between the planes of results in the workspace: strips of neighbouring planes lie in other sets of the caches.
const APART: usize = CONV_STRIP * 16;

/// Floats of results, for each thread, that are written in place although their sums go to memory and back.
const MOST_IN_PLACE: usize = 256 << 10;

/// The epilogue of complete sums.
#[derive(Clone, Copy)]
pub(super) enum Finishing<'a> {
    Epilogue(&'a Epilogue<'a>),
    /// 0 where the output of the ReLU is not positive.
    Gradient(Option<ImagesRef<'a>>),
}

impl<'a> Finishing<'a> {
    fn accumulate(self) -> bool {
        matches!(self, Self::Epilogue(Epilogue { accumulate: true, .. }))
    }

    fn relu_output(self) -> Option<ImagesRef<'a>> {
        match self {
            Self::Gradient(relu_output) => relu_output,
            Self::Epilogue(_) => None,
        }
    }

    /// The epilogue of some planes; `relu_output` is the ReLU's output in these planes, one after the other.
    fn of_planes(self, planes: Range<usize>, relu_output: Option<&'a [f32]>) -> Finish<'a> {
        let finish = match self {
            Self::Epilogue(epilogue) => {
                let bias = epilogue.bias.map(|bias| &bias[planes.clone()]);
                Epilogue { bias, ..*epilogue }.finish(planes.len())
            }
            Self::Gradient(_) => {
                let shape = [planes.len(), relu_output.map_or(0, |x| x.len() / planes.len())];
                let x = relu_output.map(|x| MatRef::row_major(x, shape[0], shape[1])).transpose();
                x.and_then(|x| Finish::gradient(x, shape))
            }
        };
        finish.expect("sizes were checked")
    }
}

/// All arguments fit each other.
pub(super) fn convolve(
    engine: Engine,
    lists: &TapLists,
    source: ImagesRef<'_>,
    finishing: Finishing<'_>,
    destination: ImagesMut<'_>,
    buffers: &mut Buffers,
) {
    let geometry = lists.geometry();
    if destination.sizes().contains(&0) {
        return;
    }
    let copy = copy_source(engine, lists, source, &mut buffers.source);
    let planes = geometry.rows.div_ceil(engine.threads());
    let line = geometry.horizontal.destination * geometry.batch;
    let whole = geometry.vertical.destination * line;

    let relu_output = finishing.relu_output().map(|x| x.as_batch_innermost());
    // Between blocks sums stay in L2.
    let fits = geometry.blocks().nth(1).is_none() || planes * whole <= MOST_IN_PLACE;
    let in_place = fits && lists.destination_places().is_empty() && relu_output != Some(None);
    let destination = if in_place { destination.into_batch_innermost() } else { Err(destination) };
    match destination {
        Ok(out) => engine.for_each_chunk(out, planes * whole, |index, out| {
            let first = index * planes;
            let relu_output = relu_output.flatten().map(|x| &x[first * whole..][..out.len()]);
            let accumulate = AccumulateSums {
                lists,
                source: copy,
                rows: 0..geometry.vertical.destination,
                first_plane: first,
                accumulate: finishing.accumulate(),
                finish: finishing.of_planes(first..first + out.len() / whole, relu_output),
                out,
                plane: whole,
            };
            engine.backend().run(accumulate);
        }),
        Err(out) => {
            let rows = (STAGED / (planes * line)).clamp(1, geometry.vertical.destination);
            // In whole cache lines.
            let staged = (planes * (rows * line + APART)).next_multiple_of(16);
            let parts = geometry.rows.div_ceil(planes);
            let results = buffers.results.get(parts * staged).chunks_exact_mut(staged);
            let of_relu = if finishing.relu_output().is_some() { staged } else { 0 };
            let relu_output = buffers.relu_output.get(parts * of_relu);
            let relu_outputs = (0..parts).scan(relu_output, |rest, _| {
                let (part, others) = core::mem::take(rest).split_at_mut(of_relu);
                *rest = others;
                Some(part)
            });
            let parts = out.planes(planes).zip(results.zip(relu_outputs)).enumerate();
            engine.for_each(parts, |(index, (out, (results, relu_output)))| {
                let first_plane = index * planes;
                engine.backend().run(StagedSums {
                    lists,
                    source: copy,
                    rows,
                    first_plane,
                    finishing,
                    results,
                    relu_output,
                    out,
                });
            });
        }
    }
}

/// The source in the working layout, and some more floats.
fn copy_source<'a>(
    engine: Engine,
    lists: &TapLists,
    source: ImagesRef<'_>,
    buffer: &'a mut crate::aligned::AlignedBuffer,
) -> &'a [f32] {
    let geometry = lists.geometry();
    // Without terms nothing is read, however many planes there are.
    let length = if geometry.is_empty() { 0 } else { geometry.planes * geometry.plane };
    let copy = buffer.get(length + SLACK);
    if length > 0 {
        engine.for_each_chunk(&mut copy[..length], geometry.plane, |channel, plane| {
            engine.backend().run(CopyPlane { lists, source, channel, plane });
        });
    }
    copy
}

/// One plane of the source.
struct CopyPlane<'a> {
    lists: &'a TapLists,
    source: ImagesRef<'a>,
    channel: usize,
    plane: &'a mut [f32],
}

impl Kernel for CopyPlane<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let places = self.lists.source_places();
        let rows = self.plane.chunks_exact_mut(self.lists.geometry().pitch);
        for (y, row) in rows.take(self.lists.geometry().vertical.source).enumerate() {
            pack_row(s, self.source.row(self.channel, y), places, row);
        }
    }
}

/// Planes of the destination whose results are summed in the workspace, `rows` rows of each at a time.
struct StagedSums<'a> {
    lists: &'a TapLists,
    source: &'a [f32],
    rows: usize,
    first_plane: usize,
    finishing: Finishing<'a>,
    results: &'a mut [f32],
    relu_output: &'a mut [f32],
    out: ImagesMut<'a>,
}

impl Kernel for StagedSums<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { lists, source, rows, first_plane, finishing, results, relu_output, out } = self;
        let places = lists.destination_places();
        let planes = out.channels();
        let line = lists.geometry().horizontal.destination * lists.geometry().batch;
        for (first, mut band) in (0..).step_by(rows).zip(out.bands(rows)) {
            let height = band.height();
            let plane = height * line + APART;
            let results = &mut results[..planes * plane];
            let accumulate = finishing.accumulate();
            if accumulate {
                for (p, rows) in results.chunks_exact_mut(plane).enumerate() {
                    for (y, row) in rows.chunks_exact_mut(line).take(height).enumerate() {
                        pack_row(s, band.as_ref().row(p, y), places, row);
                    }
                }
            }
            let relu_output = finishing.relu_output().map(|x| {
                let packed = &mut relu_output[..planes * plane];
                for (p, rows) in packed.chunks_exact_mut(plane).enumerate() {
                    for (y, row) in rows.chunks_exact_mut(line).take(height).enumerate() {
                        pack_row(s, x.row(first_plane + p, first + y), places, row);
                    }
                }
                &*packed
            });
            let accumulate = AccumulateSums {
                lists,
                source,
                rows: first..first + height,
                first_plane,
                accumulate,
                finish: finishing.of_planes(first_plane..first_plane + planes, relu_output),
                out: &mut *results,
                plane,
            };
            accumulate.run(s);
            for (p, rows) in results.chunks_exact(plane).enumerate() {
                for (y, row) in rows.chunks_exact(line).take(height).enumerate() {
                    unpack_row(s, row, places, band.row(p, y));
                }
            }
        }
    }
}

/// Some rows of the destination's planes from `first_plane` on, in the working layout.
struct AccumulateSums<'a> {
    lists: &'a TapLists,
    source: &'a [f32],
    rows: Range<usize>,
    first_plane: usize,
    /// Whether sums start from the old values of `out`.
    accumulate: bool,
    finish: Finish<'a>,
    out: &'a mut [f32],
    /// From one plane of `out` to the next.
    plane: usize,
}

/// Rows at equal steps that use the same taps.
#[derive(Clone, Copy)]
struct RowsAlike {
    /// The first one, and their number; each next one is one [`step`](crate::weights::conv_taps::Axis::step) further.
    first: usize,
    count: usize,
    reach: Reach,
}

/// A strip and a block of the lists, which are the same for all planes of the destination.
struct Strip<'a> {
    /// The source from the strip's first column on, in the least row and first plane of the block.
    source: &'a [f32],
    /// Subtracted from each entry's offset: entries count from the block's least source row, `source` begins at the strip's own.
    excess: usize,
    /// Index of the first segment of this block and class, `[planes, slots]`; the slots that these rows use.
    segments: usize,
    slots: Range<usize>,
    /// Where the strip is in each plane of the destination, and its width.
    at: usize,
    columns: usize,
    /// Whether sums start from memory, and whether they end here.
    resume: bool,
    last: bool,
}

impl Kernel for AccumulateSums<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let geometry = self.lists.geometry();
        let step = geometry.vertical.step();
        self.finish_without_terms(s);
        // Partial strips are filled with the rows below. If one position fills a strip, rows are taken one by one, because the
        // neighbour's window is nearer.
        let most = if geometry.batch < CONV_STRIP * S::LANES { CONV_STRIP } else { 1 };
        for block in geometry.blocks() {
            for phase in 0..step.min(self.rows.len()) {
                let mut y = self.rows.start + phase;
                while y < self.rows.end {
                    let reach = geometry.vertical.reach(y);
                    // The step may be larger than the remaining size.
                    let after = |count: usize| y.saturating_add(step.saturating_mul(count));
                    let alike = |&count: &usize| {
                        after(count) < self.rows.end && geometry.vertical.reach(after(count)) == reach
                    };
                    let count = (1..most).take_while(alike).count() + 1;
                    if reach.count > 0 {
                        self.accumulate_rows(s, &block, RowsAlike { first: y, count, reach });
                    }
                    y = after(count);
                }
            }
        }
    }
}

impl AccumulateSums<'_> {
    /// Floats of a row and of a plane of `out`.
    #[inline(always)]
    fn sizes(&self) -> (usize, usize) {
        let line = self.lists.geometry().horizontal.destination * self.lists.geometry().batch;
        (line, self.plane)
    }

    /// Rows without any tap whose source exists: sums without terms.
    #[inline(always)]
    fn finish_without_terms<S: Simd>(&mut self, s: S) {
        let geometry = self.lists.geometry();
        let (line, plane) = self.sizes();
        let none = geometry.blocks().next().is_none();
        for y in self.rows.clone().filter(|&y| none || geometry.vertical.reach(y).count == 0) {
            let at = (y - self.rows.start) * line;
            for (row, out) in self.out.chunks_exact_mut(plane).enumerate() {
                let out = &mut out[at..at + line];
                if !self.accumulate {
                    out.fill(0.0);
                }
                self.finish.apply(s, out, row, at);
            }
        }
    }

    /// One block's part of the sums of some rows.
    #[inline(always)]
    fn accumulate_rows<S: Simd>(&mut self, s: S, block: &TapBlock, rows: RowsAlike) {
        let lists = self.lists;
        let geometry = lists.geometry();
        let batch = geometry.batch;
        let all = geometry.slots(rows.reach);
        let slots = all.start.max(block.first_slot)..all.end.min(block.first_slot + geometry.block_slots);
        if slots.is_empty() {
            return;
        }
        let within = geometry.within(rows.reach, &slots);
        let least = geometry.vertical.least_source(rows.first, within);
        let source = block.source + least * geometry.pitch;
        let (line, _) = self.sizes();
        for span in lists.spans() {
            // Positions that are not neighbours in the destination are separate strips.
            let (parts, columns) = match geometry.span_step {
                1 => (1, span.positions * batch),
                _ => (span.positions, batch),
            };
            for part in 0..parts {
                let column = (span.first + part * geometry.span_step) * batch;
                for at in (0..columns).step_by(CONV_STRIP * S::LANES) {
                    // Without terms the source is not read, so any address is valid.
                    let from = span.source.map_or(0, |first| (first + part) * batch + at);
                    let strip = Strip {
                        source: &self.source[source + from..],
                        excess: geometry.vertical.least_distance(within) * geometry.pitch,
                        segments: geometry.first_segment(block, span.class),
                        slots: slots.start - block.first_slot..slots.end - block.first_slot,
                        at: (rows.first - self.rows.start) * line + column + at,
                        columns: (columns - at).min(CONV_STRIP * S::LANES),
                        resume: self.accumulate || !block.first || slots.start > all.start,
                        last: block.last && slots.end == all.end,
                    };
                    self.accumulate_strips(s, strip, rows.count);
                }
            }
        }
    }

    /// A strip in `rows` rows, as many at once as the registers hold.
    #[inline(always)]
    fn accumulate_strips<S: Simd>(&mut self, s: S, mut strip: Strip<'_>, mut rows: usize) {
        let geometry = self.lists.geometry();
        let (line, _) = self.sizes();
        let vectors = strip.columns.div_ceil(S::LANES).next_power_of_two();
        let full = strip.columns == vectors * S::LANES;
        loop {
            let high = rows.min(CONV_STRIP / vectors);
            let high = if high >= 8 {
                8
            } else if high >= 4 {
                4
            } else if high >= 2 {
                2
            } else {
                1
            };
            match (high, vectors, full) {
                (8, _, true) => self.planes::<S, 8, 1, true>(s, &strip),
                (8, _, false) => self.planes::<S, 8, 1, false>(s, &strip),
                (4, 1, true) => self.planes::<S, 4, 1, true>(s, &strip),
                (4, 1, false) => self.planes::<S, 4, 1, false>(s, &strip),
                (4, _, true) => self.planes::<S, 4, 2, true>(s, &strip),
                (4, _, false) => self.planes::<S, 4, 2, false>(s, &strip),
                (2, 1, true) => self.planes::<S, 2, 1, true>(s, &strip),
                (2, 1, false) => self.planes::<S, 2, 1, false>(s, &strip),
                (2, 2, true) => self.planes::<S, 2, 2, true>(s, &strip),
                (2, 2, false) => self.planes::<S, 2, 2, false>(s, &strip),
                (2, _, true) => self.planes::<S, 2, 4, true>(s, &strip),
                (2, _, false) => self.planes::<S, 2, 4, false>(s, &strip),
                (_, 1, true) => self.planes::<S, 1, 1, true>(s, &strip),
                (_, 1, false) => self.planes::<S, 1, 1, false>(s, &strip),
                (_, 2, true) => self.planes::<S, 1, 2, true>(s, &strip),
                (_, 2, false) => self.planes::<S, 1, 2, false>(s, &strip),
                (_, 4, true) => self.planes::<S, 1, 4, true>(s, &strip),
                (_, 4, false) => self.planes::<S, 1, 4, false>(s, &strip),
                (_, _, true) => self.planes::<S, 1, CONV_STRIP, true>(s, &strip),
                (_, _, false) => self.planes::<S, 1, CONV_STRIP, false>(s, &strip),
            }
            rows -= high;
            if rows == 0 {
                return;
            }
            strip.source = &strip.source[high * geometry.vertical.advance() * geometry.pitch..];
            strip.at += high * geometry.vertical.step() * line;
        }
    }

    /// One strip, in all planes of the destination; `FULL` when its columns fill the vectors.
    #[inline(always)]
    fn planes<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool>(
        &mut self,
        s: S,
        strip: &Strip<'_>,
    ) {
        let geometry = self.lists.geometry();
        let slots = geometry.block_slots;
        let (line, plane) = self.sizes();
        // With a single row, the distance to the next may be larger than memory.
        let distance = |floats: usize, rows: usize| if ROWS > 1 { floats * rows } else { 0 };
        s.outlined(Planes::<ROWS, VECTORS, FULL> {
            strip,
            advance: distance(geometry.pitch, geometry.vertical.advance()),
            step: distance(line, geometry.vertical.step()),
            segments: &self.lists.starts()[strip.segments + self.first_plane * slots..],
            slots,
            entries: self.lists.entries(),
            plane,
            finish: self.finish,
            out: self.out,
        });
    }
}

/// A strip in planes of the destination.
struct Planes<'a, const ROWS: usize, const VECTORS: usize, const FULL: bool> {
    strip: &'a Strip<'a>,
    /// From one row to the next in the source, and in the destination.
    advance: usize,
    step: usize,
    /// The segments of the first plane, and how many each has.
    segments: &'a [usize],
    slots: usize,
    entries: &'a [Entry],
    /// Floats of a plane.
    plane: usize,
    finish: Finish<'a>,
    out: &'a mut [f32],
}

impl<const ROWS: usize, const VECTORS: usize, const FULL: bool> Kernel for Planes<'_, ROWS, VECTORS, FULL> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { strip, advance, step, segments, slots, entries, plane, finish, out } = self;
        let columns = if FULL { VECTORS * S::LANES } else { strip.columns };
        let readable = strip.source.len() - (ROWS - 1) * advance;
        let source: [&[f32]; ROWS] = array_of(&[][..], |r| &strip.source[r * advance..][..readable]);
        for (row, out) in out.chunks_exact_mut(plane).enumerate() {
            let segments = &segments[row * slots..];
            let entries = &entries[segments[strip.slots.start]..segments[strip.slots.end]];
            let mut sums = [[s.splat(0.0); VECTORS]; ROWS];
            if strip.resume {
                for (r, sums) in sums.iter_mut().enumerate() {
                    load_row::<S, VECTORS, FULL>(s, &out[strip.at + r * step..][..columns], sums);
                }
            }
            let sums = add(s, entries, &source, strip.excess, sums);
            for (r, sums) in sums.iter().enumerate() {
                let at = strip.at + r * step;
                let out = &mut out[at..at + columns];
                store_row::<S, VECTORS, FULL>(s, sums, out);
                if strip.last {
                    finish.apply(s, out, row, at);
                }
            }
        }
    }
}

/// The sums plus each kept weight times its source.
#[inline(always)]
fn add<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    entries: &[Entry],
    source: &[&[f32]; ROWS],
    excess: usize,
    mut sums: [[S::F32; VECTORS]; ROWS],
) -> [[S::F32; VECTORS]; ROWS] {
    for &entry in entries {
        let weight = s.splat(value(entry));
        let at = place(entry).wrapping_sub(excess);
        for r in 0..ROWS {
            let source = &source[r][at..][..VECTORS * S::LANES];
            for v in 0..VECTORS {
                sums[r][v] = s.mul_add(weight, s.load(&source[v * S::LANES..]), sums[r][v]);
            }
        }
    }
    sums
}
