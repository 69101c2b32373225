//! The report of a sweep: tables, plots and one page that holds them all.

mod page;
mod plots;
mod tables;

use std::path::{Path, PathBuf};

use plots::Plot;

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
    let Some((content, plots)) = content(read_cells(directory)?) else {
        return Err(StoreError::Missing { directory: directory.to_owned() }.into());
    };
    let texts = texts(&content, &plots)?;
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
        if let Some(plot) = plots.iter().find(|plot| name.strip_suffix(".svg") == Some(plot.name)) {
            write(&format!("{}.png", plot.name), &plot.picture.png(SCALE)?)?;
        }
    }
    Ok(files)
}

/// The files of a [`report`] of `cells` but for the PNGs, as (name, content), `report.html` last; none where no cell is done.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn report_texts(cells: Vec<super::Cell>) -> Result<Vec<(String, String)>, Error> {
    content(cells).map_or_else(|| Ok(Vec::new()), |(content, plots)| texts(&content, &plots))
}

/// What a report of `cells` is made of; nothing where no cell is done.
fn content(cells: Vec<super::Cell>) -> Option<(Content, Vec<Plot>)> {
    let studies: Vec<_> = Study::of(&cells).into_iter().filter(|study| !study.epsilons.is_empty()).collect();
    if studies.is_empty() {
        return None;
    }
    let content = Content { cells, studies, published: Study::published() };
    let plots = plots::all(&content);
    Some((content, plots))
}

fn texts(content: &Content, plots: &[Plot]) -> Result<Vec<(String, String)>, Error> {
    let svgs = plots.iter().map(|plot| plot.picture.svg()).collect::<Result<Vec<_>, _>>()?;
    let mut texts = vec![
        ("table.md".to_owned(), tables::markdown(content)),
        ("table.csv".to_owned(), tables::csv(content)),
    ];
    texts.push(("report.html".to_owned(), page::html(content, plots, &svgs)));
    let last = texts.len() - 1;
    let named = plots.iter().map(|plot| format!("{}.svg", plot.name)).zip(svgs);
    texts.splice(last..last, named);
    Ok(texts)
}
