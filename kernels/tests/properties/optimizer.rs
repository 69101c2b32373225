//! Optimiser steps.

use proptest::prelude::*;
use slth_kernels::optimizer::{ProjectedStep, ScoreStep};

use crate::support::{Guarded, assert_same, cases, everywhere, numbers, offset, size};

/// Lengths; occasionally long enough to be split over threads.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![7 => size(300), 1 => 41_000..100_000_usize]
}

fn factor() -> impl Strategy<Value = f32> {
    prop_oneof![4 => 0.0_f32..1.0, 1 => Just(0.0_f32), 1 => -3.0_f32..3.0]
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn projected_steps(
        n in len(),
        numbers in numbers(),
        [learning_rate, momentum] in [factor(), factor()],
        epsilon in prop_oneof![Just(0.0), 0.0_f32..0.5, Just(f32::INFINITY)],
        offsets in [offset(), offset(), offset(), offset(), offset()],
    ) {
        let step = ProjectedStep { learning_rate, momentum, epsilon };
        let of = |stream: u32| Guarded::of(&numbers.take(n, stream), offsets[stream as usize]);
        let [gradient, initial, velocity, change] = [of(0), of(1), of(2), of(3)];
        let v: Vec<f32> = (0..n).map(|i| momentum.mul_add(velocity[i], gradient[i])).collect();
        let moved = |i: usize| {
            let moved = (-learning_rate).mul_add(v[i], change[i]);
            // Comparisons written so that a NaN becomes −ε.
            let moved = if moved > -epsilon { moved } else { -epsilon };
            if moved < epsilon { moved } else { epsilon }
        };
        let d: Vec<f32> = (0..n).map(moved).collect();
        let w: Vec<f32> = (0..n).map(|i| initial[i] + d[i]).collect();
        everywhere(|engine| {
            let (mut velocity, mut change) = (velocity.clone(), change.clone());
            let mut weights = Guarded::unset(n, offsets[4]);
            step.apply(engine, &gradient, &initial, &mut velocity, &mut change, &mut weights).unwrap();
            assert_same(&velocity, &v, engine);
            assert_same(&change, &d, engine);
            assert_same(&weights, &w, engine);
        });
    }

    #[test]
    fn score_steps(
        n in len(),
        numbers in numbers(),
        [learning_rate, momentum, weight_decay] in [factor(), factor(), factor()],
        offsets in [offset(), offset(), offset(), offset()],
    ) {
        let step = ScoreStep { learning_rate, momentum, weight_decay };
        let of = |stream: u32| Guarded::of(&numbers.take(n, stream), offsets[stream as usize]);
        let [dw, weights, velocity, scores] = [of(0), of(1), of(2), of(3)];
        let gradient = |i: usize| {
            let reached = weights[i] * dw[i];
            let signed = match scores[i] {
                s if s > 0.0 => reached,
                s if s < 0.0 => 0.0 - reached,
                _ => 0.0, // for NaN too
            };
            weight_decay.mul_add(scores[i], signed)
        };
        let v: Vec<f32> = (0..n).map(|i| momentum.mul_add(velocity[i], gradient(i))).collect();
        let s: Vec<f32> = (0..n).map(|i| (-learning_rate).mul_add(v[i], scores[i])).collect();
        everywhere(|engine| {
            let (mut velocity, mut scores) = (velocity.clone(), scores.clone());
            step.apply(engine, &dw, &weights, &mut velocity, &mut scores).unwrap();
            assert_same(&velocity, &v, engine);
            assert_same(&scores, &s, engine);
        });
    }

    /// Slices of different lengths are an error.
    #[test]
    fn lengths_fit_or_are_errors(lens in [0..3_usize, 0..3_usize, 0..3_usize, 0..3_usize, 0..3_usize]) {
        let given = [1.0; 3];
        let [a, b] = [&given[..lens[0]], &given[..lens[1]]];
        everywhere(|engine| {
            let mut state = [[1.0_f32; 3]; 3];
            let [c, d, e] = &mut state;
            let (c, d, e) = (&mut c[..lens[2]], &mut d[..lens[3]], &mut e[..lens[4]]);
            let step = ProjectedStep { learning_rate: 0.1, momentum: 0.9, epsilon: 0.1 };
            let same = |lens: &[usize]| lens.iter().all(|&len| len == lens[0]);
            assert_eq!(step.apply(engine, a, b, c, d, e).is_ok(), same(&lens));
            let step = ScoreStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.1 };
            assert_eq!(step.apply(engine, a, b, c, d).is_ok(), same(&lens[..4]));
        });
    }
}
