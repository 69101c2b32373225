//! The driver's experiments: `slth.run`, `slth.sweep`, `slth.required_candidates`.
//!
//! The package's Python part hands settings over as JSON, which the driver's configurations are read from, and makes dataclasses of
//! the JSON that comes back; arrays go as arrays.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use numpy::PyArray1;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use slth::Error;
use slth::candidates::{CandidatesConfig, CandidatesResult};
use slth::data::Dataset;
use slth::progress::{Progress, Step};
use slth::run::{Checkpoints, RunConfig, RunDirectory, RunResult, TicketKind};
use slth::sweep::{CellConfig, Grid, Plan, Shard, Sweep, read_cells};
use slth_kernels::{Backend, KernelError};

use crate::engine::{defect, get_num_threads};
use crate::mask::to_bools;

/// Progress of a run.
enum Event {
    Begin(String, usize),
    Advance(usize),
    Step(Step),
    Cell(usize, usize, String),
}

/// Forwards progress to the calling thread, and says when to stop.
struct Watch<'a> {
    events: Sender<Event>,
    stop: &'a AtomicBool,
}

impl Watch<'_> {
    fn send(&self, event: Event) {
        // Nobody listens once the call is being given up.
        let _ = self.events.send(event);
    }
}

impl Progress for Watch<'_> {
    fn begin(&self, task: &str, total: usize) {
        self.send(Event::Begin(task.to_owned(), total));
    }

    fn advance(&self, units: usize) {
        self.send(Event::Advance(units));
    }

    fn step(&self, step: &Step) {
        self.send(Event::Step(*step));
    }

    fn cell(&self, done: usize, cells: usize, result: &dyn Display) {
        self.send(Event::Cell(done, cells, result.to_string()));
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Progress so far: the arguments of the callback.
#[derive(Default)]
struct State {
    task: String,
    done: usize,
    total: usize,
    step: Option<Step>,
    cells: (usize, usize),
    message: String,
}

impl State {
    fn take(&mut self, event: Event) {
        match event {
            Event::Begin(task, total) => *self = Self { task, total, ..Self::default() },
            Event::Advance(units) => self.done += units,
            Event::Step(step) => {
                self.done += step.images;
                self.step = Some(step);
            }
            Event::Cell(done, cells, message) => {
                self.cells = (done, cells);
                self.message = message;
            }
        }
    }

    fn call(&self, py: Python<'_>, callback: &Py<PyAny>) -> PyResult<()> {
        let Self { task, done, total, step, cells, message } = self;
        let step = step.map(|Step { epoch, epochs, loss, accuracy, .. }| (epoch, epochs, loss, accuracy));
        callback.call1(py, (task, done, total, step, cells, message)).map(drop)
    }
}

/// Longest wait for an event before signals and callback are looked after.
const PATIENCE: Duration = Duration::from_millis(50);

/// Time between two looks for a signal, and two calls of the callback. Finished cells are told at once.
const INTERVAL: Duration = Duration::from_millis(100);

/// Does `work` on a thread of its own, while this one calls the callback and looks for signals, Ctrl-C above all. An exception of either
/// stops the work.
fn watched<T: Send>(
    py: Python<'_>,
    callback: Option<&Py<PyAny>>,
    work: impl FnOnce(&dyn Progress, &AtomicBool) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let stop = AtomicBool::new(false);
    let (events, told) = channel();
    let watch = Watch { events, stop: &stop };
    let stop = &stop;
    thread::scope(|scope| {
        let begin = move || {
            // The watch goes with the work, and so ends the loop below.
            let watch = watch;
            catch_unwind(AssertUnwindSafe(|| work(&watch, stop)))
        };
        let worker = thread::Builder::new().name("slth".to_owned()).spawn_scoped(scope, begin);
        let worker = worker.map_err(|error| PyRuntimeError::new_err(format!("no thread: {error}")))?;

        let (mut state, mut called) = (State::default(), Instant::now());
        let mut told = told;
        let watching: PyResult<()> = loop {
            let (event, receiver) = py.detach(move || (told.recv_timeout(PATIENCE), told));
            told = receiver;
            let over = matches!(event, Err(RecvTimeoutError::Disconnected));
            let mut is_cell = false;
            if let Ok(event) = event {
                is_cell = matches!(event, Event::Cell(..));
                state.take(event);
            }
            let is_due = is_cell || over || called.elapsed() >= INTERVAL;
            if is_due {
                called = Instant::now();
            }
            let looked = if is_due { py.check_signals() } else { Ok(()) };
            let looked = looked.and_then(|()| match callback {
                Some(callback) if is_due && !state.task.is_empty() => state.call(py, callback),
                _ => Ok(()),
            });
            match looked {
                Err(error) => break Err(error),
                Ok(()) if over => break Ok(()),
                Ok(()) => {}
            }
        };
        if watching.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let done = py.detach(|| worker.join());
        watching?;
        match done.and_then(|done| done) {
            Ok(result) => result.map_err(failed),
            Err(panic) => Err(defect(&*panic)),
        }
    })
}

/// A driver's error as an exception.
fn failed(error: Error) -> PyErr {
    let text = error.to_string();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return PyOSError::new_err(text);
        }
        cause = inner.source();
    }
    if error.is_bad_input() { PyValueError::new_err(text) } else { PyRuntimeError::new_err(text) }
}

/// The configuration with these settings, a JSON object, in place of its defaults.
fn config<T: Default + Serialize + DeserializeOwned>(settings: &str) -> PyResult<T> {
    let invalid = |error: serde_json::Error| PyValueError::new_err(error.to_string());
    let given: Map<String, Value> = serde_json::from_str(settings).map_err(invalid)?;
    let defaults = serde_json::to_value(T::default()).map_err(invalid)?;
    let Value::Object(mut all) = defaults else { return Ok(T::default()) };
    let mut config = T::default();
    for (name, value) in given {
        if !all.contains_key(&name) {
            let names: Vec<_> = all.keys().map(String::as_str).collect();
            let text = format!("no setting is called {name}; there are {}", names.join(", "));
            return Err(PyTypeError::new_err(text));
        }
        all.insert(name.clone(), value);
        config = serde_json::from_value(Value::Object(all.clone()))
            .map_err(|error| PyValueError::new_err(format!("{name}: {error}")))?;
    }
    Ok(config)
}

/// The configuration of a run; a network that the settings do not name is that of their weights, a sparsity that of their pattern.
fn run_config(settings: &str) -> PyResult<RunConfig> {
    let mut config: RunConfig = config(settings)?;
    let given: Map<String, Value> = serde_json::from_str(settings).unwrap_or_default();
    if let Some(pattern) = config.pattern.filter(|_| !given.contains_key("sparsity")) {
        config.sparsity = pattern.sparsity();
    }
    let network = given.contains_key("network").then(|| config.network.clone());
    config.with_network(network).map_err(failed)
}

fn backend(name: Option<&str>) -> PyResult<Option<Backend>> {
    name.map(Backend::named)
        .transpose()
        .map_err(|error: KernelError| PyValueError::new_err(error.to_string()))
}

fn threads(given: Option<usize>) -> PyResult<Option<usize>> {
    given.map_or_else(|| get_num_threads().map(Some), |threads| Ok(Some(threads)))
}

fn dataset(data: Option<PathBuf>) -> Result<Dataset, Error> {
    Ok(data.map_or_else(Dataset::mnist, Dataset::load)?)
}

/// Weights and scores as they are in memory, and the mask, each in the layer's shape; the biases, where it has some.
type Layer<'py> =
    (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Option<Bound<'py, PyArray1<f32>>>);

/// One run: result.json's content, and the layers.
#[pyfunction]
#[pyo3(signature = (settings, data, out, force, ticket, checkpoint, resume, threads, backend, callback, /))]
#[expect(clippy::too_many_arguments, reason = "the flags that are no settings")]
pub(crate) fn _run<'py>(
    py: Python<'py>,
    settings: &str,
    data: Option<PathBuf>,
    out: Option<PathBuf>,
    force: bool,
    ticket: &str,
    checkpoint: bool,
    resume: bool,
    threads: Option<usize>,
    backend: Option<&str>,
    callback: Option<Py<PyAny>>,
) -> PyResult<(String, Vec<Layer<'py>>)> {
    let threads = self::threads(threads)?;
    let config = RunConfig { threads, backend: self::backend(backend)?, ..run_config(settings)? };
    let ticket: TicketKind = serde_json::from_value(Value::from(ticket))
        .map_err(|error| PyValueError::new_err(format!("ticket: {error}")))?;
    if out.is_none() && (checkpoint || resume) {
        return Err(PyValueError::new_err("checkpoints need a directory; give out"));
    }
    let checkpoints =
        if resume { Some(Checkpoints::Resume) } else { checkpoint.then_some(Checkpoints::Write) };
    let (json, layers) = watched(py, callback.as_ref(), |progress, _| {
        config.validate()?;
        let dataset = dataset(data)?;
        config.check(&dataset)?;
        let outcome = match out {
            None => slth::run::run(&config, &dataset, progress)?,
            Some(path) => {
                let directory = RunDirectory::prepare(path, force, checkpoints)?.with_ticket(ticket);
                directory.run(&config, &dataset, progress)?
            }
        };
        Ok((RunResult::new(&outcome).to_json(), outcome.layers))
    })?;
    let layers = layers.into_iter().map(|layer| {
        let shape = layer.shape.dimensions();
        let array = |values| PyArray1::from_vec(py, values).call_method1("reshape", (shape.clone(),));
        let mask = to_bools(py, &layer.mask, &shape)?.into_any();
        let bias = (!layer.bias.is_empty()).then(|| PyArray1::from_vec(py, layer.bias));
        Ok((array(layer.weights)?, array(layer.scores)?, mask, bias))
    });
    Ok((json, layers.collect::<PyResult<_>>()?))
}

/// A sweep: its cells in the grid's order as a JSON array, null where one is another shard's, and how many were known and computed.
#[pyfunction]
#[pyo3(signature = (settings, grid, out, shard, retry_failed, data, threads, backend, callback, /))]
#[expect(clippy::too_many_arguments, reason = "the flags that are no settings")]
pub(crate) fn _sweep(
    py: Python<'_>,
    settings: &str,
    grid: &str,
    out: PathBuf,
    shard: Option<&str>,
    retry_failed: bool,
    data: Option<PathBuf>,
    threads: Option<usize>,
    backend: Option<&str>,
    callback: Option<Py<PyAny>>,
) -> PyResult<(String, usize, usize)> {
    let threads = self::threads(threads)?;
    let config = RunConfig { threads, backend: self::backend(backend)?, ..run_config(settings)? };
    let grid: Grid =
        serde_json::from_str(grid).map_err(|error| PyValueError::new_err(format!("grid: {error}")))?;
    let shard = match shard {
        None => Shard::ALL,
        Some(text) => text.parse().map_err(|error: <Shard as std::str::FromStr>::Err| {
            PyValueError::new_err(format!("shard: {error}"))
        })?,
    };
    let sweep = Sweep { config, grid, shard, retry_failed };
    watched(py, callback.as_ref(), |progress, stop| {
        let dataset = dataset(data)?;
        let summary = sweep.run(&dataset, &out, stop, progress)?;
        if !summary.is_complete() {
            return Err(Error::Stopped);
        }
        let known: HashMap<_, _> =
            read_cells(&out)?.into_iter().map(|cell| (cell.id.clone(), cell)).collect();
        let plan = Plan {
            grid: sweep.grid.clone(),
            config: CellConfig::new(&sweep.config, &sweep.config.data_hash(&dataset)?),
        };
        let cells: Vec<_> = plan.cells().map(|config| known.get(&config.id())).collect();
        let json = serde_json::to_string(&cells).map_err(Error::failed)?;
        Ok((json, summary.known, summary.computed))
    })
}

/// How many candidates are needed: η, ε/η and each trial's count, 31 for more than 30, and candidates.json's content.
#[pyfunction]
#[pyo3(signature = (settings, threads, backend, callback, /))]
pub(crate) fn _required_candidates(
    py: Python<'_>,
    settings: &str,
    threads: Option<usize>,
    backend: Option<&str>,
    callback: Option<Py<PyAny>>,
) -> PyResult<(String, Vec<Vec<usize>>)> {
    let threads = self::threads(threads)?;
    let config = CandidatesConfig { threads, backend: self::backend(backend)?, ..config(settings)? };
    watched(py, callback.as_ref(), |progress, _| {
        let found = slth::candidates::required_candidates(&config, progress)?;
        let counts = |counts: &[Option<usize>]| counts.iter().map(|n| n.unwrap_or(31)).collect();
        let needed = found.needed.iter().map(|needed| counts(&needed.counts)).collect();
        Ok((CandidatesResult::new(&found).to_json(), needed))
    })
}
