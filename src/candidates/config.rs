//! What is measured: tolerances, perturbations, targets.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use slth_kernels::Backend;

use crate::error::Error;
use crate::flags::{List, list};

/// Which targets the candidates must meet. The variants' names on the command line and in files are `every` and `one`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// Every target of [-1/2, 1/2]
    #[default]
    Every,
    /// One target, uniform on [-1/2, 1/2), drawn per trial
    One,
}

crate::flags::display_by_name!(Criterion);

/// What is measured, and where it is computed. The fields are the command line's flags and their help, but for those of the
/// machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Args)]
pub struct CandidatesConfig {
    /// Tolerances, each in [1e-6, 1]
    #[arg(long, value_name = "F,F,..", allow_negative_numbers = true, value_parser = list::<f64>, default_value = "1e-2,1e-3,1e-4,1e-5")]
    pub eta: List<f64>,

    /// Perturbations, as epsilon/eta; epsilon is at most 1
    #[arg(long, value_name = "F,F,..", allow_negative_numbers = true, value_parser = list::<f64>, default_value = "0,0.1,0.5,1,2,3,4,5,10")]
    pub ratio: List<f64>,

    /// Which targets must be met
    #[arg(long, value_name = "KIND", default_value_t)]
    pub criterion: Criterion,

    /// Random candidate sets, for each tolerance and perturbation
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = Self::default().trials)]
    pub trials: usize,

    /// Seed of all random numbers
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = Self::default().seed)]
    pub seed: u64,

    /// Number of threads; default all cores.
    #[serde(skip)]
    #[arg(skip)]
    pub threads: Option<usize>,

    /// The instruction set; default what the environment variable `SLTH_BACKEND` names, else the best.
    #[serde(skip)]
    #[arg(skip)]
    pub backend: Option<Backend>,
}

impl Default for CandidatesConfig {
    fn default() -> Self {
        Self {
            eta: vec![1e-2, 1e-3, 1e-4, 1e-5],
            ratio: vec![0.0, 0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0],
            criterion: Criterion::default(),
            trials: 200,
            seed: 1,
            threads: None,
            backend: None,
        }
    }
}

impl CandidatesConfig {
    /// The most searches, trials · η · ε/η, that make sense; more is taken for a slip.
    pub const MAX_SEARCHES: usize = 10_000_000;

    /// Checks everything that can be checked before the work starts.
    ///
    /// # Errors
    /// [`Error::Config`] for the first field that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        for (field, values) in [("eta", &self.eta), ("ratio", &self.ratio)] {
            if values.is_empty() {
                return Err(Error::config(field, "no value is given"));
            }
        }
        for eta in &self.eta {
            Error::check("eta", (1e-6..=1.0).contains(eta), "lie in [1e-6, 1]", eta)?;
        }
        for &ratio in &self.ratio {
            if !(ratio >= 0.0 && ratio.is_finite()) {
                let problem = format!("epsilon/eta must be finite and not negative, but is {ratio}");
                return Err(Error::config("ratio", problem));
            }
            if let Some(eta) = self.eta.iter().find(|&eta| eta * ratio > 1.0) {
                let problem =
                    format!("epsilon must be at most 1, but {ratio} times eta {eta} is {}", eta * ratio);
                return Err(Error::config("ratio", problem));
            }
        }
        let searches = self.trials.checked_mul(self.eta.len() * self.ratio.len());
        if self.trials == 0 || searches.is_none_or(|searches| searches > Self::MAX_SEARCHES) {
            let problem = format!(
                "must be at least 1 and, times the etas and ratios, at most {}, but is {}",
                Self::MAX_SEARCHES,
                self.trials
            );
            return Err(Error::config("trials", problem));
        }
        crate::run::config::check_threads(self.threads)
    }
}
