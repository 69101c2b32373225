//! The report of a sweep: tables, plots and one page that holds them all.

mod page;
mod plots;
mod tables;

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::output::{OutputError, between_writes, write_atomically};
use crate::sweep::Study;
use crate::sweep::store::{StoreError, read_cells};

/// What a report is made of.
struct Content {
    cells: Vec<super::Cell>,
    /// One for each method, the one in question first.
    studies: Vec<Study>,
    published: Study,
}

/// Pixels per unit of a plot, in its PNG.
const SCALE: f32 = 1.5;

/// Writes `table.md`, `table.csv`, each plot as SVG and PNG, and `report.html`, which holds all of them, from the stores in
/// `directory` into `out`, which is made where it is missing. Returns the files.
///
/// # Errors
/// When the stores cannot be read or hold no cell that is done, or the files cannot be written.
pub fn report(directory: &Path, out: &Path) -> Result<Vec<PathBuf>, Error> {
    let texts = report_texts(read_cells(directory)?)?;
    if texts.is_empty() {
        return Err(StoreError::Missing { directory: directory.to_owned() }.into());
    }
    std::fs::create_dir_all(out)
        .map_err(|source| OutputError::Unwritable { directory: out.to_owned(), source })?;
    let mut files = Vec::new();
    let mut write = |name: &str, bytes: &[u8]| {
        let _writing = between_writes();
        let file = out.join(name);
        write_atomically(&file, bytes)?;
        files.push(file);
        Ok::<_, Error>(())
    };
    for (name, text) in &texts {
        write(name, text.as_bytes())?;
        if let Some(plot) = name.strip_suffix(".svg") {
            write(&format!("{plot}.png"), &crate::plot::png(text, SCALE)?)?;
        }
    }
    Ok(files)
}

/// The files of a [`report`] of `cells` but for the PNGs, as (name, content), `report.html` last; none where no cell is done.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn report_texts(cells: Vec<super::Cell>) -> Result<Vec<(String, String)>, Error> {
    let studies: Vec<_> = Study::of(&cells).into_iter().filter(|study| !study.epsilons.is_empty()).collect();
    if studies.is_empty() {
        return Ok(Vec::new());
    }
    let content = Content { cells, studies, published: Study::published() };
    let plots = plots::all(&content)?;
    let mut texts = vec![
        ("table.md".to_owned(), tables::markdown(&content)),
        ("table.csv".to_owned(), tables::csv(&content)),
    ];
    texts.extend(plots.iter().map(|plot| (format!("{}.svg", plot.name), plot.svg.clone())));
    texts.push(("report.html".to_owned(), page::html(&content, &plots)));
    Ok(texts)
}
