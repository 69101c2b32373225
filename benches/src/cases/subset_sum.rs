//! Subset sums: nearest subsets by every method, coverage.
//!
//! The peer is the textbook's meet in the middle: both halves' sums sorted, a pointer into each.

use std::hint::black_box;
use std::sync::Arc;

use slth::random::{Purpose, Stream};
use slth_kernels::subset_sum::{Coverage, Method, Search, Sizes, Subset};
use slth_kernels::{Engine, roofline};

use crate::case::{Case, Scale};
use crate::check::ensure;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::machinery::Machinery;
use crate::row::{Unit, Who};
use crate::task::{self, Search as Operation, Task};

/// Weights of 784-500-10.
const WEIGHTS: usize = 397_000;

/// An operation, numbers of candidates, values of ε, and η; there is a case for each pair of candidates and ε.
type Group<'a> = (Operation, &'a [usize], &'a [f64], Option<f64>);

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    use Operation::{BruteForce, Coverage, Fresh, Network, OneTarget, Shared};
    const SOME: [usize; 9] = [16, 18, 20, 21, 22, 24, 26, 28, 30];
    let groups: &[Group] = match scale {
        Scale::Smoke => &[
            (Fresh, &[8], &[0.0, 1e-3], None),
            (BruteForce, &[8], &[0.0], None),
            (Shared, &[8], &[0.0], None),
            (OneTarget, &[8], &[0.0], None),
            (Coverage, &[6], &[0.0], Some(0.01)),
            (Network, &[8], &[0.0], None),
        ],
        Scale::Quick => &[
            (Fresh, &[16, 24], &[0.0], None),
            (Fresh, &[21], &[0.0, 1e-3], None),
            (BruteForce, &[21, 24], &[0.0], None),
            (Shared, &[21], &[0.0], None),
            (Coverage, &[20], &[0.0], Some(1e-6)),
        ],
        Scale::Full => &[
            (Fresh, &[16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30], &[0.0], None),
            (Fresh, &[21], &[1e-7, 1e-5, 1e-3, 1e-1], None),
            (BruteForce, &SOME, &[0.0], None),
            (BruteForce, &[21, 24], &[1e-6], None),
            (Shared, &SOME, &[0.0], None),
            (Shared, &[21], &[1e-7, 1e-5, 1e-3], None),
            (OneTarget, &[32, 40, 48], &[0.0], None),
            (Coverage, &[16], &[0.0], Some(1e-6)),
            (Coverage, &[20], &[0.0, 1e-5], Some(1e-6)),
            (Coverage, &[24], &[0.0, 1e-7], Some(1e-7)),
            // The number of candidates that the theory requires for 1/η = 100.
            (Network, &[21], &[0.0, 1e-4], None),
        ],
    };
    // Number of candidates, and size of the subsets.
    let sized: &[(usize, usize)] = match scale {
        Scale::Smoke => &[(8, 3)],
        Scale::Quick => &[(21, 7)],
        Scale::Full => &[(21, 3), (21, 7), (21, 10)],
    };
    let case = |operation, candidates, epsilon, eta, size| {
        let task = task::SubsetSum { operation, candidates, epsilon, eta, size };
        let (weights, own) = (if scale == Scale::Smoke { 6 } else { WEIGHTS }, task.clone());
        Case::new(Task::SubsetSum(task), move |machinery, task| {
            let all = Searches { machinery, task, own: &own, expected: None, contestants: Vec::new() };
            match operation {
                Fresh => nearest_each(all),
                Shared => nearest_many(all),
                OneTarget => one_target(all),
                BruteForce => brute_force(all),
                Coverage => coverage(all),
                Network => network(all, weights),
            }
        })
    };
    let mut cases = Vec::new();
    for &(operation, candidates, epsilons, eta) in groups {
        for &n in candidates {
            cases.extend(epsilons.iter().map(|&epsilon| case(operation, n, epsilon, eta, None)));
        }
    }
    cases.extend(sized.iter().map(|&(n, size)| case(Fresh, n, 0.0, None, Some(size))));
    cases
}

fn uniform(index: usize, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(1, Purpose::Benchmark, 20 + index, 0);
    (0..len).map(|_| stream.symmetric(1.0)).collect()
}

/// The textbook's search for ε = 0: sorts both halves' sums by merging, then moves one pointer through each. Sums are 64-bit
/// integers, stored with their subsets.
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

/// The contestants of a search, which must all find the same subsets.
struct Searches<'a> {
    machinery: &'a Machinery,
    task: &'a Task,
    /// The task's own parameters.
    own: &'a task::SubsetSum,
    expected: Option<Vec<Subset>>,
    contestants: Vec<Contestant>,
}

impl Searches<'_> {
    fn search(&self, method: Method) -> Search {
        let sizes = self.own.size.map_or(Sizes::Any, Sizes::Exactly);
        Search { epsilon: self.own.epsilon as f32, sizes, method }
    }

    /// Adds a contestant. One run does `work` units and fills `targets` subsets.
    fn add(
        &mut self,
        who: Who,
        (unit, work): (Unit, f64),
        targets: usize,
        mut run: impl FnMut(&mut [Subset]) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        // A value that no search returns.
        let mut found = vec![Subset { bits: u64::MAX, residual: f64::NAN }; targets];
        run(&mut found)?;
        let expected = self.expected.get_or_insert_with(|| found.clone());
        ensure(found[..] == expected[..targets], self.task, &who)?;
        self.contestants.push(self.machinery.contestant(who, unit, work, move || run(black_box(&mut found))));
        Ok(())
    }
}

fn nearest_each(mut all: Searches) -> Result<Vec<Contestant>, Error> {
    let (n, best) = (all.own.candidates, all.machinery.best());
    let count = match n {
        ..=24 => 192,
        25..=26 => 32,
        _ => 16,
    };
    let candidates = Arc::new(uniform(0, n * count));
    let targets: Arc<Vec<f32>> = Arc::new(uniform(1, count).into_iter().map(|z| z / 2.0).collect());
    let machinery = all.machinery;
    let mut add = |who: Who, method, engine: Engine<'static>, count: usize| {
        let (candidates, targets, search) = (candidates.clone(), targets.clone(), all.search(method));
        all.add(who, (Unit::Target, count as f64), count, move |out| {
            Ok(search.nearest_each(engine, &candidates[..count * n], n, &targets[..count], out)?)
        })
    };
    for engine in machinery.engines(true) {
        add(Who::ours(engine), Method::Auto, engine, count)?;
    }
    add(Who::ours(best).variant("two-pointer"), Method::MeetInTheMiddle, best, count.min(16))?;
    if n <= 24 {
        add(Who::ours(best).variant("brute force"), Method::BruteForce, best, count.min(16))?;
    }
    if all.own.size.is_some() {
        // For comparison, the search without the restriction; its subsets differ.
        let (who, search) = (Who::ours(best).variant("any size"), Search::default());
        let mut found = vec![Subset::default(); count];
        all.contestants.push(machinery.contestant(who, Unit::Target, count as f64, move || {
            Ok(search.nearest_each(best, &candidates, n, &targets, black_box(&mut found))?)
        }));
    } else if all.own.epsilon == 0.0 {
        let (sample, who) = (count.min(16), Who::peer("textbook", 1).variant("two-pointer"));
        let right = |i: usize| {
            let row = &candidates[i * n..(i + 1) * n];
            let subset = Subset { bits: plain_two_pointer(row, targets[i]), residual: 0.0 };
            let residual = (subset.sum(row) - f64::from(targets[i])).abs();
            all.expected.as_ref().is_some_and(|all| (all[i].residual - residual).abs() < 4e-6)
        };
        ensure((0..sample).all(right), all.task, &who)?;
        all.contestants.push(all.machinery.contestant(who, Unit::Target, sample as f64, move || {
            for (row, &target) in candidates.chunks(n).zip(&targets[..sample]) {
                black_box(plain_two_pointer(row, target));
            }
            Ok(())
        }));
    }
    Ok(all.contestants)
}

fn nearest_many(mut all: Searches) -> Result<Vec<Contestant>, Error> {
    let n = all.own.candidates;
    let count = match n {
        ..=21 => 784,
        22..=25 => 128,
        _ => 16,
    };
    let (candidates, targets) = (Arc::new(uniform(2, n)), Arc::new(uniform(3, count)));
    for engine in all.machinery.engines(true) {
        let (candidates, targets, search) = (candidates.clone(), targets.clone(), all.search(Method::Auto));
        all.add(Who::ours(engine), (Unit::Target, count as f64), count, move |out| {
            Ok(search.nearest_many(engine, &candidates, &targets, out)?)
        })?;
    }
    Ok(all.contestants)
}

/// Candidates are even multiples of 2⁻¹², the target an odd one: no residual is 0, so no search ends early.
fn brute_force(mut all: Searches) -> Result<Vec<Contestant>, Error> {
    const ROUNDS: u64 = 100_000;
    let (n, best) = (all.own.candidates, all.machinery.best());
    let grid = |x: f32| (x * 2048.0).round() / 2048.0;
    let candidates: Arc<Vec<f32>> = Arc::new(uniform(4, n).into_iter().map(grid).collect());
    let target = grid(uniform(5, 1)[0] / 2.0) + 1.0 / 4096.0;
    let sums = (1_u64 << n) as f64;
    let pairs = roofline::add_min_work(best, 1) as f64 * ROUNDS as f64;
    let who = Who::limit("add and min", best.backend(), 1);
    all.contestants.push(all.machinery.contestant(who, Unit::Sum, pairs, move || {
        black_box(roofline::add_min_work(best, black_box(ROUNDS)));
        Ok(())
    }));
    for engine in all.machinery.engines(n <= 24) {
        let (candidates, search) = (candidates.clone(), all.search(Method::BruteForce));
        all.add(Who::ours(engine), (Unit::Sum, sums), 1, move |out| {
            out[0] = search.nearest(engine, &candidates, target)?;
            Ok(())
        })?;
    }
    Ok(all.contestants)
}

fn one_target(mut all: Searches) -> Result<Vec<Contestant>, Error> {
    let candidates = uniform(6, all.own.candidates);
    let (engine, search) = (all.machinery.best(), all.search(Method::Auto));
    all.add(Who::ours(engine), (Unit::Target, 1.0), 1, move |out| {
        out[0] = search.nearest(engine, &candidates, 0.3)?;
        Ok(())
    })?;
    Ok(all.contestants)
}

/// Coverage is computed from the first candidate to the last.
fn coverage(all: Searches) -> Result<Vec<Contestant>, Error> {
    let Searches { machinery, task, own, mut contestants, .. } = all;
    let candidates = Arc::new(uniform(7, own.candidates));
    let (epsilon, eta) = (own.epsilon as f32, own.eta.unwrap_or(1e-6) as f32);
    let mut expected = None;
    for &backend in machinery.backends() {
        let (engine, candidates) = (Engine::new(backend), candidates.clone());
        let cover = move || {
            let mut coverage = Coverage::new(-0.5, 0.5, epsilon, eta)?;
            candidates.iter().try_for_each(|&x| coverage.push(engine, x).map(drop))?;
            Ok::<_, Error>(coverage.first_gap())
        };
        let (found, who) = (cover()?, Who::ours(engine));
        ensure(*expected.get_or_insert_with(|| found.clone()) == found, task, &who)?;
        let sums = (1_u64 << own.candidates) as f64;
        contestants.push(machinery.contestant(who, Unit::Sum, sums, move || {
            black_box(cover()?);
            Ok(())
        }));
    }
    Ok(contestants)
}

/// Every weight of a network has its own candidates, which are drawn within the measured time.
fn network(all: Searches, weights: usize) -> Result<Vec<Contestant>, Error> {
    const BLOCK: usize = 4000;
    let search = all.search(Method::Auto);
    let Searches { machinery, task, own: &task::SubsetSum { candidates: n, .. }, mut contestants, .. } = all;
    let mut expected = None;
    for engine in machinery.engines(false).into_iter().filter(|e| e.backend() == machinery.best().backend()) {
        let approximate = move || {
            let mut worst = 0.0_f64;
            let mut out = vec![Subset::default(); BLOCK.min(weights)];
            for block in 0..weights.div_ceil(BLOCK) {
                let count = BLOCK.min(weights - block * BLOCK);
                let mut stream = Stream::new(1, Purpose::Benchmark, 28, block);
                let candidates: Vec<f32> = (0..n * count).map(|_| stream.symmetric(1.0)).collect();
                let targets: Vec<f32> = (0..count).map(|_| stream.symmetric(0.5)).collect();
                search.nearest_each(engine, &candidates, n, &targets, &mut out[..count])?;
                worst = out[..count].iter().fold(worst, |worst, subset| worst.max(subset.residual));
            }
            Ok::<_, Error>(worst)
        };
        let (worst, who) = (approximate()?, Who::ours(engine));
        // Among so many weights a few have hardly any candidate of the target's sign, but the empty subset is always within 0.5.
        ensure(worst <= 0.5 && *expected.get_or_insert(worst) == worst, task, &who)?;
        contestants.push(machinery.contestant(who, Unit::Target, weights as f64, move || {
            black_box(approximate()?);
            Ok(())
        }));
    }
    Ok(contestants)
}
