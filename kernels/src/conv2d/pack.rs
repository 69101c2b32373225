//! Copies rows of images to and from the working layout: batch innermost, columns in the order of the lists.
//!
//! A row is a matrix `[width, batch]`. If its columns are contiguous in memory (`[batch, channels, height, width]`), it is
//! transposed tile by tile in registers.

use crate::arch::rows::{Rows, RowsMut};
use crate::panel::{Block, copy_padded, pack, unpack};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};

/// Most rows of a tile that is transposed.
const MOST: usize = 16;

/// `to[place(x) * batch + n] = from[x, n]`, where `place(x)` is `places[x]`, or x where there are none.
#[inline(always)]
pub(super) fn pack_row<S: Simd>(s: S, from: MatRef<'_>, places: &[u32], to: &mut [f32]) {
    let (width, batch) = (from.rows(), from.cols());
    if batch == 0 {
        return;
    }
    if places.is_empty() {
        return match from.cells.as_slice() {
            Some(from) => copy_padded(s, from, &mut to[..from.len()]),
            None => pack(s, from, Block { row: 0, rows: width, col: 0, cols: batch }, to, batch),
        };
    }
    let place = |x: usize| places[x] as usize * batch;
    if batch > 1 && from.has_runs() {
        for x in 0..width {
            copy_padded(s, from.run(x, 0, batch), &mut to[place(x)..][..batch]);
        }
        return;
    }
    if batch == 1 && from.row_stride() == 1 {
        for (&x, &place) in from.t().run(0, 0, width).iter().zip(places) {
            to[place as usize] = x;
        }
        return;
    }
    let side = S::TRANSPOSE;
    let across = from.row_stride() == 1;
    let whole = if across { (width / side * side, batch / side * side) } else { (0, 0) };
    let mut tile = [0.0; MOST * MOST];
    for n in (0..whole.1).step_by(side) {
        for x in (0..whole.0).step_by(side) {
            let rows = RowsMut::of(&mut tile, side, side, side);
            s.transpose(from.t().block(n, x, side, side), rows);
            for (j, row) in tile.chunks_exact(side).take(side).enumerate() {
                to[place(x + j) + n..][..side].copy_from_slice(row);
            }
        }
    }
    for x in 0..width {
        let first = if x < whole.0 { whole.1 } else { 0 };
        let to = &mut to[place(x)..][..batch];
        to.iter_mut().enumerate().skip(first).for_each(|(n, to)| *to = from.get(x, n));
    }
}

/// `to[x, n] = from[place(x) * batch + n]`.
#[inline(always)]
pub(super) fn unpack_row<S: Simd>(s: S, from: &[f32], places: &[u32], mut to: MatMut<'_>) {
    let (width, batch) = (to.rows(), to.cols());
    if places.is_empty() {
        return match to.cells.into_slice() {
            Ok(to) => copy_padded(s, &from[..to.len()], to),
            Err(cells) => {
                let block = Block { row: 0, rows: width, col: 0, cols: batch };
                unpack(s, from, batch, &mut MatMut { cells }, block);
            }
        };
    }
    let place = |x: usize| places[x] as usize * batch;
    if batch > 1 && to.has_runs() {
        for x in 0..width {
            copy_padded(s, &from[place(x)..][..batch], to.run(x, 0, batch));
        }
        return;
    }
    if batch == 1 && to.row_stride() == 1 {
        for (to, &place) in to.t().run(0, 0, width).iter_mut().zip(places) {
            *to = from[place as usize];
        }
        return;
    }
    let side = S::TRANSPOSE;
    let across = to.row_stride() == 1;
    let whole = if across { (width / side * side, batch / side * side) } else { (0, 0) };
    let mut tile = [0.0; MOST * MOST];
    for n in (0..whole.1).step_by(side) {
        for x in (0..whole.0).step_by(side) {
            for (j, row) in tile.chunks_exact_mut(side).take(side).enumerate() {
                row.copy_from_slice(&from[place(x + j) + n..][..side]);
            }
            s.transpose(Rows::of(&tile, side, side, side), to.reborrow().t().block(n, x, side, side));
        }
    }
    for x in 0..width {
        let first = if x < whole.0 { whole.1 } else { 0 };
        let from = &from[place(x)..][..batch];
        from.iter().enumerate().skip(first).for_each(|(n, &from)| to.set(x, n, from));
    }
}
