//! Values of flags: networks, shards, and all other parsed names. Small networks are trained.

use slth::data::NormalisationRule;
use slth::network::Architecture;
use slth::progress::NoProgress;
use slth::run::{RunConfig, run as run_experiment};
use slth::sweep::Shard;
use slth::training::{Pattern, Schedule, Scope};

pub(super) fn run(data: &[u8]) {
    let Some((what, rest)) = super::split(data) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if let Ok(shard) = text.parse::<Shard>() {
        assert_eq!(shard.to_string().parse::<Shard>().ok(), Some(shard));
        assert!((1..=shard.of()).contains(&shard.index()));
    }
    if let Ok(rule) = text.parse::<NormalisationRule>() {
        assert_eq!(rule.to_string().parse(), Ok(rule));
        if let NormalisationRule::Given(normalisation) = rule {
            assert!((0..=255).all(|pixel| normalisation.apply(2, pixel).is_finite()));
        }
    }
    if let Ok(schedule) = text.parse::<Schedule>() {
        assert_eq!(schedule.to_string().parse().as_ref(), Ok(&schedule));
        assert!((0..9).all(|epoch| (0.0..=1.0).contains(&schedule.rate(1.0, epoch, 9))));
    }
    if let Ok(pattern) = text.parse::<Pattern>() {
        assert_eq!(pattern.to_string().parse(), Ok(pattern));
        assert!((0.0..1.0).contains(&pattern.sparsity()));
    }
    if let Ok(network) = text.parse::<Architecture>() {
        assert_eq!(network.to_string().parse::<Architecture>().as_ref(), Ok(&network));
        assert!(network.weights() <= Architecture::MAX_WEIGHTS);
        assert!(network.layers().len() > 0 && network.inputs() > 0 && network.outputs() > 0);
        assert!(network.layers().all(|layer| layer.dimensions().iter().all(|&size| size > 0)));
        if network.weights() < 500 && network.activations() < 2000 {
            train(network, what);
        }
    }
}

fn train(network: Architecture, what: u8) {
    let shape = network.image().unwrap_or([1, 1, network.inputs()]);
    let classes = u8::try_from(network.outputs()).unwrap_or(u8::MAX).min(3);
    let Some(data) = super::blank(shape, classes) else { return };
    let config = RunConfig {
        network,
        sparsity: f64::from(what) / 256.0,
        scope: if what.is_multiple_of(2) { Scope::PerLayer } else { Scope::Global },
        prune_epochs: 1,
        batch: 2,
        validation: 0,
        threads: Some(1),
        ..RunConfig::default()
    };
    // Numbers beyond f32 are an error.
    let _ = run_experiment(&config, &data, &NoProgress);
}
