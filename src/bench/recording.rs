//! Measurements on disk: one JSON object a line, the first of them telling where they are from.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use slth_kernels::Backend;
use thiserror::Error;

use super::Measurement;
use crate::error::Error;
use crate::machine::Machine;
use crate::output::OutputDirectory;

/// Why a recording cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// It cannot be read.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is no measurement.
    #[error("{}, line {line}: {problem}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// It holds no measurement.
    #[error("{}: no measurements in it; `slth bench --save` records some", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// Nothing was measured in both.
    #[error("{} and {}: nothing was measured in both", one.display(), other.display())]
    NothingInCommon {
        /// One.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// A page has no place for a table, or a place without an end.
    #[error("{}: {problem}", file.display())]
    Markers {
        /// The page.
        file: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// What is generated from recordings is not what they give.
    #[error("{}: not in step with the recordings; `slth bench --tables` writes it anew", file.display())]
    OutOfStep {
        /// The file.
        file: PathBuf,
    },
}

impl From<RecordingError> for Error {
    fn from(error: RecordingError) -> Self {
        match error {
            RecordingError::OutOfStep { .. } => Self::failed(error),
            _ => Self::input(error),
        }
    }
}

/// Where measurements are from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The machine.
    pub machine: Machine,
    /// Its backends, best first.
    pub backends: Vec<String>,
    /// The core that measurements on one thread were pinned to.
    pub core: Option<usize>,
    /// Day, as YYYY-MM-DD in UTC.
    pub date: String,
    /// The commit, marked where there were changes to it; `unknown` outside a repository.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
    /// The command.
    pub command: String,
    /// How often all cases were gone through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<Passes>,
}

/// Passes over all cases, everything being made anew for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passes {
    /// How many were made.
    pub made: usize,
    /// In older recordings: how many of them count, the least disturbed ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<usize>,
}

impl Origin {
    /// This process, here and now; `machine` from before a thread was pinned to `core`, which hides the other cores.
    pub fn here(machine: Machine, core: Option<usize>, passes: usize) -> Self {
        let describe = ["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"];
        let commit = Command::new("git").args(describe).output().ok().filter(|out| out.status.success());
        let commit = commit.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
        let arguments = std::env::args()
            .skip(1)
            .map(|word| if word.contains(' ') { format!("\"{word}\"") } else { word });
        Self {
            machine,
            backends: Backend::available().iter().map(|backend| backend.name().to_owned()).collect(),
            core,
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            commit: commit.unwrap_or_else(|| "unknown".to_owned()),
            rustc: env!("SLTH_RUSTC").to_owned(),
            command: std::iter::once("slth".to_owned()).chain(arguments).collect::<Vec<_>>().join(" "),
            passes: Some(Passes { made: passes, counted: None }),
        }
    }

    fn text(&self) -> String {
        let Self {
            machine: Machine { cpu, cores, os },
            backends,
            core,
            date,
            commit,
            rustc,
            command,
            passes,
        } = self;
        let pinned = core.map_or_else(|| "no".to_owned(), |core| format!("to core {core}"));
        format!(
            "cpu       {cpu}\ncores     {cores}\nos        {os}\nbackends  {}\npinned    {pinned}\ndate      {date}\n\
             commit    {commit}\nrustc     {rustc}\ncommand   {command}\n{}",
            backends.join(", "),
            passes.map_or_else(String::new, |passes| format!("passes    {}\n", passes.made)),
        )
    }
}

/// Measurements and, where it was recorded, their origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Where they are from; scripts for peers do not tell.
    pub origin: Option<Origin>,
    /// The measurements.
    pub rows: Vec<Measurement>,
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, a line is no measurement, or there is none.
    pub fn read(file: &Path) -> Result<Self, RecordingError> {
        let unreadable = |source| RecordingError::Unreadable { file: file.to_owned(), source };
        Self::parse(file, &crate::input::read(file).map_err(unreadable)?)
    }

    /// The recording that `text` is, the content of what errors call `file`.
    ///
    /// # Errors
    /// When it is no text, a line is no measurement, or there is none.
    pub fn parse(file: &Path, text: &[u8]) -> Result<Self, RecordingError> {
        let text = std::str::from_utf8(text).map_err(|error| RecordingError::Unreadable {
            file: file.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        let mut recording = Self { origin: None, rows: Vec::new() };
        for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            if line == 0
                && let Ok(origin) = serde_json::from_str(text)
            {
                recording.origin = Some(origin);
                continue;
            }
            let row: Measurement = serde_json::from_str(text).map_err(|error| RecordingError::Line {
                file: file.to_owned(),
                line: line + 1,
                problem: error.to_string(),
            })?;
            let times = [row.seconds, row.work, row.quartiles[0], row.quartiles[1], row.least];
            if !times.iter().all(|time| *time > 0.0 && time.is_finite()) {
                let problem = "times and work must be positive".to_owned();
                return Err(RecordingError::Line { file: file.to_owned(), line: line + 1, problem });
            }
            recording.rows.push(row);
        }
        if recording.rows.is_empty() {
            return Err(RecordingError::Empty { file: file.to_owned() });
        }
        Ok(recording)
    }

    /// As a file: the origin, then the measurements.
    pub fn to_json_lines(&self) -> String {
        let mut text = String::new();
        if let Some(origin) = &self.origin {
            let _ = writeln!(text, "{}", serde_json::to_string(origin).unwrap_or_default());
        }
        for row in &self.rows {
            let _ = writeln!(text, "{}", serde_json::to_string(row).unwrap_or_default());
        }
        text
    }

    /// Where [`save`](Self::save) puts one of this origin: `<cpu>/<date>-<commit>` below `results`, made where it is missing.
    ///
    /// # Errors
    /// When there cannot be written, or is such a recording already, unless `force`.
    pub fn place(origin: &Origin, results: &Path, force: bool) -> Result<(OutputDirectory, String), Error> {
        let stem = format!("{}-{}", origin.date, origin.commit);
        let names = [format!("{stem}.jsonl"), format!("{stem}.txt")];
        let directory = results.join(slug(&origin.machine.cpu));
        Ok((OutputDirectory::prepare(directory, &names.each_ref().map(String::as_str), force)?, stem))
    }

    /// Writes `<stem>.jsonl` and, for people, `<stem>.txt`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn save(&self, directory: &OutputDirectory, stem: &str) -> Result<(), Error> {
        let text = self.origin.as_ref().map(Origin::text).unwrap_or_default();
        let names = [format!("{stem}.txt"), format!("{stem}.jsonl")];
        let contents = [text.into_bytes(), self.to_json_lines().into_bytes()];
        let files: Vec<_> = names.iter().map(String::as_str).zip(contents).collect();
        Ok(directory.write(&files)?)
    }

    /// The newest recording of each CPU below `results`. None where there is no such directory.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn newest(results: &Path) -> Result<Vec<Recorded>, RecordingError> {
        let mut found = Vec::new();
        for directory in list(results)?.into_iter().filter(|path| path.is_dir()) {
            let files: Vec<_> = list(&directory)?
                .into_iter()
                .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
                .collect();
            let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            // With the machine beside it; other results may live below `results` too.
            let recorded = |path: &&PathBuf| !name(path).contains('.') && path.with_extension("txt").exists();
            let Some(main) = files.iter().rfind(recorded) else {
                continue;
            };
            let mut scripts = Vec::new();
            for file in &files {
                if let Some(script) = name(file).strip_prefix(&format!("{}.", name(main))) {
                    scripts.push((script.to_owned(), Self::read(file)?.rows));
                }
            }
            let cpu = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(Recorded { cpu, recording: Self::read(main)?, scripts });
        }
        Ok(found)
    }
}

/// A recording with what scripts for peers added to it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The name of the CPU's directory.
    pub cpu: String,
    /// `<stem>.jsonl`
    pub recording: Recording,
    /// The rows of each `<stem>.<script>.jsonl`, by name of the script.
    pub scripts: Vec<(String, Vec<Measurement>)>,
}

/// What is in a directory, sorted; nothing where it is not there.
fn list(directory: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    let unreadable = |source| RecordingError::Unreadable { file: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, io::Error>>().map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

/// Lower-case letters, digits and single dashes.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    if slug.is_empty() { "unknown".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn slugs() {
        assert_eq!(slug("AMD EPYC 9B14 (Zen 4) @ 2.60GHz"), "amd-epyc-9b14-zen-4-2-60ghz");
        assert_eq!(slug("../.."), "unknown");
    }
}
