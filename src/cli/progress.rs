//! Progress bars on standard error.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use slth::sweep::SweepProgress;
use slth::sweep::{Cell, CellOutcome};
use slth::training::{NoProgress, Phase, Progress, Step};
use slth::watch::Watch;

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

/// The progress of a sweep: a bar, or where standard error is no terminal a line per cell.
pub(super) struct SweepBar {
    quiet: bool,
    terminal: bool,
    bar: ProgressBar,
    /// Cells of the sweep.
    cells: AtomicUsize,
    /// Those that are done.
    done: AtomicUsize,
}

impl SweepBar {
    pub(super) fn new(quiet: bool) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        // Hidden it still measures the time left.
        let bar = if quiet || !terminal { ProgressBar::hidden() } else { ProgressBar::new(0) };
        Self { quiet, terminal, bar, cells: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    pub(super) fn finish(&self) {
        self.bar.finish();
    }

    fn message(&self) -> String {
        format!("{} of {} cells", self.done.load(Ordering::Relaxed), self.cells.load(Ordering::Relaxed))
    }
}

impl SweepProgress for SweepBar {
    fn begin(&self, cells: usize, known: usize, images: u64) {
        const TEMPLATE: &str = "{wide_bar} {msg}  {percent} %  {eta_precise} left";
        self.cells.store(cells, Ordering::Relaxed);
        self.done.store(known, Ordering::Relaxed);
        self.bar.set_length(images);
        self.bar.set_style(ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed"));
        self.bar.set_message(self.message());
        self.bar.reset_eta();
    }

    fn images(&self, images: u64) {
        self.bar.inc(images);
    }

    fn cell(&self, cell: &Cell) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.bar.set_message(self.message());
        if self.quiet || self.terminal {
            return;
        }
        let outcome = match &cell.outcome {
            CellOutcome::Done(result) => format!("test accuracy {:.2} %", 100.0 * result.test_accuracy),
            CellOutcome::Failed { error } => format!("failed: {error}"),
        };
        let left = indicatif::HumanDuration(self.bar.eta());
        super::note(&format!("{}: {outcome} ({}, {left} left)", cell.name(), self.message()));
    }
}
