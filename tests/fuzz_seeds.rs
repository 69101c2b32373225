//! The seeds of the fuzz targets, without a fuzzer.

use std::fs;
use std::path::Path;

#[path = "../fuzz/harness/mod.rs"]
mod harness;

#[test]
fn every_seed_of_every_target_passes() {
    for (target, _) in harness::TARGETS {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut count = 0;
        for seed in fs::read_dir(&seeds).expect("there are seeds for every target") {
            let path = seed.unwrap().path();
            eprintln!("{}", path.display());
            harness::run(target, &fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{target}");
    }
}
