//! Training: edge-popup, iterative magnitude pruning, finetuning and the baselines.

use clap::ValueEnum;
use slth::Error;
use slth::approximate::Draw;
use slth::candidates::Criterion;
use slth::data::{Augmentation, Dataset, NormalisationRule, Subset};
use slth::network::{Architecture, Initialisation};
use slth::progress::NoProgress;
use slth::training::{
    Cut, EdgePopupSettings, ImpSettings, KeepDense, NOfMError, Pattern, PretrainSettings, PruneMethod,
    Pruned, Schedule, Scope, Trainer, n_of_m, one_shot,
};
use slth_kernels::{Backend, Engine, PackedMask};

/// Printed names, names in files and names on the command line are the same.
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
    check::<KeepDense>();
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

/// Removes half of every layer.
const CUT: Cut = Cut {
    sparsity: 0.5,
    scope: Scope::PerLayer,
    pattern: None,
    keep_dense: KeepDense::None,
    output_sparsity: None,
};

const SETTINGS: EdgePopupSettings = EdgePopupSettings {
    cut: CUT,
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
        let settings =
            EdgePopupSettings { cut: Cut { sparsity: 0.29, scope: Scope::Global, ..CUT }, ..SETTINGS };
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
            (trainer, weights, EdgePopupSettings { cut: Cut { sparsity: 1.0, ..CUT }, ..SETTINGS }),
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
    let cut = Cut { sparsity: 0.8, ..CUT };
    test(trainer, one_shot(trainer.engine, &network, &weights, &cut, None).unwrap());
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

const IMP: ImpSettings =
    ImpSettings { cut: CUT, rounds: 2, rewind_epoch: 0, halve_output_rate: false, training: FINETUNING };

#[test]
fn rounds_remove_equal_shares_of_what_is_left_and_rewind_the_rest() {
    with_trainer("784-37-11-10", |trainer, weights| {
        let imp = |settings: &ImpSettings| trainer.imp(weights, settings, &NoProgress).unwrap();
        let settings = ImpSettings { cut: Cut { sparsity: 0.75, ..CUT }, ..IMP };
        let pruned = imp(&settings);
        assert_eq!((pruned.timing.epochs, settings.epochs()), (6, 6));
        for (layer, initial) in pruned.layers.iter().zip(weights) {
            let n = initial.len();
            // Each round removes half of the rest. Scores are from the second round, and 0 for weights removed in the first.
            let zeros = layer.scores.iter().filter(|&&score| score == 0.0).count();
            assert_eq!((zeros, layer.mask.removed()), (n / 2, n * 3 / 4));
            let least = layer.mask.kept_indices().map(|i| layer.scores[i]).fold(f32::INFINITY, f32::min);
            for (i, kept) in layer.mask.iter().enumerate() {
                assert!(kept || (layer.weights[i] == initial[i] && layer.scores[i] <= least));
            }
            let trained = layer.mask.kept_indices().filter(|&i| layer.weights[i] != initial[i]);
            assert!(trained.count() * 2 > layer.mask.kept());
        }
        assert!(trainer.evaluate_pruned(&pruned.layers).unwrap().accuracy() > 0.2);

        // After rewinding to epoch 1, removed weights keep their values after that epoch, not the initial ones.
        let later = imp(&ImpSettings { rewind_epoch: 1, ..settings.clone() });
        assert_eq!(later.timing.epochs, 4);
        let moved = |(i, _): &(usize, bool)| later.layers[0].weights[*i] != weights[0][*i];
        assert!(
            later.layers[0].mask.iter().enumerate().filter(|(_, kept)| !kept).filter(moved).count() > 1000
        );

        let halved = imp(&ImpSettings { halve_output_rate: true, ..settings });
        let removed: Vec<_> = halved.layers.iter().map(|layer| layer.mask.removed()).collect();
        assert_eq!(removed, [784 * 37 * 3 / 4, 37 * 11 * 3 / 4, (0.4375 * 110.0) as usize]);
    });
}

#[test]
fn rounds_that_make_no_sense_are_errors() {
    with_trainer("784-12-10", |trainer, weights| {
        let pattern = Some(Pattern { keep: 2, group: 4 });
        for settings in [
            ImpSettings { rounds: 0, ..IMP },
            ImpSettings { rewind_epoch: 2, ..IMP },
            ImpSettings { cut: Cut { sparsity: 1.0, ..CUT }, ..IMP },
            ImpSettings { cut: Cut { pattern, ..CUT }, ..IMP },
            ImpSettings { cut: Cut { scope: Scope::Global, ..CUT }, halve_output_rate: true, ..IMP },
        ] {
            let found = trainer.imp(weights, &settings, &NoProgress);
            assert!(matches!(found, Err(Error::Config { .. })), "{found:?}");
        }
        let once = ImpSettings { cut: Cut { pattern, ..CUT }, rounds: 1, ..IMP };
        assert!(trainer.imp(weights, &once, &NoProgress).is_ok());
    });
}

#[test]
fn patterns_and_dense_layers_hold_for_every_method() {
    with_trainer("784-36-12-10", |trainer, weights| {
        let pattern: Pattern = "1:4".parse().unwrap();
        for method in PruneMethod::value_variants() {
            for keep_dense in [KeepDense::None, KeepDense::First, KeepDense::Last, KeepDense::Both] {
                let pruned = |cut| {
                    let (settings, imp) =
                        (EdgePopupSettings { cut, ..SETTINGS }, ImpSettings { cut, rounds: 1, ..IMP });
                    trainer.prune(*method, weights, &settings, &imp, &NoProgress).unwrap().layers
                };
                let is_dense = |index| match keep_dense {
                    KeepDense::None => false,
                    KeepDense::First => index == 0,
                    KeepDense::Last => index == 2,
                    KeepDense::Both => index != 1,
                };
                let cut = Cut { sparsity: pattern.sparsity(), pattern: Some(pattern), keep_dense, ..CUT };
                for (index, layer) in pruned(cut).iter().enumerate() {
                    if is_dense(index) {
                        assert_eq!(layer.mask.removed(), 0, "{method} {keep_dense}");
                        continue;
                    }
                    assert_eq!(layer.mask, n_of_m(&layer.scores, 1, 4).unwrap(), "{method} {keep_dense}");
                }
                for scope in [Scope::PerLayer, Scope::Global] {
                    let layers = pruned(Cut { scope, keep_dense, ..CUT });
                    let (dense, others): (Vec<_>, Vec<_>) =
                        layers.iter().enumerate().partition(|(index, _)| is_dense(*index));
                    assert!(dense.iter().all(|(_, layer)| layer.mask.removed() == 0));
                    let count = |all: &[(usize, &slth::training::PrunedLayer)],
                                 what: fn(&PackedMask) -> usize| {
                        all.iter().map(|(_, layer)| what(&layer.mask)).sum::<usize>()
                    };
                    assert_eq!(count(&others, PackedMask::removed) * 2, count(&others, PackedMask::len));
                }
            }
        }
    });
}

#[test]
fn one_shot_refuses_misfits() {
    let network: Architecture = "3-2-1".parse().unwrap();
    let engine = Engine::detect().unwrap();
    let refused = |weights: &[usize], sparsity| {
        let weights: Vec<_> = weights.iter().map(|&n| vec![0.5; n]).collect();
        for scope in [Scope::PerLayer, Scope::Global] {
            let cut = Cut { sparsity, scope, ..CUT };
            match one_shot(engine, &network, &weights, &cut, None) {
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
    let cut = Cut { scope: Scope::Global, ..CUT };
    let nan = one_shot(engine, &network, &[vec![f32::NAN; 6], vec![0.0; 2]], &cut, None);
    assert!(matches!(nan, Err(Error::Diverged { what: "a weight", .. })), "{nan:?}");
}

#[test]
fn random_removes_the_share_anywhere() {
    let network: Architecture = "30-20-10".parse().unwrap();
    let weights: Vec<Vec<f32>> = network.layers().map(|layer| vec![0.5; layer.weights()]).collect();
    let engine = Engine::detect().unwrap();
    let prune = |seed, scope| {
        let cut = Cut { sparsity: 0.3, scope, ..CUT };
        one_shot(engine, &network, &weights, &cut, Some(seed)).unwrap().layers
    };
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
            // Few distinct values of both signs, so that there are ties.
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

#[test]
fn edge_popup_removes_exactly_the_share_after_every_step() {
    let (mnist, network) = (Dataset::mnist().unwrap(), "784-37-11-10".parse().unwrap());
    let weights = Initialisation::KaimingNormal.network(&network, 1.0, 3);
    let (batch, seed) = (33, 1);
    for sparsity in [0.0, 0.1, 0.29, 0.5, 0.9, 0.999] {
        for steps in 0..8 {
            let trainer = Trainer {
                engine: Engine::detect().unwrap(),
                network: &network,
                images: &Subset::first(mnist.train(), batch * steps.max(1)),
                normalisation: mnist.normalisation(NormalisationRule::MeanStd),
                augmentation: Augmentation::None,
            };
            let settings = EdgePopupSettings {
                cut: Cut { sparsity, ..Cut::default() },
                epochs: steps.min(1),
                batch,
                learning_rate: 0.1,
                schedule: Schedule::COSINE,
                momentum: 0.9,
                weight_decay: 1e-4,
                seed,
            };
            let pruned = trainer.edge_popup(&weights, &settings, &NoProgress).unwrap();
            for (layer, n) in pruned.layers.iter().zip([784 * 37, 37 * 11, 110]) {
                assert_eq!(layer.mask.removed(), (sparsity * f64::from(n)) as usize, "{steps}");
            }
        }
    }
}
