//! The figure.

use super::config::{Criterion, SubsetSize};
use super::search::{Needed, RequiredCandidates, entropy};
use crate::plot::{Axis, Chart, GREY, Picture, Series, Style, number};

/// For each size n against ε/η for each η and, with several η, against 1/η, the paper's points beside ours; of several fractions n
/// against the fraction alone.
pub(super) fn figure(found: &RequiredCandidates) -> Picture {
    let is_fraction = |size: &&SubsetSize| matches!(size, SubsetSize::Fraction(_));
    let fractions = found.config.size.iter().filter(is_fraction).count();
    let mut charts = Vec::new();
    if fractions > 1 {
        charts.extend(few(&found.config.ratio).into_iter().map(|ratio| by_fraction(found, ratio)));
    }
    for &size in found.config.size.iter().filter(|size| fractions <= 1 || !is_fraction(size)) {
        let found = found.of_size(size);
        charts.push(by_ratio(&found));
        if found.config.eta.len() > 1 {
            charts.push(by_eta(&found));
        }
    }
    Picture::Charts(charts)
}

/// Beside the shape that theory gives, n in proportion to 1 / H(k/n) with the binary entropy H, through our points.
fn by_fraction(found: &RequiredCandidates, ratio: f64) -> Chart {
    let fraction = |needed: &Needed| match needed.size {
        SubsetSize::Fraction(fraction) => Some(fraction),
        _ => None,
    };
    let mut series = Vec::new();
    for (colour, &eta) in found.config.eta.iter().enumerate() {
        let kept = found.needed.iter().filter(|needed| needed.eta == eta && needed.ratio == ratio);
        let mut points: Vec<[f64; 2]> =
            kept.filter_map(|needed| Some([fraction(needed)?, needed.quantile(0.9)? as f64])).collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let scale = points.iter().map(|&[p, n]| n * entropy(p)).sum::<f64>() / points.len() as f64;
        let shape = points.iter().map(|&[p, _]| [p, scale / entropy(p)]).collect();
        series.push(Series::new(format!("η = {}", number(eta)), colour % GREY, Style::Dots, points));
        series.push(Series::new("", colour % GREY, Style::Line, shape));
    }
    series.push(Series::new("90 % of draws", GREY, Style::Dots, vec![]));
    series.push(Series::new("in proportion to 1/H(k/n)", GREY, Style::Line, vec![]));
    Chart::new(
        format!("By the size of subsets, ε/η = {}", number(ratio)),
        Axis::linear("k/n").including(0.0, 1.0),
        Axis::whole("candidates n"),
        series,
    )
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
    let of_size = match found.config.size[..] {
        [SubsetSize::Exactly(size)] => format!(", subsets of {size}"),
        [SubsetSize::Fraction(fraction)] => format!(", subsets of {fraction} n"),
        _ => String::new(),
    };
    Chart::new(
        format!("Candidates needed for {criterion}{of_size}"),
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
