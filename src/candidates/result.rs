//! `candidates.json`, `candidates.csv`, `candidates.svg`, `candidates.png`.

use serde::Serialize;

use super::config::{CandidatesConfig, Criterion, SubsetSize};
use super::report::figure;
use super::search::{Needed, RequiredCandidates};
use crate::machine::Machine;
use crate::output::pretty;
use crate::plot::PlotError;
use crate::run::BITS_REVISION;

/// The content of `candidates.json`. A quantile is null (in the CSV: empty) if it is beyond 30 candidates, `paper_n` if the paper
/// has no point.
#[derive(Clone, Debug, Serialize)]
pub struct CandidatesResult {
    results: Vec<Row>,
    slope_per_decade: Vec<Slope>,
    fall: Vec<Fall>,
    seconds: f64,
    backend: String,
    threads: usize,
    slth_version: String,
    bits_revision: u32,
    machine: Machine,
    configuration: CandidatesConfig,
}

/// Also a line of `candidates.csv`.
#[derive(Clone, Debug, Serialize)]
struct Row {
    criterion: Criterion,
    eta: f64,
    ratio: f64,
    trials: usize,
    n50: Option<usize>,
    n90: Option<usize>,
    n99: Option<usize>,
    paper_n: Option<usize>,
    size: SubsetSize,
}

/// Candidates more per decade of 1/η, at 90 %.
#[derive(Clone, Debug, Serialize)]
struct Slope {
    size: SubsetSize,
    ratio: f64,
    candidates: Option<f64>,
    paper: Option<f64>,
}

/// Candidates fewer at the largest ε/η than at the smallest, at 90 %.
#[derive(Clone, Debug, Serialize)]
struct Fall {
    size: SubsetSize,
    eta: f64,
    from_ratio: f64,
    to_ratio: f64,
    candidates: Option<i64>,
    paper: Option<i64>,
}

impl CandidatesResult {
    /// The names of the files; the last one marks a complete result.
    pub const FILES: [&str; 4] = ["candidates.csv", "candidates.svg", "candidates.png", "candidates.json"];

    /// Summarises `found`, on this machine.
    pub fn new(found: &RequiredCandidates) -> Self {
        let config = &found.config;
        let row = |needed: &Needed| Row {
            criterion: config.criterion,
            eta: needed.eta,
            ratio: needed.ratio,
            trials: config.trials,
            n50: needed.quantile(0.5),
            n90: needed.quantile(0.9),
            n99: needed.quantile(0.99),
            paper_n: needed.paper(),
            size: needed.size,
        };
        let [from_ratio, to_ratio] = found.ratio_range();
        let (mut slope_per_decade, mut falls) = (Vec::new(), Vec::new());
        for &size in &config.size {
            let found = found.of_size(size);
            slope_per_decade.extend(config.ratio.iter().map(|&ratio| {
                let [candidates, paper] = [false, true].map(|paper| found.slope_per_decade(ratio, paper));
                Slope { size, ratio, candidates, paper }
            }));
            falls.extend(config.eta.iter().map(|&eta| {
                let [candidates, paper] = [false, true].map(|paper| found.fall(eta, paper));
                Fall { size, eta, from_ratio, to_ratio, candidates, paper }
            }));
        }
        Self {
            results: found.needed.iter().map(row).collect(),
            slope_per_decade,
            fall: falls,
            seconds: found.seconds,
            backend: found.backend.name().to_owned(),
            threads: found.threads,
            slth_version: env!("CARGO_PKG_VERSION").to_owned(),
            bits_revision: BITS_REVISION,
            machine: Machine::current(),
            configuration: config.clone(),
        }
    }

    /// As indented JSON.
    pub fn to_json(&self) -> String {
        pretty(self)
    }

    /// As CSV: `criterion,eta,ratio,trials,n50,n90,n99,paper_n,size`.
    pub fn to_csv(&self) -> String {
        let mut csv = csv::Writer::from_writer(Vec::new());
        self.results.iter().for_each(|row| csv.serialize(row).expect("a vector takes every flat row"));
        String::from_utf8(csv.into_inner().expect("a vector takes everything")).expect("names and numbers")
    }

    /// The content of all [`FILES`](Self::FILES), in their order.
    ///
    /// # Errors
    /// When the picture cannot be made.
    pub fn files(&self, found: &RequiredCandidates) -> Result<Vec<(&'static str, Vec<u8>)>, PlotError> {
        let figure = figure(found);
        let contents = [
            self.to_csv().into_bytes(),
            figure.svg()?.into_bytes(),
            figure.png(2.0)?,
            self.to_json().into_bytes(),
        ];
        Ok(Self::FILES.into_iter().zip(contents).collect())
    }
}
