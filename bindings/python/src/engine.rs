//! The engine of calls, and the conversion of errors to Python exceptions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use slth::machine::Machine;
use slth_kernels::{Backend, Engine, KernelError};

use crate::argument::at_least;

/// Default number of threads; 0: as many as the process may use.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The engine of a call on `threads` threads; `None`: on those of `set_num_threads`.
pub(crate) fn engine(threads: Option<isize>) -> PyResult<Engine<'static>> {
    let threads = match threads {
        None => THREADS.load(Ordering::Relaxed),
        Some(threads) => at_least("threads", threads, 1)?,
    };
    let engine = serial()?;
    Ok(if threads == 1 { engine } else { engine.with_threads(threads) })
}

fn serial() -> PyResult<Engine<'static>> {
    // The environment is read once.
    static ENGINE: OnceLock<Result<Engine<'static>, KernelError>> = OnceLock::new();
    ENGINE.get_or_init(Engine::detect).clone().map_err(refused)
}

/// A kernel's error as a ValueError.
pub(crate) fn refused(error: KernelError) -> PyErr {
    // The kernels' texts name what Rust programs would set.
    PyValueError::new_err(match error {
        KernelError::NoInputGradient => {
            "prepare with input_gradient=True to compute the input gradient".to_owned()
        }
        KernelError::NoSource => {
            "the removed weights were dropped, so no other mask can be set; prepare with keep_source=True"
                .to_owned()
        }
        other => other.to_string(),
    })
}

/// Computes without the GIL. A panic is an error of this library, and a RuntimeError for Python.
pub(crate) fn compute<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, KernelError> + Send,
) -> PyResult<T> {
    // A panic leaves incomplete data only in memory that the next call overwrites.
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.map_err(refused),
        Err(panic) => Err(defect(&*panic)),
    }
}

/// The RuntimeError for a panic.
pub(crate) fn defect(panic: &(dyn std::any::Any + Send)) -> PyErr {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    PyRuntimeError::new_err(format!("defect in slth, please report it: {text}"))
}

/// Sets the number of threads of calls without a `threads` argument. It changes no result. The maximum, which is also the
/// default, is the number of CPUs in the process's affinity mask, limited by the cgroup's CPU quota.
#[pyfunction]
pub(crate) fn set_num_threads(n: isize) -> PyResult<()> {
    THREADS.store(at_least("threads", n, 1)?, Ordering::Relaxed);
    Ok(())
}

/// The number of threads of calls without a `threads` argument.
#[pyfunction]
pub(crate) fn get_num_threads() -> PyResult<usize> {
    Ok(engine(None)?.threads())
}

/// Version, CPU, instruction sets and threads, as a dict.
#[pyfunction]
pub(crate) fn info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let Machine { cpu, cores, os } = Machine::current();
    let backends: Vec<_> = Backend::available().iter().map(|backend| backend.name()).collect();
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("bits_revision", slth::BITS_REVISION)?;
    info.set_item("cpu", cpu)?;
    info.set_item("cores", cores)?;
    info.set_item("os", os)?;
    info.set_item("backends", backends)?;
    info.set_item("backend", serial()?.backend().name())?;
    info.set_item("threads", get_num_threads()?)?;
    Ok(info)
}
