//! Forward and input gradient: the walk over the lists of a [`Plan`].
//!
//! The source is copied to rows of whole cache lines. Then, block by block of the lists, each panel of [`PANEL`] vectors of
//! a run of positions, position and image being one index, keeps its sums in registers while each destination plane walks
//! its kept weights: broadcast the weight, multiply-add it with a panel of the source at the weight's offset. Between
//! blocks the sums rest in the destination, which changes no bit.
//!
//! Cost per kept weight and panel: 8 multiply-adds with one load each. Per block, plane and panel: a start of the
//! pipeline and the sums' way to memory, which is what counts when few weights are kept. Making the lists takes some
//! nanoseconds per kept weight, the copy one pass over the source.

use super::plan::{Direction, Layout, Plan, Run};
use super::{Shape, Weights, Workspace, product};
use crate::engine::Engine;
use crate::error::ShapeError;
use crate::masked_matmul::epilogue::Epilogue;
use crate::masked_matmul::rows::{load_row, store_row};
use crate::simd::{Kernel, Simd};
use crate::sparse::{Entry, column, value};

/// Vectors of a panel: enough independent chains of multiply-adds to hide their latency, few enough for 16 registers. Of
/// a batch of 64, AVX-512 takes two positions at a time: their windows are nearly the same.
const PANEL: usize = 8;

/// The last panel may be read past its end.
const SLACK: usize = PANEL * 32;

#[expect(clippy::too_many_arguments, reason = "both functions behind it check their arguments by name")]
pub(super) fn convolve(
    engine: Engine,
    direction: Direction,
    shape: &Shape,
    filters: Weights<'_>,
    source: &[f32],
    batch: usize,
    epilogue: Epilogue<'_>,
    destination: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), ShapeError> {
    if destination.is_empty() || source.is_empty() || filters.len() == 0 {
        destination.fill(0.0);
        return Ok(());
    }
    let Workspace { plan, panel } = workspace;
    let layout = plan.make(direction, shape, filters, batch)?;
    let length = product("the source", [layout.planes, layout.plane])?.saturating_add(SLACK);
    let panel = panel.get(length);
    let width = source.len() / layout.planes / (layout.plane / layout.pitch);
    engine.for_each_chunk(&mut panel[..length - SLACK], layout.plane, |index, plane| {
        let source = &source[index * (source.len() / layout.planes)..];
        for (to, from) in plane.chunks_exact_mut(layout.pitch).zip(source.chunks_exact(width)) {
            to[..width].copy_from_slice(from);
        }
    });
    let (plan, panel) = (&*plan, &*panel);
    let plane = destination.len() / layout.rows;
    let rows = layout.rows.div_ceil(engine.threads());
    engine.for_each_chunk(destination, rows * plane, |index, out| {
        let first_row = index * rows;
        engine.backend().run(Walk { plan, layout: &layout, panel, batch, first_row, epilogue, out });
    });
    Ok(())
}

/// The planes of the destination from `first_row` on.
struct Walk<'a> {
    plan: &'a Plan,
    layout: &'a Layout,
    panel: &'a [f32],
    batch: usize,
    first_row: usize,
    epilogue: Epilogue<'a>,
    out: &'a mut [f32],
}

/// What is the same for all planes of the destination: a panel of a run in one row, and a block of the lists.
struct Piece<'a> {
    /// The source from the panel's first column on, in the least row and first plane of the block.
    source: &'a [f32],
    /// What the offsets exceed their distance from there by.
    excess: usize,
    /// The block's segments of the run's class, `[rows, slots]`, and which of the slots count.
    segments: usize,
    slots: core::ops::Range<usize>,
    /// Where the panel is in each plane of the destination.
    at: usize,
    /// Whether sums begin and end here.
    first: bool,
    last: bool,
}

impl Kernel for Walk<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (plan, layout, batch) = (self.plan, self.layout, self.batch);
        let line = layout.horizontal.destination * batch;
        let plane = layout.vertical.destination * line;
        let widest = PANEL * S::LANES;
        let [slot_blocks, plane_blocks] = [layout.slot_blocks(), layout.plane_blocks()];
        for block in 0..slot_blocks * plane_blocks {
            let (slot_block, plane_block) = (block / plane_blocks, block % plane_blocks);
            let first_slot = slot_block * layout.block_slots;
            for y in 0..layout.vertical.destination {
                let reach = layout.vertical.reach(y);
                if reach.count == 0 {
                    // No tap's source exists: an empty sum.
                    self.out.chunks_exact_mut(plane).for_each(|plane| plane[y * line..][..line].fill(0.0));
                    continue;
                }
                let all = layout.slots(reach);
                let slots = all.start.max(first_slot)..all.end.min(first_slot + layout.block_slots);
                if slots.is_empty() {
                    continue;
                }
                let within = layout.within(reach, &slots);
                let row = layout.vertical.least_source(y, within);
                let source = plane_block * layout.block_planes * layout.plane + row * layout.pitch;
                for &Run { class, first, positions, source: column } in &plan.runs {
                    let piece = |at: usize| Piece {
                        source: &self.panel[source + column * batch + at..],
                        excess: layout.vertical.least_distance(within) * layout.pitch,
                        segments: layout.first_segment(slot_block, plane_block, class),
                        slots: slots.start - first_slot..slots.end - first_slot,
                        at: y * line + first * batch + at,
                        first: plane_block == 0 && slots.start == all.start,
                        last: plane_block + 1 == plane_blocks && slots.end == all.end,
                    };
                    for at in (0..positions * batch).step_by(widest) {
                        let columns = (positions * batch - at).min(widest);
                        let vectors = columns.div_ceil(S::LANES).next_power_of_two();
                        let piece = piece(at);
                        match (vectors, columns == vectors * S::LANES) {
                            (1, true) => self.planes::<S, 1, true>(s, piece, columns, plane),
                            (1, false) => self.planes::<S, 1, false>(s, piece, columns, plane),
                            (2, true) => self.planes::<S, 2, true>(s, piece, columns, plane),
                            (2, false) => self.planes::<S, 2, false>(s, piece, columns, plane),
                            (4, true) => self.planes::<S, 4, true>(s, piece, columns, plane),
                            (4, false) => self.planes::<S, 4, false>(s, piece, columns, plane),
                            (_, true) => self.planes::<S, PANEL, true>(s, piece, columns, plane),
                            (_, false) => self.planes::<S, PANEL, false>(s, piece, columns, plane),
                        }
                    }
                }
            }
        }
    }
}

impl Walk<'_> {
    /// One piece, in all planes of the destination; `FULL` when its columns fill the vectors.
    #[inline(always)]
    fn planes<S: Simd, const VECTORS: usize, const FULL: bool>(
        &mut self,
        s: S,
        piece: Piece<'_>,
        columns: usize,
        plane: usize,
    ) {
        let slots = self.layout.block_slots;
        s.apart(Planes::<VECTORS, FULL> {
            columns,
            segments: &self.plan.starts[piece.segments + self.first_row * slots..],
            slots,
            entries: &self.plan.entries,
            piece,
            plane,
            first_row: self.first_row,
            epilogue: self.epilogue,
            out: self.out,
        });
    }
}

/// A piece in planes of the destination.
struct Planes<'a, const VECTORS: usize, const FULL: bool> {
    piece: Piece<'a>,
    columns: usize,
    /// The segments of the first plane, and how many each has.
    segments: &'a [usize],
    slots: usize,
    entries: &'a [Entry],
    /// Floats of a plane.
    plane: usize,
    first_row: usize,
    epilogue: Epilogue<'a>,
    out: &'a mut [f32],
}

impl<const VECTORS: usize, const FULL: bool> Kernel for Planes<'_, VECTORS, FULL> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { piece, columns, segments, slots, entries, plane, first_row, epilogue, out } = self;
        let columns = if FULL { VECTORS * S::LANES } else { columns };
        for (row, out) in out.chunks_exact_mut(plane).enumerate() {
            let segments = &segments[row * slots..];
            let entries = &entries[segments[piece.slots.start]..segments[piece.slots.end]];
            let out = &mut out[piece.at..piece.at + columns];
            let mut sums = [s.splat(0.0); VECTORS];
            if !piece.first {
                load_row::<S, VECTORS, FULL>(s, out, &mut sums);
            }
            let sums = add(s, entries, piece.source, piece.excess, sums);
            store_row::<S, VECTORS, FULL>(s, &sums, out);
            if piece.last {
                epilogue.apply(s, out, (first_row + row) * plane + piece.at);
            }
        }
    }
}

/// The sums plus each kept weight times the source it meets.
#[inline(always)]
fn add<S: Simd, const VECTORS: usize>(
    s: S,
    entries: &[Entry],
    source: &[f32],
    excess: usize,
    mut sums: [S::F32; VECTORS],
) -> [S::F32; VECTORS] {
    for &entry in entries {
        let weight = s.splat(value(entry));
        let source = &source[column(entry).wrapping_sub(excess)..][..VECTORS * S::LANES];
        for v in 0..VECTORS {
            sums[v] = s.mul_add(weight, s.load(&source[v * S::LANES..]), sums[v]);
        }
    }
    sums
}
