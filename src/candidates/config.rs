//! The configuration of a measurement: tolerances, perturbations, targets.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use slth_kernels::Backend;
use slth_kernels::subset_sum::{BRUTE_FORCE_LIMIT, Sizes};

use crate::error::Error;
use crate::flags::{List, list, serde_by_text};

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

/// The size of a subset of n candidates, written `any`, `7` (exactly 7) or `0.25` (a quarter of n, rounded to the nearest).
///
/// ```
/// use slth::candidates::SubsetSize;
/// use slth_kernels::subset_sum::Sizes;
/// let quarter: SubsetSize = "0.25".parse()?;
/// assert_eq!((quarter.of(16), "any".parse()), (Sizes::Exactly(4), Ok(SubsetSize::Any)));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SubsetSize {
    /// Any number, including none.
    #[default]
    Any,
    /// Exactly this many, at least 1.
    Exactly(usize),
    /// The whole number nearest to this fraction of n, between 0 and 1.
    Fraction(f64),
}

serde_by_text!(SubsetSize);

impl SubsetSize {
    /// The sizes for the kernels, with n candidates.
    pub fn of(self, n: usize) -> Sizes {
        match self {
            Self::Any => Sizes::Any,
            Self::Exactly(size) => Sizes::Exactly(size),
            Self::Fraction(fraction) => Sizes::Exactly(libm::round(fraction * n as f64) as usize),
        }
    }

    /// Checks that the size is possible for `most` candidates.
    ///
    /// # Errors
    /// [`Error::Config`] of the field `size` if it is not.
    pub fn check(self, most: usize) -> Result<(), Error> {
        let possible = match self {
            Self::Any => true,
            Self::Exactly(size) => (1..=most).contains(&size),
            Self::Fraction(fraction) => fraction > 0.0 && fraction < 1.0,
        };
        let wanted = format!("be any, a number of candidates up to {most} or a fraction between 0 and 1");
        Error::check("size", possible, wanted, self)
    }
}

impl std::fmt::Display for SubsetSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Exactly(size) => write!(f, "{size}"),
            Self::Fraction(fraction) => write!(f, "{fraction}"),
        }
    }
}

impl std::str::FromStr for SubsetSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fraction = |&fraction: &f64| fraction > 0.0 && fraction < 1.0;
        match text.trim() {
            "any" => Ok(Self::Any),
            text => match (text.parse(), text.parse().ok().filter(fraction)) {
                (Ok(size @ 1..), _) => Ok(Self::Exactly(size)),
                (_, Some(fraction)) => Ok(Self::Fraction(fraction)),
                _ => Err(format!(
                    "`{text}`: give any, a number of candidates or a fraction of them between 0 and 1"
                )),
            },
        }
    }
}

fn sizes(text: &str) -> Result<List<SubsetSize>, String> {
    text.split(',').map(str::parse).collect()
}

/// The configuration of a measurement. The fields are the command line's flags and their help, except for those of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Args)]
pub struct CandidatesConfig {
    /// Tolerances, each in [1e-6, 1]
    #[arg(long, value_name = "F,F,..", allow_negative_numbers = true, value_parser = list::<f64>, default_value = "1e-2,1e-3,1e-4,1e-5")]
    pub eta: List<f64>,

    /// Perturbations, as epsilon/eta; epsilon is at most 1
    #[arg(long, value_name = "F,F,..", allow_negative_numbers = true, value_parser = list::<f64>, default_value = "0,0.1,0.5,1,2,3,4,5,10")]
    pub ratio: List<f64>,

    /// Sizes of the subsets: any, a number, or a fraction of the candidates
    #[arg(long, value_name = "K|F,..", allow_negative_numbers = true, value_parser = sizes, default_value = "any")]
    pub size: List<SubsetSize>,

    /// Which targets must be met
    #[arg(long, value_name = "KIND", default_value_t)]
    pub criterion: Criterion,

    /// Random candidate sets, for each tolerance and perturbation
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 200)]
    pub trials: usize,

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

impl Default for CandidatesConfig {
    /// The defaults of the flags.
    fn default() -> Self {
        crate::flags::defaults()
    }
}

impl CandidatesConfig {
    /// Maximum number of searches, trials · η · ε/η · sizes; more is an error of input.
    pub const MAX_SEARCHES: usize = 10_000_000;

    /// Checks everything that can be checked before the work starts.
    ///
    /// # Errors
    /// [`Error::Config`] for the first invalid field.
    pub fn validate(&self) -> Result<(), Error> {
        for (field, values) in
            [("eta", self.eta.len()), ("ratio", self.ratio.len()), ("size", self.size.len())]
        {
            if values == 0 {
                return Err(Error::config(field, "no value is given"));
            }
        }
        for (index, size) in self.size.iter().enumerate() {
            size.check(BRUTE_FORCE_LIMIT)?;
            if self.size[..index].contains(size) {
                return Err(Error::config("size", format!("{size} is given twice")));
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
        Error::check("trials", self.trials > 0, "be at least 1", self.trials)?;
        let [etas, ratios, sizes] = [self.eta.len(), self.ratio.len(), self.size.len()];
        let searches = self.trials.checked_mul(etas * ratios * sizes);
        if searches.is_none_or(|searches| searches > Self::MAX_SEARCHES) {
            let (trials, most) = (self.trials, Self::MAX_SEARCHES);
            let problem = format!(
                "{trials} for each of {etas} etas, {ratios} ratios and {sizes} sizes are more than {most}"
            );
            return Err(Error::config("trials", problem));
        }
        crate::run::config::check_threads(self.threads)
    }
}
