//! Cells, rank correlations, and the name of the built-in data set.

use slth::data::Dataset;
use slth::machine::Machine;
use slth::run::{RunConfig, dataset_hash};
use slth::sweep::{Cell, CellConfig, CellOutcome, CellResult, CellTiming, rank_correlation, report_texts};
use slth::training::PruneMethod;

#[test]
fn options_that_a_method_ignores_make_no_other_cell() {
    let config = |method, momentum, prune_epochs| {
        let run = RunConfig { method, momentum, prune_epochs, ..RunConfig::default() };
        CellConfig::new(&run, "data")
    };
    for (method, keys) in [
        (PruneMethod::EdgePopup, 3),
        (PruneMethod::MagnitudeThenFinetune, 7),
        (PruneMethod::Magnitude, 8),
        (PruneMethod::Random, 8),
        (PruneMethod::Imp, 4),
    ] {
        let [a, b] = [0.3, 0.5].map(|momentum| config(method, momentum, 5));
        assert_eq!(a.id() == b.id(), keys > 3, "{method}");
        let [a, b] = [2, 3].map(|epochs| config(method, 0.9, epochs));
        assert_eq!(a.id() == b.id(), keys == 8, "{method}");
        let all = config(PruneMethod::EdgePopup, 0.9, 5).setting();
        assert_eq!(
            (a.setting().len(), all["momentum"].to_string()),
            (all.len() + 3 - keys, "0.9".to_owned())
        );
    }
}

#[test]
fn rank_correlations_are_spearmans() {
    assert_eq!(rank_correlation(&[[0.0, 5.0], [1.0, 7.0], [2.0, 100.0]]), 1.0);
    assert_eq!(rank_correlation(&[[0.0, 5.0], [1.0, 3.0], [2.0, 1.0]]), -1.0);
    // A tie; computed by hand from the ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4.
    let tied = rank_correlation(&[[1.0, 1.0], [2.0, 3.0], [2.0, 2.0], [3.0, 4.0]]);
    assert!((tied - 4.5 / (4.5_f64 * 5.0).sqrt()).abs() < 1e-12, "{tied}");
    assert!(rank_correlation(&[[1.0, 1.0]]).is_nan() && rank_correlation(&[]).is_nan());
}

#[test]
fn mnist_is_known() {
    let timing = CellTiming {
        pretrain_seconds: 0.0,
        prune_seconds: 0.0,
        finished: 0,
        backend: String::new(),
        threads: 1,
        data_name: "elsewhere".to_owned(),
        host: String::new(),
        machine: Machine::current(),
    };
    let table_of = |data: &str| {
        let config = CellConfig::new(&RunConfig::default(), data);
        let mut cell = Cell::failed(config, String::new(), timing.clone());
        cell.outcome = CellOutcome::Done(CellResult {
            validation_loss: None,
            validation_accuracy: None,
            test_accuracy: 0.5,
            weights_hash: String::new(),
            mask_hash: String::new(),
        });
        report_texts(vec![cell]).unwrap().swap_remove(0).1
    };
    let mnist = dataset_hash(&Dataset::mnist().unwrap());
    assert!(table_of(&mnist).starts_with("Data set MNIST, "));
    assert!(table_of("others").starts_with("Data set elsewhere, "));
}
