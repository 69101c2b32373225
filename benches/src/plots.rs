//! Charts of recordings.

use slth::plot::{Axis, Chart, GREY, Picture, Series, Style};

use crate::error::Error;
use crate::row::{Role, Row, fastest};
use crate::task::{LayerOperation, Phase, Scores, Search, Task};

/// All charts as (name, SVG), without those for which nothing was measured.
///
/// # Errors
/// When one cannot be drawn.
pub fn plots(rows: &[Row]) -> Result<Vec<(&'static str, String)>, Error> {
    let all = [
        ("speed-over-dense", over_dense(rows)),
        ("small-batches", small_batches(rows)),
        ("time-per-score", per_score(rows)),
        ("time-per-target", per_target(rows)),
        ("epoch", epoch(rows)),
    ];
    let drawn =
        all.into_iter().filter(|(_, chart)| chart.series.iter().any(|series| !series.points.is_empty()));
    drawn.map(|(name, chart)| Ok((name, Picture::Charts(vec![chart]).svg()?))).collect()
}

/// Speed relative to the fastest dense f32 product, ours or a peer's, on one thread: points (sparsity, ratio).
struct OverDense {
    /// Batch, inputs, outputs.
    sizes: [usize; 3],
    /// Our masked product with a prepared mask.
    prepared: Vec<[f64; 2]>,
    /// Our masked product with a new mask for each product.
    rebuilt: Vec<[f64; 2]>,
    /// The fastest dense bf16 product of a peer.
    bf16: Vec<[f64; 2]>,
}

/// Sizes measured at no more than this number of sparsities are left out.
const FEW_POINTS: usize = 5;

impl OverDense {
    /// The lines for each size of the forward products.
    fn all(rows: &[Row]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (sizes, sparsity, beside) in forward(rows) {
            if all.last().is_none_or(|over| over.sizes != sizes) {
                all.push(Self { sizes, prepared: Vec::new(), rebuilt: Vec::new(), bf16: Vec::new() });
            }
            let Some(Self { prepared, rebuilt, bf16, .. }) = all.last_mut() else { continue };
            let rate =
                |is: &dyn Fn(&Row) -> bool| Some(fastest(beside.iter().copied().filter(|r| is(r)))?.rate());
            let Some(dense) = rate(&is_dense) else { continue };
            for (points, variant) in [(prepared, ""), (rebuilt, "rebuilt")] {
                let ours = rate(&|row| row.who.role == Role::Ours && row.who.variant == variant);
                points.extend(ours.map(|ours| [sparsity, ours / dense]));
            }
            bf16.extend(
                rate(&|row| row.who.role == Role::Peer && row.is_bf16()).map(|peer| [sparsity, peer / dense]),
            );
        }
        all.retain(|over| over.prepared.len() > FEW_POINTS);
        for Self { prepared, rebuilt, bf16, .. } in &mut all {
            for points in [prepared, rebuilt, bf16] {
                points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            }
        }
        all
    }

    fn name(&self) -> String {
        self.sizes.map(|size| size.to_string()).join("×")
    }
}

/// Whether the contestant multiplies by all weights, in f32.
fn is_dense(row: &Row) -> bool {
    match row.who.role {
        Role::Ours => row.who.variant == "dense",
        Role::Peer => row.who.contestant != "sprs" && !row.who.variant.contains("CSR") && !row.is_bf16(),
        _ => false,
    }
}

/// Sizes, sparsity and rows of each forward product on one thread, grouped by sizes.
fn forward(rows: &[Row]) -> Vec<([usize; 3], f64, Vec<&Row>)> {
    let mut all: Vec<([usize; 3], f64, Vec<&Row>)> = Vec::new();
    for row in rows.iter().filter(|row| row.who.threads == 1) {
        let Task::MaskedMatmul(task) = &row.task else { continue };
        let (LayerOperation::Forward, Some(sparsity)) = (task.operation, task.sparsity) else { continue };
        let sizes = [task.batch, task.inputs, task.outputs];
        match all.iter_mut().find(|(of, at, _)| (*of, *at) == (sizes, sparsity)) {
            Some((.., beside)) => beside.push(row),
            None => all.push((sizes, sparsity, vec![row])),
        }
    }
    let order: Vec<[usize; 3]> = all.iter().map(|(sizes, ..)| *sizes).collect();
    all.sort_by_key(|(sizes, ..)| order.iter().position(|of| of == sizes));
    all
}

/// The sparsities from which on masked products are faster than the best dense one, as Markdown.
pub(crate) fn crossovers(rows: &[Row]) -> String {
    let from = |points: &[[f64; 2]]| match (crossing(points), points.first()) {
        (Some(s), _) => format!("s = {s:.2}"),
        (None, Some(first)) if first[1] >= 1.0 => "s = 0".to_owned(),
        _ => "none".to_owned(),
    };
    let of = |over: &OverDense| {
        format!("| {} | {} | {} |\n", over.name(), from(&over.prepared), from(&over.rebuilt))
    };
    let all = OverDense::all(rows);
    let all: String = all.iter().map(of).collect();
    if all.is_empty() {
        return all;
    }
    format!(
        "Faster than the fastest dense product, ours or a peer's, from this sparsity (s = 0: at all that were measured; none: \
         at none):\n\n\
         | product | prepared mask | new mask for every product |\n|---|---:|---:|\n{all}"
    )
}

fn over_dense(rows: &[Row]) -> Chart {
    let mut series = Vec::new();
    let mut crossings = Vec::new();
    for (colour, over) in OverDense::all(rows).iter().enumerate() {
        for (points, style, way) in [
            (&over.prepared, Style::Solid, ""),
            (&over.rebuilt, Style::Dashed, ", rebuilt"),
            (&over.bf16, Style::Dots, ", dense in bf16"),
        ] {
            // With one column, a new mask costs several times as much as the product.
            if over.sizes[0] == 1 && style == Style::Dashed {
                continue;
            }
            let mut name = format!("{}{way}", over.name());
            if let Some(crossing) = crossing(points).filter(|_| style != Style::Dots) {
                name = format!("{name}: from s = {crossing:.2}");
                crossings.push([crossing, 1.0]);
            }
            series.push(Series::new(name, colour, style, points.clone()));
        }
    }
    if !series.is_empty() {
        let dense = vec![[0.0, 1.0], [0.99, 1.0]];
        series.push(Series::new("the fastest dense product", GREY, Style::Dashed, dense));
        series.push(Series::new("crossover", GREY, Style::Dots, crossings));
    }
    let (x, y) =
        (Axis::linear("sparsity (fraction removed)"), Axis::log("time of the fastest dense over ours"));
    Chart::new("Masked product against dense, one core", x, y, series)
}

/// The time of one layer's product against the number of columns: ours with f32 and bf16 weights, and each peer's.
fn small_batches(rows: &[Row]) -> Chart {
    let columns = |row: &Row| match &row.task {
        Task::MaskedMatmul(task)
            if (task.operation, task.inputs, task.outputs, task.sparsity)
                == (LayerOperation::Forward, 784, 500, Some(0.9)) =>
        {
            Some(task.batch as f64).filter(|columns| *columns <= 128.0)
        }
        _ => None,
    };
    let shown = |row: &&Row| {
        row.who.threads == 1
            && match row.who.role {
                Role::Ours => ["", "bf16"].contains(&row.who.variant.as_str()),
                role => role == Role::Peer,
            }
    };
    let series = lines(rows.iter().filter(shown), columns, |row| 1e6 * row.median);
    let (x, y) = (Axis::log("columns"), Axis::log("µs"));
    Chart::new("A product 500×784 with few columns, s = 0.9, one core", x, y, series)
}

/// Where a line last rises through 1; `None` if it never does.
fn crossing(points: &[[f64; 2]]) -> Option<f64> {
    let rises = |pair: &&[[f64; 2]]| pair[0][1] < 1.0 && pair[1][1] >= 1.0;
    let [a, b] = points.windows(2).rfind(rises).map(|pair| [pair[0], pair[1]])?;
    Some(a[0] + (b[0] - a[0]) * (1.0 - a[1]) / (b[1] - a[1]))
}

fn per_score(rows: &[Row]) -> Chart {
    let count = |row: &Row| match &row.task {
        Task::TopK(task) if task.scores == Scores::Normal && task.sparsity == 0.5 => Some(task.count as f64),
        _ => None,
    };
    let series =
        lines(rows.iter().filter(|row| row.who.threads == 1 && row.who.variant != "sort"), count, |row| {
            1e9 * row.each()
        });
    let (x, y) = (Axis::log("scores"), Axis::log("ns per score"));
    Chart::new("Selecting half of the scores, one core", x, y, series)
}

fn per_target(rows: &[Row]) -> Chart {
    let candidates = |row: &Row| match &row.task {
        Task::SubsetSum(task)
            if task.operation == Search::Fresh && task.epsilon == 0.0 && task.size.is_none() =>
        {
            Some(task.candidates as f64)
        }
        _ => None,
    };
    let series = lines(rows.iter().filter(|row| row.who.threads == 1), candidates, |row| 1e6 * row.each());
    let (x, y) = (Axis::linear("candidates"), Axis::log("µs per target"));
    Chart::new("Nearest subset, fresh candidates for each target, one core", x, y, series)
}

fn epoch(rows: &[Row]) -> Chart {
    let threads = |row: &Row| match &row.task {
        Task::Pipeline(task)
            if (task.operation, task.sparsity, task.images) == (Phase::PruningEpoch, Some(0.5), 60_000) =>
        {
            Some(row.who.threads as f64)
        }
        _ => None,
    };
    let mut series = lines(rows.iter().filter(|row| row.who.role != Role::Limit), threads, Row::each);
    let beside = series.iter().filter(|series| series.style == Style::Dashed).count();
    if beside == 0 {
        series.clear();
    }
    // A logarithmic axis has its ticks at whole numbers here.
    let (x, y) = (Axis::log("threads"), Axis::log("seconds").including(1.0, 10.0));
    Chart::new("A pruning epoch, 784-500-500-10, batch 128, s = 0.5", x, y, series)
}

/// One line per contestant on its best backend: time per unit of work against `x`. Peers and limits are dashed.
fn lines<'a>(
    rows: impl Iterator<Item = &'a Row>,
    x: impl Fn(&Row) -> Option<f64>,
    y: impl Fn(&Row) -> f64,
) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for row in rows.filter(|row| row.who.role != Role::Part) {
        let Some(x) = x(row) else { continue };
        let (name, y) = (row.who.label(), y(row));
        let at = series.iter().position(|series| series.name == name).unwrap_or_else(|| {
            let style = if row.who.role == Role::Ours { Style::Solid } else { Style::Dashed };
            series.push(Series::new(name, series.len(), style, Vec::new()));
            series.len() - 1
        });
        match series[at].points.iter_mut().find(|point| point[0] == x) {
            Some(point) => point[1] = point[1].min(y),
            None => series[at].points.push([x, y]),
        }
    }
    series.iter_mut().for_each(|series| series.points.sort_by(|a, b| a[0].total_cmp(&b[0])));
    series
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
