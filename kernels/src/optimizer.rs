//! The optimiser steps of pretraining and of edge-popup, each one pass over memory.
//!
//! A step reads four arrays and writes two or three, so memory bounds its speed. Every operation is elementwise: neither lanes
//! nor threads can change a result. docs/tuning.md, "Optimiser steps", explains why the steps are not fused into the weight
//! gradient.

use crate::engine::Engine;
use crate::error::KernelError;
use crate::simd::{Kernel, Simd, array_of};

/// A step of projected SGD: pretraining inside the ε-ball around the random weights ("Strong Lottery Ticket Hypothesis
/// with ε-perturbation", AISTATS 2023, Algorithm 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProjectedStep {
    /// α, the learning rate.
    pub learning_rate: f32,
    /// Momentum; 0 is plain SGD, as in the paper.
    pub momentum: f32,
    /// ε ≥ 0, the largest change of any weight; may be ∞.
    pub epsilon: f32,
}

impl ProjectedStep {
    /// v ← momentum · v + gradient; Δ ← clamp(Δ − α · v, ±ε); w ← w₀ + Δ, elementwise, with `velocity` v, `change` Δ, `initial` w₀ and
    /// `weights` w, which is only written. O(n).
    ///
    /// # Errors
    /// When the slices differ in length.
    ///
    /// ```
    /// use slth_kernels::{Engine, optimizer::ProjectedStep};
    /// let step = ProjectedStep { learning_rate: 0.5, momentum: 0.0, epsilon: 0.25 };
    /// let (gradient, initial) = ([0.25, -8.0], [1.0, 1.0]);
    /// let (mut velocity, mut change, mut weights) = ([0.0; 2], [0.0; 2], initial);
    /// step.apply(Engine::detect()?, &gradient, &initial, &mut velocity, &mut change, &mut weights)?;
    /// assert_eq!(weights, [0.875, 1.25]); // the second one stops at the ball's edge
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply(
        self,
        engine: Engine,
        gradient: &[f32],
        initial: &[f32],
        velocity: &mut [f32],
        change: &mut [f32],
        weights: &mut [f32],
    ) -> Result<(), KernelError> {
        let n = gradient.len();
        KernelError::check_len("initial", &[n], initial.len())?;
        KernelError::check_len("velocity", &[n], velocity.len())?;
        KernelError::check_len("change", &[n], change.len())?;
        KernelError::check_len("weights", &[n], weights.len())?;
        Elementwise([gradient, initial], [velocity, change, weights], self).run_on(engine);
        Ok(())
    }
}

/// A step of edge-popup on the scores: SGD with momentum and weight decay through the straight-through estimator
/// (Ramanujan et al. 2020, arXiv 1911.13299).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreStep {
    /// The learning rate.
    pub learning_rate: f32,
    /// Momentum of SGD.
    pub momentum: f32,
    /// Weight decay of SGD, on the scores.
    pub weight_decay: f32,
}

impl ScoreStep {
    /// g ← sign(score) · w · dW + decay · score; v ← momentum · v + g; score ← score − α · v, elementwise;
    /// sign(0) = 0. `weight_gradient` (dW) is the gradient with respect to the effective weights. O(n).
    ///
    /// # Errors
    /// When the slices differ in length.
    ///
    /// ```
    /// use slth_kernels::{Engine, optimizer::ScoreStep};
    /// let step = ScoreStep { learning_rate: 0.5, momentum: 0.0, weight_decay: 0.0 };
    /// let (dw, weights) = ([2.0, 2.0], [0.25, 0.25]);
    /// let (mut velocity, mut scores) = ([0.0; 2], [1.0, -1.0]);
    /// step.apply(Engine::detect()?, &dw, &weights, &mut velocity, &mut scores)?;
    /// assert_eq!(scores, [0.75, -0.75]); // the gradient reaches |score|
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply(
        self,
        engine: Engine,
        weight_gradient: &[f32],
        weights: &[f32],
        velocity: &mut [f32],
        scores: &mut [f32],
    ) -> Result<(), KernelError> {
        let n = weight_gradient.len();
        KernelError::check_len("weights", &[n], weights.len())?;
        KernelError::check_len("velocity", &[n], velocity.len())?;
        KernelError::check_len("scores", &[n], scores.len())?;
        Elementwise([weight_gradient, weights], [velocity, scores], self).run_on(engine);
        Ok(())
    }
}

/// A rule that computes new values of `STATE` arrays from their old values and two input arrays, element by element.
trait Rule<const STATE: usize>: Copy {
    fn apply<S: Simd>(self, s: S, given: [S::F32; 2], state: [S::F32; STATE]) -> [S::F32; STATE];
}

/// A rule over whole arrays of one length.
struct Elementwise<'a, R, const STATE: usize>([&'a [f32]; 2], [&'a mut [f32]; STATE], R);

/// Elements of a piece of work: enough to outweigh the cost of sharing it.
const PIECE: usize = 32 * 1024;

impl<R: Rule<STATE> + Send + Sync, const STATE: usize> Elementwise<'_, R, STATE> {
    fn run_on(self, engine: Engine) {
        let Elementwise(given, state, rule) = self;
        // All arrays are read and the state is written: a cycle for every 16 bytes.
        let cycles = given[0].len() / 2 * (1 + STATE);
        let [a, b] = given.map(|array| array.chunks(PIECE));
        let mut state = state.map(|array| array.chunks_mut(PIECE));
        let pieces = a.zip(b).map(move |(a, b)| {
            let state = state.each_mut().map(|chunks| chunks.next().unwrap_or_default());
            Elementwise([a, b], state, rule)
        });
        engine.for_work(cycles).for_each(pieces, |piece| engine.backend().run(piece));
    }
}

impl<R: Rule<STATE>, const STATE: usize> Kernel for Elementwise<'_, R, STATE> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Elementwise(given, state, rule) = self;
        let n = given[0].len();
        let whole = n / S::LANES * S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            let old = array_of(s.splat(0.0), |i| s.load(&state[i][at..at + S::LANES]));
            let new = rule.apply(s, array_of(s.splat(0.0), |i| s.load(&given[i][at..at + S::LANES])), old);
            for i in 0..STATE {
                s.store(new[i], &mut state[i][at..at + S::LANES]);
            }
        }
        let old = array_of(s.splat(0.0), |i| s.load_partial(&state[i][whole..]));
        let new = rule.apply(s, array_of(s.splat(0.0), |i| s.load_partial(&given[i][whole..n])), old);
        for i in 0..STATE {
            s.store_partial(new[i], &mut state[i][whole..]);
        }
    }
}

impl Rule<3> for ProjectedStep {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        [gradient, initial]: [S::F32; 2],
        [velocity, change, _]: [S::F32; 3],
    ) -> [S::F32; 3] {
        let velocity = s.mul_add(s.splat(self.momentum), velocity, gradient);
        let moved = s.mul_add(s.splat(-self.learning_rate), velocity, change);
        let change = s.min(s.max(moved, s.splat(-self.epsilon)), s.splat(self.epsilon));
        [velocity, change, s.add(initial, change)]
    }
}

impl Rule<2> for ScoreStep {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, [dw, weights]: [S::F32; 2], [velocity, score]: [S::F32; 2]) -> [S::F32; 2] {
        let gradient = straight_through(s, score, weights, dw);
        let gradient = s.mul_add(s.splat(self.weight_decay), score, gradient);
        let velocity = s.mul_add(s.splat(self.momentum), velocity, gradient);
        [velocity, s.mul_add(s.splat(-self.learning_rate), velocity, score)]
    }
}

/// sign(score) · w · dW, the gradient of a score through the straight-through estimator; sign(0) = 0.
#[inline(always)]
pub(crate) fn straight_through<S: Simd>(s: S, score: S::F32, weight: S::F32, dw: S::F32) -> S::F32 {
    let zero = s.splat(0.0);
    let reached = s.mul(weight, dw);
    let negative = s.select(s.gt(zero, score), s.sub(zero, reached), zero);
    s.select(s.gt(score, zero), reached, negative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;

    fn wave(n: usize, phase: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + phase * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn projected_steps_follow_their_formula() {
        for backend in Backend::available() {
            for n in [0, 1, 3, 7, 8, 9, 16, 31, 100] {
                for epsilon in [0.0, 0.01, f32::INFINITY] {
                    let step = ProjectedStep { learning_rate: 0.1, momentum: 0.9, epsilon };
                    let (gradient, initial) = (wave(n, 1), wave(n, 2));
                    let (mut v, mut change, mut weights) = (wave(n, 3), wave(n, 4), wave(n, 5));
                    change.iter_mut().for_each(|c| *c = c.clamp(-epsilon, epsilon));
                    let (v0, change0) = (v.clone(), change.clone());
                    step.apply(Engine::new(backend), &gradient, &initial, &mut v, &mut change, &mut weights)
                        .unwrap();
                    for i in 0..n {
                        let velocity = 0.9_f32.mul_add(v0[i], gradient[i]);
                        let moved = (-0.1_f32).mul_add(velocity, change0[i]);
                        // Of two zeros these comparisons take the second one, as the instructions for minimum and maximum do.
                        let moved = if moved > -epsilon { moved } else { -epsilon };
                        let moved = if moved < epsilon { moved } else { epsilon };
                        assert_eq!(
                            [v[i], change[i], weights[i]].map(f32::to_bits),
                            [velocity, moved, initial[i] + moved].map(f32::to_bits),
                            "{backend}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn score_steps_follow_their_formula() {
        for backend in Backend::available() {
            for n in [0, 1, 5, 8, 17, 64, 101] {
                let step = ScoreStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4 };
                let (dw, weights) = (wave(n, 1), wave(n, 2));
                let (mut v, mut scores) = (wave(n, 3), wave(n, 4));
                scores.iter_mut().step_by(4).for_each(|s| *s = 0.0);
                let (v0, scores0) = (v.clone(), scores.clone());
                step.apply(Engine::new(backend), &dw, &weights, &mut v, &mut scores).unwrap();
                for i in 0..n {
                    let sign = f32::from(scores0[i] > 0.0) - f32::from(scores0[i] < 0.0);
                    let gradient = 1e-4_f32.mul_add(scores0[i], sign * (weights[i] * dw[i]));
                    let velocity = 0.9_f32.mul_add(v0[i], gradient);
                    assert_eq!(
                        [v[i], scores[i]].map(f32::to_bits),
                        [velocity, (-0.1_f32).mul_add(velocity, scores0[i])].map(f32::to_bits),
                        "{backend}"
                    );
                }
            }
        }
    }

    /// Arrays of numbers in ±`scale`, and an ε of that scale.
    fn numbers(n: usize, scale: f32) -> ([Vec<f32>; 5], f32) {
        let numbers = |phase| wave(n, phase).into_iter().map(|x| x * scale).collect();
        ([1, 2, 3, 4, 5].map(numbers), 0.3 * scale)
    }

    /// The bits of all arrays that the two steps write.
    fn steps(engine: Engine, (arrays, epsilon): &([Vec<f32>; 5], f32)) -> [Vec<u32>; 5] {
        let [a, b, c, d, e] = arrays;
        let step = ScoreStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4 };
        let (mut v, mut scores) = (c.clone(), d.clone());
        step.apply(engine, a, b, &mut v, &mut scores).unwrap();
        let step = ProjectedStep { learning_rate: 0.1, momentum: 0.9, epsilon: *epsilon };
        let (mut w, mut change, mut weights) = (c.clone(), d.clone(), e.clone());
        step.apply(engine, a, b, &mut w, &mut change, &mut weights).unwrap();
        [v, scores, w, change, weights].map(|array| array.into_iter().map(f32::to_bits).collect())
    }

    #[test]
    fn threads_change_nothing() {
        let numbers = numbers(5 * PIECE + 3, 1.0);
        let engine = Engine::new(Backend::best());
        let alone = steps(engine, &numbers);
        for threads in [1, 2, 3, 7] {
            assert!(steps(engine.with_threads(threads), &numbers) == alone, "{threads} threads");
        }
    }

    /// Denormals are not flushed, whatever modes the calling thread and its helpers have set.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_float_environment_of_the_host_changes_nothing() {
        use crate::arch::float_env::{HOSTS, with_bits_of_host};
        // At these scales the numbers, only their products, or neither are denormal.
        for scale in [1e-39, 1e-20, 1.0] {
            let numbers = numbers(3 * PIECE + 5, scale);
            for backend in Backend::available() {
                let expected = steps(Engine::new(backend), &numbers);
                for bits in HOSTS {
                    for threads in [1, 2, 3] {
                        let engine = Engine::new(backend).with_threads(threads);
                        let found = with_bits_of_host(bits, || steps(engine, &numbers));
                        assert!(found == expected, "{backend} {scale:e} {threads} threads, {bits:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let engine = Engine::new(Backend::best());
        let step = ScoreStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0 };
        let short = step.apply(engine, &[0.0; 3], &[0.0; 2], &mut [0.0; 3], &mut [0.0; 3]);
        assert_eq!(short.unwrap_err(), KernelError::Length { what: "weights", expected: 3, found: 2 });
        let step = ProjectedStep { learning_rate: 0.1, momentum: 0.9, epsilon: 0.1 };
        let long = step.apply(engine, &[0.0; 3], &[0.0; 3], &mut [0.0; 3], &mut [0.0; 4], &mut [0.0; 3]);
        assert_eq!(long.unwrap_err(), KernelError::Length { what: "change", expected: 3, found: 4 });
    }
}
