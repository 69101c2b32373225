//! `sweep.json`: the grid of the last sweep in a directory, from which the missing cells follow.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cell::CellConfig;
use super::error::StoreError;
use super::grid::Grid;
use crate::output::{pretty, write_atomically};
use crate::run::RunConfig;

const PLAN: &str = "sweep.json";

/// A grid and the configuration its cells share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// ε, sparsities, seeds.
    pub grid: Grid,
    /// The cells' configuration; its ε, sparsity and seed are ignored.
    pub config: CellConfig,
}

impl Plan {
    /// The plan in `directory`; `None` if there is none or it cannot be parsed.
    pub fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&crate::input::read(&directory.join(PLAN)).ok()?).ok()
    }

    /// The cells' configurations, by ε, then seed, then sparsity.
    pub fn cells(&self) -> impl Iterator<Item = CellConfig> + '_ {
        let Grid { epsilons, sparsities, seeds } = &self.grid;
        epsilons.iter().flat_map(move |&epsilon| {
            seeds.iter().flat_map(move |&seed| {
                sparsities.iter().map(move |&sparsity| {
                    let run = RunConfig { epsilon, sparsity, seed, ..self.config.run.clone() };
                    CellConfig { run, ..self.config.clone() }
                })
            })
        })
    }

    /// Writes it completely or not at all.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), StoreError> {
        if Self::read(directory).as_ref() == Some(self) {
            return Ok(());
        }
        let file = directory.join(PLAN);
        Ok(write_atomically(&file, pretty(self).as_bytes())?)
    }
}
