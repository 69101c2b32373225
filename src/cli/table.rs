//! The look of tables.

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use slth_kernels::PackedMask;
use slth_kernels::subset_sum::BRUTE_FORCE_LIMIT;

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// A table of right-aligned columns after the first.
pub(super) fn numbers<T: Into<Cell>>(header: impl IntoIterator<Item = T>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header.into_iter().map(Into::into).collect::<Vec<Cell>>());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A value, or a dash where there is none.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A number of candidates, or `>30` where more would be needed than the search takes.
pub(super) fn candidates(n: Option<usize>) -> String {
    n.map_or_else(|| format!(">{BRUTE_FORCE_LIMIT}"), |n| n.to_string())
}

/// How many weights are kept: of each tensor, by its name and sizes, and of all.
pub(super) fn kept<'a>(
    what: &str,
    tensors: impl Iterator<Item = (String, Vec<usize>, &'a PackedMask)>,
) -> Table {
    let mut table = numbers([what, "shape", "weights", "kept", "removed"]);
    let mut all = [0; 3];
    let mut add = |name: String, shape: String, counts: [usize; 3]| {
        table.add_row([name, shape].into_iter().chain(counts.map(|count| count.to_string())));
    };
    for (name, shape, mask) in tensors {
        let counts = [mask.len(), mask.kept(), mask.removed()];
        all = std::array::from_fn(|i| all[i] + counts[i]);
        let shape: Vec<_> = shape.iter().map(usize::to_string).collect();
        add(name, shape.join(" × "), counts); // as 500 × 784
    }
    add("all".to_owned(), String::new(), all);
    table
}
