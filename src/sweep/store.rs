//! The store of a sweep: an append-only file of cells, one JSON object a line.
//!
//! `cells.jsonl`, or `cells-I-of-N.jsonl` for a shard. A cell is appended in one write and synced before it counts, under a lock
//! that excludes other writers. A killed process leaves at most one incomplete line, at the end: readers ignore it, and the next
//! opening for writing removes it. If the disk is full, the line that did not fit is removed. So a store has only complete lines
//! of computed cells.
//!
//! All `cells*.jsonl` of a directory belong together. They must agree in the configuration, except for ε, sparsity, seed, method,
//! scope and options that a method ignores, and in the result of a cell that occurs twice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::cell::{Cell, CellConfig, CellOutcome};
use super::error::StoreError;
use super::lines::{LineFile, parse_lines, unwritable, whole_lines};
use super::shard::Shard;
use crate::run::{Setting, differences};

/// A store file open for appending, locked against other writers.
#[derive(Debug)]
pub struct Store {
    file: LineFile,
    cells: Cells,
}

impl Store {
    /// Opens the store of `shard` in `directory`, which is created if missing, and removes an incomplete last line.
    ///
    /// # Errors
    /// When the file cannot be written to, is locked by another writer, or has lines that are not cells.
    ///
    /// ```
    /// use slth::sweep::{Shard, Store, StoreError, read_cells};
    /// let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path(), Shard::ALL)?;
    /// assert!(matches!(Store::open(directory.path(), Shard::ALL), Err(StoreError::Locked { .. })));
    /// assert_eq!(read_cells(directory.path())?, []);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(directory: &Path, shard: Shard) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(unwritable(directory))?;
        let (mut file, text) = LineFile::open(&directory.join(file_name(shard)))?;
        let mut cells = Cells::default();
        cells.add(file.path(), &text)?;
        file.mend()?;
        sync_directory(directory);
        Ok(Self { file, cells })
    }

    /// Appends `cell`; when this returns it is on the disk.
    ///
    /// # Errors
    /// When the cell does not agree with the stored ones, or the system refuses; the file is then unchanged.
    pub fn append(&mut self, cell: &Cell) -> Result<(), StoreError> {
        self.cells.insert(self.file.path(), cell.clone())?;
        self.file.append(&cell.line())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The cells of this file.
    pub(super) fn cells(&self) -> &Cells {
        &self.cells
    }
}

/// All cells of the stores in `directory`, sorted by method, ε, sparsity and seed; a cell that failed and was computed again
/// counts once.
///
/// # Errors
/// When a store cannot be read, or they do not agree, or there is none.
pub fn read_cells(directory: &Path) -> Result<Vec<Cell>, StoreError> {
    Cells::read(directory).map(Cells::into_sorted)
}

/// The cells in `text`, the content of a store that errors call `file`; sorted as by [`read_cells`].
///
/// # Errors
/// When a complete line is not a cell, or cells do not agree.
pub fn parse_cells(file: &Path, text: &[u8]) -> Result<Vec<Cell>, StoreError> {
    let mut cells = Cells::default();
    cells.add(file, text)?;
    Ok(cells.into_sorted())
}

/// The cells of `directory`; an error when one has another [setting](CellConfig::setting) than `config`.
pub(super) fn known_cells(directory: &Path, config: &CellConfig) -> Result<Vec<Cell>, StoreError> {
    let cells = Cells::read(directory)?;
    agree(&cells.file, &cells.setting, &config.setting())?;
    Ok(cells.into_sorted())
}

/// Cells that agree, each with the file it was first found in.
#[derive(Debug, Default)]
pub(super) struct Cells {
    by_id: BTreeMap<String, (Cell, PathBuf)>,
    /// Every option that the method of any cell heeds, and the file of the last that brought one.
    setting: Setting,
    file: PathBuf,
}

impl Cells {
    /// Reads all stores of `directory`.
    pub(super) fn read(directory: &Path) -> Result<Self, StoreError> {
        let unreadable = |path: &Path, source| StoreError::Unreadable { path: path.to_owned(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
            let path = entry.map_err(|error| unreadable(directory, error))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("cells") && name.ends_with(".jsonl") {
                files.push(path);
            }
        }
        if files.is_empty() {
            return Err(StoreError::Missing(directory.to_owned()));
        }
        files.sort_unstable();
        let mut cells = Self::default();
        for path in files {
            cells.add(&path, &crate::input::read(&path).map_err(|error| unreadable(&path, error))?)?;
        }
        Ok(cells)
    }

    /// Adds the complete lines of `text`.
    fn add(&mut self, path: &Path, text: &[u8]) -> Result<(), StoreError> {
        let cells = parse_lines(path, whole_lines(text), Cell::parse)?;
        cells.into_iter().try_for_each(|cell| self.insert(path, cell))
    }

    pub(super) fn insert(&mut self, path: &Path, cell: Cell) -> Result<(), StoreError> {
        let setting = cell.config.setting();
        agree(path, &setting, &self.setting)?;
        if setting.keys().any(|key| !self.setting.contains_key(key)) {
            self.setting.extend(setting);
            path.clone_into(&mut self.file);
        }
        if let Some((known, file)) = self.by_id.get(&cell.id) {
            let superseded = known.result().is_none() || cell.result().is_none();
            if !superseded && known.outcome != cell.outcome {
                let (one, other) = (file.clone(), path.to_owned());
                let differences =
                    differences(&known.outcome.fields(), &cell.outcome.fields()).unwrap_or_default();
                return Err(StoreError::Conflict { one, other, cell: cell.name(), differences });
            }
            if matches!(cell.outcome, CellOutcome::Failed { .. }) {
                return Ok(());
            }
        }
        self.by_id.insert(cell.id.clone(), (cell, path.to_owned()));
        Ok(())
    }

    pub(super) fn get(&self, id: &str) -> Option<&Cell> {
        self.by_id.get(id).map(|(cell, _)| cell)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Cell> {
        self.by_id.values().map(|(cell, _)| cell)
    }

    pub(super) fn into_sorted(self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = self.by_id.into_values().map(|(cell, _)| cell).collect();
        // ε and sparsity are not negative, so their bits order like their values.
        cells.sort_by_key(|Cell { config, epsilon, sparsity, seed, .. }| {
            let (method, scope) = (config.run.method as u8, config.run.scope as u8);
            (method, scope, epsilon.to_bits(), sparsity.to_bits(), *seed)
        });
        cells
    }
}

/// An error that says how `found`, the setting in `file`, differs from `expected` in the options that both have.
fn agree(file: &Path, found: &Setting, expected: &Setting) -> Result<(), StoreError> {
    let error = |differences| Err(StoreError::OtherConfiguration { file: file.to_owned(), differences });
    differences(found, expected).map_or(Ok(()), error)
}

fn file_name(shard: Shard) -> String {
    if shard == Shard::ALL {
        "cells.jsonl".to_owned()
    } else {
        format!("cells-{}-of-{}.jsonl", shard.index(), shard.of())
    }
}

/// Syncs the directory, so that a new file survives a power failure; not every system can.
fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
