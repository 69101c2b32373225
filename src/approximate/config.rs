//! The configuration of an approximation.

use std::ops::Range;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use slth_kernels::Backend;
use slth_kernels::subset_sum::{BRUTE_FORCE_LIMIT, MEET_IN_THE_MIDDLE_LIMIT};

use crate::candidates::SubsetSize;
use crate::data::NormalisationRule;
use crate::error::Error;
use crate::flags::{List, list, names, number};

/// Which weights share their candidates. The variants' names on the command line and in files are `per-row` and `per-weight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Draw {
    /// The weights of a row (of the same first index) share candidates; each has its own subset, as in the published code
    #[default]
    PerRow,
    /// Each weight has its own candidates, as in the published text
    PerWeight,
}

crate::flags::display_by_name!(Draw);

/// Weights of one piece of work if each has its own candidates.
pub(super) const PIECE: usize = 960;

/// Maximum number of weights of one piece of work if a row shares candidates: enough to outweigh preparing the search.
const ROW_PIECE: usize = 1 << 13;

impl Draw {
    /// Of a piece's candidates, n or `[weights, n]`, those of its weight `i`.
    pub(super) fn own(self, candidates: &[f32], n: usize, i: usize) -> &[f32] {
        match self {
            Self::PerRow => candidates,
            Self::PerWeight => &candidates[i * n..][..n],
        }
    }

    /// Cuts the weights of `chunk`, which are of a tensor with rows of `row`, into pieces of work.
    pub(super) fn pieces(self, row: usize, chunk: Range<usize>) -> Vec<Range<usize>> {
        let end = |at: usize| match self {
            Self::PerRow => usize::min((at / row + 1) * row, at + ROW_PIECE),
            Self::PerWeight => at + PIECE,
        };
        let starts = std::iter::successors(Some(chunk.start), |&at| Some(end(at)));
        starts.take_while(|&at| at < chunk.end).map(|at| at..end(at).min(chunk.end)).collect()
    }
}

/// The configuration of an approximation. The fields are the command line's flags and their help, except for those of the
/// machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Args)]
pub struct ApproximateConfig {
    /// The tolerance, in [1e-6, 1): a weight further from its subset has failed
    #[arg(long, value_name = "F", help_heading = "Approximation", allow_negative_numbers = true, value_parser = number::<f64>, default_value_t = 0.01)]
    pub eta: f64,

    /// Take eta and epsilon as fractions of each tensor's largest |weight| m, and draw its candidates from [-2m, 2m): the
    /// theorem's [-1, 1) for weights in [-1/2, 1/2]
    #[arg(long, help_heading = "Approximation")]
    pub eta_relative: bool,

    /// Candidates per weight are c times log2(1/eta), the logarithm rounded
    #[arg(long, value_name = "F", help_heading = "Approximation", allow_negative_numbers = true, value_parser = number::<f64>, default_value_t = 3.0)]
    pub c: f64,

    /// Candidates per weight, in place of --c
    #[arg(long, value_name = "N", help_heading = "Approximation", allow_negative_numbers = true)]
    pub candidates: Option<usize>,

    /// Give a weight that fails one more candidate at a time, up to this many in all [default: the number that every weight has;
    /// 30 with --eta-relative]
    #[arg(long, value_name = "N", help_heading = "Approximation", allow_negative_numbers = true)]
    pub candidates_most: Option<usize>,

    /// Which weights share their candidates
    #[arg(long, value_name = "KIND", help_heading = "Approximation", default_value_t)]
    pub draw: Draw,

    /// Size of the subsets: any, a number of candidates, or a fraction of them
    #[arg(
        long,
        value_name = "K|F",
        help_heading = "Approximation",
        allow_negative_numbers = true,
        default_value_t
    )]
    pub size: SubsetSize,

    /// Largest move of each candidate; one approximation for each value
    #[arg(long, value_name = "F,F,..", help_heading = "Approximation", allow_negative_numbers = true, value_parser = list::<f32>, default_value = "0")]
    pub epsilon: List<f32>,

    /// Rebuild only these tensors: names, in which * stands for any characters
    #[arg(long, value_name = "NAME,..", help_heading = "Target", value_parser = names)]
    pub only: Option<List<String>>,

    /// Copy these tensors unchanged
    #[arg(long, value_name = "NAME,..", help_heading = "Target", value_parser = names)]
    pub skip: Option<List<String>>,

    /// How a pixel x becomes an input: mean-std, unit or MEAN,STD, as for `slth run`
    #[arg(long, value_name = "mean-std|unit|MEAN,STD", help_heading = "Target", default_value_t = NormalisationRule::Unit)]
    pub normalize: NormalisationRule,

    /// Seed of all random numbers
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1)]
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

impl Default for ApproximateConfig {
    /// The defaults of the flags.
    fn default() -> Self {
        crate::flags::defaults()
    }
}

impl ApproximateConfig {
    /// n: candidates per weight.
    ///
    /// ```
    /// use slth::approximate::ApproximateConfig;
    /// let config = ApproximateConfig::default();
    /// assert_eq!((config.candidates_per_weight(), config.most_candidates()), (21, 21));
    /// assert_eq!(ApproximateConfig { eta_relative: true, ..config }.most_candidates(), 30);
    /// ```
    pub fn candidates_per_weight(&self) -> usize {
        // The cast saturates; NaN becomes 0.
        self.candidates.unwrap_or_else(|| (self.c * libm::rint(-libm::log2(self.eta))) as usize)
    }

    /// Maximum number of candidates for a weight that fails with n.
    pub fn most_candidates(&self) -> usize {
        let n = self.candidates_per_weight();
        self.candidates_most.unwrap_or(if self.eta_relative { n.max(BRUTE_FORCE_LIMIT) } else { n })
    }

    /// The same with only one ε.
    pub(super) fn with_epsilon(&self, epsilon: f32) -> Self {
        Self { epsilon: vec![epsilon], ..self.clone() }
    }

    /// Checks everything that can be checked before the work starts.
    ///
    /// # Errors
    /// [`Error::Config`] for the first invalid field.
    pub fn validate(&self) -> Result<(), Error> {
        // Below that the search's rounding, 2⁻²³ Σ|x|, would decide.
        Error::check("eta", (1e-6..1.0).contains(&self.eta), "lie in [1e-6, 1)", self.eta)?;
        Error::check("c", self.c > 0.0 && self.c.is_finite(), "be positive and finite", self.c)?;
        let n = self.candidates_per_weight();
        if !(1..=MEET_IN_THE_MIDDLE_LIMIT).contains(&n) {
            let field = if self.candidates.is_some() { "candidates" } else { "c" };
            let problem =
                format!("candidates per weight must lie in 1 to {MEET_IN_THE_MIDDLE_LIMIT}, but are {n}");
            return Err(Error::config(field, problem));
        }
        let (most, limit) = (self.most_candidates(), MEET_IN_THE_MIDDLE_LIMIT);
        let must = format!("lie between the candidates per weight, {n}, and {limit}");
        Error::check("candidates_most", (n..=limit).contains(&most), must, most)?;
        self.size.check(n)?;
        if self.epsilon.is_empty() {
            return Err(Error::config("epsilon", "no value is given"));
        }
        for epsilon in &self.epsilon {
            let holds = *epsilon >= 0.0 && epsilon.is_finite();
            Error::check("epsilon", holds, "be finite and not negative", epsilon)?;
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
