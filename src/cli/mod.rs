//! The command line: flags to configurations, outcomes to text. All work is the library's.
//!
//! Exit codes: 0 done; 2 bad input (flags, data, tickets, a place that cannot be written to), said before any work
//! begins; 1 whatever else failed; 130 interrupted, which leaves no half-written file.

mod approximate;
mod candidates;
mod evaluate;
mod info;
mod list;
mod progress;
mod report;
mod run;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use slth::Error;
use slth::dataset::Dataset;
use slth_kernels::{BACKEND_VARIABLE, Backend};

/// Pretrain-then-prune on a CPU: strong lottery tickets with ε-perturbation.
///
/// Draws a random network, pretrains it with no weight moving further than ε (projected SGD), prunes it by edge-popup at a
/// given sparsity, and reports the accuracy before and after. Sparsity is always the fraction of weights REMOVED. The same
/// flags and seed give the same bits on every instruction set and every number of threads.
#[derive(Parser)]
#[command(name = "slth", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArguments),
    Evaluate(evaluate::EvaluateArguments),
    Approximate(approximate::ApproximateArguments),
    Candidates(candidates::CandidatesArguments),
    Info(info::InfoArguments),
}

/// Parses the arguments and does what they say.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // Without a handler (there is one already, or the system has none) an interrupt ends the process as it always did.
    let _ = ctrlc::set_handler(|| {
        let _whole = slth::results::between_writes();
        std::process::exit(130);
    });
    let done = match cli.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Evaluate(arguments) => evaluate::evaluate(&arguments),
        Command::Approximate(arguments) => approximate::approximate(arguments),
        Command::Candidates(arguments) => candidates::candidates(arguments),
        Command::Info(arguments) => info::info(&arguments),
    };
    match done {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            // A reader that closed the pipe early has read what it wanted.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                say(&format!("standard output: {error}"));
                ExitCode::from(1)
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            say(&describe(&error));
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}

/// Help and version as they are; errors in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if error.exit_code() == 0
        || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        let _ = error.print();
    } else {
        let text = error.to_string();
        let paragraph = text.split("\n\n").next().unwrap_or_default();
        let line = paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        say(&format!("{} (see --help)", line.trim_start_matches("error: ")));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "error: {message}");
}

/// The library's message, a field of the configuration by the name of its flag.
fn describe(error: &Error) -> String {
    match error {
        Error::Config { field, problem } => format!("--{}: {problem}", field.replace('_', "-")),
        Error::Backend(problem) => format!("--backend or {BACKEND_VARIABLE}: {problem}"),
        other => other.to_string(),
    }
}

/// The data of `--data`: a directory, else the embedded MNIST.
fn dataset(directory: Option<&std::path::Path>) -> Result<Dataset, Error> {
    Ok(match directory {
        Some(directory) => Dataset::load(directory)?,
        None => Dataset::mnist()?,
    })
}

/// The backend of `--backend`; where the flag was not given, that of the environment or the best.
fn backend(name: Option<&str>) -> Result<Backend, Error> {
    Ok(name.map_or_else(Backend::detect, Backend::named)?)
}
