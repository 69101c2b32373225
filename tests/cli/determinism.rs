//! The same command gives the same bits: twice, on every instruction set, on any number of threads.

use std::fs;
use std::path::Path;

use serde_json::Value;
use slth_kernels::Backend;

use crate::fixture;

/// Runs one epoch each of pretraining and pruning; returns the result and the ticket's bytes.
fn run(network: &str, data: &[&str], out: &Path, backend: &str, threads: usize) -> (Value, Vec<u8>) {
    fixture::slth()
        .args(["run", "--pretrain-epochs", "1"])
        .args(data)
        .args(["--prune-epochs", "1", "--network", network, "--force", "--quiet"])
        .args(["--backend", backend, "--threads", &threads.to_string(), "--out"])
        .arg(out)
        .assert()
        .success();
    let json = fs::read_to_string(out.join("result.json")).unwrap();
    (serde_json::from_str(&json).unwrap(), fs::read(out.join("ticket.safetensors")).unwrap())
}

#[test]
fn backends_and_threads_do_not_change_a_bit() {
    check("784-100-10", &["--train-images", "3000"]);
}

#[test]
fn backends_and_threads_do_not_change_a_bit_of_convolutions() {
    // Few images, because the scalar backend is slow on CPUs without fused multiply-add.
    let data = tempfile::tempdir().unwrap();
    fixture::write_part_of_mnist(data.path(), 200, 50);
    check(
        "lenet5",
        &["--augment", "flip-crop", "--validation", "20", "--data", data.path().to_str().unwrap()],
    );
}

fn check(network: &str, data: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let run = |out: &Path, backend: &str, threads| run(network, data, out, backend, threads);
    let (first, ticket) = run(&directory.path().join("scalar"), "scalar", 1);
    assert_eq!(first["backend"], "scalar");
    let backends: Vec<_> = Backend::available().iter().map(|backend| backend.name()).collect();
    eprintln!("backends under test: {backends:?}");
    for (name, threads) in backends.into_iter().zip([2, 3, 7, 1]) {
        let (result, same_ticket) = run(&directory.path().join(name), name, threads);
        let used = threads.min(std::thread::available_parallelism().unwrap().get());
        assert_eq!((&result["backend"], &result["threads"]), (&name.into(), &used.into()));
        for key in ["weights_hash", "mask_hash", "layers", "configuration"] {
            assert_eq!(result[key], first[key], "{key} on {name} with {threads} threads");
        }
        for phase in ["pretrain", "prune"] {
            for key in ["max_change", "validation_loss", "validation_accuracy", "test_accuracy"] {
                assert_eq!(result[phase][key], first[phase][key], "{phase} {key} on {name}");
            }
        }
        assert_eq!(same_ticket, ticket, "{name} with {threads} threads");
    }
    let (again, same_ticket) = run(&directory.path().join("scalar"), "scalar", 1);
    assert_eq!((&again["weights_hash"], same_ticket), (&first["weights_hash"], ticket));
}

#[test]
fn seeds_change_the_weights() {
    let data = fixture::dataset();
    let hash = |seed: &str| {
        let out = tempfile::tempdir().unwrap();
        fixture::small_run(data.path()).args(["--seed", seed, "--out"]).arg(out.path()).assert().success();
        let json = fs::read_to_string(out.path().join("result.json")).unwrap();
        serde_json::from_str::<Value>(&json).unwrap()["weights_hash"].to_string()
    };
    assert_ne!(hash("1"), hash("2"));
    assert_eq!(hash("18446744073709551615"), hash("18446744073709551615"));
}
