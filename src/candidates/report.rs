//! The figure.

use super::config::Criterion;
use super::search::{Needed, RequiredCandidates};
use crate::plot::{Axis, Chart, GREY, Picture, Series, Style, number};

/// n against ε/η for each η and, with several η, against 1/η; the paper's points beside ours.
pub(super) fn figure(found: &RequiredCandidates) -> Picture {
    let mut charts = vec![by_ratio(found)];
    if found.config.eta.len() > 1 {
        charts.push(by_eta(found));
    }
    Picture::Charts(charts)
}

fn by_ratio(found: &RequiredCandidates) -> Chart {
    let criterion = match found.config.criterion {
        Criterion::Every => "every target in [-½, ½]",
        Criterion::One => "one random target in [-½, ½]",
    };
    let ratio = |needed: &Needed| needed.ratio;
    // The paper's points come last, on top.
    let (mut series, mut published) = (Vec::new(), Vec::new());
    for (colour, &eta) in found.config.eta.iter().enumerate() {
        let points =
            |y: &dyn Fn(&Needed) -> Option<usize>| points(found, &|needed| needed.eta == eta, ratio, y);
        let colour = colour % GREY;
        published.push(Series::new("", colour, Style::Dashed, points(&Needed::paper)));
        let [low, ours, high] = [0.5, 0.9, 0.99].map(|q| points(&|needed| needed.quantile(q)));
        let band = low
            .iter()
            .filter_map(|&[x, low]| high.iter().find(|high| high[0] == x).map(|&[_, high]| [x, low, high]));
        let name = format!("η = {}", number(eta));
        series.push(Series::new(name, colour, Style::Solid, ours).with_band(band.collect()));
    }
    series.extend(published);
    series.push(Series::new("90 % of draws", GREY, Style::Solid, vec![]));
    series.push(Series::new("50 to 99 %", GREY, Style::Band, vec![]));
    series.extend(key_of_paper(found, Style::Dashed));
    Chart::new(
        format!("Candidates needed for {criterion}"),
        Axis::linear("ε/η").including(0.0, 0.0),
        Axis::whole("candidates n"),
        series,
    )
}

fn by_eta(found: &RequiredCandidates) -> Chart {
    let inverse = |needed: &Needed| 1.0 / needed.eta;
    let (mut series, mut published) = (Vec::new(), Vec::new());
    for (colour, ratio) in few(&found.config.ratio).into_iter().enumerate() {
        let points =
            |y: &dyn Fn(&Needed) -> Option<usize>| points(found, &|needed| needed.ratio == ratio, inverse, y);
        let ours = points(&|needed| needed.quantile(0.9));
        let fit = found.fit(ratio, false);
        let fitted = fit.map_or(String::new(), |[slope, _]| format!(": {slope:.2} per decade"));
        let name = format!("ε/η = {}{fitted}", number(ratio));
        let line = fit.map_or(Vec::new(), |[slope, start]| {
            ours.iter().map(|&[x, _]| [x, start + slope * libm::log10(x)]).collect()
        });
        series.push(Series::new(name, colour % GREY, Style::Line, line));
        series.push(Series::new("", colour % GREY, Style::Dots, ours));
        published.push(Series::new("", colour % GREY, Style::Rings, points(&Needed::paper)));
    }
    series.extend(published);
    series.push(Series::new("90 % of draws", GREY, Style::Dots, vec![]));
    series.extend(key_of_paper(found, Style::Rings));
    Chart::new(
        "Against the tolerance, with fitted lines",
        Axis::log("1/η"),
        Axis::whole("candidates n"),
        series,
    )
}

/// (x, y) of what `keep` keeps, ascending; where y is unknown there is no point.
fn points(
    found: &RequiredCandidates,
    keep: &dyn Fn(&Needed) -> bool,
    x: fn(&Needed) -> f64,
    y: &dyn Fn(&Needed) -> Option<usize>,
) -> Vec<[f64; 2]> {
    let kept = found.needed.iter().filter(|needed| keep(needed));
    let mut points: Vec<[f64; 2]> = kept.filter_map(|needed| Some([x(needed), y(needed)? as f64])).collect();
    points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    points
}

/// The legend's entry for the paper's points, where there are some.
fn key_of_paper(found: &RequiredCandidates, style: Style) -> Option<Series> {
    let any = found.needed.iter().any(|needed| needed.paper().is_some());
    any.then(|| Series::new("the paper's plot", GREY, style, vec![]))
}

/// At most four of them, first and last among them.
fn few<T: Copy>(all: &[T]) -> Vec<T> {
    let n = all.len();
    let wanted = n.min(4);
    (0..wanted).map(|i| all[i * (n - 1) / (wanted - 1).max(1)]).collect()
}
