//! Progress bars on standard error.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use slth::experiments::Watch;
use slth::training::{NoProgress, Phase, Progress, Step};

/// A bar per phase; nothing when `quiet` or standard error is no terminal.
pub(super) fn progress(quiet: bool) -> Box<dyn Progress> {
    if visible(quiet) {
        Box::new(Bar { bar: ProgressBar::hidden(), epochs: 0 })
    } else {
        Box::new(NoProgress)
    }
}

/// The same for work spread over threads.
pub(super) fn watch(quiet: bool) -> Box<dyn Watch> {
    if visible(quiet) { Box::new(SharedBar::default()) } else { Box::new(NoProgress) }
}

fn visible(quiet: bool) -> bool {
    !quiet && std::io::IsTerminal::is_terminal(&std::io::stderr())
}

struct SharedBar(Mutex<ProgressBar>);

impl Default for SharedBar {
    fn default() -> Self {
        Self(Mutex::new(ProgressBar::hidden()))
    }
}

impl SharedBar {
    fn bar(&self) -> std::sync::MutexGuard<'_, ProgressBar> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Watch for SharedBar {
    fn begin(&self, what: &str, total: usize) {
        const TEMPLATE: &str = "{prefix:<22} {wide_bar} {pos}/{len}  {eta_precise} left";
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
        let bar = ProgressBar::new(total as u64).with_style(style).with_prefix(what.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        *self.bar() = bar;
    }

    fn advance(&self, pieces: usize) {
        self.bar().inc(pieces as u64);
    }

    fn end(&self) {
        self.bar().finish();
    }
}

struct Bar {
    bar: ProgressBar,
    epochs: usize,
}

impl Progress for Bar {
    fn begin(&mut self, phase: Phase, epochs: usize, images: usize) {
        const TEMPLATE: &str =
            "{prefix:<11} {wide_bar} {pos}/{len} images  {per_sec:>14}  {msg}  {eta_precise} left";
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed").with_key(
            "per_sec",
            |state: &indicatif::ProgressState, f: &mut dyn std::fmt::Write| {
                let _ = write!(f, "{:.0} images/s", state.per_sec());
            },
        );
        self.epochs = epochs;
        self.bar = ProgressBar::new(epochs.saturating_mul(images) as u64).with_style(style);
        self.bar.set_prefix(phase.to_string());
    }

    fn step(&mut self, step: &Step) {
        let Step { epoch, images, loss, accuracy } = step;
        self.bar.inc(*images as u64);
        self.bar.set_message(format!(
            "epoch {epoch}/{}  loss {loss:.4}  accuracy {:.2} %",
            self.epochs,
            100.0 * accuracy
        ));
    }

    fn end(&mut self, _phase: Phase) {
        self.bar.finish();
    }
}
