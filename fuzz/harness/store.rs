//! Stores of cells, and reports on them.

use std::path::Path;

use serde_json::{Value, from_value};
use slth::sweep::{CellConfig, parse_cells, report_texts};

pub(super) fn run(data: &[u8]) {
    let Some((what, rest)) = super::split(data) else { return };
    match what % 2 {
        0 => report(rest),
        _ => {
            // Set the current bits revision and the right ids; otherwise nearly every line fails at these.
            let lines = rest.split_inclusive(|&byte| byte == b'\n');
            report(
                &lines
                    .flat_map(|line| identified(line).unwrap_or_else(|| line.to_vec()))
                    .collect::<Vec<u8>>(),
            );
        }
    }
}

fn identified(line: &[u8]) -> Option<Vec<u8>> {
    let mut cell: Value = serde_json::from_slice(line).ok()?;
    cell.get_mut("config")?.as_object_mut()?.insert("bits_revision".to_owned(), slth::BITS_REVISION.into());
    let config: CellConfig = from_value(cell.get("config")?.clone()).ok()?;
    let object = cell.as_object_mut()?;
    object.insert("id".to_owned(), config.id().into());
    for key in ["epsilon", "sparsity", "seed"] {
        object.insert(key.to_owned(), object["config"].get(key)?.clone());
    }
    Some(format!("{cell}\n").into_bytes())
}

fn report(text: &[u8]) {
    let Ok(cells) = parse_cells(Path::new("cells.jsonl"), text) else { return };
    let done = cells.iter().filter(|cell| cell.result().is_some()).count();
    for cell in &cells {
        cell.config.run.validate().expect("only what makes sense is taken");
        assert_eq!(cell.id, cell.config.id());
    }
    let texts = report_texts(cells).expect("every plot can be drawn");
    assert_eq!(texts.is_empty(), done == 0);
    for (name, text) in &texts {
        assert!(!text.contains("NaN") || name == "report.html" || name == "table.md", "{name}: {text}");
    }
}
