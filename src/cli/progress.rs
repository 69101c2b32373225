//! Progress on standard error.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use slth::progress::{NoProgress, Progress, Step};

/// A bar; nothing if `quiet` is set or standard error is not a terminal.
pub(super) fn progress(quiet: bool) -> Box<dyn Progress> {
    if quiet || !is_terminal() { Box::new(NoProgress) } else { Box::new(Bar::default()) }
}

/// A bar, or a line per cell if standard error is not a terminal; nothing if `quiet` is set.
pub(super) fn progress_by_cell(quiet: bool) -> Box<dyn Progress> {
    if quiet || is_terminal() { progress(quiet) } else { Box::new(Lines(Bar::default())) }
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

struct Bar(Mutex<ProgressBar>);

impl Default for Bar {
    fn default() -> Self {
        Self(Mutex::new(ProgressBar::hidden()))
    }
}

impl Bar {
    fn bar(&self) -> MutexGuard<'_, ProgressBar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bar {
    fn begin(&self, task: &str, total: usize) {
        const TEMPLATE: &str = "{prefix} {wide_bar} {pos}/{len}  {rate:>9}  {msg}  {eta_precise} left";
        let rate = |state: &ProgressState, f: &mut dyn std::fmt::Write| {
            let _ = write!(f, "{:.0}/s", state.per_sec());
        };
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
        let bar = ProgressBar::new(total as u64).with_style(style.with_key("rate", rate));
        bar.set_prefix(task.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar() = bar;
    }

    fn advance(&self, units: usize) {
        self.bar().inc(units as u64);
    }

    fn step(&self, step: &Step) {
        let Step { epoch, epochs, images, loss, accuracy } = step;
        self.advance(*images);
        let accuracy = 100.0 * accuracy;
        self.bar().set_message(format!("epoch {epoch}/{epochs}  loss {loss:.4}  accuracy {accuracy:.2} %"));
    }

    fn cell(&self, done: usize, cells: usize, _result: &dyn std::fmt::Display) {
        self.bar().set_message(format!("{done} of {cells} cells"));
    }

    fn end(&self) {
        self.bar().finish();
    }
}

/// The bar, which stays hidden, counts units and time.
struct Lines(Bar);

impl Progress for Lines {
    fn begin(&self, _task: &str, total: usize) {
        let bar = self.0.bar();
        bar.set_length(total as u64);
        bar.reset_elapsed();
    }

    fn advance(&self, units: usize) {
        self.0.advance(units);
    }

    fn cell(&self, done: usize, cells: usize, result: &dyn std::fmt::Display) {
        let bar = self.0.bar();
        // At the mean rate so far. The bar's own estimate follows the last seconds, and pretraining takes longer for an image than pruning.
        let (now, total) = (bar.position(), bar.length().unwrap_or(0));
        let seconds = bar.elapsed().as_secs_f64() * total.saturating_sub(now) as f64 / now as f64;
        let left = Duration::try_from_secs_f64(seconds).ok().filter(|_| done < cells);
        let left = left.map_or_else(String::new, |left| format!(", {} left", HumanDuration(left)));
        super::note(&format!("{result} ({done} of {cells} cells{left})"));
    }
}
