//! Progress bars on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use slth::training::{NoProgress, Phase, Progress, Step};

/// A bar per phase; nothing when `quiet` or standard error is no terminal.
pub(super) fn progress(quiet: bool) -> Box<dyn Progress> {
    let visible = !quiet && std::io::IsTerminal::is_terminal(&std::io::stderr());
    if visible { Box::new(Bar { bar: ProgressBar::hidden(), epochs: 0 }) } else { Box::new(NoProgress) }
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
