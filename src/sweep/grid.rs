//! The values a sweep combines.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The values a sweep combines. Each list ascends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// ε, in [0, ∞].
    #[serde(with = "crate::run::numbers_or_inf")]
    pub epsilons: Vec<f32>,
    /// s, the fraction of weights REMOVED, in [0, 1). 0 is the dense pretrained network.
    pub sparsities: Vec<f64>,
    /// Seeds.
    pub seeds: Vec<u64>,
}

impl Grid {
    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.epsilons.len() * self.sparsities.len() * self.seeds.len()
    }

    /// Checks the lists: not empty, ascending, no value twice. Values are checked by [`RunConfig::validate`](crate::run::RunConfig::validate).
    ///
    /// # Errors
    /// [`Error::Config`] for the first invalid list.
    ///
    /// ```
    /// use slth::sweep::Grid;
    /// let grid = Grid { epsilons: vec![0.0, 0.1], sparsities: vec![0.5, 0.5], seeds: vec![1] };
    /// assert_eq!(grid.validate().unwrap_err().to_string(), "sparsity: 0.5 is listed twice");
    /// ```
    pub fn validate(&self) -> Result<(), Error> {
        ascending("epsilon", &self.epsilons)?;
        ascending("sparsity", &self.sparsities)?;
        ascending("seeds", &self.seeds)
    }
}

fn ascending<T: PartialOrd + std::fmt::Display>(field: &'static str, list: &[T]) -> Result<(), Error> {
    if list.is_empty() {
        return Err(Error::config(field, "the list is empty"));
    }
    for pair in list.windows(2) {
        if pair[0] == pair[1] {
            return Err(Error::config(field, format!("{} is listed twice", pair[0])));
        }
        if pair[0] > pair[1] {
            return Err(Error::config(field, format!("must ascend, but {} follows {}", pair[1], pair[0])));
        }
    }
    Ok(())
}
