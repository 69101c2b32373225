//! `slth report`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::run::Outcome;
use slth::sweep::StoreError;

/// Write tables, plots and a page of a sweep, beside the published table; or the curves of a run and a page.
///
/// Of a sweep writes table.md, table.csv, heatmap, accuracy-by-epsilon, sparsity-by-epsilon and accuracy-by-sparsity as SVG and PNG, and
/// report.html, one file with all of them; of a run history.svg, history.png and report.html.
#[derive(Args)]
pub(super) struct ReportArguments {
    /// The --out of a sweep, of slth merge, or of a run
    directory: PathBuf,

    /// Directory to write to [default: the same directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Reports; the text lists the files for standard output.
pub(super) fn report(arguments: &ReportArguments) -> Result<String, Error> {
    let out = arguments.out.as_ref().unwrap_or(&arguments.directory);
    let directory = &arguments.directory;
    let [_, history, ..] = Outcome::FILES;
    let has_cells = !matches!(slth::sweep::read_cells(directory), Err(StoreError::Missing(_)));
    let files = match (has_cells, directory.join(history).is_file()) {
        (true, _) => slth::sweep::report(directory, out)?,
        (false, true) => slth::run::report(directory, out)?,
        (false, false) => return Err(StoreError::NothingToReport(directory.clone()).into()),
    };
    Ok(files.iter().map(|file| format!("{}\n", file.display())).collect())
}
