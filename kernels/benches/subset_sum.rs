//! Subset sum: µs per target and sums per second, per backend, beside a plain scalar meet in the middle.
//!
//! Every result is checked before it is timed. The contestants take turns, each several times; medians are
//! printed. `cargo bench --bench subset_sum [-- --quick]`

use std::hint::black_box;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use slth_kernels::subset_sum::{Coverage, Method, Search, Subset};
use slth_kernels::{Backend, Engine};

/// The peer: both halves' sums sorted by merging in candidate order, then a pointer into each; 64-bit
/// integers, payload in the low bits; ε = 0.
fn plain_two_pointer(candidates: &[f32], target: f32) -> u64 {
    let units = |x: f32| (f64::from(x) * f64::from(1 << 24)).round() as i64;
    let (low, high) = candidates.split_at(candidates.len() / 2);
    let sorted = |candidates: &[f32]| {
        let mut list = vec![(0_i64, 0_u32)];
        for (j, &x) in candidates.iter().enumerate() {
            let plus: Vec<_> = list.iter().map(|&(sum, set)| (sum + units(x), set | 1 << j)).collect();
            let mut merged = Vec::with_capacity(2 * list.len());
            let (mut i, mut k) = (0, 0);
            while i < list.len() && k < plus.len() {
                if list[i].0 <= plus[k].0 {
                    merged.push(list[i]);
                    i += 1;
                } else {
                    merged.push(plus[k]);
                    k += 1;
                }
            }
            merged.extend_from_slice(&list[i..]);
            merged.extend_from_slice(&plus[k..]);
            list = merged;
        }
        list
    };
    let (a, b) = (sorted(low), sorted(high));
    let target = units(target);
    let (mut i, mut k) = (0, b.len());
    let (mut best, mut found) = (i64::MAX, 0);
    while i < a.len() && k > 0 {
        let distance = a[i].0 + b[k - 1].0 - target;
        if distance.abs() < best {
            best = distance.abs();
            found = u64::from(b[k - 1].1) << low.len() | u64::from(a[i].1);
        }
        if distance <= 0 {
            i += 1;
        } else {
            k -= 1;
        }
    }
    found
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A name, the targets per run, and a run.
type Contestant<'a> = (String, usize, Box<dyn FnMut() + 'a>);

struct Contest<'a> {
    rows: Vec<Contestant<'a>>,
}

impl<'a> Contest<'a> {
    fn add(&mut self, name: impl Into<String>, targets: usize, run: impl FnMut() + 'a) {
        self.rows.push((name.into(), targets, Box::new(run)));
    }

    /// Median µs per target of each contestant.
    fn run(mut self, rounds: usize) -> Vec<(String, f64)> {
        let mut times = vec![Vec::new(); self.rows.len()];
        for _ in 0..rounds {
            for ((_, targets, run), times) in self.rows.iter_mut().zip(&mut times) {
                let start = Instant::now();
                run();
                times.push(start.elapsed().as_secs_f64() * 1e6 / *targets as f64);
            }
        }
        self.rows.into_iter().zip(times).map(|((name, ..), times)| (name, median(times))).collect()
    }
}

fn uniform(random: &mut Xoshiro256PlusPlus, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
}

fn searches(rounds: usize) {
    println!("nearest subset, fresh candidates per target, ε = 0 (µs per target, one thread)");
    for n in 16..=30 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(n as u64);
        let count = match n {
            ..=24 => 192,
            25..=26 => 32,
            _ => 16,
        };
        let candidates = uniform(&mut random, n * count);
        let targets: Vec<f32> = (0..count).map(|_| random.random_range(-0.5..0.5)).collect();
        let mut expected = vec![Subset::default(); count];
        Search::default()
            .nearest_each(Engine::new(Backend::best()), &candidates, n, &targets, &mut expected)
            .unwrap();
        for ((row, &target), expected) in candidates.chunks(n).zip(&targets).zip(&expected) {
            let peer = Subset { bits: plain_two_pointer(row, target), residual: 0.0 };
            let residual = (peer.sum(row) - f64::from(target)).abs();
            assert!((residual - expected.residual).abs() < 4e-6, "n = {n}");
        }
        let mut contest = Contest { rows: Vec::new() };
        let (candidates, targets, expected) = (&candidates, &targets, &expected);
        let sample = count.min(16);
        contest.add("plain two-pointer", sample, move || {
            for (row, &target) in candidates.chunks(n).zip(&targets[..sample]) {
                black_box(plain_two_pointer(row, target));
            }
        });
        for backend in Backend::available() {
            let engine = Engine::new(backend);
            for (method, name) in
                [(Method::SortingNetwork, "networks"), (Method::MeetInTheMiddle, "two-pointer")]
            {
                let count = match method {
                    Method::SortingNetwork => count,
                    _ => sample,
                };
                let skip = method == Method::MeetInTheMiddle && backend != Backend::best();
                if skip {
                    continue;
                }
                let search = Search { epsilon: 0.0, method };
                let mut out = vec![Subset::default(); count];
                search
                    .nearest_each(engine, &candidates[..count * n], n, &targets[..count], &mut out)
                    .unwrap();
                assert_eq!(out, expected[..count]);
                contest.add(format!("{name} {backend}"), count, move || {
                    search
                        .nearest_each(engine, &candidates[..count * n], n, &targets[..count], &mut out)
                        .unwrap();
                    black_box(&out);
                });
            }
        }
        let results = contest.run(if n > 26 { rounds.min(5) } else { rounds });
        let peer = results[0].1;
        for (name, time) in results {
            println!("  n = {n}  {name:22} {time:12.2}  {:8.1} x plain", peer / time);
        }
    }
}

fn large(rounds: usize) {
    println!("two-pointer, one target (ms, one thread)");
    for n in [32, 36, 40, 44, 48] {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(n as u64);
        let candidates = &uniform(&mut random, n);
        let engine = Engine::new(Backend::best());
        let mut contest = Contest { rows: Vec::new() };
        for epsilon in [0.0, 1e-12] {
            let search = Search { epsilon, ..Search::default() };
            contest.add(format!("ε = {epsilon:e}"), 1000, move || {
                black_box(search.nearest(engine, candidates, 0.3).unwrap());
            });
        }
        for (name, time) in contest.run(rounds.min(3)) {
            println!("  n = {n}  {name:10} {time:10.2}");
        }
    }
}

/// Candidates are even multiples of 2⁻¹², targets odd ones: no residual is 0, so no search ends early.
fn brute_force(rounds: usize) {
    println!("brute force (µs per target, one thread)");
    for n in 16..=30 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(n as u64);
        let grid = |x: f32| (x * 2048.0).round() / 2048.0;
        let candidates = &uniform(&mut random, n).into_iter().map(grid).collect::<Vec<f32>>();
        let target = grid(random.random_range(-0.5..0.5)) + 1.0 / 4096.0;
        for epsilon in [0.0, 1e-6] {
            let expected = Search { epsilon, ..Search::default() }.nearest(
                Engine::new(Backend::best()),
                candidates,
                target,
            );
            let mut contest = Contest { rows: Vec::new() };
            for backend in Backend::available() {
                if backend.name() == "scalar" && n > 24 {
                    continue;
                }
                let search = Search { epsilon, method: Method::BruteForce };
                let engine = Engine::new(backend);
                assert_eq!(search.nearest(engine, candidates, target), expected);
                let repeat = (1 << 22 >> n).max(1);
                contest.add(backend.name(), repeat, move || {
                    for _ in 0..repeat {
                        black_box(search.nearest(engine, candidates, black_box(target)).unwrap());
                    }
                });
            }
            for (name, time) in contest.run(if n > 26 { rounds.min(5) } else { rounds }) {
                let rate = (1_u64 << n) as f64 / time / 1e3;
                println!("  n = {n}  ε = {epsilon:<8}  {name:8} {time:12.2}  {rate:6.1} G sums/s");
            }
        }
    }
}

fn shared(rounds: usize) {
    println!("one set of n candidates, 784 targets (µs per target, one thread)");
    for (n, epsilon) in [(16, 0.0), (21, 0.0), (24, 0.0), (21, 1e-7), (21, 1e-5), (21, 1e-3)] {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let candidates = &uniform(&mut random, n);
        let targets = &uniform(&mut random, 784);
        let mut expected = vec![Subset::default(); 784];
        let search = Search { epsilon, ..Search::default() };
        search.nearest_many(Engine::new(Backend::scalar()), candidates, targets, &mut expected).unwrap();
        let mut contest = Contest { rows: Vec::new() };
        for backend in Backend::available() {
            let engine = Engine::new(backend);
            let mut out = vec![Subset::default(); 784];
            search.nearest_many(engine, candidates, targets, &mut out).unwrap();
            assert_eq!(out, expected);
            contest.add(backend.name(), 784, move || {
                search.nearest_many(engine, candidates, targets, &mut out).unwrap();
            });
        }
        for (name, time) in contest.run(rounds) {
            println!("  n = {n}  ε = {epsilon:<6}  {name:10} {time:10.3}");
        }
    }
}

fn perturbed(rounds: usize) {
    println!("nearest subset, fresh candidates per target, n = 21, ε > 0 (µs per target, one thread)");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
    let (n, count) = (21, 96);
    let candidates = &uniform(&mut random, n * count);
    let targets = &uniform(&mut random, count);
    for epsilon in [1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1] {
        let search = Search { epsilon, ..Search::default() };
        let mut contest = Contest { rows: Vec::new() };
        for backend in Backend::available() {
            let engine = Engine::new(backend);
            let mut out = vec![Subset::default(); count];
            contest.add(backend.name(), count, move || {
                search.nearest_each(engine, candidates, n, targets, &mut out).unwrap();
            });
        }
        for (name, time) in contest.run(rounds) {
            println!("  ε = {epsilon:<6}  {name:10} {time:10.3}");
        }
    }
}

fn coverage(rounds: usize) {
    println!("coverage of [-1/2, 1/2], from nothing to n candidates (ms, one thread; G intervals/s)");
    for (n, eta, ratio) in
        [(16, 1e-6, 0.0), (20, 1e-6, 0.0), (24, 1e-7, 0.0), (24, 1e-7, 1.0), (20, 1e-6, 10.0)]
    {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        let candidates = &uniform(&mut random, n);
        let mut contest = Contest { rows: Vec::new() };
        for backend in Backend::available() {
            let engine = Engine::new(backend);
            contest.add(backend.name(), 1000, move || {
                let mut coverage = Coverage::new(-0.5, 0.5, ratio * eta, eta).unwrap();
                for &x in candidates {
                    black_box(coverage.push(engine, x).unwrap());
                }
            });
        }
        for (name, time) in contest.run(rounds.min(7)) {
            let rate = (1_u64 << n) as f64 / time / 1e6;
            println!("  n = {n}  η = {eta:e}  ε/η = {ratio:<3}  {name:10} {time:10.3}  {rate:6.2}");
        }
    }
    println!("required candidates, every z: mean ms per trial (best backend), 90 % quantile of n*");
    for eta in [1e-2, 1e-3, 1e-4, 1e-5] {
        for ratio in [0.0, 1.0, 5.0, 10.0] {
            let engine = Engine::new(Backend::best());
            let mut random = Xoshiro256PlusPlus::seed_from_u64(4);
            let trials = if eta < 5e-5 { 20 } else { 100 };
            let start = Instant::now();
            let mut needed: Vec<usize> = (0..trials)
                .map(|_| {
                    let mut coverage = Coverage::new(-0.5, 0.5, ratio * eta, eta).unwrap();
                    let more = |_: &usize| !coverage.push(engine, random.random_range(-1.0..1.0)).unwrap();
                    (1..30).take_while(more).count() + 1
                })
                .collect();
            let time = start.elapsed().as_secs_f64() * 1e3 / trials as f64;
            needed.sort_unstable();
            println!("  η = {eta:e}  ε/η = {ratio:<3} {time:10.3} ms  n* {}", needed[trials * 9 / 10]);
        }
    }
}

/// The experiment's size: every weight of 784-500-10 from 21 candidates, drawing included.
fn network(_: usize) {
    println!("397,000 weights, n = 21 (s, best backend, one thread)");
    let (n, weights, block) = (21, 397_000, 3970);
    let engine = Engine::new(Backend::best());
    for epsilon in [0.0, 1e-4, 1e-2] {
        let search = Search { epsilon, ..Search::default() };
        let mut random = Xoshiro256PlusPlus::seed_from_u64(6);
        let mut out = vec![Subset::default(); block];
        let start = Instant::now();
        for _ in 0..weights / block {
            let candidates = uniform(&mut random, n * block);
            let targets = uniform(&mut random, block);
            search.nearest_each(engine, &candidates, n, &targets, &mut out).unwrap();
        }
        println!("  ε = {epsilon:<7} fresh candidates per weight  {:8.3}", start.elapsed().as_secs_f64());
        let start = Instant::now();
        for _ in 0..weights / 784 + 1 {
            let candidates = uniform(&mut random, n);
            let targets = uniform(&mut random, 784);
            search.nearest_many(engine, &candidates, &targets, &mut out[..784]).unwrap();
        }
        println!("  ε = {epsilon:<7} one set per row              {:8.3}", start.elapsed().as_secs_f64());
    }
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let rounds = if quick { 5 } else { 21 };
    let wanted = |name: &str| {
        let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
        named.is_empty() || named.iter().any(|arg| arg == name)
    };
    for (name, run) in [
        ("searches", searches as fn(usize)),
        ("brute_force", brute_force),
        ("large", large),
        ("shared", shared),
        ("perturbed", perturbed),
        ("coverage", coverage),
        ("network", network),
    ] {
        if wanted(name) {
            run(rounds);
        }
    }
}
