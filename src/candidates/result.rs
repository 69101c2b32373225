//! `candidates.json`, `candidates.csv`, `candidates.svg`, `candidates.png`.

use serde::Serialize;

use crate::candidates::{CandidatesConfig, Criterion, Needed, RequiredCandidates};
use crate::error::Error;
use crate::machine::Machine;
use crate::plot::{Axis, Chart, GREY, Series, Style, number, png, svg};

/// The content of `candidates.json`. A quantile is null (in the CSV: empty) where it lies beyond 30 candidates, `paper_n`
/// where the paper plots nothing.
#[derive(Clone, Debug, Serialize)]
pub struct CandidatesResult {
    results: Vec<Row>,
    slope_per_decade: Vec<Slope>,
    fall: Vec<Fall>,
    seconds: f64,
    backend: String,
    threads: usize,
    slth_version: String,
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
}

/// Candidates more per decade of 1/η, at 90 %.
#[derive(Clone, Debug, Serialize)]
struct Slope {
    ratio: f64,
    candidates: Option<f64>,
    paper: Option<f64>,
}

/// Candidates fewer at the largest ε/η than at the smallest, at 90 %.
#[derive(Clone, Debug, Serialize)]
struct Fall {
    eta: f64,
    from_ratio: f64,
    to_ratio: f64,
    candidates: Option<i64>,
    paper: Option<i64>,
}

impl CandidatesResult {
    /// The names of the files, the sign of a complete result last.
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
        };
        let slope = |&ratio: &f64| Slope {
            ratio,
            candidates: found.slope_per_decade(ratio, false),
            paper: found.slope_per_decade(ratio, true),
        };
        let [from_ratio, to_ratio] = found.ratio_range();
        let fall = |&eta: &f64| Fall {
            eta,
            from_ratio,
            to_ratio,
            candidates: found.fall(eta, false),
            paper: found.fall(eta, true),
        };
        Self {
            results: found.needed.iter().map(row).collect(),
            slope_per_decade: config.ratio.iter().map(slope).collect(),
            fall: config.eta.iter().map(fall).collect(),
            seconds: found.seconds,
            backend: found.backend.name().to_owned(),
            threads: found.threads,
            slth_version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::current(),
            configuration: config.clone(),
        }
    }

    /// As indented JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("no map with keys other than strings") + "\n"
    }

    /// As CSV: `criterion,eta,ratio,trials,n50,n90,n99,paper_n`.
    pub fn to_csv(&self) -> String {
        let mut csv = csv::Writer::from_writer(Vec::new());
        self.results.iter().for_each(|row| csv.serialize(row).expect("a vector takes every flat row"));
        String::from_utf8(csv.into_inner().expect("a vector takes everything")).expect("names and numbers")
    }

    /// The figure: n against ε/η for each η, the paper's points beside ours, and, with several η, against 1/η.
    fn charts(&self, found: &RequiredCandidates) -> Vec<Chart> {
        let points = |keep: &dyn Fn(&Row) -> bool, x: fn(&Row) -> f64, y: fn(&Row) -> Option<usize>| {
            let mut points: Vec<[f64; 2]> = self
                .results
                .iter()
                .filter(|row| keep(row))
                .filter_map(|row| Some([x(row), y(row)? as f64]))
                .collect();
            points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            points
        };
        let criterion = match found.config.criterion {
            Criterion::Every => "every target in [-½, ½]",
            Criterion::One => "one random target in [-½, ½]",
        };
        // The paper's points come last, on top.
        let (mut by_ratio, mut paper_by_ratio) = (Vec::new(), Vec::new());
        for (colour, &eta) in found.config.eta.iter().enumerate() {
            let keep = |row: &Row| row.eta == eta;
            let colour = colour % GREY;
            let paper = points(&keep, |row| row.ratio, |row| row.paper_n);
            paper_by_ratio.push(Series::new("", colour, Style::Dashed, paper));
            let (low, high) = (
                points(&keep, |row| row.ratio, |row| row.n50),
                points(&keep, |row| row.ratio, |row| row.n99),
            );
            let band = low.iter().filter_map(|&[x, low]| {
                high.iter().find(|high| high[0] == x).map(|&[_, high]| [x, low, high])
            });
            let name = format!("η = {}", number(eta));
            let ours = points(&keep, |row| row.ratio, |row| row.n90);
            by_ratio.push(Series::new(name, colour, Style::Solid, ours).with_band(band.collect()));
        }
        by_ratio.extend(paper_by_ratio);
        by_ratio.push(Series::new("90 % of draws", GREY, Style::Solid, vec![]));
        by_ratio.push(Series::new("50 to 99 %", GREY, Style::Band, vec![]));
        if self.results.iter().any(|row| row.paper_n.is_some()) {
            by_ratio.push(Series::new("the paper's plot", GREY, Style::Dashed, vec![]));
        }
        let mut charts = vec![Chart::new(
            format!("Candidates needed for {criterion}"),
            Axis::linear("ε/η").including(0.0, 0.0),
            Axis::whole("candidates n"),
            by_ratio,
        )];
        if found.config.eta.len() > 1 {
            let (mut by_eta, mut paper_by_eta) = (Vec::new(), Vec::new());
            for (colour, slope) in few(&self.slope_per_decade).into_iter().enumerate() {
                let keep = |row: &Row| row.ratio == slope.ratio;
                let fitted =
                    slope.candidates.map_or(String::new(), |slope| format!(": {slope:.2} per decade"));
                let name = format!("ε/η = {}{fitted}", number(slope.ratio));
                let ours = points(&keep, |row| 1.0 / row.eta, |row| row.n90);
                let paper = points(&keep, |row| 1.0 / row.eta, |row| row.paper_n);
                let line = found.fit(slope.ratio, false).map_or(Vec::new(), |[slope, start]| {
                    let at = |point: &[f64; 2]| [point[0], start + slope * libm::log10(point[0])];
                    ours.iter().map(at).collect()
                });
                by_eta.push(Series::new(name, colour % GREY, Style::Line, line));
                by_eta.push(Series::new("", colour % GREY, Style::Dots, ours));
                paper_by_eta.push(Series::new("", colour % GREY, Style::Rings, paper));
            }
            by_eta.extend(paper_by_eta);
            by_eta.push(Series::new("90 % of draws", GREY, Style::Dots, vec![]));
            if self.results.iter().any(|row| row.paper_n.is_some()) {
                by_eta.push(Series::new("the paper's plot", GREY, Style::Rings, vec![]));
            }
            charts.push(Chart::new(
                "Against the tolerance, with fitted lines",
                Axis::log("1/η"),
                Axis::whole("candidates n"),
                by_eta,
            ));
        }
        charts
    }

    /// The content of all [`FILES`](Self::FILES), in their order.
    ///
    /// # Errors
    /// When the picture cannot be made.
    pub fn files(&self, found: &RequiredCandidates) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
        let picture = svg(&self.charts(found))?;
        let pixels = png(&picture, 2.0)?;
        let contents =
            [self.to_csv().into_bytes(), picture.into_bytes(), pixels, self.to_json().into_bytes()];
        Ok(Self::FILES.into_iter().zip(contents).collect())
    }
}

/// At most four of them, first and last among them.
fn few<T>(all: &[T]) -> Vec<&T> {
    let n = all.len();
    let wanted = n.min(4);
    (0..wanted).map(|i| &all[i * (n - 1) / (wanted - 1).max(1)]).collect()
}
