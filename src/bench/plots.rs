//! Pictures of recordings.

use super::{Kernel, Measurement, Role};
use crate::plot::{Axis, Chart, GREY, PlotError, Series, Style, svg};

/// A picture and what to say about it.
pub(super) struct Plot {
    pub(super) name: String,
    pub(super) caption: &'static str,
    pub(super) svg: String,
}

/// The pictures of a kernel; those for which nothing was measured are left out.
pub(super) fn plots(kernel: Kernel, rows: &[&Measurement]) -> Result<Vec<Plot>, PlotError> {
    let charts = match kernel {
        Kernel::MaskedMatmul => ("speed-over-dense", "Speed over dense against sparsity", over_dense(rows)),
        Kernel::TopK => ("time-per-score", "Time per score against the number of scores", per_score(rows)),
        Kernel::SubsetSum => {
            ("time-per-target", "Time per target against the number of candidates", per_target(rows))
        }
        Kernel::Pipeline => ("epoch", "A pruning epoch beside PyTorch", epoch(rows)),
    };
    let (name, caption, chart) = charts;
    if chart.series.iter().all(|series| series.points.is_empty()) {
        return Ok(Vec::new());
    }
    Ok(vec![Plot { name: name.to_owned(), caption, svg: svg(&[chart])? }])
}

/// The time of the fastest dense product of anyone over ours, one thread.
fn over_dense(rows: &[&Measurement]) -> Chart {
    let forward: Vec<_> =
        rows.iter().filter(|row| row.task.operation == "forward" && row.threads == 1).collect();
    let mut shapes: Vec<&Vec<usize>> = Vec::new();
    for row in &forward {
        if !shapes.contains(&&row.task.shape) {
            shapes.push(&row.task.shape);
        }
    }
    let mut series = Vec::new();
    let mut crossings = Vec::new();
    for (colour, shape) in shapes.into_iter().enumerate() {
        for (who, style) in [("slth", Style::Solid), ("slth with compression", Style::Dashed)] {
            let at = |sparsity: f64| {
                let here = || {
                    forward
                        .iter()
                        .filter(move |r| r.task.shape == *shape && r.task.sparsity == Some(sparsity))
                };
                let rate =
                    |who: &str| here().filter(|r| r.who == who).map(|r| r.rate()).fold(f64::NAN, f64::max);
                let dense = ["slth dense", "gemm", "faer", "matrixmultiply"].map(rate);
                let dense = dense.into_iter().fold(f64::NAN, f64::max);
                Some([sparsity, rate(who) / dense]).filter(|point| point[1].is_finite())
            };
            let mut sparsities: Vec<f64> =
                forward.iter().filter(|r| r.task.shape == *shape).filter_map(|r| r.task.sparsity).collect();
            sparsities.sort_by(f64::total_cmp);
            sparsities.dedup();
            let points: Vec<[f64; 2]> = sparsities.into_iter().filter_map(at).collect();
            let [batch, inputs, outputs] = [0, 1, 2].map(|i| shape.get(i).copied().unwrap_or(0));
            let mut name = format!("{batch}×{inputs}×{outputs}");
            if who != "slth" {
                name.push_str(" with compression");
            }
            if let Some(crossing) = crossing(&points) {
                name = format!("{name}, from s = {crossing:.2}");
                crossings.push([crossing, 1.0]);
            }
            series.push(Series::new(name, colour, style, points));
        }
    }
    series.push(Series::new("as fast as the best dense", GREY, Style::Dashed, vec![[0.0, 1.0], [0.99, 1.0]]));
    series.push(Series::new("crossover", GREY, Style::Dots, crossings));
    if forward.is_empty() {
        series.clear();
    }
    let (x, y) = (Axis::linear("sparsity (fraction removed)"), Axis::log("time of the best dense over ours"));
    Chart::new("Masked product against dense, one core", x, y, series)
}

/// Where a line last rises through 1; nothing when it never does.
fn crossing(points: &[[f64; 2]]) -> Option<f64> {
    let rises = |pair: &&[[f64; 2]]| pair[0][1] < 1.0 && pair[1][1] >= 1.0;
    let [a, b] = points.windows(2).rfind(rises).map(|pair| [pair[0], pair[1]])?;
    Some(a[0] + (b[0] - a[0]) * (1.0 - a[1]) / (b[1] - a[1]))
}

fn per_score(rows: &[&Measurement]) -> Chart {
    let normal: Vec<_> = rows
        .iter()
        .filter(|r| r.task.operation == "selection from normal" && r.task.sparsity == Some(0.5))
        .collect();
    let who = ["slth", "slth warm", "select_nth_unstable", "torch.kthvalue", "numpy.partition", "read"];
    let series = against_first(&normal, &who, 1e9);
    let (x, y) = (Axis::log("scores"), Axis::log("ns per score"));
    Chart::new("Selecting half of the scores, one core", x, y, series)
}

fn per_target(rows: &[&Measurement]) -> Chart {
    let fresh: Vec<_> = rows
        .iter()
        .filter(|r| r.task.operation == "nearest, fresh candidates" && r.task.epsilon == Some(0.0))
        .collect();
    let who = ["slth", "slth two-pointer", "slth brute force", "plain two-pointer"];
    let series = against_first(&fresh, &who, 1e6);
    let (x, y) = (Axis::linear("candidates"), Axis::log("µs per target"));
    Chart::new("Nearest subset, fresh candidates for each target, one core", x, y, series)
}

/// The time of a unit against the first number of the shape, one thread, the best backend.
fn against_first(rows: &[&&Measurement], who: &[&str], scale: f64) -> Vec<Series> {
    let of = |(colour, &who): (usize, &&str)| {
        let mut points: Vec<[f64; 2]> = Vec::new();
        for row in rows.iter().filter(|row| row.who == who && row.threads == 1) {
            let [x, y] = [row.task.shape.first().copied().unwrap_or(0) as f64, scale / row.rate()];
            match points.iter_mut().find(|point| point[0] == x) {
                Some(point) => point[1] = point[1].min(y),
                None => points.push([x, y]),
            }
        }
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let style = if who.starts_with("slth") { Style::Solid } else { Style::Dashed };
        Series::new(who, colour, style, points)
    };
    who.iter().enumerate().map(of).filter(|series| !series.points.is_empty()).collect()
}

/// Seconds against threads.
fn epoch(rows: &[&Measurement]) -> Chart {
    let beside: Vec<_> = rows.iter().filter(|r| r.task.operation == "pruning epoch beside PyTorch").collect();
    let mut who: Vec<&str> = Vec::new();
    for row in &beside {
        if !who.contains(&row.who.as_str()) {
            who.push(&row.who);
        }
    }
    let of = |(colour, who): (usize, &str)| {
        let points = beside.iter().filter(|r| r.who == who && r.role != Role::Limit);
        let points = points.map(|r| [r.threads as f64, 1.0 / r.rate()]).collect();
        Series::new(who, colour, if who == "slth" { Style::Solid } else { Style::Dashed }, points)
    };
    let series = who.into_iter().enumerate().map(of).collect();
    let (x, y) = (Axis::linear("threads"), Axis::log("seconds"));
    Chart::new("A pruning epoch, 784-500-500-10, batch 128, s = 0.5", x, y, series)
}

#[cfg(test)]
mod tests {
    use super::crossing;

    #[test]
    fn crossings() {
        assert_eq!(crossing(&[[0.0, 0.5], [0.2, 1.5]]), Some(0.1));
        assert_eq!(crossing(&[[0.0, 1.0], [0.2, 1.5]]), None);
        assert_eq!(crossing(&[]), None);
    }
}
