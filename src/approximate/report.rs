//! The figures: the smallest n, the hidden units of a construction.

use super::result::{ApproximationResult, SmallestRow};
use crate::plot::{Axis, Chart, GREY, Picture, Series, Style, number};

/// By ε.
pub(super) fn figure(result: &ApproximationResult) -> Picture {
    let chart = if result.construction.is_empty() { smallest(result) } else { hidden_units(result) };
    Picture::Charts(vec![chart])
}

fn names(epsilons: impl Iterator<Item = f32>) -> Axis {
    Axis::named("ε", epsilons.map(|epsilon| number(f64::from(epsilon))).collect())
}

/// How many the theorem's network needs, and those of the theorem.
fn hidden_units(result: &ApproximationResult) -> Chart {
    let mut rows: Vec<_> = result.construction.iter().collect();
    rows.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
    let place = |index: usize| index as f64;
    let needed = rows.iter().enumerate().filter_map(|(i, row)| Some([place(i), row.units_needed? as f64]));
    let theorem = rows.iter().enumerate().map(|(i, row)| [place(i), row.units_of_theorem]);
    Chart::new(
        format!("{} built of ReLU units, η = {}", result.subject(), number(result.configuration.eta)),
        names(rows.iter().map(|row| row.epsilon)),
        Axis::whole("hidden units").including(0.0, 0.0),
        vec![
            Series::new("needed", 0, Style::Solid, needed.collect()),
            Series::new("the theorem's, constant 1", GREY, Style::Dashed, theorem.collect()),
        ],
    )
}

/// The smallest n for each ε.
fn smallest(result: &ApproximationResult) -> Chart {
    let config = &result.configuration;
    let mut smallest = result.smallest.clone();
    smallest.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
    smallest.dedup();
    let point = |(index, row): (usize, &SmallestRow)| Some([index as f64, row.candidates_per_weight? as f64]);
    let points = smallest.iter().enumerate().filter_map(point).collect();
    Chart::new(
        format!(
            "{}: all {} weights within η = {}{}",
            result.subject(),
            result.results.first().map_or(0, |row| row.weights),
            number(config.eta),
            if config.eta_relative { " of the largest" } else { "" }
        ),
        names(smallest.iter().map(|row| row.epsilon)),
        Axis::whole(format!("smallest n, candidates drawn {}", config.draw)),
        vec![Series::new("", 0, Style::Solid, points)],
    )
}
