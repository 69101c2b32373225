//! The machine a run took place on.

use serde::{Deserialize, Serialize};

/// The description of a machine that belongs to a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU's model name if the system gives it, else its architecture.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// The operating system.
    pub os: String,
}

impl Machine {
    /// This machine.
    pub fn current() -> Self {
        Self {
            cpu: model_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            os: std::env::consts::OS.to_owned(),
        }
    }
}

/// The first `model name` of Linux's /proc/cpuinfo.
fn model_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}
