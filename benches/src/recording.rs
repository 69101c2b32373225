//! Recordings: one JSON object a line, the first of them telling where they are from.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::origin::{Origin, Peer};
use crate::row::Row;

/// Rows, and where they are from.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Where they are from.
    pub origin: Origin,
    /// One for each contestant of each case.
    pub rows: Vec<Row>,
}

/// What a script for peers outside Rust prints.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Row(Box<Row>),
    Peer(Peer),
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, its first line is no origin, another is no row, or there is no row.
    pub fn read(file: &Path) -> Result<Self, Error> {
        if !fs::metadata(file).map_err(Error::of(file))?.is_file() {
            return Err(Error::of(file)(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let text = fs::read_to_string(file).map_err(Error::of(file))?;
        let bad = |line, problem: String| Error::Line { file: file.to_owned(), line, problem };
        let mut lines = text.lines().enumerate();
        let Some((_, first)) = lines.next() else { return Err(Error::Empty { file: file.to_owned() }) };
        let origin = serde_json::from_str(first).map_err(|error| bad(1, error.to_string()))?;
        let row = |(at, text): (usize, &str)| parse(text).map_err(|problem| bad(at + 1, problem));
        let rows: Vec<Row> = lines.map(row).collect::<Result<_, _>>()?;
        if rows.is_empty() {
            return Err(Error::Empty { file: file.to_owned() });
        }
        Ok(Self { origin, rows })
    }

    /// Where one of `origin` is saved below `results`: `<cpu>/<day>-<commit>.jsonl`.
    ///
    /// # Errors
    /// When there is one already, unless `force`, or the folder cannot be made.
    pub fn place(origin: &Origin, results: &Path, force: bool) -> Result<PathBuf, Error> {
        let folder = results.join(origin.cpu.folder());
        fs::create_dir_all(&folder).map_err(Error::of(&folder))?;
        let file = folder.join(format!("{}.jsonl", origin.stem()));
        if file.exists() && !force { Err(Error::Exists { file }) } else { Ok(file) }
    }

    /// Writes `file`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn save(&self, file: &Path) -> Result<(), Error> {
        let rows = self.rows.iter().map(json);
        let text: String = std::iter::once(json(&self.origin)).chain(rows).collect();
        write(file, &text)
    }

    /// The newest recording of each CPU below `results`, with the name of its folder; none where there is no such directory.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn newest(results: &Path) -> Result<Vec<(String, Self)>, Error> {
        let mut found = Vec::new();
        for folder in list(results)?.into_iter().filter(|path| path.is_dir()) {
            // Other results may live below `results` too.
            let files = list(&folder)?;
            let origin = |file: &Path| serde_json::from_str::<Origin>(first_line(file)?.as_str()).ok();
            let origins = files
                .into_iter()
                .filter(|file| file.extension() == Some(OsStr::new("jsonl")))
                .filter_map(|file| Some((origin(&file)?.commit_time, file)));
            if let Some((_, file)) = origins.max() {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.push((name, Self::read(&file)?));
            }
        }
        Ok(found)
    }

    /// Runs a script for peers outside Rust and takes what it prints.
    ///
    /// # Errors
    /// When it fails, or prints what is neither row nor peer.
    pub fn add_script(
        &mut self,
        python: &Path,
        script: &Path,
        case: Option<&str>,
    ) -> Result<Vec<Row>, Error> {
        let failed = |problem: String| Error::Script { script: script.display().to_string(), problem };
        let mut command = Command::new(python);
        command.arg(script).args(case.iter().flat_map(|case| ["--case", case])).stderr(Stdio::inherit());
        let out = command.output().map_err(Error::of(python))?;
        if !out.status.success() {
            return Err(failed(out.status.to_string()));
        }
        let mut rows = Vec::new();
        for text in String::from_utf8_lossy(&out.stdout).lines() {
            match serde_json::from_str(text).map_err(|error| failed(format!("{error}: {text}")))? {
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

fn parse(text: &str) -> Result<Row, String> {
    let row: Row = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let positive = [row.min, row.median, row.work].iter().all(|x| *x > 0.0 && x.is_finite());
    if positive { Ok(row) } else { Err("times and work must be positive".to_owned()) }
}

fn first_line(file: &Path) -> Option<String> {
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(File::open(file).ok()?), &mut line).ok()?;
    Some(line)
}

/// Writes `file` whole or not at all.
///
/// # Errors
/// When the system refuses.
pub fn write(file: &Path, text: &str) -> Result<(), Error> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::of(folder))?;
    let new = file.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, file)).map_err(Error::of(file))
}

/// What is in a directory, sorted; nothing where it is not there.
fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::of(directory))?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, io::Error>>();
    let mut paths = paths.map_err(Error::of(directory))?;
    paths.sort();
    Ok(paths)
}
