//! Rows for a terminal.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::row::{Role, Row, fastest, nearest};

/// A table whose columns from the third on are aligned to the right.
pub(crate) fn columns<const N: usize>(names: [&str; N]) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    let style = TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule);
    table.load_style(style).set_header(names);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The rows of a case as a table, with its name.
pub fn text(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut table = columns([
        "who",
        "backend",
        "threads",
        "median",
        "min",
        "±",
        "samples",
        "rate",
        "of limit",
        "x best peer",
    ]);
    for row in rows {
        let beside = |role: Role| {
            rows.iter().filter(move |other| {
                other.who.role == role && other.who.threads == row.who.threads && other.unit == row.unit
            })
        };
        let over = |other: Option<&Row>| {
            other.map_or_else(String::new, |other| format!("{:.2}", row.rate() / other.rate()))
        };
        let [limit, peer] = [
            nearest(beside(Role::Limit)),
            fastest(beside(Role::Peer).filter(|peer| peer.is_bf16() == row.is_bf16())),
        ];
        let role = if row.who.role == Role::Part { " (part)" } else { "" };
        table.add_row([
            row.who.label() + role,
            row.who.backend.clone().unwrap_or_default(),
            row.who.threads.to_string(),
            duration(row.median),
            duration(row.min),
            // Two samples have no spread.
            if row.samples < 3 { String::new() } else { format!("{:.1} %", 100.0 * row.spread) },
            row.samples.to_string(),
            format!("{} {}", row.figure(), row.unit.symbol()),
            over(limit.filter(|_| matches!(row.who.role, Role::Ours | Role::Peer))),
            over(peer.filter(|_| row.who.role == Role::Ours)),
        ]);
    }
    format!("{}\n{table}\n\n", first.task)
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
