//! Recordings: one JSON object per line, the first of which is the origin.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use slth::output::write_atomically;

use crate::error::Error;
use crate::origin::{Origin, Peer};
use crate::row::Row;

/// Rows and their origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The origin.
    pub origin: Origin,
    /// One for each contestant of each case.
    pub rows: Vec<Row>,
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, its first line is not an origin, another line is not a row, or there is no row.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let bad = |problem: String| Error::file(file, problem);
        if !fs::metadata(file).map_err(|error| bad(error.to_string()))?.is_file() {
            return Err(bad("not a regular file".to_owned()));
        }
        let text = fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        let first = serde_json::from_str(text.lines().next().unwrap_or_default());
        let origin = first.map_err(|error| bad(format!("line 1: {error}")))?;
        let row = |(at, text): (usize, &str)| {
            let row: Row =
                serde_json::from_str(text).map_err(|error| bad(format!("line {}: {error}", at + 1)))?;
            let positive = [row.min, row.median, row.work].iter().all(|x| *x > 0.0 && x.is_finite());
            if positive {
                Ok(row)
            } else {
                Err(bad(format!("line {}: times and work must be positive", at + 1)))
            }
        };
        let rows = text.lines().enumerate().skip(1).map(row).collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() { Err(bad("no measurements in it".to_owned())) } else { Ok(Self { origin, rows }) }
    }

    /// The file of a recording of `origin` below `results`: `<cpu>/<day>-<commit>.jsonl`.
    ///
    /// # Errors
    /// When the file exists and `force` is not set, or the folder cannot be created.
    pub fn place(origin: &Origin, results: &Path, force: bool) -> Result<PathBuf, Error> {
        let folder = results.join(origin.cpu.folder());
        fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
        let file = folder.join(format!("{}.jsonl", origin.stem()));
        if file.exists() && !force {
            Err(Error::file(&file, "exists already; --force replaces it"))
        } else {
            Ok(file)
        }
    }

    /// Writes `file`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn save(&self, file: &Path) -> Result<(), Error> {
        let rows = self.rows.iter().map(json);
        write(file, &std::iter::once(json(&self.origin)).chain(rows).collect::<String>())
    }

    /// The newest recording of each CPU below `results`, by the time of its commit, with the name of its folder; none if the
    /// directory does not exist.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn newest(results: &Path) -> Result<Vec<(String, Self)>, Error> {
        let mut found = Vec::new();
        for folder in list(results)?.into_iter().filter(|path| path.is_dir()) {
            // `results` may have other files; their first line is not an origin.
            let time = |file: &Path| {
                let text = fs::read_to_string(file).ok()?;
                Some(serde_json::from_str::<Origin>(text.lines().next()?).ok()?.commit_time)
            };
            let files =
                list(&folder)?.into_iter().filter(|file| file.extension() == Some(OsStr::new("jsonl")));
            if let Some((_, file)) = files.filter_map(|file| Some((time(&file)?, file))).max() {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.push((name, Self::read(&file)?));
            }
        }
        if found.is_empty() {
            return Err(Error::file(results, "no recording there; `slth-bench --save --results` makes one"));
        }
        Ok(found)
    }

    /// Runs a script for peers outside Rust with `flags`, adds the rows and peers that it prints, and returns the rows.
    ///
    /// # Errors
    /// When it fails, or prints anything else.
    pub fn add_script(&mut self, python: &Path, script: &Path, flags: &[String]) -> Result<Vec<Row>, Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Line {
            Row(Box<Row>),
            Peer(Peer),
        }
        let mut command = Command::new(python);
        command.arg(script).args(flags).stderr(Stdio::inherit());
        let out = command.output().map_err(|error| Error::file(python, error))?;
        if !out.status.success() {
            return Err(Error::file(script, out.status));
        }
        let mut rows = Vec::new();
        for text in String::from_utf8_lossy(&out.stdout).lines() {
            let line = serde_json::from_str(text)
                .map_err(|error| Error::file(script, format!("{error}: {text}")))?;
            match line {
                Line::Row(row) => rows.push(*row),
                Line::Peer(peer) if self.origin.peers.contains(&peer) => {}
                Line::Peer(peer) => self.origin.peers.push(peer),
            }
        }
        self.rows.extend_from_slice(&rows);
        Ok(rows)
    }
}

/// A line of a recording.
pub fn json(line: &impl Serialize) -> String {
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

/// Writes `file` completely or not at all, and creates its folder.
///
/// # Errors
/// When the system refuses.
pub fn write(file: &Path, text: &str) -> Result<(), Error> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).map_err(|error| Error::file(directory, error))?;
    }
    write_atomically(file, text.as_bytes()).map_err(|error| Error::file(file, error))
}

/// The content of a directory, sorted; empty if it does not exist.
fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => {
            entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        }
    };
    let mut paths = entries.map_err(|error| Error::file(directory, error))?;
    paths.sort();
    Ok(paths)
}
