//! Tables of ε by sparsity.

use comfy_table::Table;
use slth::sweep::{Cell, Study, Summary};

use super::table::{numbers, or_dash};

/// A table for each method, of the mean test accuracy over the seeds of every ε and sparsity.
pub(super) fn tables(cells: &[Cell]) -> String {
    let studies = Study::of(cells);
    let mut text = String::new();
    for study in &studies {
        let name = &study.name;
        text +=
            &format!("mean test accuracy by sparsity s (fraction REMOVED) and ε, {name}\n{}\n", table(study));
    }
    if studies.iter().any(|study| study.failed() > 0) {
        text += &format!("{}\n", Summary::MARK);
    }
    text
}

fn table(study: &Study) -> Table {
    let mut table =
        numbers(std::iter::once("s \\ ε".to_owned()).chain(study.epsilons.iter().map(f32::to_string)));
    for &s in &study.sparsities {
        let cell = |&epsilon: &f32| {
            or_dash(study.summary(epsilon, s).map(|found| format!("{:.3}{}", found.test, found.mark())))
        };
        table.add_row(std::iter::once(s.to_string()).chain(study.epsilons.iter().map(cell)));
    }
    table
}
