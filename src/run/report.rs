//! The report of a run, from its files.

use std::path::{Path, PathBuf};

use maud::{PreEscaped, html};

use super::config::RunConfig;
use super::experiment::Outcome;
use super::history;
use crate::error::Error;
use crate::output::write_all;
use crate::page::{options, page};

/// Writes the curves of `history.csv` in `directory` as SVG and PNG, and `report.html`, which holds them and the configuration of
/// `result.json`, into `out`, which is made where it is missing. Returns the files.
///
/// # Errors
/// When the two files cannot be read, or the others cannot be written.
pub fn report(directory: &Path, out: &Path) -> Result<Vec<PathBuf>, Error> {
    let [_, table, curves, result] = Outcome::FILES;
    let history = history::read(&directory.join(table))?;
    let config = RunConfig::of_result(&directory.join(result))?;
    let picture = history::curves(&history);
    let svg = picture.svg()?;
    let html = page(&html! {
        h1 { "Pretrain, then prune: one run" }
        p {
            "Network " (config.network) ", ε = " (config.epsilon) ", sparsity " (config.sparsity) " (fraction REMOVED), seed "
            (config.seed) "; " (history.len()) " epochs."
        }
        figure { (PreEscaped(&svg)) figcaption { "Epochs are counted through all phases." } }
        h2 { "Configuration" }
        (options(&config.setting()))
    });
    let png = picture.png(1.5)?;
    let files = [(curves, svg.into_bytes()), ("history.png", png), ("report.html", html.into_bytes())];
    Ok(write_all(out, &files.map(|(name, content)| (name.to_owned(), content)))?)
}
