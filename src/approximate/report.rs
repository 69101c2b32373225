//! The figure of the smallest n.

use super::result::{ApproximationResult, SmallestRow};
use crate::plot::{Axis, Chart, Picture, Series, Style, number};

/// The smallest n for each ε.
pub(super) fn figure(result: &ApproximationResult) -> Picture {
    let config = &result.configuration;
    let mut smallest = result.smallest.clone();
    smallest.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
    smallest.dedup();
    let point = |(index, row): (usize, &SmallestRow)| Some([index as f64, row.candidates_per_weight? as f64]);
    let points = smallest.iter().enumerate().filter_map(point).collect();
    let names = smallest.iter().map(|row| number(f64::from(row.epsilon))).collect();
    Picture::Charts(vec![Chart::new(
        format!(
            "{}: all {} weights within η = {}{}",
            result.subject(),
            result.results.first().map_or(0, |row| row.weights),
            number(config.eta),
            if config.eta_relative { " of the largest" } else { "" }
        ),
        Axis::named("ε", names),
        Axis::whole(format!("smallest n, candidates drawn {}", config.draw)),
        vec![Series::new("", 0, Style::Solid, points)],
    )])
}
