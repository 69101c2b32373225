//! Top-k selection: nanoseconds per score, ours against `select_nth_unstable` of the standard library on the bits and a
//! mere read of the scores, in turns on one thread; the minimum of the rounds, as other work on a machine only ever adds.
//! Every mask is compared with that of a full sort before it is timed.
//!
//! `cargo bench -p slth-kernels --bench top_k [-- filter]`; a filter is part of a row's name, as `10000000` or `organ`.

use std::hint::black_box;
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use slth_kernels::top_k::{Order, Selection, Selector, keep_n_of_m};
use slth_kernels::{Backend, Engine, PackedMask};

const ORDER: Order = Order::Magnitude;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this without `--bench`: then it only has to start.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let filter = arguments.into_iter().find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let selected = |name: &str| name.contains(&filter);

    println!(
        "{:<38} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "ns per score (minimum)", "backend", "cold", "warm", "read", "std", "std/cold"
    );
    for n in [392_000, 10_000_000] {
        for percent in [10, 50, 90] {
            let name = format!("normal n={n} keep={percent}%");
            if selected(&name) {
                compare(&name, &normal(n), n / 100 * percent);
            }
        }
    }
    for n in [1_000, 10_000, 100_000, 1_000_000, 30_000_000] {
        let name = format!("normal n={n} keep=50%");
        if selected(&name) {
            compare(&name, &normal(n), n / 2);
        }
    }
    for n in [1_000, 392_000, 30_000_000] {
        for (kind, make) in KINDS {
            let name = format!("{kind} n={n} keep=50%");
            if selected(&name) {
                compare(&name, &make(n), n / 2);
            }
        }
    }
    if selected("2:4") {
        structured(392_000, 2, 4);
        structured(392_000, 4, 8);
    }
}

type Kind = (&'static str, fn(usize) -> Vec<f32>);

const KINDS: [Kind; 9] = [
    ("sorted", |n| (0..n).map(|i| i as f32).collect()),
    ("reversed", |n| (0..n).map(|i| (n - i) as f32).collect()),
    ("constant", |n| vec![0.5; n]),
    ("two-valued", |n| normal(n).into_iter().map(|x| if x > 0.2 { 1.0 } else { 2.0 }).collect()),
    ("denormal", |n| normal(n).into_iter().map(|x| f32::from_bits((x.abs() * 1e5) as u32)).collect()),
    ("outlier", |n| {
        let mut scores: Vec<f32> = normal(n).into_iter().map(|x| x * 1e-30).collect();
        scores[n / 3] = 1e30;
        scores
    }),
    ("organ-pipe", |n| (0..n).map(|i| i.min(n - i) as f32).collect()),
    ("median-of-3 killer", killer),
    ("rows of one value", |n| {
        let rows = normal(n / 500 + 1);
        (0..n).map(|i| rows[i / 500]).collect()
    }),
];

/// The permutation on which quickselect with the median of three takes quadratic time (Musser 1997).
fn killer(n: usize) -> Vec<f32> {
    let half = n / 2;
    (0..n)
        .map(|i| match i {
            i if i >= half => 2 * (i - half) + 2,
            i if i % 2 == 0 => i + 1,
            i => half + i,
        })
        .map(|x| x as f32)
        .collect()
}

fn normal(n: usize) -> Vec<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(n as u64);
    // Sums of 12 uniforms: normal enough, to 6 standard deviations.
    (0..n).map(|_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0).collect()
}

fn compare(name: &str, scores: &[f32], keep: usize) {
    let n = scores.len();
    let expected = by_sorting(scores, keep);
    // As they were a step earlier: each moved by 1 % of their spread, and all of them together by as much.
    let mean = scores.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    let variance = scores.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
    let noise = normal(n + 1);
    let earlier: Vec<f32> = scores
        .iter()
        .zip(&noise)
        .map(|(&x, &z)| 1.01 * x + 0.01 * variance.sqrt().min(1e30) as f32 * z)
        .collect();
    let backends: Vec<Backend> = Backend::available();
    let mut selector = Selector::default();
    let mut masks = [PackedMask::none_kept(n)];
    let cold = Selection::largest(keep, ORDER);
    let hint = selector.select(Engine::new(backends[0]), &[&earlier], cold, &mut masks).unwrap();
    let warm = cold.near(hint);
    for &backend in &backends {
        for selection in [cold, warm] {
            selector.select(Engine::new(backend), &[scores], selection, &mut masks).unwrap();
            assert!(masks[0] == expected, "{name}: wrong mask on {backend}");
        }
    }
    let mut bits = Vec::with_capacity(n);
    let rounds = (30_000_000 / n).clamp(5, 301);
    let mut times = vec![Vec::new(); 2 * backends.len() + 2];
    for _ in 0..rounds {
        for (i, &backend) in backends.iter().enumerate() {
            for (j, selection) in [cold, warm].into_iter().enumerate() {
                times[2 * i + j].push(time(n, || {
                    selector
                        .select(Engine::new(backend), black_box(&[scores]), selection, &mut masks)
                        .unwrap()
                }));
            }
        }
        // What memory allows: one pass that does next to nothing.
        times[2 * backends.len()]
            .push(time(n, || black_box(scores).iter().fold(0, |or, x| or | x.to_bits())));
        times[2 * backends.len() + 1].push(time(n, || {
            bits.clear();
            bits.extend(black_box(scores).iter().map(|x| x.to_bits() & 0x7fff_ffff));
            *bits.select_nth_unstable(n - keep).1
        }));
    }
    let minima: Vec<f64> = times.iter().map(|times| minimum(times)).collect();
    let (read, std) = (minima[2 * backends.len()], minima[2 * backends.len() + 1]);
    for (i, backend) in backends.iter().enumerate() {
        let (cold, warm) = (minima[2 * i], minima[2 * i + 1]);
        println!(
            "{name:<38} {:>7} {cold:>8.3} {warm:>8.3} {read:>8.3} {std:>8.3} {:>8.1}",
            backend.name(),
            std / cold
        );
    }
}

fn structured(n: usize, keep: usize, group: usize) {
    let scores = normal(n);
    let mut mask = PackedMask::none_kept(n);
    for backend in Backend::available() {
        let engine = Engine::new(backend);
        let times: Vec<f64> = (0..100)
            .map(|_| time(n, || keep_n_of_m(engine, black_box(&scores), keep, group, ORDER, &mut mask)))
            .collect();
        println!("{keep}:{group} n={n:<26} {:>7} {:>8.3}", backend.name(), minimum(&times));
    }
}

fn by_sorting(scores: &[f32], keep: usize) -> PackedMask {
    let mut ranks: Vec<u64> = scores
        .iter()
        .enumerate()
        .map(|(i, x)| u64::from(x.to_bits() & 0x7fff_ffff) << 32 | i as u64)
        .collect();
    ranks.sort_unstable();
    let mut mask = PackedMask::none_kept(scores.len());
    ranks[scores.len() - keep..].iter().for_each(|rank| mask.set((rank & 0xffff_ffff) as usize, true));
    mask
}

fn time<T>(n: usize, mut work: impl FnMut() -> T) -> f64 {
    let mut once = || {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_nanos() as f64 / n as f64
    };
    // Twice, so that what came before does not decide what lies in the caches.
    core::array::from_fn::<f64, 2, _>(|_| once()).into_iter().fold(f64::INFINITY, f64::min)
}

fn minimum(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}
