//! Selection: cold, warm (with the threshold of scores that moved by 1 % of their spread), hard inputs.

use std::hint::black_box;
use std::sync::Arc;

use slth_kernels::top_k::{Order, Selection, Selector};
use slth_kernels::{Engine, PackedMask};

use super::aligned::Aligned;
use super::case::{Case, Contestant, Kernel, Machinery, Scale, read};
use super::check::ensure;
use super::measurement::{Role, Task, Unit};
use crate::error::Error;
use crate::random::{Purpose, Stream};

const ORDER: Order = Order::Magnitude;

/// The larger layer of 784-500-500-10.
const LAYER: usize = 392_000;

type Kind = (&'static str, fn(usize) -> Vec<f32>);

const NORMAL: Kind = ("normal", |n| normal(n, 0));

/// Inputs that selections by partition or by a sample find hard.
const HARD: [Kind; 9] = [
    ("sorted", |n| (0..n).map(|i| i as f32).collect()),
    ("reversed", |n| (0..n).map(|i| (n - i) as f32).collect()),
    ("constant", |n| vec![0.5; n]),
    ("two-valued", |n| normal(n, 0).into_iter().map(|x| if x > 0.2 { 1.0 } else { 2.0 }).collect()),
    ("denormal", |n| normal(n, 0).into_iter().map(|x| f32::from_bits((x.abs() * 1e5) as u32)).collect()),
    ("one outlier", |n| {
        let mut scores: Vec<f32> = normal(n, 0).into_iter().map(|x| x * 1e-30).collect();
        scores[n / 3] = 1e30;
        scores
    }),
    ("organ pipe", |n| (0..n).map(|i| i.min(n - i) as f32).collect()),
    ("median-of-3 killer", killer),
    ("rows of one value", |n| {
        let rows = normal(n / 500 + 1, 0);
        (0..n).map(|i| rows[i / 500]).collect()
    }),
];

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kinds: &[Kind], sizes: &[usize], sparsities: &[f64]| {
        for &kind in kinds {
            for &n in sizes {
                for &sparsity in sparsities {
                    let task = task(format!("selection from {}", kind.0), n, sparsity);
                    let prepare =
                        move |machinery: &Machinery, task: &Task| selection(machinery, task, kind.1(n));
                    cases.push(Case::new(task, prepare));
                }
            }
        }
    };
    match scale {
        Scale::Smoke => {
            add(&[NORMAL], &[1000], &[0.5]);
            add(&HARD, &[1000], &[0.5]);
        }
        Scale::Quick => {
            add(&[NORMAL], &[LAYER], &[0.1, 0.5, 0.9]);
            add(&[NORMAL], &[10_000_000], &[0.5]);
            add(&HARD, &[LAYER], &[0.5]);
        }
        Scale::Full => {
            add(&[NORMAL], &[LAYER, 10_000_000], &[0.1, 0.5, 0.9]);
            add(&[NORMAL], &[1000, 10_000, 100_000, 1_000_000, 30_000_000], &[0.5]);
            add(&HARD, &[1000, LAYER, 10_000_000], &[0.5]);
        }
    }
    cases
}

fn task(operation: String, n: usize, sparsity: f64) -> Task {
    Task { kernel: Kernel::TopK, operation, shape: vec![n], sparsity: Some(sparsity), epsilon: None }
}

fn normal(n: usize, index: usize) -> Vec<f32> {
    let mut stream = Stream::new(1, Purpose::Benchmark, 10 + index, 0);
    (0..n).map(|_| stream.normal() as f32).collect()
}

/// The permutation on which quickselect with the median of three takes quadratic time (Musser 1997).
fn killer(n: usize) -> Vec<f32> {
    let half = n / 2;
    let value = |i: usize| match i {
        i if i >= half => 2 * (i - half) + 2,
        i if i % 2 == 0 => i + 1,
        i => half + i,
    };
    (0..n).map(|i| value(i) as f32).collect()
}

fn selection(machinery: &Machinery, task: &Task, scores: Vec<f32>) -> Result<Vec<Contestant>, Error> {
    let n = scores.len();
    let keep = n - (task.sparsity.unwrap_or(0.0) * n as f64).round() as usize;
    // As they were a step earlier: each moved by 1 % of their spread, and all of them together by as much.
    let mean = scores.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    let variance = scores.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
    let deviation = variance.sqrt().min(1e30) as f32;
    let earlier: Vec<f32> =
        scores.iter().zip(normal(n, 1)).map(|(&x, z)| 1.01 * x + 0.01 * deviation * z).collect();
    let mut selector = Selector::default();
    let mut masks = [PackedMask::none_kept(n)];
    let cold = Selection::largest(keep, ORDER);
    let hint = selector.select(Engine::new(machinery.best()), &[&earlier], cold, &mut masks);
    ensure(hint.is_ok(), task, "slth")?;
    let scores: Arc<Aligned> = Arc::new(scores.into_iter().collect());
    let mut contestants = read(machinery, &scores, Unit::Score, n as f64);
    for (who, selection) in [("slth", cold), ("slth warm", hint.map_or(cold, |hint| cold.near(hint)))] {
        for (engine, threads) in machinery.engines() {
            let data = scores.clone();
            let (mut selector, mut masks) = (Selector::default(), [PackedMask::none_kept(n)]);
            let mut select = move |masks: &mut [PackedMask]| {
                // A refusal would leave the mask as it is, and would not pass the check.
                let _ = selector.select(engine, black_box(&[&data[..]]), selection, masks);
            };
            select(&mut masks);
            ensure(keeps_the_largest(&masks[0], &scores, keep), task, who)?;
            let run = move || select(&mut masks);
            let contestant = Contestant::new(who, Role::Ours, Unit::Score, n as f64, run);
            contestants.push(contestant.on(engine.backend()).with_threads(machinery, threads));
        }
    }
    // On the bits, which order as the magnitudes do; no mask is written.
    let (mut bits, data) = (Vec::with_capacity(n), scores);
    let run = move || {
        bits.clear();
        bits.extend(black_box(&*data).iter().map(|x| x.to_bits() & 0x7fff_ffff));
        black_box(*bits.select_nth_unstable((n - keep).min(n - 1)).1);
    };
    contestants.push(Contestant::new("select_nth_unstable", Role::Peer, Unit::Score, n as f64, run));
    Ok(contestants)
}

/// Whether `mask` keeps exactly the `keep` largest by (magnitude, index).
fn keeps_the_largest(mask: &PackedMask, scores: &[f32], keep: usize) -> bool {
    let rank = |i: usize| (scores[i].to_bits() & 0x7fff_ffff, i);
    let ends = mask.iter().enumerate().fold((None, None), |(kept, removed), (i, keep)| {
        let rank = Some(rank(i));
        if keep {
            (kept.map_or(rank, |least| Some(least).min(rank)), removed)
        } else {
            (kept, removed.max(rank))
        }
    });
    mask.kept() == keep && ends.0.is_none_or(|least| Some(least) > ends.1)
}
