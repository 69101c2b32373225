//! A tiny pretraining, pruning and approximation give the same bits on every backend and, because the hashes are committed,
//! on every machine. `scripts/test-neon` and `scripts/test-pre-avx` run this test on emulated CPUs.
//!
//! A change of these hashes is a change of results and belongs in the changelog.

use std::io::Cursor;

use sha2::{Digest, Sha256};
use slth::approximate::{ApproximateConfig, Approximator, Draw, Rebuilt, Target};
use slth::data::{Augmentation, DataFile, Dataset};
use slth::progress::NoProgress;
use slth::run::{RunConfig, run};
use slth::run::{mask_hash, weights_hash};
use slth::training::{PruneMethod, Scope};
use slth_kernels::Backend;

/// 90 training and 30 test images of 12 × 12 in three classes: noise, and a bright stripe in the rows of the class.
fn dataset() -> Dataset {
    let file = |magic: u8, sizes: &[u32], bytes: Vec<u8>| {
        let words = sizes.iter().flat_map(|size| size.to_be_bytes());
        let bytes: Vec<u8> = [0, 0, 8, magic].into_iter().chain(words).chain(bytes).collect();
        DataFile::new("synthetic".to_owned(), Cursor::new(bytes))
    };
    let label = |image: u32| image * 7 % 3;
    let pixel = |image: u32, place: u32| {
        let noise =
            (image.wrapping_mul(2_654_435_761) ^ place.wrapping_mul(40_503)).wrapping_mul(97) >> 7 & 127;
        (noise + if place / 12 / 4 == label(image) { 128 } else { 0 }) as u8
    };
    let images = |images: std::ops::Range<u32>| {
        let count = images.len() as u32;
        file(3, &[count, 12, 12], images.flat_map(|i| (0..144).map(move |place| pixel(i, place))).collect())
    };
    let labels = |images: std::ops::Range<u32>| {
        file(1, &[images.len() as u32], images.map(|image| label(image) as u8).collect())
    };
    let (train, test) = (0..90, 90..120);
    Dataset::read(
        "synthetic".to_owned(),
        [images(train.clone()), labels(train), images(test.clone()), labels(test)],
    )
    .unwrap()
}

/// The first 16 digits of a SHA-256.
fn short(hash: impl Into<String>) -> String {
    let mut hash = hash.into();
    hash.truncate(16);
    hash
}

/// Hashes of the weights and masks of a run and its test accuracy; for dense layers also hashes of an approximation.
fn outcome(
    network: &str,
    method: PruneMethod,
    scope: Scope,
    augment: Augmentation,
    backend: Backend,
    threads: usize,
) -> String {
    let (layers, bias) =
        network.strip_suffix(" with biases").map_or((network, false), |layers| (layers, true));
    let config = RunConfig {
        network: layers.parse().unwrap(),
        bias,
        epsilon: 0.03,
        sparsity: 0.7,
        method,
        scope,
        augment,
        prune_epochs: 2,
        batch: 16,
        pretrain_momentum: 0.9,
        validation: 20,
        threads: Some(threads),
        backend: Some(backend),
        ..RunConfig::default()
    };
    let outcome = run(&config, &dataset(), &NoProgress).unwrap();
    let mut text = format!(
        "{network} {method} {scope} {augment}: weights {}, masks {}, correct {}",
        short(weights_hash(&outcome.layers)),
        short(mask_hash(&outcome.layers)),
        (outcome.prune.test.accuracy() * 30.0).round()
    );
    // Networks without convolutions, whose layers are all matrices, are also approximated.
    if !network.contains('x') {
        let names = (1..=outcome.layers.len()).map(|layer| format!("layer{layer}")).collect();
        let weights = outcome.layers.into_iter().map(|layer| layer.weights).collect();
        let target = Target { network: config.network, names, weights };
        for draw in [Draw::PerRow, Draw::PerWeight] {
            let config = ApproximateConfig {
                candidates: Some(12),
                draw,
                threads: Some(threads),
                backend: Some(backend),
                ..ApproximateConfig::default()
            };
            let (file, mut bytes) = (target.to_tensors(), Vec::new());
            let approximator = Approximator::new(&config, &file).unwrap();
            let mut take = |rebuilt: Rebuilt<'_>| {
                bytes.extend(rebuilt.bytes);
                Ok(())
            };
            approximator.approximate(1e-3, false, &mut take, &NoProgress).unwrap();
            let hash = Sha256::digest(bytes);
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!(", {} {}", draw, short(hash));
        }
    }
    text
}

const GOLDEN: [&str; 6] = [
    "144-20-3 edge-popup per-layer none: weights 11a4c972ad9de5b0, masks a479011924a39b84, correct 30, per-row 24e7bd4cebcf3d20, per-weight 4f8246306078a966",
    "144-9-3 magnitude-then-finetune global none: weights acb6883d0eb3c1b7, masks 186b8cd5857beb79, correct 30, per-row d412303d217fbc2c, per-weight 7c8bcbb93039b9fd",
    "12x12-4@3x3p1-pool2-6@3x3s2-10-3 edge-popup per-layer none: weights 1368ca3591d59538, masks 6e55b42e8481462c, correct 25",
    "12x12-4@3x3p1-pool2-6@3x3s2-10-3 edge-popup global none: weights 1368ca3591d59538, masks 2b8f78d4301ade3a, correct 28",
    "12x12-4@3x3p1-pool2-6@3x3s2-10-3 edge-popup per-layer flip-crop: weights 82dcebd2f5a3b4a7, masks f4fd137cafd515d0, correct 18",
    "12x12-4@3x3p1-pool2-6@3x3s2-10-3 with biases magnitude-then-finetune per-layer none: weights 79372820d5167451, masks f5ffce809a8e138f, correct 18",
];

#[test]
fn a_tiny_run_gives_the_same_bits_everywhere() {
    let backends = Backend::available();
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    eprintln!("backends under test: {}", names.join(", "));
    if let Ok(required) = std::env::var("SLTH_REQUIRE") {
        for name in required.split(',') {
            assert!(names.contains(&name), "{name} is required, but there are {names:?} only");
        }
    }
    let (none, flip) = (Augmentation::None, Augmentation::FlipCrop);
    let convolutions = "12x12-4@3x3p1-pool2-6@3x3s2-10-3";
    let biased = format!("{convolutions} with biases");
    for (&backend, threads) in backends.iter().zip([1, 2, 3, 1]) {
        let found = [
            outcome("144-20-3", PruneMethod::EdgePopup, Scope::PerLayer, none, backend, threads),
            outcome("144-9-3", PruneMethod::MagnitudeThenFinetune, Scope::Global, none, backend, threads),
            outcome(convolutions, PruneMethod::EdgePopup, Scope::PerLayer, none, backend, threads),
            outcome(convolutions, PruneMethod::EdgePopup, Scope::Global, none, backend, threads),
            outcome(convolutions, PruneMethod::EdgePopup, Scope::PerLayer, flip, backend, threads),
            outcome(&biased, PruneMethod::MagnitudeThenFinetune, Scope::PerLayer, none, backend, threads),
        ];
        assert_eq!(found, GOLDEN, "{} on {threads} threads", backend.name());
    }
}
