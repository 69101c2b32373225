//! Max-pooling, lanes over the batch: plain loops over the images, which the compiler vectorises.

use slth_kernels::Engine;

use super::stage::Pool;

/// Images at a time. The compiler vectorises loops of this fixed length, and keeps a window's images in registers; loops over
/// slices of any length stay scalar, with a branch per element.
const LANES: usize = 16;

/// A window's place in an input plane.
#[derive(Clone, Copy)]
struct Window {
    /// Where its first batch begins.
    first: usize,
    size: usize,
    /// Stride from a column to the next.
    column: usize,
    /// Stride from a row to the next.
    row: usize,
}

impl Window {
    /// Calls `visit` with the place of image `image` at each pixel, row by row.
    #[inline(always)]
    fn each(self, image: usize, mut visit: impl FnMut(usize)) {
        let mut row = self.first + image;
        for _ in 0..self.size {
            (0..self.size).for_each(|column| visit(row + column * self.column));
            row += self.row;
        }
    }
}

impl Pool {
    /// The largest of each window: x `[channels, height, width, batch]` → y `[channels, out height, out width, batch]`. The
    /// planes are shared among the engine's threads.
    pub fn forward(self, engine: Engine, x: &[f32], batch: usize, y: &mut [f32]) {
        let [from, to] = self.planes(batch);
        let whole = batch - batch % LANES;
        engine.for_each(x.chunks_exact(from).zip(y.chunks_exact_mut(to)), |(x, y)| {
            for (index, y) in y.chunks_exact_mut(batch).enumerate() {
                let window = self.window(index, batch);
                let (y, rest) = y.split_at_mut(whole);
                largest::<LANES>(x, window, 0, y);
                largest::<1>(x, window, whole, rest);
            }
        });
    }

    /// The gradient at the input: that of each window goes to its largest element, or to the first of equal ones, row by row.
    pub fn backward(self, engine: Engine, [x, y]: [&[f32]; 2], dy: &[f32], batch: usize, dx: &mut [f32]) {
        let [from, to] = self.planes(batch);
        let whole = batch - batch % LANES;
        let left_out = !self.height.is_multiple_of(self.size) || !self.width.is_multiple_of(self.size);
        let y = y.chunks_exact(to).zip(dy.chunks_exact(to));
        let x = x.chunks_exact(from).zip(dx.chunks_exact_mut(from));
        engine.for_each(x.zip(y), |((x, dx), (y, dy))| {
            if left_out {
                dx.fill(0.0);
            }
            for (index, (y, dy)) in y.chunks_exact(batch).zip(dy.chunks_exact(batch)).enumerate() {
                let window = self.window(index, batch);
                let ((y, y_rest), (dy, dy_rest)) = (y.split_at(whole), dy.split_at(whole));
                pass_on::<LANES>([x, y, dy], window, 0, dx);
                pass_on::<1>([x, y_rest, dy_rest], window, whole, dx);
            }
        });
    }

    /// Elements of an input plane and of an output plane.
    fn planes(self, batch: usize) -> [usize; 2] {
        let [out_height, out_width] = self.output_plane();
        [self.height * self.width * batch, out_height * out_width * batch]
    }

    fn window(self, index: usize, batch: usize) -> Window {
        let [_, out_width] = self.output_plane();
        let first = index / out_width * self.size * self.width + index % out_width * self.size;
        Window { first: first * batch, size: self.size, column: batch, row: self.width * batch }
    }
}

/// The largest of `window` for the images from `first` on, `N` at a time.
#[inline(always)]
fn largest<const N: usize>(x: &[f32], window: Window, first: usize, y: &mut [f32]) {
    for (y, image) in y.as_chunks_mut::<N>().0.iter_mut().zip((first..).step_by(N)) {
        let images = |at: usize| x[at..].first_chunk::<N>().copied().unwrap_or([f32::NAN; N]);
        let mut most = images(window.first + image);
        window.each(image, |at| {
            let x = images(at);
            most = std::array::from_fn(|i| if x[i] > most[i] { x[i] } else { most[i] });
        });
        *y = most;
    }
}

/// Adds the window's gradient where x equals y, the largest of its window; only to the first of equal ones.
#[inline(always)]
fn pass_on<const N: usize>([x, y, dy]: [&[f32]; 3], window: Window, first: usize, dx: &mut [f32]) {
    let windows = y.as_chunks::<N>().0.iter().zip(dy.as_chunks::<N>().0);
    for ((y, dy), image) in windows.zip((first..).step_by(N)) {
        let mut left = *dy;
        window.each(image, |at| {
            let (Some(x), Some(dx)) = (x[at..].first_chunk::<N>(), dx[at..].first_chunk_mut::<N>()) else {
                return;
            };
            let is_largest: [bool; N] = std::array::from_fn(|i| x[i] == y[i]);
            *dx = std::array::from_fn(|i| if is_largest[i] { left[i] } else { 0.0 });
            left = std::array::from_fn(|i| if is_largest[i] { 0.0 } else { left[i] });
        });
    }
}
