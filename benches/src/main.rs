//! The command `slth-bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use slth_bench::{
    Case, Error, Kernel, Machinery, Origin, Recording, Row, Sampling, Scale, Turns, cases, compare, digest,
    json, measure, pin, plots, tables, text, unpin, write,
};
use slth_kernels::Backend;

/// Measure the kernels and the pipeline beside other libraries and the machine's limits.
///
/// Every result is checked, then all contestants of a case are measured in interleaved rounds: ours on every backend, peers and
/// limits. Tables give the median, the least time, half the interquartile range (% of the median), the rate, and its ratios to
/// the limit and to the best peer of the same precision with as many threads. Peers other than the standard library need a build with `--features
/// peers`. Benchmarks that run at once take turns, round by round.
#[derive(Parser)]
#[command(name = "slth-bench", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    measure: MeasureArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Compare two recordings: the ratio of speeds, B over A, and whether it is beyond noise
    Compare {
        /// The first recording
        a: PathBuf,
        /// The second recording
        b: PathBuf,
    },
    /// Write the tables of the newest recordings: the main rows into each --page, all rows as tables.md beside each recording
    Tables {
        /// A page whose table between `<!-- bench CPU -->` and `<!-- /bench -->` is rewritten; may be repeated
        /// [default: README.md and docs/benchmarks.md; none with other --results]
        #[arg(long, value_name = "FILE")]
        page: Vec<PathBuf>,
        #[command(flatten)]
        generate: GenerateArguments,
    },
    /// Draw the charts of the newest recordings, beside each recording
    Plots {
        #[command(flatten)]
        generate: GenerateArguments,
    },
}

#[derive(Args)]
struct GenerateArguments {
    /// Directory of the recordings
    #[arg(long, value_name = "DIR", default_value = RESULTS)]
    results: PathBuf,

    /// Write nothing, but fail if a file differs from the recordings
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
#[command(args_override_self = true)]
struct MeasureArguments {
    /// Measure only the more important cases, in about a minute
    #[arg(long)]
    quick: bool,

    /// Kernels to measure [default: all]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    kernel: Vec<Kernel>,

    /// Measure the case of this name, or all cases whose name contains it, for example "forward 512x784x500"; may be given several times
    #[arg(long, value_name = "TEXT")]
    case: Vec<String>,

    /// Print the names of the cases and measure nothing
    #[arg(long)]
    list: bool,

    /// Seconds per case [default: 5, or 0.5 with --quick]
    #[arg(long, value_name = "F")]
    seconds: Option<f64>,

    /// Samples of each contestant, whatever their time [default: as many as fit --seconds, 3 to 200, with --quick 1 to 200]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// Measure ours on this instruction set only [default: all of this CPU]
    #[arg(long, value_name = "NAME", value_parser = Backend::named)]
    backend: Option<Backend>,

    /// Threads of contestants that can use several, beside one [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Print rows as JSON lines instead of tables
    #[arg(long)]
    json: bool,

    /// Measure peers outside Rust too: run the scripts of benches/peers with this interpreter, and pass them the flags for cases,
    /// seconds, rounds and threads
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,

    /// Record as <cpu>/<day>-<commit>.jsonl in --results; the day is the commit's
    #[arg(long)]
    save: bool,

    /// Replace a recording of the same commit
    #[arg(long, requires = "save")]
    force: bool,

    /// Directory of the recordings
    #[arg(long, value_name = "DIR", default_value = RESULTS)]
    results: PathBuf,
}

/// Where recordings are, and the pages that show them.
const RESULTS: &str = "bench-results";
const PAGES: &[&str] = &["README.md", "docs/benchmarks.md"];

/// The scripts for peers outside Rust, and the kernels that each measures.
const SCRIPTS: [(&str, &[Kernel]); 3] = [
    ("products.py", &[Kernel::MaskedMatmul, Kernel::Conv2d]),
    ("selection.py", &[Kernel::TopK]),
    ("epoch.py", &[Kernel::Pipeline]),
];

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => run(&cli.measure),
        Some(Command::Compare { a, b }) => compare(&a, &b).map(|found| print(&found)),
        Some(Command::Tables { page, generate }) => {
            let pages = if page.is_empty() && generate.results == Path::new(RESULTS) { PAGES } else { &[] };
            let pages: Vec<PathBuf> = pages.iter().map(PathBuf::from).chain(page).collect();
            tables(&generate.results, &pages).and_then(|files| finish(files, generate.check, "tables"))
        }
        Some(Command::Plots { generate }) => {
            charts(&generate.results).and_then(|files| finish(files, generate.check, "plots"))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}

fn note(text: &str) {
    eprintln!("slth-bench: {text}");
}

/// Ignores errors: a reader may close the pipe early.
fn print(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

fn charts(results: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut files = Vec::new();
    for (folder, recording) in Recording::newest(results)? {
        let named = |(name, svg)| (results.join(&folder).join(format!("{name}.svg")), svg);
        files.extend(plots(&recording.rows)?.into_iter().map(named));
    }
    Ok(files)
}

/// Writes files, or checks that they are up to date.
fn finish(files: Vec<(PathBuf, String)>, check: bool, command: &'static str) -> Result<(), Error> {
    for (file, content) in files {
        if !check {
            write(&file, &content)?;
            print(&format!("{}\n", file.display()));
        } else if std::fs::read_to_string(&file).ok().as_ref() != Some(&content) {
            return Err(Error::OutOfStep { file, command });
        }
    }
    Ok(())
}

/// The cases that the flags choose.
fn chosen(arguments: &MeasureArguments) -> Result<Vec<Case>, Error> {
    let MeasureArguments { quick, kernel, case, .. } = arguments;
    let kernels = if kernel.is_empty() { <Kernel as clap::ValueEnum>::value_variants() } else { kernel };
    let scale = if *quick { Scale::Quick } else { Scale::Full };
    let mut all: Vec<Case> = kernels.iter().flat_map(|&kernel| cases(kernel, scale)).collect();
    let mut wanted = vec![case.is_empty(); all.len()];
    for text in case {
        let found = named(&all, text);
        if !found.contains(&true) {
            return Err(bad(
                "case",
                &format!("no name of a case contains `{text}`; `--list` prints all names"),
            ));
        }
        wanted.iter_mut().zip(found).for_each(|(wanted, found)| *wanted |= found);
    }
    let mut wanted = wanted.into_iter();
    all.retain(|_| wanted.next() == Some(true));
    Ok(all)
}

/// Which cases have this name, or else this text in their names.
fn named(all: &[Case], text: &str) -> Vec<bool> {
    let is = |case: &Case| case.task.name() == text || case.task.to_string() == text;
    let exact = all.iter().any(is);
    // A text that ends with a sparsity ends the name too, here and in the scripts: s=0.9 is not s=0.95.
    let ends = text.rsplit_once("s=").is_some_and(|(_, sparsity)| sparsity.parse::<f64>().is_ok());
    let has = |case: &Case| {
        let name = case.task.to_string();
        if ends { name.ends_with(text) } else { name.contains(text) }
    };
    all.iter().map(|case| if exact { is(case) } else { has(case) }).collect()
}

fn bad(flag: &'static str, problem: &str) -> Error {
    Error::Flag { flag, problem: problem.to_owned() }
}

fn sampling(arguments: &MeasureArguments) -> Result<Sampling, Error> {
    let MeasureArguments { quick, seconds, rounds, .. } = *arguments;
    if rounds == Some(0) {
        return Err(bad("rounds", "must be at least 1"));
    }
    let seconds = seconds.unwrap_or(if quick { 0.5 } else { 5.0 });
    if !(seconds > 0.0 && seconds.is_finite()) {
        return Err(bad("seconds", "must be positive"));
    }
    Ok(Sampling { seconds, least: if quick { 1 } else { 3 }, rounds })
}

fn run(arguments: &MeasureArguments) -> Result<(), Error> {
    let (cases, sampling) = (chosen(arguments)?, sampling(arguments)?);
    if arguments.list {
        cases.iter().for_each(|case| print(&format!("{}\n", case.task.name())));
        return Ok(());
    }
    let cores = available_parallelism().map_or(1, usize::from);
    let machinery = Machinery::new(arguments.backend, arguments.threads)?;
    if arguments.threads.is_some_and(|threads| threads > machinery.threads()) {
        note(&format!("{} threads: there are no more cores", machinery.threads()));
    }
    let core = pin();
    if core.is_none() {
        note("cannot pin the thread to a core: the figures will spread more");
    }
    if cfg!(debug_assertions) {
        note("built without optimisation, the figures mean nothing: use cargo run --release -p slth-bench");
    }
    if !cfg!(feature = "peers") {
        note("built without peers: use cargo run --release -p slth-bench --features peers");
    }
    let turns = Turns::new(&std::env::temp_dir());
    if turns.is_none() {
        note("no lock in the directory for temporary files: run no other benchmark at the same time");
    }
    let mut recording = Recording { origin: Origin::here(cores, core), rows: Vec::new() };
    let file =
        arguments.save.then(|| Recording::place(&recording.origin, &arguments.results, arguments.force));
    let file = file.transpose()?;
    if !arguments.json {
        recording.origin.peers.iter().for_each(|peer| print(&format!("{peer}\n")));
    }
    let (watch, mut told) = (Instant::now(), false);
    for (at, case) in cases.iter().enumerate() {
        let rows = measure(case, &machinery, sampling, turns.as_ref())?;
        show(&rows, arguments.json);
        recording.rows.extend(rows);
        if turns.as_ref().is_some_and(Turns::waited) && !std::mem::replace(&mut told, true) {
            note("another benchmark runs on this machine: taking turns with it");
        }
        if file.is_some() {
            note(&format!("case {} of {}, {} s", at + 1, cases.len(), watch.elapsed().as_secs()));
        }
    }
    // Saves before the scripts, because one may fail.
    let save = |recording: &Recording| file.as_ref().map_or(Ok(()), |file| recording.save(file));
    save(&recording)?;
    // Scripts choose their cores themselves.
    unpin();
    let kernels: Vec<Kernel> = cases.iter().map(|case| case.task.kernel()).collect();
    for (script, of) in SCRIPTS {
        let Some(python) = &arguments.python else { break };
        if !of.iter().any(|kernel| kernels.contains(kernel)) {
            continue;
        }
        note(&format!("{script}, {} s", watch.elapsed().as_secs()));
        let _turn = turns.as_ref().map(Turns::take);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
        let before = recording.origin.peers.len();
        let rows = recording.add_script(python, &path, &for_scripts(arguments))?;
        save(&recording)?;
        if !arguments.json {
            recording.origin.peers[before..].iter().for_each(|peer| print(&format!("{peer}\n")));
        }
        rows.chunk_by(|a, b| a.task == b.task).for_each(|rows| show(rows, arguments.json));
    }
    // Scripts have tables of their own; here each case has all its peers beside it.
    if !arguments.json && (cases.len() > 1 || arguments.python.is_some()) {
        print(&digest(&recording.rows));
    }
    if let Some(file) = file {
        note(&format!("recorded as {}", file.display()));
    }
    Ok(())
}

/// The flags that scripts take too.
fn for_scripts(arguments: &MeasureArguments) -> Vec<String> {
    let MeasureArguments { quick, kernel, case, seconds, rounds, threads, .. } = arguments;
    let kernels: Vec<_> = kernel.iter().map(ToString::to_string).collect();
    let seconds = seconds.or_else(|| quick.then_some(0.5));
    let flags = [
        ("kernel", (!kernels.is_empty()).then(|| kernels.join(","))),
        ("seconds", seconds.map(|seconds| seconds.to_string())),
        ("rounds", rounds.map(|rounds| rounds.to_string())),
        ("threads", threads.map(|threads| threads.to_string())),
    ];
    let flags = flags.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
    flags.chain(case.iter().map(|text| format!("--case={text}"))).collect()
}

/// Prints the rows of a case.
fn show(rows: &[Row], as_json: bool) {
    print(&if as_json { rows.iter().map(json).collect() } else { text(rows) });
}
