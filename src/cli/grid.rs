//! Tables of ε by sparsity.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::Table;
use slth::sweep::Cell;

use super::report::numbers;

/// A table for each method, of the mean test accuracy over the seeds of every ε and sparsity.
pub(super) fn tables(cells: &[Cell]) -> String {
    let methods: BTreeSet<String> = cells.iter().map(|cell| cell.config.method()).collect();
    let table = |method: String| {
        let cells = cells.iter().filter(|cell| cell.config.method() == method);
        format!("mean test accuracy by sparsity s (fraction REMOVED) and ε, {method}\n{}\n", table(cells))
    };
    methods.into_iter().map(table).collect()
}

fn table<'a>(cells: impl Iterator<Item = &'a Cell>) -> Table {
    let mut by_cell: BTreeMap<(u64, u32), Vec<f64>> = BTreeMap::new();
    for cell in cells {
        if let Some(result) = cell.result() {
            // Neither is negative, so their bits are in their order.
            by_cell
                .entry((cell.sparsity.to_bits(), cell.epsilon.to_bits()))
                .or_default()
                .push(result.test_accuracy);
        }
    }
    let mut epsilons: Vec<u32> = by_cell.keys().map(|&(_, epsilon)| epsilon).collect();
    epsilons.sort_unstable();
    epsilons.dedup();
    let mut sparsities: Vec<u64> = by_cell.keys().map(|&(sparsity, _)| sparsity).collect();
    sparsities.dedup();
    let mut table = numbers(
        std::iter::once("s \\ ε".to_owned()).chain(epsilons.iter().map(|&e| f32::from_bits(e).to_string())),
    );
    for sparsity in sparsities {
        let accuracy = |&epsilon: &u32| {
            by_cell.get(&(sparsity, epsilon)).map_or("-".to_owned(), |accuracies| {
                format!("{:.3}", accuracies.iter().sum::<f64>() / accuracies.len() as f64)
            })
        };
        table.add_row(
            std::iter::once(f64::from_bits(sparsity).to_string()).chain(epsilons.iter().map(accuracy)),
        );
    }
    table
}
