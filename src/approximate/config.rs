//! How a network is approximated.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use slth_kernels::Backend;
use slth_kernels::subset_sum::MEET_IN_THE_MIDDLE_LIMIT;

use crate::data::NormalisationRule;
use crate::error::Error;

/// Which weights share their candidates. The variants' names on the command line and in files are `per-row` and `per-weight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Draw {
    /// All weights of a matrix row, each with a mask of its own, as in the published code
    #[default]
    PerRow,
    /// None, as in the published text
    PerWeight,
}

/// Weights of one piece of work where each has its own candidates.
pub(super) const PIECE: usize = 960;

impl Draw {
    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerRow => "per-row",
            Self::PerWeight => "per-weight",
        }
    }

    /// Of a piece's candidates, n or `[weights, n]`, those of its weight `i`.
    pub(super) fn own(self, candidates: &[f32], n: usize, i: usize) -> &[f32] {
        match self {
            Self::PerRow => candidates,
            Self::PerWeight => &candidates[i * n..][..n],
        }
    }
}

/// How to approximate, and where it is computed. The command line's flags are called like the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApproximateConfig {
    /// The tolerance η, in [1e-6, 1); default 0.01.
    pub eta: f64,
    /// n = int(c · round(log₂(1/η))); default 3.
    pub c: f64,
    /// n, in place of what `c` and `eta` give.
    pub candidates: Option<usize>,
    /// Which weights share their candidates; default per row.
    pub draw: Draw,
    /// How far each chosen candidate may be moved: one approximation for each; default 0.
    pub epsilon: Vec<f32>,
    /// How pixels become inputs; default unit.
    pub normalize: NormalisationRule,
    /// Keys all random numbers; default 1.
    pub seed: u64,
    /// Number of threads; default all cores.
    #[serde(skip)]
    pub threads: Option<usize>,
    /// The instruction set; default what the environment variable `SLTH_BACKEND` names, else the best.
    #[serde(skip)]
    pub backend: Option<Backend>,
}

impl Default for ApproximateConfig {
    fn default() -> Self {
        Self {
            eta: 0.01,
            c: 3.0,
            candidates: None,
            draw: Draw::default(),
            epsilon: vec![0.0],
            normalize: NormalisationRule::Unit,
            seed: 1,
            threads: None,
            backend: None,
        }
    }
}

impl ApproximateConfig {
    /// n: candidates per weight.
    ///
    /// ```
    /// use slth::approximate::ApproximateConfig;
    /// assert_eq!(ApproximateConfig::default().candidates_per_weight(), 21);
    /// ```
    pub fn candidates_per_weight(&self) -> usize {
        // The cast saturates; NaN becomes 0.
        self.candidates.unwrap_or_else(|| (self.c * libm::rint(-libm::log2(self.eta))) as usize)
    }

    /// Checks everything that can be checked before the work starts.
    ///
    /// # Errors
    /// [`Error::Config`] for the first field that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        // Below that the search's rounding, 2⁻²³ Σ|x|, would decide.
        if !(1e-6..1.0).contains(&self.eta) {
            return Err(Error::config("eta", format!("must lie in [1e-6, 1), but is {}", self.eta)));
        }
        if !(self.c > 0.0 && self.c.is_finite()) {
            return Err(Error::config("c", format!("must be positive and finite, but is {}", self.c)));
        }
        let n = self.candidates_per_weight();
        if !(1..=MEET_IN_THE_MIDDLE_LIMIT).contains(&n) {
            let field = if self.candidates.is_some() { "candidates" } else { "c" };
            let problem =
                format!("candidates per weight must lie in 1 to {MEET_IN_THE_MIDDLE_LIMIT}, but are {n}");
            return Err(Error::config(field, problem));
        }
        if self.epsilon.is_empty() {
            return Err(Error::config("epsilon", "no value is given"));
        }
        if let Some(epsilon) = self.epsilon.iter().find(|&&epsilon| !(epsilon >= 0.0 && epsilon.is_finite()))
        {
            let problem = format!("must be finite and not negative, but is {epsilon}");
            return Err(Error::config("epsilon", problem));
        }
        let mut sorted = self.epsilon.clone();
        sorted.sort_by(f32::total_cmp);
        // −0 is 0.
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::config("epsilon", format!("{} is listed twice", pair[1])));
        }
        crate::run::config::check_threads(self.threads)
    }
}
