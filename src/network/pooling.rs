//! Max-pooling, the batch in the lanes: plain loops over the images that the compiler turns into vector code.

use slth_kernels::Engine;

use super::stage::Pool;

impl Pool {
    /// The largest of each window: x `[channels, height, width, batch]` → y `[channels, out height, out width, batch]`. The
    /// planes are shared among the engine's threads.
    pub(super) fn forward(self, engine: Engine, x: &[f32], batch: usize, y: &mut [f32]) {
        let [out_height, out_width] = self.output_plane();
        let plane = |(x, y): (&[f32], &mut [f32])| {
            for (index, y) in y.chunks_exact_mut(batch).enumerate() {
                let mut places = self.window(index).map(|place| &x[place * batch..][..batch]);
                if let Some(first) = places.next() {
                    y.copy_from_slice(first);
                }
                for x in places {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = if x > *y { x } else { *y };
                    }
                }
            }
        };
        let (from, to) = (self.height * self.width * batch, out_height * out_width * batch);
        engine.for_each(x.chunks_exact(from).zip(y.chunks_exact_mut(to)), plane);
    }

    /// The gradient at the input: each window's goes to its largest element, of equal ones to the first, row by row. `dy`
    /// is used up.
    pub(super) fn backward(
        self,
        engine: Engine,
        [x, y]: [&[f32]; 2],
        dy: &mut [f32],
        batch: usize,
        dx: &mut [f32],
    ) {
        let [out_height, out_width] = self.output_plane();
        let (from, to) = (self.height * self.width * batch, out_height * out_width * batch);
        let y = y.chunks_exact(to).zip(dy.chunks_exact_mut(to));
        let x = x.chunks_exact(from).zip(dx.chunks_exact_mut(from));
        engine.for_each(x.zip(y), |((x, dx), (y, dy))| self.backward_plane([x, y], dy, batch, dx));
    }

    fn backward_plane(self, [x, y]: [&[f32]; 2], dy: &mut [f32], batch: usize, dx: &mut [f32]) {
        if self.height % self.size + self.width % self.size > 0 {
            // Rows and columns that are left out.
            dx.fill(0.0);
        }
        for (index, (y, dy)) in y.chunks_exact(batch).zip(dy.chunks_exact_mut(batch)).enumerate() {
            for place in self.window(index) {
                let at = place * batch..(place + 1) * batch;
                pass_on(&x[at.clone()], y, dy, &mut dx[at]);
            }
        }
    }

    /// The places in an input plane of window `index`, row by row.
    fn window(self, index: usize) -> impl Iterator<Item = usize> {
        let [_, out_width] = self.output_plane();
        let first = index / out_width * self.size * self.width + index % out_width * self.size;
        (0..self.size * self.size).map(move |i| first + i / self.size * self.width + i % self.size)
    }
}

/// Where x is the largest of its window, y, it gets what is left of the window's gradient. Sixteen at a time: a loop over
/// slices of any length stayed scalar, with a branch per element, which took 29 % of LeNet-5's training time.
fn pass_on(x: &[f32], y: &[f32], dy: &mut [f32], dx: &mut [f32]) {
    let (x, x_rest) = x.as_chunks::<16>();
    let (y, y_rest) = y.as_chunks::<16>();
    let (dy, dy_rest) = dy.as_chunks_mut::<16>();
    let (dx, dx_rest) = dx.as_chunks_mut::<16>();
    for ((dx, dy), (x, y)) in dx.iter_mut().zip(dy).zip(x.iter().zip(y)) {
        let largest: [bool; 16] = std::array::from_fn(|i| x[i] == y[i]);
        let given: [f32; 16] = std::array::from_fn(|i| if largest[i] { dy[i] } else { 0.0 });
        *dy = std::array::from_fn(|i| if largest[i] { 0.0 } else { dy[i] });
        *dx = given;
    }
    for ((dx, dy), (x, y)) in dx_rest.iter_mut().zip(dy_rest).zip(x_rest.iter().zip(y_rest)) {
        *dx = if x == y { *dy } else { 0.0 };
        *dy = if x == y { 0.0 } else { *dy };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_give_their_largest_and_it_gets_the_gradient() {
        for (channels, height, width, size, batch) in
            [(1, 2, 2, 2, 1), (3, 5, 7, 2, 5), (2, 6, 6, 3, 64), (1, 4, 3, 1, 2), (2, 7, 5, 3, 9)]
        {
            let pool = Pool { channels, height, width, size };
            let [out_height, out_width] = pool.output_plane();
            // Few different values: many equal ones in a window.
            let x: Vec<f32> =
                (0..channels * height * width * batch).map(|i| (i * i % 7 % 4) as f32).collect();
            let n = channels * out_height * out_width * batch;
            let gradient: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
            let (mut expected_y, mut expected_dx) = (vec![0.0; n], vec![0.0; x.len()]);
            for c in 0..channels {
                for to in 0..out_height * out_width * batch {
                    let (oy, ox, b) = (to / batch / out_width, to / batch % out_width, to % batch);
                    let mut best = None;
                    for i in 0..size {
                        for j in 0..size {
                            let at = ((c * height + oy * size + i) * width + ox * size + j) * batch + b;
                            if best.is_none_or(|best: usize| x[at] > x[best]) {
                                best = Some(at);
                            }
                        }
                    }
                    let at = c * out_height * out_width * batch + to;
                    expected_y[at] = x[best.unwrap()];
                    expected_dx[best.unwrap()] = gradient[at];
                }
            }
            for threads in [1, 2] {
                let engine = Engine::serial().with_threads(threads);
                let (mut y, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; x.len()]);
                pool.forward(engine, &x, batch, &mut y);
                assert_eq!(y, expected_y);
                pool.backward(engine, [&x, &y], &mut gradient.clone(), batch, &mut dx);
                assert_eq!(dx, expected_dx);
            }
        }
    }
}
