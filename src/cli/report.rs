//! The table at the end of a run.

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use slth::network::LayerShape;
use slth::run::Outcome;
use slth::training::{Evaluation, PruneMethod, Timing};

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// Layers, accuracies, times.
pub(super) fn table(outcome: &Outcome) -> String {
    let Outcome { config, backend, threads, .. } = outcome;
    format!(
        "{} {}, ε = {}, sparsity {} (fraction REMOVED), {}seed {}; backend {backend}, threads {threads}\n{}\n{}\n",
        config.network,
        config.init,
        config.epsilon,
        config.sparsity,
        if config.method == PruneMethod::EdgePopup { String::new() } else { format!("{}, ", config.method) },
        config.seed,
        layers(outcome),
        accuracies(outcome),
    )
}

fn layers(outcome: &Outcome) -> Table {
    let mut table = numbers(["layer", "shape", "weights", "kept", "removed"]);
    for (index, layer) in outcome.layers.iter().enumerate() {
        table.add_row([
            (index + 1).to_string(),
            dimensions(layer.shape),
            layer.mask.len().to_string(),
            layer.mask.kept().to_string(),
            layer.mask.removed().to_string(),
        ]);
    }
    let sum = |count: fn(&slth_kernels::PackedMask) -> usize| {
        outcome.layers.iter().map(|layer| count(&layer.mask)).sum::<usize>().to_string()
    };
    table.add_row([
        "all".to_owned(),
        String::new(),
        sum(slth_kernels::PackedMask::len),
        sum(slth_kernels::PackedMask::kept),
        sum(slth_kernels::PackedMask::removed),
    ]);
    table
}

/// As 500 × 784.
fn dimensions(shape: LayerShape) -> String {
    shape.dimensions().iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

fn accuracies(outcome: &Outcome) -> Table {
    let mut table = numbers(["network", "validation", "test", "epochs", "seconds", "images/s"]);
    let (dense, pruned) = (&outcome.pretrain, &outcome.prune);
    for (name, validation, test, timing) in [
        ("dense, pretrained", dense.validation, dense.test, dense.timing),
        ("pruned", pruned.validation, pruned.test, pruned.timing),
    ] {
        let Timing { epochs, seconds, images_per_second } = timing;
        table.add_row([
            name.to_owned(),
            validation.map_or_else(|| "-".to_owned(), percent),
            percent(test),
            epochs.to_string(),
            format!("{seconds:.2}"),
            format!("{images_per_second:.0}"),
        ]);
    }
    table
}

fn percent(evaluation: Evaluation) -> String {
    format!("{:.2} %", 100.0 * evaluation.accuracy())
}

/// A table of right-aligned columns after the first.
pub(super) fn numbers<T: Into<Cell>>(header: impl IntoIterator<Item = T>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header.into_iter().map(Into::into).collect::<Vec<Cell>>());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
