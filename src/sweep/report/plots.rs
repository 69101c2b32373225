//! The plots.

use super::Content;
use crate::plot::{Axis, Chart, GREY, HeatCell, HeatMap, Picture, Series, Style, number, ramp};
use crate::sweep::comparison::mean;
use crate::sweep::study::Study;

/// A picture and its caption.
pub(super) struct Plot {
    pub(super) name: &'static str,
    pub(super) caption: String,
    pub(super) picture: Picture,
}

/// Every plot of the report.
pub(super) fn all(content: &Content) -> Vec<Plot> {
    let Content { studies, published, .. } = content;
    let ours = &studies[0];
    let mut plots = vec![Plot {
        name: "heatmap",
        caption: format!(
            "Mean test accuracy, {}. Red frame: ε = 0, the strong lottery ticket. Blue frame: s = 0, SGD only. Dimmed \
             numbers: pruning is dominated by SGD, the network before it is better. Box: the best of a column. Dot: an s \
             that a run chose by {}. {}",
            ours.name,
            ours.criterion(),
            content.remark_on_failures().unwrap_or_default(),
        ),
        picture: Picture::HeatMap(heat_map(ours)),
    }];
    let epsilons = Epsilons::of(content);
    let line = |study: &Study, of: &dyn Fn(f32) -> Option<f64>| {
        study.epsilons.iter().filter_map(|&e| Some([epsilons.place(e), of(e)?])).collect::<Vec<_>>()
    };
    let dense = line(ours, &|e| ours.accuracy(e, 0.0));
    let mut series = Vec::new();
    for (index, study) in studies.iter().enumerate() {
        let chosen = |e| Some(study.chosen(e)?.test);
        let band = study.epsilons.iter().filter_map(|&e| {
            let choice = study.chosen(e)?;
            Some([epsilons.place(e), choice.test - choice.deviation, choice.test + choice.deviation])
        });
        let name = format!("pruned, {}", study.name);
        series.push(Series::new(name, index, Style::Solid, line(study, &chosen)).with_band(band.collect()));
    }
    series.push(Series::new("pretrained (s = 0)", studies.len(), Style::Solid, dense));
    let shared = ours.compare(published).cells > 0;
    if shared {
        let best = |e| Some(published.best(e)?.1.test);
        series.push(Series::new("published, best", GREY, Style::Dashed, line(published, &best)));
        let dense = line(published, &|e| published.accuracy(e, 0.0));
        series.push(Series::new("published, s = 0", GREY, Style::Rings, dense));
    }
    plots.push(Plot {
        name: "accuracy-by-epsilon",
        caption: format!(
            "Test accuracy after each phase against ε: after pretraining, and after pruning at the s that each run chose by \
             {}, with one standard deviation over the runs.",
            ours.criterion(),
        ),
        picture: Picture::Charts(vec![Chart::new("Accuracy after each phase", epsilons.axis(), accuracy(), series)]),
    });

    let mut series: Vec<_> = studies
        .iter()
        .enumerate()
        .map(|(index, study)| {
            // NaN, which is not drawn, where all runs failed.
            let points = line(study, &|e| Some(mean(study.chosen(e)?.sparsities.iter().copied().flatten())));
            Series::new(study.name.clone(), index, Style::Solid, points)
        })
        .collect();
    if shared {
        let points = line(published, &|e| Some(published.best(e)?.0));
        series.push(Series::new("published, s of best test", GREY, Style::Dashed, points));
    }
    let s = || Axis::linear("s, fraction of weights REMOVED");
    plots.push(Plot {
        name: "sparsity-by-epsilon",
        caption: format!(
            "Mean s that the runs chose by {}, against ε. The published table tells only the s of its best test accuracy.",
            ours.criterion(),
        ),
        picture: Picture::Charts(vec![Chart::new(
            "Sparsity chosen",
            epsilons.axis(),
            s().including(0.0, 0.8),
            series,
        )]),
    });

    let by_sparsity = |study: &Study| {
        let series = study.epsilons.iter().enumerate().map(|(index, &epsilon)| {
            let style = if index < GREY { Style::Solid } else { Style::Dashed };
            let points = study.column(epsilon).map(|(s, summary)| [s, summary.test]).collect();
            let band = study.column(epsilon).filter(|(_, summary)| summary.deviation > 0.0);
            let band = band.map(|(s, m)| [s, m.test - m.deviation, m.test + m.deviation]).collect();
            Series::new(format!("ε = {epsilon}"), index % GREY, style, points).with_band(band)
        });
        Chart::new(study.name.clone(), s(), accuracy(), series.collect())
    };
    let both = std::iter::once(ours).chain(shared.then_some(published)).map(by_sparsity).collect::<Vec<_>>();
    plots.push(Plot {
        name: "accuracy-by-sparsity",
        caption: "Test accuracy against s for each ε; shaded: one standard deviation over the seeds."
            .to_owned(),
        picture: Picture::Charts(both),
    });
    plots
}

fn accuracy() -> Axis {
    Axis::linear("test accuracy").including(0.0, 1.0)
}

/// The position of ε on a logarithmic axis, which has none for 0 and ∞.
struct Epsilons {
    zero: f64,
    infinity: f64,
}

impl Epsilons {
    fn of(content: &Content) -> Self {
        let Content { studies, published, .. } = content;
        let drawn = || studies.iter().chain((studies[0].compare(published).cells > 0).then_some(published));
        let all = || drawn().flat_map(|study| &study.epsilons).map(|&e| f64::from(e));
        let between = || all().filter(|&e| e > 0.0 && e.is_finite());
        let (least, most) = (between().fold(f64::INFINITY, f64::min), between().fold(0.0, f64::max));
        let (least, most) = if most > 0.0 { (least, most) } else { (1.0, 1.0) };
        Self { zero: least / 3.0, infinity: most * 3.0 }
    }

    fn place(&self, epsilon: f32) -> f64 {
        if epsilon == 0.0 { self.zero } else { f64::from(epsilon).min(self.infinity) }
    }

    fn axis(&self) -> Axis {
        Axis::log("ε").with_mark(self.zero, "0").with_mark(self.infinity, "∞")
    }
}

/// The colour of an accuracy, and the colour of text on it.
pub(super) fn shade(accuracy: f64) -> [String; 2] {
    ramp(accuracy).map(|[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}"))
}

/// Whether the network was better before it was pruned.
pub(super) fn dominated(study: &Study, epsilon: f32, s: f64) -> bool {
    let dense = study.accuracy(epsilon, 0.0);
    s > 0.0 && study.accuracy(epsilon, s).zip(dense).is_some_and(|(pruned, dense)| pruned < dense)
}

/// The table as coloured cells; rows are sparsities, columns ε.
fn heat_map(study: &Study) -> HeatMap {
    let mut cells = Vec::new();
    for (column, &epsilon) in study.epsilons.iter().enumerate() {
        for (row, &s) in study.sparsities.iter().enumerate() {
            let Some(summary) = study.summary(epsilon, s) else { continue };
            cells.push(HeatCell {
                column,
                row,
                value: summary.test,
                mark: summary.mark(),
                dimmed: dominated(study, epsilon, s),
                boxed: study.best(epsilon).is_some_and(|(best, _)| best == s),
                dotted: summary.chosen > 0,
            });
        }
    }
    let name =
        |&epsilon: &f32| if epsilon.is_infinite() { "∞".to_owned() } else { number(f64::from(epsilon)) };
    HeatMap {
        x_label: "ε, the largest change pretraining may make".to_owned(),
        y_label: "s REMOVED".to_owned(),
        columns: study.epsilons.iter().map(name).collect(),
        rows: study.sparsities.iter().map(f64::to_string).collect(),
        cells,
        first_row_framed: study.sparsities.first() == Some(&0.0),
        first_column_framed: study.epsilons.first() == Some(&0.0),
    }
}
