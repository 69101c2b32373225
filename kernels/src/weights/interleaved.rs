//! Kept weights of eight rows, interleaved: the format of sparse products with up to 32 columns.
//!
//! With few columns a product is bound by the latency of each output's chain, so eight outputs advance together. For a block of
//! up to [`KC`] columns the rows of a band are sorted by their number of kept weights, and eight neighbours form a group. Each
//! step of a group stores the next kept weight of each row, until the shortest row ends. The tails of longer rows follow row by
//! row (about 1 % of the weights). Values and columns are two streams, in the order in which a product reads them: 6 bytes per
//! kept weight, 4 with bf16.
//!
//! A removed weight is never multiplied. Rows of zeros fill the last group of a band; their sums are discarded.
//!
//! Cost of a new mask: one pass to count, one to fill, about twice the time of the blocked format. Measurements: docs/tuning.md, "Few columns".

use super::stored::{Storage, Stored, Values};
use crate::aligned::AlignedVec;
use crate::engine::Engine;
use crate::mask::PackedMaskRef;
use crate::simd::{Kernel, Simd};

/// Rows of a group.
pub(crate) const GROUP: usize = 8;

/// Most columns of a block: a power of two, so that a column within a block needs no check.
pub(crate) const KC: usize = 512;

/// Maximum number of rows of a band. A thread's share is at least one band; the more rows are sorted together, the shorter are
/// the tails.
const BAND: usize = 512;

/// The kept weights of a matrix `[rows, columns]`.
#[derive(Clone, Debug)]
pub(crate) struct Interleaved {
    rows: usize,
    columns: usize,
    /// Rows of a band; a multiple of [`GROUP`].
    band: usize,
    /// Columns of a block.
    width: usize,
    kept: usize,
    /// By band, then block.
    groups: Vec<Group>,
    /// Where the weights of each block of each band begin, and where the last ones end.
    starts: Vec<usize>,
    values: Values,
    places: Vec<u16>,
}

/// Eight rows of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Their indices in the band; for a row of zeros the number of the band's rows.
    rows: [u16; GROUP],
    /// Number of steps: kept weights of the shortest row.
    steps: u16,
    /// Length of each row's tail.
    tails: [u16; GROUP],
}

/// The kept weights of a band's rows in one block of columns.
#[derive(Clone, Copy)]
pub(crate) struct BandBlock<'a, T> {
    /// The block's first column.
    pub(crate) first_input: usize,
    groups: &'a [Group],
    values: &'a [T],
    places: &'a [u16],
}

/// The kept weights of a group. A place is a column within the block.
pub(crate) struct GroupWeights<'a, T> {
    /// The rows' indices in the band; for a row of zeros the number of the band's rows.
    pub(crate) rows: &'a [u16; GROUP],
    /// The next kept weight of each row, step by step.
    pub(crate) values: &'a [[T; GROUP]],
    pub(crate) places: &'a [[u16; GROUP]],
    /// The tails of longer rows, row by row.
    pub(crate) tails: Tails<'a, T>,
}

/// The tails of a group, one row's after the other's.
pub(crate) struct Tails<'a, T> {
    lengths: &'a [u16; GROUP],
    values: &'a [T],
    places: &'a [u16],
}

impl<'a, T> Tails<'a, T> {
    /// The tail of row `row`; rows in ascending order.
    #[inline(always)]
    pub(crate) fn take(&mut self, row: usize) -> (&'a [T], &'a [u16]) {
        let length = usize::from(self.lengths[row]);
        let (values, places) = (self.values.split_at(length), self.places.split_at(length));
        (self.values, self.places) = (values.1, places.1);
        (values.0, places.0)
    }
}

impl<'a, T> Iterator for BandBlock<'a, T> {
    type Item = GroupWeights<'a, T>;

    #[inline(always)]
    fn next(&mut self) -> Option<GroupWeights<'a, T>> {
        let (Group { rows, steps, tails }, groups) = self.groups.split_first()?;
        let together = usize::from(*steps) * GROUP;
        let beyond = tails.iter().map(|&tail| usize::from(tail)).sum();
        let (values, rest) = self.values.split_at(together);
        let (tail_values, later_values) = rest.split_at(beyond);
        let (places, rest) = self.places.split_at(together);
        let (tail_places, later_places) = rest.split_at(beyond);
        (self.groups, self.values, self.places) = (groups, later_values, later_places);
        Some(GroupWeights {
            rows,
            values: values.as_chunks().0,
            places: places.as_chunks().0,
            tails: Tails { lengths: tails, values: tail_values, places: tail_places },
        })
    }
}

impl Interleaved {
    pub(super) fn new(rows: usize, columns: usize, storage: Storage) -> Self {
        let bands = rows.div_ceil(BAND).max(1);
        let blocks = columns.div_ceil(KC).max(1);
        Self {
            rows,
            columns,
            band: rows.div_ceil(bands).next_multiple_of(GROUP).max(GROUP),
            // Blocks have about the same size, because a short last one would cost as much as a full one.
            width: columns.div_ceil(blocks).next_multiple_of(8).clamp(1, KC),
            kept: 0,
            groups: Vec::new(),
            starts: Vec::new(),
            values: Values::new(storage),
            places: Vec::new(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Number of kept weights.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// Rows of each band; the last may have fewer.
    pub(crate) fn band_rows(&self) -> usize {
        self.band
    }

    /// Number of blocks of columns.
    pub(crate) fn blocks(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    fn bands(&self) -> usize {
        self.rows.div_ceil(self.band)
    }

    /// Groups of each block of `band`.
    fn groups_of(&self, band: usize) -> usize {
        self.band.min(self.rows - band * self.band).div_ceil(GROUP)
    }

    /// The values of the kept weights, for [`band_block`](Self::band_block).
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// The kept weights of `band` in `block`; `values` are those of the whole matrix.
    pub(crate) fn band_block<'a, T>(
        &'a self,
        values: &'a [T],
        band: usize,
        block: usize,
    ) -> BandBlock<'a, T> {
        let count = self.groups_of(band);
        let first = band * self.blocks() * (self.band / GROUP) + block * count;
        let part = band * self.blocks() + block;
        let weights = self.starts[part]..self.starts[part + 1];
        BandBlock {
            first_input: block * self.width,
            groups: &self.groups[first..first + count],
            values: &values[weights.clone()],
            places: &self.places[weights],
        }
    }

    /// Bytes of memory held.
    pub(super) fn bytes_held(&self) -> usize {
        self.groups.capacity() * size_of::<Group>()
            + self.starts.capacity() * size_of::<usize>()
            + self.values.bytes_held()
            + self.places.capacity() * size_of::<u16>()
    }

    /// Calls `take(row, column, weight)` for each kept weight, in no particular order.
    pub(super) fn for_each(&self, take: impl FnMut(usize, usize, f32)) {
        match &self.values {
            Values::F32(values) => self.for_each_of(values, take),
            Values::Bf16(values) => self.for_each_of(values, take),
        }
    }

    fn for_each_of<T: Stored>(&self, values: &[T], mut take: impl FnMut(usize, usize, f32)) {
        // Without weights there may be any number of rows.
        for band in 0..if self.kept > 0 { self.bands() } else { 0 } {
            let rows = self.band.min(self.rows - band * self.band);
            for block in 0..self.blocks() {
                let weights = self.band_block(values, band, block);
                let first_input = weights.first_input;
                for mut group in weights {
                    for (lane, &row) in group.rows.iter().enumerate() {
                        let (tail_values, tail_places) = group.tails.take(lane);
                        if usize::from(row) == rows {
                            continue;
                        }
                        let steps = group.values.iter().zip(group.places);
                        let steps = steps.map(|(values, places)| (values[lane], places[lane]));
                        let tail = tail_values.iter().copied().zip(tail_places.iter().copied());
                        for (value, place) in steps.chain(tail) {
                            take(
                                band * self.band + usize::from(row),
                                first_input + usize::from(place),
                                value.widen(),
                            );
                        }
                    }
                }
            }
        }
    }

    /// Stores the weights of `weights` `[rows, columns]` that `mask` keeps. Reallocates only when nnz exceeds its previous
    /// maximum.
    pub(super) fn build(&mut self, engine: Engine, weights: &[f32], mask: PackedMaskRef<'_>, kept: usize) {
        self.kept = kept;
        if weights.is_empty() {
            return; // of any number of rows
        }
        let (rows, columns, band, width) = (self.rows, self.columns, self.band, self.width);
        let (bands, blocks) = (self.bands(), self.blocks());
        let groups: usize = (0..bands).map(|band| self.groups_of(band)).sum::<usize>() * blocks;
        self.groups.resize(groups, Group::default());
        self.starts.clear();
        self.starts.resize(bands * blocks + 1, 0);
        let engine = engine.for_work(weights.len());
        let of_band = |index: usize| Band {
            mask,
            first_row: index * band,
            rows: band.min(rows - index * band),
            columns,
            width,
        };
        // Groups, and the number of stored weights of each block of each band.
        let counted = self.groups.chunks_mut(band / GROUP * blocks).zip(self.starts[1..].chunks_mut(blocks));
        engine.for_each(counted.enumerate(), |(index, (groups, sizes))| {
            engine.backend().run(CountKept { band: of_band(index), groups, sizes });
        });
        for part in 0..bands * blocks {
            self.starts[part + 1] += self.starts[part];
        }
        // Includes the zeros that fill groups, so that another mask with as many kept weights fits too.
        let room = kept + rows.next_multiple_of(GROUP).abs_diff(rows) * columns;
        let (starts, groups) = (&self.starts, &self.groups);
        self.places.reserve_exact(room.saturating_sub(self.places.len()));
        self.places.resize(starts[bands * blocks], 0);
        let mut places = &mut self.places[..];
        let parts = groups.chunks(band / GROUP * blocks).enumerate().map(|(index, groups)| {
            let size = starts[(index + 1) * blocks] - starts[index * blocks];
            let places = places.split_off_mut(..size).expect("as many as were counted");
            BandPart { band: of_band(index), weights, groups, places }
        });
        match &mut self.values {
            Values::F32(values) => fill(engine, parts, values, starts[bands * blocks], room),
            Values::Bf16(values) => fill(engine, parts, values, starts[bands * blocks], room),
        }
    }
}

/// Fills the bands with their weights, `len` values in all.
fn fill<'a, T: Stored>(
    engine: Engine,
    parts: impl Iterator<Item = BandPart<'a>> + Send,
    values: &mut AlignedVec<T>,
    len: usize,
    room: usize,
) {
    values.resize(len, room);
    let mut rest = &mut values[..];
    let parts = parts.map(|part| {
        let values = rest.split_off_mut(..part.places.len()).expect("as many as were counted");
        Fill { part, values }
    });
    engine.for_each(parts, |fill| engine.backend().run(fill));
}

/// A band under construction.
#[derive(Clone, Copy)]
struct Band<'a> {
    mask: PackedMaskRef<'a>,
    first_row: usize,
    rows: usize,
    columns: usize,
    /// Columns of a block.
    width: usize,
}

/// Sorts the rows of each block into groups, and counts the stored weights of each block.
struct CountKept<'a> {
    band: Band<'a>,
    groups: &'a mut [Group],
    sizes: &'a mut [usize],
}

impl Kernel for CountKept<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Self { band: Band { mask, first_row, rows: all_rows, columns, width }, groups, sizes } = self;
        let mut counts = [0_u16; BAND];
        let mut order = [0_u16; BAND];
        let of_block = all_rows.div_ceil(GROUP);
        let blocks = groups.chunks_mut(of_block).zip(sizes).zip((0..).step_by(width));
        for ((groups, size), first) in blocks {
            let width = width.min(columns - first);
            // Where the rows of each count begin, most weights first.
            let mut first_of_count = [0_u16; KC + 2];
            for (row, count) in counts[..all_rows].iter_mut().enumerate() {
                *count = mask.kept_in((first_row + row) * columns + first, width) as u16;
                first_of_count[KC - usize::from(*count) + 1] += 1;
            }
            for at in 1..first_of_count.len() {
                first_of_count[at] += first_of_count[at - 1];
            }
            for (row, &count) in counts[..all_rows].iter().enumerate() {
                let at = &mut first_of_count[KC - usize::from(count)];
                order[usize::from(*at)] = row as u16;
                *at += 1;
            }
            *size = 0;
            for (group, rows) in groups.iter_mut().zip(order[..all_rows].chunks(GROUP)) {
                let steps = counts[usize::from(rows[rows.len() - 1])];
                *group = Group { rows: [all_rows as u16; GROUP], steps, tails: [0; GROUP] };
                *size += usize::from(steps) * GROUP;
                for (lane, &row) in rows.iter().enumerate() {
                    let tail = counts[usize::from(row)] - steps;
                    (group.rows[lane], group.tails[lane]) = (row, tail);
                    *size += usize::from(tail);
                }
            }
        }
    }
}

/// A band to be filled.
struct BandPart<'a> {
    band: Band<'a>,
    weights: &'a [f32],
    groups: &'a [Group],
    places: &'a mut [u16],
}

/// Stores the kept weights at the places that [`CountKept`] computed.
struct Fill<'a, T> {
    part: BandPart<'a>,
    values: &'a mut [T],
}

impl<T: Stored> Kernel for Fill<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Self { part: BandPart { band, weights, groups, places }, values } = self;
        let Band { mask, first_row, rows: all_rows, columns, width } = band;
        let of_block = all_rows.div_ceil(GROUP);
        let mut base = 0;
        for (groups, first) in groups.chunks(of_block).zip((0..).step_by(width)) {
            let width = width.min(columns - first);
            for group in groups {
                let steps = usize::from(group.steps);
                let mut tail = base + steps * GROUP;
                for (lane, (&row, &beyond)) in group.rows.iter().zip(&group.tails).enumerate() {
                    let own = usize::from(row) < all_rows;
                    if !own {
                        for at in (base + lane..).step_by(GROUP).take(steps) {
                            (values[at], places[at]) = (T::default(), 0);
                        }
                        continue;
                    }
                    let start = (first_row + usize::from(row)) * columns + first;
                    let weights = &weights[start..start + width];
                    let mut done = 0;
                    for (column, weights) in (0..).step_by(64).zip(weights.chunks(64)) {
                        let mut word = mask.word(start + column) & (u64::MAX >> (64 - weights.len()));
                        while word != 0 {
                            let at =
                                if done < steps { base + done * GROUP + lane } else { tail + done - steps };
                            let i = word.trailing_zeros() as usize;
                            (values[at], places[at]) = (T::of(weights[i]), (column + i) as u16);
                            word &= word - 1;
                            done += 1;
                        }
                    }
                    tail += usize::from(beyond);
                }
                base = tail;
            }
        }
    }
}
