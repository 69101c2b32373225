//! `slth bench`.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use slth::Error;
use slth::bench::{
    self, CERTAIN, Case, Comparison, Kernel, Machinery, Measurement, Origin, Recording, Role, Sampling,
    Scale, TOLERANCE, Turn, Unit, cases, figure, measure, pin, pool,
};

use super::list::List;
use super::note;
use super::table::numbers;
use slth::machine::Machine;

/// Measure the kernels and the pipeline, beside other people's and the machine's limits.
///
/// Every result is checked, then all contestants of a case take turns: ours on every backend, peers and limits; five times over
/// unless `--passes` says otherwise. A time is the median of the undisturbed rounds, those that took at most 5 % longer
/// than the least one. Tables also give how many these were, half the distance of all rounds' quartiles in percent, the rate, and
/// its ratios to the limit and to the best peer on as many threads. Peers beyond the standard library are there when built with
/// `--features peers`.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct BenchArguments {
    /// The more important cases only, in less than a minute altogether
    #[arg(long)]
    quick: bool,

    /// What to measure, of masked-matmul, conv2d, top-k, subset-sum and pipeline [default: all]
    #[arg(long, value_name = "NAME,..")]
    kernel: Option<List<Kernel>>,

    /// The case of this name, or cases whose name contains this, as "forward 512x784x500"
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,

    /// So many rounds for each case in a pass [default: as the time allows]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// Go through all cases so many times: more on a busy machine [default: 5, or 1 with --quick or --rounds]
    #[arg(long, value_name = "N")]
    passes: Option<usize>,

    /// Threads for those that can use more than one [default: all cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Print JSON lines instead of tables
    #[arg(long)]
    json: bool,

    /// Record the measurements as <cpu>/<date>-<commit>.jsonl in --results, and the machine beside them as .txt
    #[arg(long, help_heading = "Recordings")]
    save: bool,

    /// With --save: replace a recording of the same day and commit
    #[arg(long, requires = "save", help_heading = "Recordings")]
    force: bool,

    /// Compare two recordings instead: the ratio of speeds, B over A, and whether it is beyond noise
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["save", "tables"], help_heading = "Recordings")]
    compare: Option<Vec<PathBuf>>,

    /// Write the tables and plots of the newest recordings into --page and --results instead
    #[arg(long, conflicts_with = "save", help_heading = "Recordings")]
    tables: bool,

    /// With --tables: write nothing, but fail when they are not in step with the recordings
    #[arg(long, requires = "tables", help_heading = "Recordings")]
    check: bool,

    /// Directory of the recordings
    #[arg(long, value_name = "DIR", default_value = "bench-results", help_heading = "Recordings")]
    results: PathBuf,

    /// The page that has places for the tables
    #[arg(long, value_name = "FILE", default_value = "README.md", help_heading = "Recordings")]
    page: PathBuf,
}

/// All of a quick measurement, checking the results not included.
const QUICK: Duration = Duration::from_secs(25);

/// How often all cases are gone through otherwise, everything being made anew, at other addresses.
const PASSES: usize = 5;

/// What the rounds of a case may take in one pass.
const PASS: Duration = Duration::from_secs(2);

/// Measures; the text is what remains to be printed.
pub(super) fn bench(arguments: &BenchArguments) -> Result<String, Error> {
    if let Some([a, b]) = arguments.compare.as_deref() {
        return Ok(comparison(&Comparison::of(a, b)?));
    }
    if arguments.tables {
        let files = bench::generate_tables(&arguments.results, &arguments.page)?;
        if arguments.check {
            bench::check_tables(&files)?;
            return Ok(String::new());
        }
        let names = files.iter().map(|(path, _)| format!("{}\n", path.display())).collect();
        bench::write_tables(files)?;
        return Ok(names);
    }
    let BenchArguments { quick, kernel, case, rounds, passes, threads, json, .. } = arguments;
    for (field, number) in [("rounds", rounds), ("passes", passes)] {
        if *number == Some(0) {
            return Err(Error::Config { field, problem: "must be at least 1".to_owned() });
        }
    }
    let scale = if *quick { Scale::Quick } else { Scale::Full };
    let kernels = kernel.as_ref().map_or(Kernel::ALL.to_vec(), |List(kernels)| kernels.clone());
    let mut cases: Vec<_> = kernels.into_iter().flat_map(|kernel| cases(kernel, scale)).collect();
    if let Some(text) = case {
        let is = |c: &Case| {
            let name = c.task.to_string();
            name == *text || name == format!("{} {text}", c.task.kernel)
        };
        let exact = cases.iter().any(is);
        cases.retain(|c| if exact { is(c) } else { c.task.to_string().contains(text) });
    }
    if cases.is_empty() {
        return Err(Error::Config {
            field: "case",
            problem: "no case has a name that contains it".to_owned(),
        });
    }
    let machinery = Machinery::new(*threads)?;
    let (machine, pinned) = (Machine::current(), pin());
    if pinned.is_none() {
        note("cannot pin the thread to a core: the figures will spread more");
    }
    if cfg!(debug_assertions) {
        note("built without optimisation: the figures mean nothing; use cargo run --release");
    }
    if !cfg!(feature = "peers") {
        note("built without peers: use cargo run --release --features peers -- bench");
    }
    let passes = passes.unwrap_or(if *quick || rounds.is_some() { 1 } else { PASSES });
    let origin = Origin::here(machine, pinned, passes);
    let place =
        arguments.save.then(|| Recording::place(&origin, &arguments.results, arguments.force)).transpose()?;
    let budget = if *quick { QUICK / cases.len() as u32 } else { PASS };
    let sampling = Sampling { budget, least: if *quick { 1 } else { 3 }, rounds: *rounds };
    let mut found: Vec<Vec<Vec<Measurement>>> = vec![Vec::new(); cases.len()];
    let mut recording = Recording { origin: Some(origin), rows: Vec::new() };
    let (watch, mut told) = (Instant::now(), false);
    let mut tell = |text| {
        if !std::mem::replace(&mut told, true) {
            note(text);
        }
    };
    for pass in 1..=passes {
        for (at, (case, found)) in cases.iter().zip(&mut found).enumerate() {
            let turn = Turn::take(|| tell("another benchmark runs on this machine: taking turns with it"));
            if turn.is_none() {
                tell("no lock in the directory for temporary files: run no other benchmark at the same time");
            }
            found.push(measure(case, &machinery, sampling)?);
            drop(turn);
            if place.is_some() {
                let (case, cases, seconds) = (at + 1, cases.len(), watch.elapsed().as_secs());
                note(&format!("pass {pass} of {passes}, case {case} of {cases}, {seconds} s"));
            }
            if pass < passes {
                continue;
            }
            let rows = pool(std::mem::take(found));
            let text = if *json {
                Recording { origin: None, rows: rows.clone() }.to_json_lines()
            } else {
                format!("{}\n{}\n\n", case.task, table(&rows))
            };
            recording.rows.extend(rows);
            // A reader that closed the pipe early has read what it wanted.
            if std::io::stdout().write_all(text.as_bytes()).is_err() && place.is_none() {
                return Ok(String::new());
            }
        }
    }
    if let Some((directory, stem)) = place {
        recording.save(&directory, &stem)?;
        note(&format!("recorded as {stem}"));
    }
    Ok(String::new())
}

fn comparison(comparison: &Comparison) -> String {
    let Comparison { same_commit, same_passes, pairs, alone } = comparison;
    let mut table = numbers(["", "who", "backend", "threads", "A", "B", "B/A", ""]);
    for pair in pairs {
        let [a, b] = &pair.both;
        let mark = match (pair.is_change(), pair.agrees(), pair.ratio() > 1.0) {
            (true, _, true) => "faster",
            (true, _, false) => "SLOWER",
            (_, false, _) => "noisy",
            _ => "",
        };
        table.add_row([
            a.task.to_string(),
            a.who.clone(),
            a.backend.clone().unwrap_or_default(),
            a.threads.to_string(),
            figure(a),
            figure(b),
            format!("{:.3}", pair.ratio()),
            mark.to_owned(),
        ]);
    }
    let (all, agreeing) = (pairs.len(), comparison.agreeing());
    let share = 100.0 * agreeing as f64 / all as f64;
    let changes = pairs.iter().filter(|pair| pair.is_change()).count();
    let percent = 100.0 * TOLERANCE;
    let verdict = if !same_commit {
        format!(
            "{changes} of {all} changed beyond noise (medians {percent} % apart, of {CERTAIN} undisturbed rounds or with disjoint quartiles of all)"
        )
    } else if share >= 90.0 {
        "one commit: the recordings can be relied on".to_owned()
    } else {
        "one commit, yet less than 90 % agree: other work disturbed the machine, measure again".to_owned()
    };
    let caution = if *same_passes {
        ""
    } else {
        "; not of as many passes, or not counted alike: the best of more are faster"
    };
    let certain: Vec<_> = pairs.iter().filter(|pair| pair.is_certain()).collect();
    let of_certain = match (certain.iter().filter(|pair| pair.agrees()).count(), certain.len()) {
        (_, 0) => String::new(),
        (agreeing, all) => {
            let share = 100.0 * agreeing as f64 / all as f64;
            format!(
                "{agreeing} of {all} ({share:.1} %) agree that have {CERTAIN} undisturbed rounds in both\n"
            )
        }
    };
    format!(
        "{table}\n{agreeing} of {all} rows ({share:.1} %) agree within {percent} %; {verdict}{caution}\n{of_certain}only in A: {}, only in B: {}\n",
        alone[0], alone[1]
    )
}

fn table(rows: &[Measurement]) -> comfy_table::Table {
    let mut table = numbers([
        "who",
        "backend",
        "threads",
        "median",
        "undisturbed",
        "all ±",
        "rate",
        "of limit",
        "x best peer",
    ]);
    for row in rows {
        let same = |role: Role| {
            let rows =
                rows.iter().filter(move |r| r.role == role && r.threads == row.threads && r.unit == row.unit);
            rows.map(Measurement::rate).fold(f64::NAN, f64::max)
        };
        let limit =
            rows.iter().filter(|r| r.role == Role::Limit && r.threads == row.threads && r.unit == row.unit);
        let limit = limit.map(Measurement::rate).fold(f64::NAN, f64::min);
        let number = |x: f64| if x.is_nan() { String::new() } else { format!("{x:.2}") };
        table.add_row([
            row.who.clone(),
            row.backend.clone().unwrap_or_default(),
            row.threads.to_string(),
            duration(row.seconds),
            format!("{} of {}", row.undisturbed, row.rounds),
            format!("{:.1} %", 100.0 * row.spread()),
            match bench::clock(row, rows.iter()).filter(|_| row.unit == Unit::Weight) {
                Some(clock) => format!("{}, {:.2} cycles", figure(row), row.seconds / row.work * clock),
                None => figure(row),
            },
            if row.role == Role::Limit { String::new() } else { number(row.rate() / limit) },
            if row.role == Role::Ours { number(row.rate() / same(Role::Peer)) } else { String::new() },
        ]);
    }
    table
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
