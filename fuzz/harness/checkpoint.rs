//! Reads checkpoints, and resumes the runs of those that can be read.

use sha2::{Digest, Sha256};
use slth::progress::NoProgress;
use slth::run::{Checkpoint, Checkpoints, RunConfig, RunDirectory};
use slth::training::PruneMethod;

/// The configuration of the run that the checkpoints belong to.
pub(crate) fn config(method: PruneMethod) -> RunConfig {
    RunConfig {
        network: "4-3-2".parse().expect("a network"),
        method,
        pretrain_epochs: 2,
        prune_epochs: 2,
        rounds: 2,
        batch: 2,
        validation: 0,
        threads: Some(1),
        ..RunConfig::default()
    }
}

pub(super) fn run(data: &[u8]) {
    let Some((what, rest)) = super::split(data) else { return };
    let mut file = rest.to_vec();
    if what & 1 != 0 {
        // Prepend the right hash; otherwise nearly every input fails at the hash.
        let hash: String = Sha256::digest(rest).iter().map(|byte| format!("{byte:02x}")).collect();
        file = [format!("slth checkpoint 1 {hash}\n").as_bytes(), rest].concat();
    }
    let Ok(found) = Checkpoint::parse(&file) else { return };
    for phase in found.history.chunk_by(|a, b| a.phase == b.phase) {
        assert!(phase.iter().zip(1..).all(|(epoch, number)| epoch.epoch == number));
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join(RunDirectory::CHECKPOINT), file).expect("written");
    let out = RunDirectory::prepare(directory.path(), false, Some(Checkpoints::Resume))
        .expect("an empty directory");
    let method = if what & 2 == 0 { PruneMethod::EdgePopup } else { PruneMethod::Imp };
    let data = super::blank([1, 2, 2], 2).expect("grey images");
    // Checkpoints of other runs are refused; numbers beyond f32 are an error.
    let _ = out.run(&config(method), &data, &NoProgress);
}
