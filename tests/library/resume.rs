//! Runs that are stopped and resumed from their checkpoints.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};
use slth::Error;
use slth::data::{Augmentation, Dataset};
use slth::progress::{Progress, Step};
use slth::run::{Checkpoint, CheckpointProblem, Checkpoints, Outcome, RunConfig, RunDirectory};
use slth::training::{KeepDense, PruneMethod, Scope};

/// Stops the run after this many steps.
struct Stop(AtomicUsize);

impl Progress for Stop {
    fn step(&self, _step: &Step) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A configuration with 4 steps per epoch.
fn config() -> RunConfig {
    RunConfig {
        network: "784-12-10".parse().unwrap(),
        train_images: Some(200),
        validation: 50,
        batch: 50,
        pretrain_epochs: 3,
        pretrain_momentum: 0.9,
        prune_epochs: 3,
        threads: Some(1),
        ..RunConfig::default()
    }
}

fn run(config: &RunConfig, out: &Path, steps: usize) -> Result<Outcome, Error> {
    let mnist = Dataset::mnist().unwrap();
    let directory = RunDirectory::prepare(out, false, Some(Checkpoints::Resume)).unwrap();
    directory.run(config, &mnist, &Stop(AtomicUsize::new(steps)))
}

/// The results of a run without its times.
fn bits(outcome: &Outcome) -> impl PartialEq + std::fmt::Debug {
    let mut history = outcome.history.clone();
    history.iter_mut().for_each(|epoch| epoch.seconds = 0.0);
    let epochs = [outcome.pretrain.timing.epochs, outcome.prune.timing.epochs];
    let (dense, pruned) = (&outcome.pretrain, &outcome.prune);
    (history, epochs, dense.max_change, dense.test, pruned.validation, pruned.test, outcome.layers.clone())
}

#[test]
fn stopped_after_every_epoch_it_goes_on_to_the_same_bits() {
    let convolutions = RunConfig {
        network: "28x28-3@5x5s2-pool2-10".parse().unwrap(),
        augment: Augmentation::FlipCrop,
        scope: Scope::Global,
        pretrain_schedule: "warmup:1+cosine".parse().unwrap(),
        prune_schedule: "multistep:1".parse().unwrap(),
        ..config()
    };
    let finetuned = RunConfig { method: PruneMethod::MagnitudeThenFinetune, ..config() };
    let imp = RunConfig { method: PruneMethod::Imp, rounds: 2, rewind_epoch: 1, ..config() };
    let pattern =
        RunConfig { pattern: Some("2:4".parse().unwrap()), keep_dense: KeepDense::Last, ..config() };
    let dense = RunConfig { sparsity: 0.0, validation: 0, ..config() };
    for config in [config(), convolutions, finetuned, imp, pattern, dense] {
        let directory = tempfile::tempdir().unwrap();
        let whole = run(&config, &directory.path().join("whole"), usize::MAX).unwrap();
        let out = directory.path().join("stopped");
        let mut epochs = 0;
        let resumed = loop {
            match run(&config, &out, 5) {
                Ok(outcome) => break outcome,
                Err(Error::Stopped) => {}
                Err(other) => panic!("{other}"),
            }
            epochs += 1;
            let checkpoint = Checkpoint::read(out.join(RunDirectory::CHECKPOINT)).unwrap();
            assert_eq!(checkpoint.history.len(), epochs);
        };
        // The last call finishes the run before its five steps are used up, so it leaves no checkpoint.
        assert_eq!(epochs, whole.history.len() - 1);
        assert_eq!(bits(&resumed), bits(&whole), "{config:?}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 4, "the checkpoint is removed");
    }
}

#[test]
fn every_cut_and_flip_is_refused() {
    let (config, directory) =
        (RunConfig { network: "784-10".parse().unwrap(), ..config() }, tempfile::tempdir().unwrap());
    run(&config, directory.path(), 17).unwrap_err();
    let file = directory.path().join(RunDirectory::CHECKPOINT);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(Checkpoint::parse(&bytes).unwrap().history.len(), 4);
    let refused = |bytes: &[u8]| matches!(Checkpoint::parse(bytes), Err(CheckpointProblem::Damaged));
    let ends = bytes.len() - 20..bytes.len();
    for at in (0..3000).chain((3000..bytes.len()).step_by(9973)).chain(ends) {
        assert!(refused(&bytes[..at]), "cut at {at}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(refused(&flipped), "flip at {at}");
    }
    // Forged checkpoints: the hash is right, the content is not.
    let begin = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let rest = String::from_utf8_lossy(&bytes[begin..]).into_owned();
    let json = rest.lines().next().unwrap();
    let numbers = &bytes[begin + json.len() + 1..];
    for (from, to, is_refused) in [
        ("\"lengths\":[[", "\"lengths\":[[18446744073709551615,", true),
        ("\"lengths\":[[", "\"lengths\":[[0,", false),
        ("\"lengths\":[[", "\"lengths\":[[],[", true),
        ("\"epoch\":2", "\"epoch\":5", true),
        ("\"phase\":\"pruning\"", "\"phase\":\"x\"", false),
        ("\"sparsity\":0.5", "\"sparsity\":-7", false),
        ("{", "[", true),
        ("\n", "", true),
    ] {
        let content = [json.replacen(from, to, 1).as_bytes(), b"\n", numbers].concat();
        let content = if from == "\n" { json.as_bytes().to_vec() } else { content };
        let hash: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let forged = [format!("slth checkpoint 1 {hash}\n").as_bytes(), &content].concat();
        assert_eq!(refused(&forged), is_refused, "{to}");
        fs::write(&file, forged).unwrap();
        // A checkpoint that parses either fails for its configuration or numbers, or the run resumes; nothing panics.
        if let Err(error) = run(&config, directory.path(), 17) {
            assert!(error.is_bad_input() || matches!(error, Error::Stopped), "{error}");
        }
        let _ = ["result.json", "history.csv", "history.svg", "ticket.safetensors"]
            .map(|name| fs::remove_file(directory.path().join(name)));
    }
}
