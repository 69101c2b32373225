//! Max-pooling and ReLU between an edge-popup convolution and the next layer, forward and backward, with the batch innermost.
//!
//! Of a window's equal largest elements the first one wins; with NaN the last NaN wins, as in PyTorch. ReLU keeps NaN. The
//! backward pass needs only the winner's place in its window, row by row.

use slth_kernels::Engine;

/// The winner of a window whose largest element ReLU has made 0: no gradient goes back.
const NOBODY: u32 = u8::MAX as u32;

/// The largest window's side: places in a window are told from [`NOBODY`].
pub(crate) const MOST: usize = 15;

/// `a` if the condition holds, else `b`, without a branch: which element wins cannot be predicted, and a loop with branches is not vectorised.
#[inline(always)]
fn select(condition: bool, a: u32, b: u32) -> u32 {
    let mask = u32::from(condition).wrapping_neg();
    (a & mask) | (b & !mask)
}

/// What is pooled: planes of `height` × `width` of `batch` images, `[planes, height, width, batch]`, by windows of `side` × `side` that do not
/// overlap; what is left at the lower and right edges belongs to none.
#[derive(Clone, Copy)]
pub(crate) struct Pool {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) batch: usize,
    pub(crate) side: usize,
    pub(crate) relu: bool,
}

impl Pool {
    /// Whether nothing follows.
    pub(crate) fn is_identity(&self) -> bool {
        self.side == 1 && !self.relu
    }

    /// Elements of this many pooled planes.
    pub(crate) fn len(&self, planes: usize) -> usize {
        let [rows, columns] = self.windows();
        planes * rows * columns * self.batch
    }

    /// Elements of this many planes.
    pub(crate) fn unpooled(&self, planes: usize) -> usize {
        planes * self.height * self.width * self.batch
    }

    fn windows(&self) -> [usize; 2] {
        [self.height / self.side, self.width / self.side]
    }

    /// Calls `work` for each window of a plane: its number, and where each of its elements begins in the plane.
    fn for_each_window(&self, mut work: impl FnMut(usize, &dyn Fn(usize) -> usize)) {
        let Self { width, batch, side, .. } = *self;
        let [rows, columns] = self.windows();
        for window in 0..rows * columns {
            let (row, column) = (window / columns * side, window % columns * side);
            work(window, &|place| ((row + place / side) * width + column + place % side) * batch);
        }
    }

    /// `x` to its windows' largest elements, `[planes, windows, batch]`, and their winners.
    pub(crate) fn forward(&self, engine: Engine<'_>, x: &[f32], largest: &mut [f32], winners: &mut [u8]) {
        let Self { height, width, batch, side, relu } = *self;
        let pooled = self.windows().into_iter().product::<usize>() * batch;
        if pooled == 0 {
            return;
        }
        let planes =
            x.chunks(height * width * batch).zip(largest.chunks_mut(pooled)).zip(winners.chunks_mut(pooled));
        // Also for its floating-point environment: comparisons must tell denormals from 0.
        engine.for_each(planes, |((x, largest), winners)| {
            // As wide as the numbers, for vector code.
            let mut places = vec![0_u32; batch];
            self.for_each_window(|window, begin| {
                let largest = &mut largest[window * batch..][..batch];
                largest.copy_from_slice(&x[begin(0)..][..batch]);
                places.fill(0);
                for place in 1..(side * side) as u32 {
                    let x = &x[begin(place as usize)..][..batch];
                    for ((largest, winner), &x) in largest.iter_mut().zip(&mut places).zip(x) {
                        let wins = (x > *largest) | x.is_nan();
                        *largest = f32::from_bits(select(wins, x.to_bits(), largest.to_bits()));
                        *winner = select(wins, place, *winner);
                    }
                }
                if relu {
                    for (largest, winner) in largest.iter_mut().zip(&mut places) {
                        let is_on = (*largest > 0.0) | largest.is_nan();
                        *largest = f32::from_bits(select(is_on, largest.to_bits(), 0));
                        *winner = select(is_on, *winner, NOBODY);
                    }
                }
                let winners = &mut winners[window * batch..][..batch];
                winners.iter_mut().zip(&places).for_each(|(winner, &place)| *winner = place as u8);
            });
        });
    }

    /// The gradient of `x` from that of the windows' largest elements, which `gradient(plane, window, into)` gives for a whole batch.
    pub(crate) fn backward(
        &self,
        engine: Engine<'_>,
        gradient: impl Fn(usize, usize, &mut [f32]) + Sync,
        winners: &[u8],
        dx: &mut [f32],
    ) {
        let Self { height, width, batch, side, .. } = *self;
        let [rows, columns] = self.windows();
        let pooled = rows * columns * batch;
        let is_covered = [rows * side, columns * side] == [height, width];
        if height * width * batch == 0 {
            return;
        }
        engine.for_each(dx.chunks_mut(height * width * batch).enumerate(), |(plane, dx)| {
            if !is_covered {
                dx.fill(0.0);
            }
            let (mut dy, mut places) = (vec![0.0; batch], vec![0_u32; batch]);
            self.for_each_window(|window, begin| {
                gradient(plane, window, &mut dy);
                let winners = &winners[plane * pooled + window * batch..][..batch];
                places.iter_mut().zip(winners).for_each(|(place, &winner)| *place = winner.into());
                for place in 0..(side * side) as u32 {
                    let dx = &mut dx[begin(place as usize)..][..batch];
                    for ((dx, &dy), &winner) in dx.iter_mut().zip(&dy).zip(&places) {
                        *dx = if winner == place { dy } else { 0.0 };
                    }
                }
            });
        });
    }
}
