//! Runs the fuzz targets without a fuzzer, on their committed seeds and on one mutation of each. `SLTH_FUZZ_MUTATIONS=1000`
//! tries that many mutations per seed.

use std::{env, fs, path::Path};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

#[path = "../fuzz/harness/mod.rs"]
mod harness;

#[test]
fn seeds() {
    let mutations = env::var("SLTH_FUZZ_MUTATIONS").map_or(1, |count| count.parse().expect("a number"));
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (target, _) in harness::TARGETS {
        let files = fs::read_dir(seeds.join(target)).unwrap().map(|file| file.unwrap().path());
        let files: Vec<_> = files.collect();
        assert!(!files.is_empty(), "no seeds of {target}");
        for file in files {
            let seed = fs::read(&file).unwrap();
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed.len() as u64);
            for mutation in 0..=mutations {
                let mut data = seed.clone();
                for _ in 0..mutation.min(8) {
                    mutate(&mut data, &mut random);
                }
                // The test harness shows the input if the test fails.
                println!("{target} {} {mutation}: {data:02x?}", file.display());
                harness::run(target, &data);
            }
        }
    }
}

/// Changes, removes or repeats some bytes of the input.
fn mutate(data: &mut Vec<u8>, random: &mut Xoshiro256PlusPlus) {
    if data.is_empty() {
        return data.push(random.random());
    }
    let at = random.random_range(0..data.len());
    match random.random_range(0..4) {
        0 => data[at] = random.random(),
        1 => data[at] ^= 1 << random.random_range(0..8),
        2 => drop(data.remove(at)),
        _ => data.extend_from_within(at..data.len().min(at + 8)),
    }
}
