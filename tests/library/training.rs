//! Edge-popup, finetuning and what they are compared with.

use clap::ValueEnum;
use slth::Error;
use slth::approximate::Draw;
use slth::candidates::Criterion;
use slth::data::{Augmentation, Dataset, NormalisationRule, Subset};
use slth::network::{Architecture, Initialisation};
use slth::progress::NoProgress;
use slth::training::{
    EdgePopupSettings, NOfMError, PretrainSettings, PruneMethod, Pruned, Schedule, Scope, Trainer, n_of_m,
    one_shot,
};
use slth_kernels::{Backend, Engine, PackedMask};

/// What is printed, what is written to files and what the command line takes are one name.
#[test]
fn names_are_the_same_everywhere() {
    fn check<T: ValueEnum + serde::Serialize + ToString>() {
        for kind in T::value_variants() {
            let name = kind.to_string();
            assert_eq!(kind.to_possible_value().unwrap().get_name(), name);
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{name}\""));
        }
    }
    check::<Initialisation>();
    check::<PruneMethod>();
    check::<Scope>();
    check::<Draw>();
    check::<Criterion>();
}

#[test]
fn the_cosine_falls_from_the_rate_towards_zero() {
    let cosine = |epoch, epochs| Schedule::COSINE.rate(0.1, epoch, epochs);
    assert_eq!((cosine(0, 5), cosine(0, 1)), (0.1, 0.1));
    assert_eq!(cosine(2, 4), 0.05);
    assert!((1..5).all(|epoch| cosine(epoch, 5) < cosine(epoch - 1, 5)));
    assert!(cosine(4, 5) > 0.0);
}

#[test]
fn schedules_are_text() {
    for text in [
        "constant",
        "cosine",
        "multistep:3",
        "multistep:1,2,9x0.5",
        "warmup:3+multistep:4,5",
        "warmup:1+cosine",
    ] {
        assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
    }
    let refused = "warmup:2 warmup:2+ warmup:x+cosine multistep: multistep:0 multistep:2,2 multistep:1x1 multistep:1x0 linear";
    for text in refused.split(' ').chain(["", "multistep:1xnan", "warmup:-1+constant", "cosine+warmup:1"]) {
        assert!(text.parse::<Schedule>().is_err_and(|error| error.contains("is no schedule")), "{text}");
    }
}

#[test]
fn a_warm_up_rises_to_the_rate_and_then_the_schedule_begins() {
    let schedule: Schedule = "warmup:3+cosine".parse().unwrap();
    let rates: Vec<f32> = (0..7).map(|epoch| schedule.rate(0.4, epoch, 7)).collect();
    assert_eq!(rates[..4], [0.1, 0.2, 0.3, 0.4]);
    assert!((3..7).all(|epoch| rates[epoch] == Schedule::COSINE.rate(0.4, epoch - 3, 4)));
    assert_eq!(schedule.rate(0.4, 1, 2), 0.2, "the whole training is a warm-up");
    let schedule: Schedule = "multistep:4,6".parse().unwrap();
    assert_eq!([3, 4, 5, 6].map(|epoch| schedule.rate(1.0, epoch, 9)), [1.0, 0.1, 0.1, 0.01]);
}

const SETTINGS: EdgePopupSettings = EdgePopupSettings {
    sparsity: 0.5,
    scope: Scope::PerLayer,
    epochs: 2,
    batch: 33,
    learning_rate: 0.1,
    schedule: Schedule::COSINE,
    momentum: 0.9,
    weight_decay: 1e-4,
    seed: 1,
};

/// Calls `test` with a trainer of `network` on 200 images, and weights.
fn with_trainer(network: &str, test: impl FnOnce(Trainer<'_>, &[Vec<f32>])) {
    let mnist = Dataset::mnist().unwrap();
    let network = network.parse().unwrap();
    let trainer = Trainer {
        engine: Engine::new(Backend::best()),
        network: &network,
        images: &Subset::first(mnist.train(), 200),
        normalisation: mnist.normalisation(NormalisationRule::MeanStd),
        augmentation: Augmentation::None,
    };
    test(trainer, &Initialisation::KaimingNormal.network(&network, 1.0, 3));
}

#[test]
fn together_the_share_is_removed_of_all() {
    with_trainer("784-37-11-10", |trainer, weights| {
        let settings = EdgePopupSettings { sparsity: 0.29, scope: Scope::Global, ..SETTINGS };
        let pruned = trainer.edge_popup(weights, &settings, &NoProgress).unwrap();
        let removed = pruned.layers.iter().map(|layer| layer.mask.removed()).sum::<usize>();
        assert_eq!(removed, (0.29 * trainer.network.weights() as f64) as usize);
        let removed_scores = pruned.layers.iter().flat_map(|layer| {
            layer.mask.iter().zip(&layer.scores).filter(|(kept, _)| !kept).map(|(_, score)| score.abs())
        });
        let largest = removed_scores.fold(0.0, f32::max);
        for layer in &pruned.layers {
            assert!(layer.mask.iter().zip(&layer.scores).all(|(kept, s)| !kept || s.abs() >= largest));
        }
    });
}

#[test]
fn a_rate_beyond_reason_is_an_error() {
    with_trainer("784-10", |trainer, weights| {
        let settings = EdgePopupSettings { learning_rate: f32::MAX, ..SETTINGS };
        let found = trainer.edge_popup(weights, &settings, &NoProgress);
        assert!(matches!(found, Err(Error::Diverged { phase: "pruning", .. })), "{found:?}");
    });
}

#[test]
fn senseless_settings_are_errors() {
    with_trainer("784-10", |trainer, weights| {
        let no_images = Subset::first(trainer.images.examples(), 0);
        for (trainer, weights, settings) in [
            (trainer, weights, EdgePopupSettings { batch: 0, ..SETTINGS }),
            (trainer, weights, EdgePopupSettings { sparsity: 1.0, ..SETTINGS }),
            (trainer, &[][..], SETTINGS),
            (trainer.on(&no_images), weights, SETTINGS),
        ] {
            let found = trainer.edge_popup(weights, &settings, &NoProgress);
            assert!(matches!(found, Err(Error::Config { .. })), "{found:?}");
        }
    });
}
const FINETUNING: PretrainSettings = PretrainSettings {
    epsilon: f32::INFINITY,
    epochs: 2,
    batch: 32,
    learning_rate: 0.1,
    schedule: Schedule::CONSTANT,
    momentum: 0.5,
    seed: 1,
};

/// Calls `test` with a trainer on 500 images and a network pruned by magnitude.
fn with_pruned(test: impl FnOnce(Trainer<'_>, Pruned)) {
    let mnist = Dataset::mnist().unwrap();
    let network = "784-20-10".parse().unwrap();
    let trainer = Trainer {
        engine: Engine::detect().unwrap(),
        network: &network,
        images: &Subset::first(mnist.train(), 500),
        normalisation: mnist.normalisation(NormalisationRule::MeanStd),
        augmentation: Augmentation::None,
    };
    let weights = Initialisation::KaimingNormal.network(&network, 1.0, 3);
    test(trainer, one_shot(trainer.engine, &network, &weights, 0.8, Scope::PerLayer, None).unwrap());
}

#[test]
fn finetuning_moves_the_kept_weights_only_and_helps() {
    with_pruned(|trainer, pruned| {
        let tuned = trainer.finetune(pruned.clone(), &FINETUNING, &NoProgress).unwrap();
        for (before, after) in pruned.layers.iter().zip(&tuned.layers) {
            assert_eq!((&before.mask, &before.scores), (&after.mask, &after.scores));
            for (index, kept) in before.mask.iter().enumerate() {
                assert!(kept || before.weights[index] == after.weights[index]);
            }
            assert_ne!(before.weights, after.weights);
        }
        let accuracy = |pruned: &Pruned| trainer.evaluate_pruned(&pruned.layers).unwrap().accuracy();
        assert!(accuracy(&tuned) > accuracy(&pruned) + 0.3);
        assert_eq!(tuned.timing.epochs, 2);
    });
}

#[test]
fn finetuning_refuses_misfits() {
    with_pruned(|trainer, pruned| {
        let refused = |trainer: Trainer<'_>, pruned: &Pruned, settings: &PretrainSettings| {
            let found = trainer.finetune(pruned.clone(), settings, &NoProgress);
            assert!(matches!(found, Err(Error::Config { .. } | Error::Kernel(_))), "{found:?}");
        };
        refused(trainer, &pruned, &PretrainSettings { batch: 0, ..FINETUNING });
        refused(trainer.on(&Subset::first(trainer.images.examples(), 0)), &pruned, &FINETUNING);
        let other = "784-21-10".parse().unwrap();
        refused(Trainer { network: &other, ..trainer }, &pruned, &FINETUNING);
        let mut short = pruned.clone();
        short.layers.pop();
        refused(trainer, &short, &FINETUNING);
        let mut misfit = pruned.clone();
        misfit.layers[0].mask = PackedMask::all_kept(7);
        refused(trainer, &misfit, &FINETUNING);
    });
}

#[test]
fn one_shot_refuses_misfits() {
    let network: Architecture = "3-2-1".parse().unwrap();
    let engine = Engine::detect().unwrap();
    let refused = |weights: &[usize], sparsity| {
        let weights: Vec<_> = weights.iter().map(|&n| vec![0.5; n]).collect();
        for scope in [Scope::PerLayer, Scope::Global] {
            match one_shot(engine, &network, &weights, sparsity, scope, None) {
                Err(Error::Config { .. }) => {}
                other => panic!("{weights:?}, {sparsity}: {other:?}"),
            }
        }
    };
    for weights in [&[][..], &[6], &[6, 1], &[5, 2], &[6, 2, 1]] {
        refused(weights, 0.5);
    }
    for sparsity in [-0.5, 1.0, f64::NAN, f64::INFINITY] {
        refused(&[6, 2], sparsity);
    }
    let nan = one_shot(engine, &network, &[vec![f32::NAN; 6], vec![0.0; 2]], 0.5, Scope::Global, None);
    assert!(matches!(nan, Err(Error::Diverged { what: "a weight", .. })), "{nan:?}");
}

#[test]
fn random_removes_the_share_anywhere() {
    let network: Architecture = "30-20-10".parse().unwrap();
    let weights: Vec<Vec<f32>> = network.layers().map(|layer| vec![0.5; layer.weights()]).collect();
    let engine = Engine::detect().unwrap();
    let prune = |seed, scope| one_shot(engine, &network, &weights, 0.3, scope, Some(seed)).unwrap().layers;
    let removed = |seed, scope| prune(seed, scope).iter().map(|l| l.mask.removed()).collect::<Vec<_>>();
    assert_eq!(removed(1, Scope::PerLayer), [180, 60]);
    let global = removed(1, Scope::Global);
    assert_eq!(global.iter().sum::<usize>(), 240);
    assert!(global[1].abs_diff(60) < 25, "{global:?}");
    assert_eq!(prune(1, Scope::Global), prune(1, Scope::Global));
    assert_ne!(prune(1, Scope::PerLayer), prune(2, Scope::PerLayer));
}

fn kept(scores: &[f32], keep: usize, group: usize) -> Vec<usize> {
    n_of_m(scores, keep, group).unwrap().kept_indices().collect()
}

#[test]
fn every_group_keeps_its_largest() {
    for group in [1, 2, 3, 4, 8, 64, 65, 100] {
        for groups in [0, 1, 2, 17] {
            // Few values, so that many are equal, of both signs.
            let scores: Vec<f32> = (0..group * groups).map(|i| (i * 37 % 11) as f32 - 5.0).collect();
            for keep in [0, 1, group / 2, group] {
                let mask = n_of_m(&scores, keep, group).unwrap();
                for (g, scores) in scores.chunks(group).enumerate() {
                    for (i, score) in scores.iter().enumerate() {
                        let larger = |&(j, other): &(usize, &f32)| (other.abs(), j) > (score.abs(), i);
                        let rank = scores.iter().enumerate().filter(larger).count();
                        assert_eq!(mask.get(g * group + i), rank < keep, "{keep}:{group}, score {i} of {g}");
                    }
                }
            }
        }
    }
}

#[test]
fn special_numbers_are_ordered() {
    assert_eq!(kept(&[0.0, -0.0, 0.0, -0.0], 2, 4), [2, 3]);
    assert_eq!(kept(&[f32::from_bits(2), -f32::from_bits(3), f32::from_bits(1), 0.0], 2, 4), [0, 1]);
    assert_eq!(kept(&[f32::MAX, f32::NEG_INFINITY, 1.0, -2.0], 1, 2), [1, 3]);
}

#[test]
fn what_cannot_be_divided_is_an_error() {
    assert_eq!(n_of_m(&[0.0; 8], 1, 3), Err(NOfMError::Group { group: 3, len: 8 }));
    assert_eq!(n_of_m(&[], 0, 0), Err(NOfMError::Group { group: 0, len: 0 }));
    assert_eq!(n_of_m(&[0.0; 8], 5, 4), Err(NOfMError::Keep { keep: 5, group: 4 }));
    assert_eq!(n_of_m(&[0.0, 0.0, 0.0, -f32::NAN], 1, 2), Err(NOfMError::NotANumber(3)));
}
