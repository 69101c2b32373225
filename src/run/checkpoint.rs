//! `checkpoint.slth`: the state of a run after an epoch.
//!
//! A line `slth checkpoint 1` with the SHA-256 of all that follows it; a line of JSON with the configuration, the history and
//! how many numbers of each phase follow; the numbers, as little-endian f32. The order of images and all other draws
//! depend on seed and epoch alone, so these numbers are all that a run needs to go on to the same bits.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config::RunConfig;
use super::hash::{BITS_REVISION, hex};
use super::history::EpochRecord;
use super::options::differences;
use crate::data::Subset;
use crate::error::Error;
use crate::input::FileError;
use crate::output::{between_writes, write_atomically};
use crate::progress::{EpochDone, Progress, Step, TrainingState};
use crate::tensors::little_endian;

const MAGIC: &str = "slth checkpoint 1 ";

/// Why a run cannot go on from a file.
pub type CheckpointError = FileError<CheckpointProblem>;

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointProblem {
    /// The system refused to read, or it is a directory, a device or a pipe.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its bytes are not those that were written, or another program wrote it.
    #[error("damaged, or no checkpoint of slth; remove it to begin anew")]
    Damaged,
    /// It is of another configuration, other data or another revision of the bits.
    #[error("a checkpoint of another run: {0}; remove it, or choose another --out")]
    OtherRun(String),
}

/// The state of a run after an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The [`BITS_REVISION`] of the version that wrote it.
    bits_revision: u32,
    /// The [`data_hash`](RunConfig::data_hash): of the data, and of the weights to start from.
    data: String,
    configuration: RunConfig,
    /// Its epochs so far.
    pub history: Vec<EpochRecord>,
    /// How many numbers each phase has, part by part.
    lengths: Vec<Vec<usize>>,
    /// The numbers of each phase of the history.
    #[serde(skip)]
    numbers: Vec<Vec<Vec<f32>>>,
}

impl Checkpoint {
    /// That of a run which has not begun, on the data of hash `data`.
    pub(super) fn new(config: &RunConfig, data: String) -> Self {
        let (bits_revision, configuration) = (BITS_REVISION, config.canonical());
        Self { bits_revision, data, configuration, history: vec![], lengths: vec![], numbers: vec![] }
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// When the file cannot be read, or a byte of it is not as it was written.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        crate::input::parse(file.as_ref(), Self::parse)
    }

    /// A checkpoint from the bytes of its file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointProblem> {
        Self::checked(bytes).ok_or(CheckpointProblem::Damaged)
    }

    fn checked(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at(bytes.iter().position(|&byte| byte == b'\n')?);
        let rest = &rest[1..];
        let hash = first.strip_prefix(MAGIC.as_bytes())?;
        if hash != hex(Sha256::new().chain_update(rest)).as_bytes() {
            return None;
        }
        let (json, rest) = rest.split_at(rest.iter().position(|&byte| byte == b'\n')?);
        let mut found: Self = serde_json::from_slice(json).ok()?;
        let (mut words, odd) = rest[1..].as_chunks();
        for lengths in &found.lengths {
            let mut phase = Vec::new();
            for &length in lengths {
                let (part, others) = words.split_at_checked(length)?;
                phase.push(part.iter().map(|&word| f32::from_le_bytes(word)).collect());
                words = others;
            }
            found.numbers.push(phase);
        }
        let counted = found.phases().all(|phase| phase.iter().zip(1..).all(|(epoch, n)| epoch.epoch == n));
        let whole = counted && found.phases().count() == found.numbers.len();
        (whole && words.is_empty() && odd.is_empty()).then_some(found)
    }

    /// The bytes of its file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("no map with keys other than strings");
        let mut rest = (json + "\n").into_bytes();
        self.numbers.iter().flatten().for_each(|numbers| rest.extend(little_endian(numbers)));
        let hash = hex(Sha256::new().chain_update(&rest));
        [format!("{MAGIC}{hash}\n").as_bytes(), &rest].concat()
    }

    /// The epochs of each phase.
    fn phases(&self) -> impl Iterator<Item = &[EpochRecord]> {
        self.history.chunk_by(|a, b| a.phase == b.phase)
    }

    /// An error unless `other` is of the same run.
    fn agree(&self, other: &Self) -> Result<(), CheckpointProblem> {
        let revision = |run: &Self| format!("bits revision {}", run.bits_revision);
        let told = if self.bits_revision != other.bits_revision {
            format!("{} there, {} here", revision(self), revision(other))
        } else if self.data != other.data {
            "its data is another".to_owned()
        } else {
            // The hash of the data knows the file of weights by its content; where it lies decides nothing.
            let [there, here] = [self, other].map(|run| {
                let mut setting = run.configuration.setting();
                setting.remove("weights");
                setting
            });
            match differences(&there, &here) {
                Some(told) => told,
                None => return Ok(()),
            }
        };
        Err(CheckpointProblem::OtherRun(told))
    }
}

/// Keeps the history of a run, and its state in a file where one is wished.
pub(super) struct Recorder<'a> {
    progress: &'a dyn Progress,
    validation: &'a Subset<'a>,
    file: Option<PathBuf>,
    state: Mutex<Checkpoint>,
}

impl<'a> Recorder<'a> {
    /// For a run from its `begin`, which `progress` watches; with a `file` that is there, from the state in it.
    pub(super) fn new(
        progress: &'a dyn Progress,
        validation: &'a Subset<'a>,
        file: Option<&Path>,
        begin: Checkpoint,
    ) -> Result<Self, CheckpointError> {
        let state = match file.filter(|file| file.symlink_metadata().is_ok()) {
            None => begin,
            Some(file) => {
                let found = Checkpoint::read(file)?;
                let agreed = found.agree(&begin);
                agreed.map_err(|problem| FileError { file: file.display().to_string(), problem })?;
                found
            }
        };
        Ok(Self { progress, validation, file: file.map(Path::to_owned), state: Mutex::new(state) })
    }

    pub(super) fn into_history(self) -> Vec<EpochRecord> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).history
    }

    fn state(&self) -> MutexGuard<'_, Checkpoint> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Recorder<'_> {
    fn begin(&self, task: &str, total: usize) {
        self.progress.begin(task, total);
    }

    fn advance(&self, units: usize) {
        self.progress.advance(units);
    }

    fn step(&self, step: &Step) {
        self.progress.step(step);
    }

    fn stopped(&self) -> bool {
        self.progress.stopped()
    }

    fn end(&self) {
        self.progress.end();
    }

    fn resume(&self, phase: &'static str, state: &mut dyn TrainingState) -> Result<(usize, f64), Error> {
        let found = self.state();
        let Some(at) = found.phases().position(|epochs| epochs[0].phase == phase) else {
            return Ok((0, 0.0));
        };
        let mut numbers = state.numbers();
        if found.lengths[at] != numbers.iter().map(|part| part.len()).collect::<Vec<_>>() {
            let file = self.file.as_deref().unwrap_or(Path::new("")).display().to_string();
            return Err(FileError { file, problem: CheckpointProblem::Damaged }.into());
        }
        numbers.iter_mut().zip(&found.numbers[at]).for_each(|(to, from)| to.copy_from_slice(from));
        let epochs = found.phases().nth(at).unwrap_or_default();
        Ok((epochs.len(), epochs.iter().map(|epoch| epoch.seconds).sum()))
    }

    fn epoch(&self, done: &EpochDone, state: &mut dyn TrainingState) -> Result<(), Error> {
        let &EpochDone { phase, epoch, loss: train_loss, learning_rate, seconds } = done;
        let mut found = None;
        if !self.validation.is_empty() {
            found = match state.evaluate(self.validation) {
                Err(Error::NotFinite) => None,
                found => Some(found?),
            };
        }
        let mut now = self.state();
        now.history.push(EpochRecord {
            epoch,
            phase: phase.to_owned(),
            train_loss,
            validation_loss: found.map(|[loss, _]| loss),
            validation_accuracy: found.map(|[_, accuracy]| accuracy),
            learning_rate,
            seconds,
        });
        let Some(file) = &self.file else { return Ok(()) };
        let at = now.phases().count() - 1;
        let numbers: Vec<_> = state.numbers().iter().map(|part| part.to_vec()).collect();
        now.lengths.truncate(at);
        now.lengths.push(numbers.iter().map(Vec::len).collect());
        now.numbers.truncate(at);
        now.numbers.push(numbers);
        let bytes = now.bytes();
        let _writing = between_writes();
        Ok(write_atomically(file, &bytes)?)
    }
}
