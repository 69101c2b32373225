//! Merges several stores into one.

use std::path::Path;

use super::cell::Cell;
use super::error::StoreError;
use super::plan::Plan;
use super::shard::Shard;
use super::store::{Cells, Store};

/// What [`merge`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Number of cells read, summed over the directories.
    pub read: usize,
    /// How many of them were in an earlier directory too, with results that agree.
    pub repeated: usize,
    /// Number of cells added to the store.
    pub added: usize,
}

/// Appends to `cells.jsonl` of `out` every cell of the stores in `directories` that it lacks, sorted by ε, sparsity and seed.
/// Merging the same stores again adds nothing. The plan is copied if all stores agree on it.
///
/// # Errors
/// When a store cannot be read or written, or the stores disagree: another configuration, or different results of one cell.
/// Nothing is appended then.
pub fn merge(out: &Path, directories: &[impl AsRef<Path>]) -> Result<Merged, StoreError> {
    // Reads everything before it writes or creates a directory.
    let sources = directories
        .iter()
        .map(|directory| Ok((directory.as_ref(), Cells::read(directory.as_ref())?.into_sorted())))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let mut all = Cells::default();
    for (directory, cells) in &sources {
        cells.iter().try_for_each(|cell| all.insert(directory, cell.clone()))?;
    }
    let mut store = Store::open(out, Shard::ALL)?;
    let (path, known) = (store.path().to_owned(), store.cells());
    let cells = all.into_sorted();
    let read = sources.iter().map(|(_, cells)| cells.len()).sum();
    let mut agreed = Cells::default();
    known.iter().chain(&cells).try_for_each(|cell| agreed.insert(&path, cell.clone()))?;
    let lacking = |cell: &&Cell| {
        known.get(&cell.id).is_none_or(|known| known.result().is_none() && cell.result().is_some())
    };
    let added: Vec<_> = cells.iter().filter(lacking).collect();
    added.iter().try_for_each(|cell| store.append(cell))?;
    let mut plans = sources.iter().map(|(directory, _)| Plan::read(directory));
    if let Some(Some(plan)) = plans.next()
        && plans.all(|other| other.as_ref() == Some(&plan))
    {
        plan.write(out)?;
    }
    Ok(Merged { read, repeated: read - cells.len(), added: added.len() })
}
