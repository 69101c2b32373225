//! Subset sums: nearest subsets by every method, coverage.
//!
//! The peer is the textbook's meet in the middle: both halves' sums sorted, a pointer into each.

use std::hint::black_box;
use std::sync::Arc;

use slth_kernels::subset_sum::{Coverage, Method, Search, Subset};
use slth_kernels::{Backend, Engine, roofline};

use super::case::{Case, Contestant, Kernel, Machinery, Scale};
use super::check::ensure;
use super::measurement::{Role, Task, Unit};
use crate::error::Error;
use crate::random::{Purpose, Stream};

/// What the theory's network needs for 1/η = 100.
const CANDIDATES: usize = 21;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |operation: &str, shape: &[usize], epsilon: f64, prepare: Prepare| {
        let task = Task {
            kernel: Kernel::SubsetSum,
            operation: operation.to_owned(),
            shape: shape.to_vec(),
            sparsity: None,
            epsilon: Some(epsilon),
        };
        cases.push(Case::new(task, prepare));
    };
    let (fresh, brute, shared): (&[usize], &[usize], &[usize]) = match scale {
        Scale::Smoke => (&[8], &[8], &[8]),
        Scale::Quick => (&[16, 21, 24], &[21, 24], &[21]),
        Scale::Full => {
            const EVERY: [usize; 15] = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30];
            const SOME: [usize; 9] = [16, 18, 20, 21, 22, 24, 26, 28, 30];
            (&EVERY, &SOME, &SOME)
        }
    };
    fresh.iter().for_each(|&n| add("nearest, fresh candidates", &[n], 0.0, nearest_each));
    brute.iter().for_each(|&n| add("brute force", &[n], 0.0, brute_force));
    shared.iter().for_each(|&n| add("nearest, one set", &[n], 0.0, nearest_many));
    match scale {
        Scale::Smoke => {
            add("nearest, fresh candidates", &[8], 1e-3, nearest_each);
            add("coverage within 0.01", &[6], 0.0, |m, t| coverage(m, t, 0.01));
            add("weights of a network", &[3, 2], 0.0, network);
        }
        Scale::Quick => {
            add("nearest, fresh candidates", &[CANDIDATES], 1e-3, nearest_each);
            add("coverage within 1e-6", &[20], 0.0, |m, t| coverage(m, t, 1e-6));
        }
        Scale::Full => {
            for epsilon in [1e-7, 1e-5, 1e-3, 1e-1] {
                add("nearest, fresh candidates", &[CANDIDATES], epsilon, nearest_each);
            }
            [CANDIDATES, 24].into_iter().for_each(|n| add("brute force", &[n], 1e-6, brute_force));
            for epsilon in [1e-7, 1e-5, 1e-3] {
                add("nearest, one set", &[CANDIDATES], epsilon, nearest_many);
            }
            for n in [32, 40, 48] {
                add("nearest, one target", &[n], 0.0, large);
            }
            for (n, epsilon) in [(16, 0.0), (20, 0.0), (20, 1e-5)] {
                add("coverage within 1e-6", &[n], epsilon, |m, t| coverage(m, t, 1e-6));
            }
            for epsilon in [0.0, 1e-7] {
                add("coverage within 1e-7", &[24], epsilon, |m, t| coverage(m, t, 1e-7));
            }
            for epsilon in [0.0, 1e-4] {
                add("weights of a network", &[784, 500, 10], epsilon, network);
            }
        }
    }
    cases
}

type Prepare = fn(&Machinery, &Task) -> Result<Vec<Contestant>, Error>;

fn uniform(index: usize, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(1, Purpose::Benchmark, 20 + index, 0);
    (0..len).map(|_| stream.symmetric(1.0)).collect()
}

fn search(task: &Task, method: Method) -> Search {
    Search { epsilon: task.epsilon.unwrap_or(0.0) as f32, method }
}

/// Both halves' sums sorted by merging in candidate order, then a pointer into each; 64-bit integers, the subset beside
/// the sum; ε = 0.
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

/// The contestants of a search, all to find the same.
struct Searches<'a> {
    machinery: &'a Machinery,
    task: &'a Task,
    expected: Option<Vec<Subset>>,
    contestants: Vec<Contestant>,
}

impl<'a> Searches<'a> {
    fn new(machinery: &'a Machinery, task: &'a Task) -> Self {
        Self { machinery, task, expected: None, contestants: Vec::new() }
    }

    /// `work` is that of one run, which fills `targets` subsets.
    fn add(
        &mut self,
        who: &str,
        (engine, threads): (Engine<'_>, usize),
        (unit, work): (Unit, f64),
        targets: usize,
        mut run: impl FnMut(&mut [Subset]) + Send + 'static,
    ) -> Result<(), Error> {
        // No search finds this: a refusal leaves it, and does not pass the check.
        let mut found = vec![Subset { bits: u64::MAX, residual: f64::NAN }; targets];
        run(&mut found);
        let expected = self.expected.get_or_insert_with(|| found.clone());
        ensure(found[..] == expected[..targets], self.task, who)?;
        let contestant = Contestant::new(who, Role::Ours, unit, work, move || run(black_box(&mut found)));
        self.contestants.push(contestant.on(engine.backend()).with_threads(self.machinery, threads));
        Ok(())
    }
}

fn nearest_each(machinery: &Machinery, task: &Task) -> Result<Vec<Contestant>, Error> {
    let n = task.shape[0];
    let count = match n {
        ..=24 => 192,
        25..=26 => 32,
        _ => 16,
    };
    let candidates = Arc::new(uniform(0, n * count));
    let targets: Arc<Vec<f32>> = Arc::new(uniform(1, count).into_iter().map(|z| z / 2.0).collect());
    let mut all = Searches::new(machinery, task);
    let mut add = |who: &str, method, on: (Engine<'static>, usize), count: usize| {
        let (candidates, targets, search) = (candidates.clone(), targets.clone(), search(task, method));
        all.add(who, on, (Unit::Target, count as f64), count, move |out| {
            let _ = search.nearest_each(on.0, &candidates[..count * n], n, &targets[..count], out);
        })
    };
    for on in machinery.engines() {
        add("slth", Method::Auto, on, count)?;
    }
    let best = (Engine::new(machinery.best()), 1);
    add("slth two-pointer", Method::MeetInTheMiddle, best, count.min(16))?;
    if n <= 24 {
        add("slth brute force", Method::BruteForce, best, count.min(16))?;
    }
    if task.epsilon == Some(0.0) {
        let sample = count.min(16);
        let right = |i: usize| {
            let row = &candidates[i * n..(i + 1) * n];
            let subset = Subset { bits: plain_two_pointer(row, targets[i]), residual: 0.0 };
            let residual = (subset.sum(row) - f64::from(targets[i])).abs();
            all.expected.as_ref().is_some_and(|all| (all[i].residual - residual).abs() < 4e-6)
        };
        ensure((0..sample).all(right), task, "plain two-pointer")?;
        let run = move || {
            for (row, &target) in candidates.chunks(n).zip(&targets[..sample]) {
                black_box(plain_two_pointer(row, target));
            }
        };
        all.contestants.push(Contestant::new(
            "plain two-pointer",
            Role::Peer,
            Unit::Target,
            sample as f64,
            run,
        ));
    }
    Ok(all.contestants)
}

fn nearest_many(machinery: &Machinery, task: &Task) -> Result<Vec<Contestant>, Error> {
    let n = task.shape[0];
    let count = match n {
        ..=21 => 784,
        22..=25 => 128,
        _ => 16,
    };
    let (candidates, targets) = (Arc::new(uniform(2, n)), Arc::new(uniform(3, count)));
    let mut all = Searches::new(machinery, task);
    for on in machinery.engines() {
        let (candidates, targets, search) = (candidates.clone(), targets.clone(), search(task, Method::Auto));
        all.add("slth", on, (Unit::Target, count as f64), count, move |out| {
            let _ = search.nearest_many(on.0, &candidates, &targets, out);
        })?;
    }
    Ok(all.contestants)
}

/// Candidates are even multiples of 2⁻¹², the target an odd one: no residual is 0, so no search ends early.
fn brute_force(machinery: &Machinery, task: &Task) -> Result<Vec<Contestant>, Error> {
    let n = task.shape[0];
    let grid = |x: f32| (x * 2048.0).round() / 2048.0;
    let candidates: Arc<Vec<f32>> = Arc::new(uniform(4, n).into_iter().map(grid).collect());
    let target = grid(uniform(5, 1)[0] / 2.0) + 1.0 / 4096.0;
    let sums = (1_u64 << n) as f64;
    let mut all = Searches::new(machinery, task);
    for on in machinery.engines() {
        if on.0.backend() == Backend::scalar() && n > 24 {
            continue;
        }
        let (candidates, search) = (candidates.clone(), search(task, Method::BruteForce));
        all.add("slth", on, (Unit::Sum, sums), 1, move |out| {
            let _ = search.nearest(on.0, &candidates, target).map(|found| out[0] = found);
        })?;
    }
    const ROUNDS: u64 = 100_000;
    let engine = Engine::new(machinery.best());
    let pairs = roofline::add_min_work(engine, 1) as f64 * ROUNDS as f64;
    let peak = Contestant::new("add and min", Role::Limit, Unit::Sum, pairs, move || {
        black_box(roofline::add_min_work(engine, black_box(ROUNDS)));
    });
    all.contestants.insert(0, peak.on(engine.backend()));
    Ok(all.contestants)
}

fn large(machinery: &Machinery, task: &Task) -> Result<Vec<Contestant>, Error> {
    let candidates = uniform(6, task.shape[0]);
    let (engine, search) = (Engine::new(machinery.best()), search(task, Method::Auto));
    let mut all = Searches::new(machinery, task);
    all.add("slth", (engine, 1), (Unit::Target, 1.0), 1, move |out| {
        let _ = search.nearest(engine, &candidates, 0.3).map(|found| out[0] = found);
    })?;
    Ok(all.contestants)
}

/// From nothing to n candidates.
fn coverage(machinery: &Machinery, task: &Task, eta: f32) -> Result<Vec<Contestant>, Error> {
    let n = task.shape[0];
    let candidates = Arc::new(uniform(7, n));
    let epsilon = task.epsilon.unwrap_or(0.0) as f32;
    let mut contestants = Vec::new();
    let mut expected = None;
    for &backend in &machinery.backends {
        let (engine, candidates) = (Engine::new(backend), candidates.clone());
        let cover = move || {
            let mut coverage = Coverage::new(-0.5, 0.5, epsilon, eta)?;
            for &x in candidates.iter() {
                coverage.push(engine, x)?;
            }
            Ok::<_, Error>(coverage.first_gap())
        };
        let found = cover()?;
        ensure(*expected.get_or_insert_with(|| found.clone()) == found, task, "slth")?;
        let run = move || drop(black_box(cover()));
        let contestant = Contestant::new("slth", Role::Ours, Unit::Sum, (1_u64 << n) as f64, run);
        contestants.push(contestant.on(backend));
    }
    Ok(contestants)
}

/// Every weight of a network from candidates of its own, drawing included.
fn network(machinery: &Machinery, task: &Task) -> Result<Vec<Contestant>, Error> {
    let weights: usize = task.shape.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let best = machinery.best();
    let mut contestants = Vec::new();
    let mut expected = None;
    for (engine, threads) in machinery.engines().into_iter().filter(|(engine, _)| engine.backend() == best) {
        let search = search(task, Method::Auto);
        let approximate = move || {
            let mut worst = 0.0_f64;
            let mut out = vec![Subset::default(); 4000.min(weights)];
            for block in 0..weights.div_ceil(4000) {
                let count = 4000.min(weights - block * 4000);
                let mut stream = Stream::new(1, Purpose::Benchmark, 28, block);
                let candidates: Vec<f32> = (0..CANDIDATES * count).map(|_| stream.symmetric(1.0)).collect();
                let targets: Vec<f32> = (0..count).map(|_| stream.symmetric(0.5)).collect();
                search.nearest_each(engine, &candidates, CANDIDATES, &targets, &mut out[..count])?;
                worst = out[..count].iter().fold(worst, |worst, subset| worst.max(subset.residual));
            }
            Ok::<_, Error>(worst)
        };
        let worst = approximate()?;
        // Of so many draws some have hardly a candidate of the target's sign; but none is worse than no candidate.
        ensure(worst <= 0.5 && *expected.get_or_insert(worst) == worst, task, "slth")?;
        let run = move || drop(black_box(approximate()));
        let contestant = Contestant::new("slth", Role::Ours, Unit::Target, weights as f64, run);
        contestants.push(contestant.on(best).with_threads(machinery, threads));
    }
    Ok(contestants)
}
