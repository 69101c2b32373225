//! Pictures of recordings.

use super::{Kernel, Measurement, Role};
use crate::plot::{Axis, Chart, GREY, Picture, PlotError, Series, Style};

/// A picture and what to say about it.
pub(super) struct Plot {
    pub(super) name: String,
    pub(super) caption: &'static str,
    pub(super) svg: String,
}

/// The pictures of a kernel; those for which nothing was measured are left out.
pub(super) fn plots(kernel: Kernel, rows: &[&Measurement]) -> Result<Vec<Plot>, PlotError> {
    let charts = match kernel {
        Kernel::Conv2d => return Ok(Vec::new()),
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
    Ok(vec![Plot { name: name.to_owned(), caption, svg: Picture::Charts(vec![chart]).svg()? }])
}

/// The time of the fastest dense product of anyone over ours, one thread, against sparsity: for each shape of the forward
/// products without and with a new mask each time.
struct OverDense<'a> {
    shape: &'a [usize],
    without: Vec<[f64; 2]>,
    with: Vec<[f64; 2]>,
}

impl<'a> OverDense<'a> {
    fn all(rows: &[&'a Measurement]) -> Vec<Self> {
        let forward: Vec<_> =
            rows.iter().filter(|row| row.task.operation == "forward" && row.threads == 1).copied().collect();
        let mut shapes: Vec<&[usize]> = Vec::new();
        for row in &forward {
            if !shapes.contains(&&row.task.shape[..]) {
                shapes.push(&row.task.shape);
            }
        }
        let of = |shape| {
            let rows: Vec<_> = forward.iter().filter(|row| row.task.shape == shape).copied().collect();
            let [without, with] = ["slth", "slth with compression"].map(|who| Self::points(&rows, who));
            Self { shape, without, with }
        };
        shapes.into_iter().map(of).collect()
    }

    fn points(rows: &[&Measurement], who: &str) -> Vec<[f64; 2]> {
        const DENSE: [&str; 6] =
            ["slth dense", "gemm", "faer", "matrixmultiply", "F.linear", "oneDNN prepacked"];
        let mut sparsities: Vec<f64> = rows.iter().filter_map(|row| row.task.sparsity).collect();
        sparsities.sort_by(f64::total_cmp);
        sparsities.dedup();
        let at = |sparsity: f64| {
            let here = rows.iter().filter(|row| row.task.sparsity == Some(sparsity));
            let best = |is: &dyn Fn(&str) -> bool| {
                here.clone().filter(|row| is(&row.who)).map(|row| row.rate()).fold(f64::NAN, f64::max)
            };
            [sparsity, best(&|name| name == who) / best(&|name| DENSE.contains(&name))]
        };
        sparsities.into_iter().map(at).filter(|point| point[1].is_finite()).collect()
    }

    fn name(&self) -> String {
        self.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
    }
}

/// From which sparsity on masked products are faster than the best dense one, in words.
pub(super) fn crossovers(kernel: Kernel, rows: &[&Measurement]) -> String {
    if kernel != Kernel::MaskedMatmul {
        return String::new();
    }
    let from = |points: &[[f64; 2]]| match (crossing(points), points.first()) {
        (Some(s), _) => format!("s = {s:.2}"),
        (None, Some(first)) if first[1] >= 1.0 => "s = 0".to_owned(),
        _ => "none".to_owned(),
    };
    let of = |shape: OverDense<'_>| {
        format!("{} from {} ({})", shape.name(), from(&shape.without), from(&shape.with))
    };
    let all: Vec<String> =
        OverDense::all(rows).into_iter().filter(|shape| shape.without.len() > 2).map(of).collect();
    if all.is_empty() {
        return String::new();
    }
    format!(
        "Faster on one thread than the fastest dense product of anyone (with a new mask at every product): {}.\n\n",
        all.join(", ")
    )
}

fn over_dense(rows: &[&Measurement]) -> Chart {
    let mut series = Vec::new();
    let mut crossings = Vec::new();
    for (colour, shape) in OverDense::all(rows).into_iter().enumerate() {
        for (points, style, way) in
            [(&shape.without, Style::Solid, ""), (&shape.with, Style::Dashed, ", compressing")]
        {
            // One activation a weight: a new mask costs several times the product.
            if shape.shape.first() == Some(&1) && style == Style::Dashed {
                continue;
            }
            let mut name = format!("{}{way}", shape.name());
            if let Some(crossing) = crossing(points) {
                name = format!("{name}: from s = {crossing:.2}");
                crossings.push([crossing, 1.0]);
            }
            series.push(Series::new(name, colour, style, points.clone()));
        }
    }
    if !series.is_empty() {
        series.push(Series::new(
            "the fastest dense product",
            GREY,
            Style::Dashed,
            vec![[0.0, 1.0], [0.99, 1.0]],
        ));
        series.push(Series::new("crossover", GREY, Style::Dots, crossings));
    }
    let (x, y) =
        (Axis::linear("sparsity (fraction removed)"), Axis::log("time of the fastest dense over ours"));
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
    // The best backend.
    let seconds = |who: &str, threads: usize| {
        let same = beside.iter().filter(|r| r.who == who && r.threads == threads && r.role != Role::Limit);
        same.map(|r| 1.0 / r.rate()).min_by(f64::total_cmp)
    };
    let mut counts: Vec<usize> = beside.iter().map(|row| row.threads).collect();
    counts.sort_unstable();
    counts.dedup();
    let of = |(colour, who): (usize, &str)| {
        let points: Vec<[f64; 2]> =
            counts.iter().filter_map(|&threads| Some([threads as f64, seconds(who, threads)?])).collect();
        let times =
            counts.iter().filter_map(|&n| Some(format!("{:.1} ×", seconds(who, n)? / seconds("slth", n)?)));
        let name = if who == "slth" {
            who.to_owned()
        } else {
            format!("{who}: {}", times.collect::<Vec<_>>().join(", "))
        };
        Series::new(name, colour, if who == "slth" { Style::Solid } else { Style::Dashed }, points)
    };
    let series = who.into_iter().enumerate().map(of).collect();
    // Logarithmic, as ticks are at whole numbers then.
    let (x, y) = (Axis::log("threads"), Axis::log("seconds").including(1.0, 10.0));
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
