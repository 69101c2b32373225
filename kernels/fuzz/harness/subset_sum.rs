//! Nearest subsets by every method; coverage.

use arbitrary::{Result, Unstructured};
use slth_kernels::subset_sum::{Coverage, Method, Search, Sizes, Subset, sums};

use crate::harness::{Floats, everywhere};

/// A number in ±1, or arbitrary bits.
fn number(u: &mut Unstructured<'_>) -> Result<f32> {
    Ok(match u.int_in_range(0..=15_u8)? {
        0 => f32::from_bits(u.arbitrary()?),
        1 => 0.0,
        2..=5 => f32::from(u.arbitrary::<i8>()?) / 64.0,
        _ => u.arbitrary::<i32>()? as f32 / (1_u32 << 31) as f32,
    })
}

/// A small width, or arbitrary bits.
fn width(u: &mut Unstructured<'_>) -> Result<f32> {
    Ok(number(u)? * *u.choose(&[0.0, 1.0, 0.1, 1e-3, 1e-6])?)
}

/// Mostly subsets of any size.
fn sizes(u: &mut Unstructured<'_>) -> Result<Sizes> {
    Ok(match u.int_in_range(0..=7_u8)? {
        0 => Sizes::AtMost(u.int_in_range(0..=20)?),
        1 => Sizes::Exactly(u.int_in_range(0..=20)?),
        2 => Sizes::Exactly(u.arbitrary()?),
        _ => Sizes::Any,
    })
}

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    if u.arbitrary()? { nearest(u) } else { coverage(u) }
}

fn nearest(u: &mut Unstructured<'_>) -> Result<()> {
    let n: usize = match u.int_in_range(0..=31_u8)? {
        0 => u.int_in_range(30..=33)?,
        1 => *u.choose(&[48, 49, 64, 1000])?,
        2..=5 => u.int_in_range(12..=16)?,
        _ => u.int_in_range(0..=12)?,
    };
    let count = if n > 12 { 2 } else { u.int_in_range(0..=40)? };
    // `nearest_many` uses the first target's candidates for all targets; `nearest_each` uses separate ones.
    let mut candidates = Vec::new();
    for _ in 0..n {
        candidates.push(number(u)?);
    }
    let missing = usize::from(u.int_in_range(0..=31_u8)? == 0);
    let each = Floats::new(u, (n * count).saturating_sub(missing))?;
    let targets: Vec<f32> = (0..count).map(|_| number(u)).collect::<Result<_>>()?;
    let room = if u.int_in_range(0..=31_u8)? == 0 { count + 1 } else { count };
    let epsilon = width(u)?;
    let sizes = sizes(u)?;
    let mut methods = vec![Method::Auto, Method::MeetInTheMiddle, Method::Bitonic];
    if n <= 18 {
        methods.push(Method::BruteForce);
    }
    if n == 48 {
        methods.clear(); // slow, and 400 MB
    }

    let mut results = Vec::new();
    for method in methods {
        let search = Search { epsilon, sizes, method };
        results.push(everywhere(|engine| {
            // A subset that no search returns.
            let unset = Subset { bits: u64::MAX, residual: -1.0 };
            let (mut many, mut own) = (vec![unset; room], vec![unset; room]);
            let result_many = search.nearest_many(engine, &candidates, &targets, &mut many);
            let result_own = search.nearest_each(engine, each.get(), n, &targets, &mut own);
            for (result, out) in [(&result_many, &many), (&result_own, &own)] {
                let finished = result.is_ok();
                assert!(out.iter().all(|subset| (*subset == unset) != finished), "all or nothing");
            }
            if result_many.is_ok() && count > 0 {
                assert_eq!(search.nearest(engine, &candidates, targets[0]).as_ref(), Ok(&many[0]));
            }
            (result_many.ok().map(|()| many), result_own.ok().map(|()| own))
        }));
    }
    // All methods that can search this instance give the same.
    for pair in results.windows(2) {
        for (a, b) in [(&pair[0].0, &pair[1].0), (&pair[0].1, &pair[1].1)] {
            assert!(a.is_none() || b.is_none() || a == b, "{a:?} and {b:?}");
        }
    }
    if n <= 12 {
        let off = usize::from(u.int_in_range(0..=31_u8)? == 0);
        let (mut all, mut sizes) = (vec![0.0; (1 << n) - off], vec![0; 1 << n]);
        let result = sums(&candidates, &mut all, &mut sizes);
        assert_eq!(result.is_ok(), off == 0 && candidates.iter().all(|x| x.is_finite()));
    }
    Ok(())
}

fn coverage(u: &mut Unstructured<'_>) -> Result<()> {
    let (from, to) = (number(u)?, number(u)?);
    let (epsilon, eta) = (width(u)?, width(u)?);
    if (to - from) / eta > 1e6 {
        return Ok(()); // hundreds of megabytes
    }
    let candidates: Vec<f32> = (0..u.int_in_range(0..=13)?).map(|_| number(u)).collect::<Result<_>>()?;
    let sizes = sizes(u)?;
    let _ = everywhere(|engine| {
        let mut coverage = Coverage::with_sizes(from, to, epsilon, eta, sizes)?;
        let mut found = vec![(Ok(coverage.is_covered()), coverage.first_gap())];
        for &candidate in &candidates {
            let covered = coverage.push(engine, candidate);
            assert_eq!(coverage.is_covered(), coverage.first_gap().is_none());
            assert!(covered.is_err() || covered == Ok(coverage.is_covered()));
            found.push((covered, coverage.first_gap()));
        }
        Ok::<_, slth_kernels::KernelError>(found)
    });
    Ok(())
}
