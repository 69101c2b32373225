//! The report of a sweep: tables, plots and one page that holds them all.

mod page;
mod plots;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use plots::Plot;

use super::cell::Cell;
use super::error::StoreError;
use super::findings::findings_by_seed;
use super::store::read_cells;
use super::study::{Study, Summary};
use crate::error::Error;
use crate::output::write_all;

/// What a report is made of.
struct Content {
    cells: Vec<Cell>,
    /// One for each method, the one in question first.
    studies: Vec<Study>,
    published: Study,
    /// As [`findings_by_seed`], of the first study.
    by_seed: Vec<[usize; 2]>,
}

/// The [`dataset_hash`](crate::run::dataset_hash) of the built-in images.
const MNIST: &str = "2ad1c4ec31a27ba36ed655939202fe3a7ec0972d465de899c3838e1a57178958";

/// What the published table leaves open.
const NOT_PUBLISHED: &str = "The published table names neither its data set nor its network, its training or its seeds, and gives \
                             no spread. It is of one network, one data set and one way to prune: it says nothing about \
                             others, and beside another network or other images only shapes can be compared.";

impl Content {
    /// The name of the data set.
    fn data(&self) -> String {
        if self.cells[0].config.data == MNIST {
            return "MNIST".to_owned();
        }
        let names: BTreeSet<_> = self.cells.iter().map(|cell| &*cell.timing.data_name).collect();
        let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
        if names.is_empty() { "of no known name".to_owned() } else { names.join(", ") }
    }

    /// What the † of a cell means, where there is one.
    fn remark_on_failures(&self) -> Option<String> {
        let failed = self.studies.iter().map(Study::failed).sum::<usize>();
        let chance = 1.0 / self.cells[0].config.run.network.outputs() as f64;
        (failed > 0).then(|| format!("{}, of accuracy {chance:.3}.", Summary::MARK))
    }
}

/// Sparsities as a list, a dash where there is none.
fn list(sparsities: &[Option<f64>]) -> String {
    let text = |s: &Option<f64>| s.map_or_else(|| "–".to_owned(), |s| s.to_string());
    sparsities.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// Pixels per unit of a plot, in its PNG.
const SCALE: f32 = 1.5;

/// Writes `table.md`, `table.csv`, each plot as SVG and PNG, and `report.html`, which holds all of them, from the stores in
/// `directory` into `out`, which is made where it is missing. Returns the files.
///
/// # Errors
/// When the stores cannot be read or hold no cell that is done, or the files cannot be written.
pub fn report(directory: &Path, out: &Path) -> Result<Vec<PathBuf>, Error> {
    let cells = read_cells(directory)?;
    let known = cells.len();
    let Some((content, plots)) = content(cells) else {
        return Err(StoreError::NoneDone { directory: directory.to_owned(), cells: known }.into());
    };
    let mut files = Vec::new();
    for (name, text) in texts(&content, &plots)? {
        let plot = plots.iter().find(|plot| name.strip_suffix(".svg") == Some(plot.name));
        files.push((name, text.into_bytes()));
        if let Some(plot) = plot {
            files.push((format!("{}.png", plot.name), plot.picture.png(SCALE)?));
        }
    }
    Ok(write_all(out, &files)?)
}

/// The files of a [`report`] of `cells` but for the PNGs, as (name, content), `report.html` last; none where no cell is done.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn report_texts(cells: Vec<Cell>) -> Result<Vec<(String, String)>, Error> {
    content(cells).map_or_else(|| Ok(Vec::new()), |(content, plots)| texts(&content, &plots))
}

/// What a report of `cells` is made of; nothing where no cell is done.
fn content(cells: Vec<Cell>) -> Option<(Content, Vec<Plot>)> {
    if cells.iter().all(|cell| cell.result().is_none()) {
        return None;
    }
    let studies = Study::of(&cells);
    let by_seed = findings_by_seed(&cells, &studies[0].name);
    let content = Content { studies, published: Study::published(), by_seed, cells };
    let plots = plots::all(&content);
    Some((content, plots))
}

fn texts(content: &Content, plots: &[Plot]) -> Result<Vec<(String, String)>, Error> {
    let svgs = plots.iter().map(|plot| plot.picture.svg()).collect::<Result<Vec<_>, _>>()?;
    let page = page::html(content, plots, &svgs);
    let tables = [("table.md", tables::markdown(content)), ("table.csv", tables::csv(content))];
    let named = plots.iter().map(|plot| format!("{}.svg", plot.name)).zip(svgs);
    let tables = tables.into_iter().map(|(name, text)| (name.to_owned(), text));
    Ok(tables.chain(named).chain([("report.html".to_owned(), page)]).collect())
}
