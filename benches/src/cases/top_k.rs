//! Selection: cold, warm (with the threshold of scores that moved by 1 % of their spread), hard inputs.

use std::hint::black_box;
use std::sync::Arc;

use slth::random::{Purpose, Stream};
use slth_kernels::PackedMask;
use slth_kernels::top_k::{Order, Selection, Selector};

use crate::aligned::Aligned;
use crate::case::{Case, Scale};
use crate::check::ensure;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::limits::read;
use crate::machinery::Machinery;
use crate::row::{Unit, Who};
use crate::task::{self, Scores, Task};

const ORDER: Order = Order::Magnitude;

/// The larger layer of 784-500-500-10.
const LAYER: usize = 392_000;

use Scores::{
    Constant, Denormal, MedianOf3Killer, Normal, OneOutlier, OrganPipe, Reversed, RowsOfOneValue, Sorted,
    TwoValued,
};

/// Inputs that are hard for selection by partitioning or sampling.
const HARD: [Scores; 9] =
    [Sorted, Reversed, Constant, TwoValued, Denormal, OneOutlier, OrganPipe, MedianOf3Killer, RowsOfOneValue];

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let groups: &[(&[Scores], &[usize], &[f64])] = match scale {
        Scale::Smoke => &[(&[Normal], &[1000], &[0.5]), (&HARD, &[1000], &[0.5])],
        Scale::Quick => &[
            (&[Normal], &[LAYER], &[0.1, 0.5, 0.9]),
            (&[Normal], &[10_000_000], &[0.5]),
            (&HARD, &[LAYER], &[0.5]),
        ],
        Scale::Full => &[
            (&[Normal], &[LAYER, 10_000_000], &[0.1, 0.5, 0.9]),
            (&[Normal], &[1000, 10_000, 100_000, 1_000_000, 30_000_000], &[0.5]),
            (&HARD, &[1000, LAYER, 10_000_000], &[0.5]),
        ],
    };
    let mut cases = Vec::new();
    for &(all, counts, sparsities) in groups {
        for (&scores, &count) in all.iter().flat_map(|scores| counts.iter().map(move |count| (scores, count)))
        {
            for &sparsity in sparsities {
                let task = Task::TopK(task::Selection { scores, count, sparsity });
                cases.push(Case::new(task, move |machinery, task| {
                    selection(machinery, task, draw(scores, count), sparsity)
                }));
            }
        }
    }
    cases
}

fn draw(scores: Scores, n: usize) -> Vec<f32> {
    match scores {
        Normal => normal(n, 0),
        Sorted => (0..n).map(|i| i as f32).collect(),
        Reversed => (0..n).map(|i| (n - i) as f32).collect(),
        Constant => vec![0.5; n],
        TwoValued => normal(n, 0).into_iter().map(|x| if x > 0.2 { 1.0 } else { 2.0 }).collect(),
        Denormal => normal(n, 0).into_iter().map(|x| f32::from_bits((x.abs() * 1e5) as u32)).collect(),
        OneOutlier => {
            let mut scores: Vec<f32> = normal(n, 0).into_iter().map(|x| x * 1e-30).collect();
            scores[n / 3] = 1e30;
            scores
        }
        OrganPipe => (0..n).map(|i| i.min(n - i) as f32).collect(),
        MedianOf3Killer => killer(n),
        RowsOfOneValue => {
            let rows = normal(n / 500 + 1, 0);
            (0..n).map(|i| rows[i / 500]).collect()
        }
    }
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

fn selection(
    machinery: &Machinery,
    task: &Task,
    scores: Vec<f32>,
    sparsity: f64,
) -> Result<Vec<Contestant>, Error> {
    let (n, best) = (scores.len(), machinery.best());
    let keep = n - (sparsity * n as f64).round() as usize;
    // The scores one step earlier: each moved independently by 1 % of their spread, and all together by as much.
    let mean = scores.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    let variance = scores.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
    let deviation = variance.sqrt().min(1e30) as f32;
    let earlier: Vec<f32> =
        scores.iter().zip(normal(n, 1)).map(|(&x, z)| 1.01 * x + 0.01 * deviation * z).collect();
    let cold = Selection::largest(keep, ORDER);
    let hint = Selector::default().select(best, &[&earlier], cold, &mut [PackedMask::none_kept(n)])?;
    let scores: Arc<Aligned> = Arc::new(scores.into_iter().collect());
    let mut contestants = read(machinery, &scores, Unit::Score, n as f64);
    for (variant, selection) in [("", cold), ("warm", cold.near(hint))] {
        for engine in machinery.engines(true) {
            let (data, who) = (scores.clone(), Who::ours(engine).variant(variant));
            let (mut selector, mut masks) = (Selector::default(), [PackedMask::none_kept(n)]);
            selector.select(engine, &[&data[..]], selection, &mut masks)?;
            ensure(keeps_the_largest(&masks[0], &scores, keep), task, &who)?;
            contestants.push(machinery.contestant(who, Unit::Score, n as f64, move || {
                selector.select(engine, black_box(&[&data[..]]), selection, &mut masks)?;
                Ok(())
            }));
        }
    }
    // Selects on the bits, which are ordered like the magnitudes; writes no mask.
    let mut bits = Vec::with_capacity(n);
    let who = Who::peer("std", 1).variant("select_nth_unstable");
    contestants.push(machinery.contestant(who, Unit::Score, n as f64, move || {
        bits.clear();
        bits.extend(black_box(&*scores).iter().map(|x| x.to_bits() & 0x7fff_ffff));
        black_box(*bits.select_nth_unstable((n - keep).min(n - 1)).1);
        Ok(())
    }));
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
