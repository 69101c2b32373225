//! The plots.

use std::fmt::Write;

use super::{Content, failed_mark};
use crate::plot::{Axis, Chart, GREY, PlotError, Series, Style, number, svg};
use crate::sweep::study::Study;

/// A picture and what to say about it.
pub(super) struct Plot {
    pub(super) name: &'static str,
    pub(super) caption: String,
    pub(super) svg: String,
}

/// Every plot of the report.
pub(super) fn all(content: &Content) -> Result<Vec<Plot>, PlotError> {
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
        svg: heat_map(ours),
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
             {}, with one standard deviation over the runs. {}",
            ours.criterion(),
            epsilons.remark
        ),
        svg: svg(&[Chart::new("Accuracy after each phase", epsilons.axis(), accuracy(), series)])?,
    });

    let mut series: Vec<_> = studies
        .iter()
        .enumerate()
        .map(|(index, study)| {
            let mean = |e| {
                let chosen: Vec<f64> = study.chosen(e)?.sparsities.iter().copied().flatten().collect();
                (!chosen.is_empty()).then(|| chosen.iter().sum::<f64>() / chosen.len() as f64)
            };
            let points = line(study, &mean);
            Series::new(study.name.clone(), index, Style::Solid, points)
        })
        .collect();
    if shared {
        let points = line(published, &|e| Some(published.best(e)?.0));
        series.push(Series::new("published, best", GREY, Style::Dashed, points));
    }
    let s = || Axis::linear("s, fraction of weights REMOVED");
    plots.push(Plot {
        name: "sparsity-by-epsilon",
        caption: format!(
            "Mean s that the runs chose by {}, against ε. {}",
            ours.criterion(),
            epsilons.remark
        ),
        svg: svg(&[Chart::new("Sparsity chosen", epsilons.axis(), s().including(0.0, 0.8), series)])?,
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
        svg: svg(&both)?,
    });
    Ok(plots)
}

fn accuracy() -> Axis {
    Axis::linear("test accuracy").including(0.0, 1.0)
}

/// Where ε is drawn on a logarithmic axis, which has no place for 0 and ∞.
struct Epsilons {
    zero: f64,
    infinity: f64,
    remark: &'static str,
}

impl Epsilons {
    fn of(content: &Content) -> Self {
        let Content { studies, published, .. } = content;
        let drawn = || studies.iter().chain((studies[0].compare(published).cells > 0).then_some(published));
        let all = || drawn().flat_map(|study| &study.epsilons).map(|&e| f64::from(e));
        let between = || all().filter(|&e| e > 0.0 && e.is_finite());
        let (least, most) = (between().fold(f64::INFINITY, f64::min), between().fold(0.0, f64::max));
        let (least, most) = if most > 0.0 { (least, most) } else { (1.0, 1.0) };
        let remark = match (all().any(|e| e == 0.0), all().any(f64::is_infinite)) {
            (true, true) => "The leftmost points are ε = 0, the rightmost ε = ∞.",
            (true, false) => "The leftmost points are ε = 0.",
            (false, true) => "The rightmost points are ε = ∞.",
            (false, false) => "",
        };
        Self { zero: least / 3.0, infinity: most * 3.0, remark }
    }

    fn place(&self, epsilon: f32) -> f64 {
        if epsilon == 0.0 { self.zero } else { f64::from(epsilon).min(self.infinity) }
    }

    fn axis(&self) -> Axis {
        Axis::log("ε")
    }
}

/// The colour of an accuracy: a ramp that also rises in lightness, and the colour of text on it.
pub(super) fn shade(accuracy: f64) -> (String, &'static str) {
    const RAMP: [[f64; 3]; 5] = [
        [68.0, 1.0, 84.0],
        [59.0, 82.0, 139.0],
        [33.0, 145.0, 140.0],
        [94.0, 201.0, 98.0],
        [253.0, 231.0, 37.0],
    ];
    let at = accuracy.clamp(0.0, 1.0) * 4.0;
    let index = (at as usize).min(3);
    let mix = |channel: usize| {
        let (a, b) = (RAMP[index][channel], RAMP[index + 1][channel]);
        (a + (b - a) * (at - index as f64)).round() as u8
    };
    (format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2)), if accuracy < 0.6 { "#fff" } else { "#000" })
}

/// Whether the network was better before it was pruned.
pub(super) fn dominated(study: &Study, epsilon: f32, s: f64) -> bool {
    let dense = study.accuracy(epsilon, 0.0);
    s > 0.0 && study.accuracy(epsilon, s).zip(dense).is_some_and(|(pruned, dense)| pruned < dense)
}

/// The table as coloured cells; rows are sparsities, columns ε.
fn heat_map(study: &Study) -> String {
    const CELL: [usize; 2] = [70, 44];
    const ORIGIN: [usize; 2] = [90, 56];
    let (columns, rows) = (study.epsilons.len(), study.sparsities.len());
    let [width, height] = [ORIGIN[0] + columns * CELL[0] + 16, ORIGIN[1] + rows * CELL[1] + 16];
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"17\" text-anchor=\"middle\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{}\" y=\"20\">ε, the largest change pretraining may make</text>\n\
         <text x=\"20\" y=\"{}\" transform=\"rotate(-90 20 {1})\">s REMOVED</text>\n",
        ORIGIN[0] + columns * CELL[0] / 2,
        ORIGIN[1] + rows * CELL[1] / 2,
    );
    for (column, &epsilon) in study.epsilons.iter().enumerate() {
        let x = ORIGIN[0] + column * CELL[0];
        let label = if epsilon.is_infinite() { "∞".to_owned() } else { number(f64::from(epsilon)) };
        let _ = writeln!(text, "<text x=\"{}\" y=\"{}\">{label}</text>", x + CELL[0] / 2, ORIGIN[1] - 10);
        for (row, &s) in study.sparsities.iter().enumerate() {
            let Some(summary) = study.summary(epsilon, s) else { continue };
            let accuracy = summary.test;
            let y = ORIGIN[1] + row * CELL[1];
            let (fill, ink) = shade(accuracy);
            let opacity = if dominated(study, epsilon, s) { 0.6 } else { 1.0 };
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{fill}\" stroke=\"#fff\"/>\n\
                 <text x=\"{}\" y=\"{}\" fill=\"{ink}\" fill-opacity=\"{opacity}\">{accuracy:.2}{}</text>",
                CELL[0],
                CELL[1],
                x + CELL[0] / 2,
                y + CELL[1] / 2 + 6,
                failed_mark(summary.failed),
            );
            if study.best(epsilon).is_some_and(|(best, _)| best == s) {
                let _ = writeln!(
                    text,
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"{ink}\" stroke-width=\"2\"/>",
                    x + 10,
                    y + 8,
                    CELL[0] - 20,
                    CELL[1] - 16,
                );
            }
            if summary.chosen > 0 {
                let _ = writeln!(
                    text,
                    "<circle cx=\"{}\" cy=\"{}\" r=\"4\" fill=\"{ink}\"/>",
                    x + CELL[0] - 9,
                    y + 9
                );
            }
        }
    }
    for (row, s) in study.sparsities.iter().enumerate() {
        let y = ORIGIN[1] + row * CELL[1] + CELL[1] / 2 + 6;
        let _ = writeln!(text, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{s}</text>", ORIGIN[0] - 10);
    }
    let mut frame = |x: usize, y: usize, width: usize, height: usize, colour: &str| {
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"4\"/>"
        );
    };
    if study.sparsities.first() == Some(&0.0) {
        frame(ORIGIN[0], ORIGIN[1], columns * CELL[0], CELL[1], "#1f5fd0");
    }
    if study.epsilons.first() == Some(&0.0) {
        frame(ORIGIN[0], ORIGIN[1], CELL[0], rows * CELL[1], "#d0201f");
    }
    text.push_str("</svg>\n");
    text
}
