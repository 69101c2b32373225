//! The keyed random streams.

use slth::random::{Purpose, Stream};

/// The expected bits were computed independently, from the definitions. Changing them changes every result of the project.
#[test]
fn streams_are_pinned() {
    let mut stream = Stream::new(1, Purpose::Weights, 0, 0);
    let drawn = [stream.unit().to_bits(), stream.symmetric(0.5).to_bits(), stream.below(1000)];
    assert_eq!(drawn, [1051555140, 1054514686, 997]);
    let normals = [stream.normal().to_bits(), stream.normal().to_bits()];
    assert_eq!(normals, [4601694752646107946, 13820419970061969738]);
}

#[test]
fn every_part_of_the_key_matters() {
    let first = |seed, purpose, layer, epoch| {
        let mut stream = Stream::new(seed, purpose, layer, epoch);
        [stream.unit().to_bits(), stream.unit().to_bits()]
    };
    let mut seen = std::collections::HashSet::new();
    for seed in 0..10 {
        for purpose in [Purpose::Weights, Purpose::Scores, Purpose::PretrainOrder, Purpose::PruneOrder] {
            for layer in 0..10 {
                for epoch in 0..10 {
                    assert!(seen.insert(first(seed, purpose, layer, epoch)));
                }
            }
        }
    }
}

#[test]
fn normal_has_its_moments() {
    let mut stream = Stream::new(7, Purpose::Weights, 0, 0);
    let n = 100_000;
    let (sum, squares) = (0..n).map(|_| stream.normal()).fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    assert!((sum / f64::from(n)).abs() < 0.01);
    assert!((squares / f64::from(n) - 1.0).abs() < 0.02);
}

#[test]
fn shuffling_permutes() {
    let mut stream = Stream::new(3, Purpose::PruneOrder, 0, 5);
    let mut items: Vec<u32> = (0..1000).collect();
    stream.shuffle(&mut items);
    assert_ne!(items, (0..1000).collect::<Vec<_>>());
    items.sort_unstable();
    assert_eq!(items, (0..1000).collect::<Vec<_>>());
    stream.shuffle::<u32>(&mut []);
    assert_eq!(stream.below(1), 0);
}
