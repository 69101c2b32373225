//! `slth report`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;

/// Write tables, plots and a page of a sweep, beside the published table.
///
/// Writes table.md, table.csv, heatmap, accuracy-by-epsilon, sparsity-by-epsilon and accuracy-by-sparsity as SVG and PNG, and
/// report.html, one file with all of them.
#[derive(Args)]
pub(super) struct ReportArguments {
    /// The --out of a sweep, or of slth merge
    directory: PathBuf,

    /// Directory to write to [default: the same directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Reports; the text lists the files for standard output.
pub(super) fn report(arguments: &ReportArguments) -> Result<String, Error> {
    let out = arguments.out.as_ref().unwrap_or(&arguments.directory);
    let files = slth::sweep::report(&arguments.directory, out)?;
    Ok(files.iter().map(|file| format!("{}\n", file.display())).collect())
}
