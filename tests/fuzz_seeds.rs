//! Runs the fuzz targets without a fuzzer, on their committed seeds and on randomly changed seeds. `SLTH_FUZZ_SECONDS=600`
//! tries changed seeds for that long per target; `SLTH_FUZZ_TARGET` selects one target. An input that panics is saved in
//! cargo's target directory.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::{Duration, Instant};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

#[path = "../fuzz/harness/mod.rs"]
mod harness;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|seed| seed.unwrap().path()).collect();
    paths.sort_unstable();
    assert!(!paths.is_empty(), "{target}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs a target; saves the input if it panics.
fn run(target: &str, input: &[u8]) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| harness::run(target, input))) {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("panic-{target}"));
        fs::write(&file, input).unwrap();
        eprintln!("the input is {}", file.display());
        panic::resume_unwind(panic);
    }
}

/// A seed with one to eight changes: bytes replaced, inserted, removed, repeated, or copied from another seed.
fn changed(seeds: &[Vec<u8>], random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    const BYTES: &[u8] = b"\0\x01\xff\x7f\x8009-+.eE{}[]\":,xps@\n";
    let mut below = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    let mut input = seeds[below(seeds.len())].clone();
    for _ in 0..=below(8) {
        let (at, length) = (below(input.len()), 1 + below(8));
        let end = (at + length).min(input.len());
        match below(6) {
            0 if !input.is_empty() => input[at] = BYTES[below(BYTES.len())],
            1 if !input.is_empty() => input[at] ^= 1 << below(8),
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                (0..=below(4)).for_each(|_| drop(input.splice(at..at, part.iter().copied())));
            }
            4 => input.insert(at, BYTES[below(BYTES.len())]),
            _ => {
                let other = &seeds[below(seeds.len())];
                let from = below(other.len());
                let part = &other[from..(from + 8 * length).min(other.len())];
                drop(input.splice(at..end, part.iter().copied()));
            }
        }
    }
    input
}

#[test]
fn every_seed_of_every_target_passes() {
    for (target, _) in harness::TARGETS {
        seeds(target).iter().for_each(|seed| run(target, seed));
    }
}

#[test]
fn seeds_with_random_changes_pass() {
    let seconds = std::env::var("SLTH_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| Duration::from_secs(text.parse().expect("seconds")));
    let only = std::env::var("SLTH_FUZZ_TARGET").ok();
    for (target, _) in
        harness::TARGETS.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name))
    {
        let (seeds, start) = (seeds(target), Instant::now());
        let key = if seconds.is_some() { u64::from(std::process::id()) } else { 1 };
        let mut random = Xoshiro256PlusPlus::seed_from_u64(key);
        let mut inputs = 0;
        while seconds.map_or(inputs < 500, |seconds| start.elapsed() < seconds) {
            run(target, &changed(&seeds, &mut random));
            inputs += 1;
        }
        eprintln!("{target}: {inputs} inputs");
    }
}
