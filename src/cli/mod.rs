//! The command line: flags to configurations, outcomes to text. All work is the library's.
//!
//! Exit codes: 0 done; 2 bad input (flags, data, tickets, an unwritable directory), reported before any work begins; 3 a sweep
//! stopped by a signal, to be continued by the same command; 130 interrupted, which leaves no half-written file; 1 any other
//! failure.

mod approximate;
mod calibrate;
mod candidates;
mod completions;
mod evaluate;
mod grid;
mod info;
mod merge;
mod preset;
mod progress;
mod prune;
mod report;
mod run;
mod shared;
mod status;
mod sweep;
mod table;
mod ticket;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use slth::Error;
use slth::run::RunConfig;
use slth_kernels::BACKEND_VARIABLE;

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
    Sweep(sweep::SweepArguments),
    Status(status::StatusArguments),
    Merge(merge::MergeArguments),
    Report(report::ReportArguments),
    #[command(hide = true)]
    Calibrate(calibrate::CalibrateArguments),
    Prune(prune::PruneArguments),
    Evaluate(evaluate::EvaluateArguments),
    Ticket(ticket::TicketArguments),
    Approximate(approximate::ApproximateArguments),
    Candidates(candidates::CandidatesArguments),
    Info(info::InfoArguments),
    Completions(completions::CompletionsArguments),
}

/// Parses the arguments and does what they say.
pub(crate) fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // A sweep stops in its own way.
    if !matches!(cli.command, Command::Sweep(_)) {
        end_between_writes();
    }
    let done = match cli.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Merge(arguments) => merge::merge(&arguments),
        Command::Report(arguments) => report::report(&arguments),
        Command::Calibrate(arguments) => calibrate::calibrate(&arguments),
        Command::Prune(arguments) => prune::prune(&arguments),
        Command::Evaluate(arguments) => evaluate::evaluate(&arguments),
        Command::Ticket(arguments) => ticket::ticket(&arguments),
        Command::Approximate(arguments) => approximate::approximate(arguments),
        Command::Candidates(arguments) => candidates::candidates(arguments),
        Command::Info(arguments) => info::info(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments),
    };
    match done {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            // Ignores errors: a reader may close the pipe early.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                say(&format!("standard output: {error}"));
                ExitCode::from(1)
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            say(&describe(&error));
            ExitCode::from(match error {
                Error::Stopped => 3,
                error if error.is_bad_input() => 2,
                _ => 1,
            })
        }
    }
}

/// An interrupt ends the process with code 130 once the results that are being written are whole. SIGHUP keeps what the shell
/// made of it, so that nohup works. Where no handler can be had an interrupt ends the process as the system does.
fn end_between_writes() {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
        let wait = move || {
            if signals.forever().next().is_some() {
                let _whole = slth::output::between_writes();
                std::process::exit(130);
            }
        };
        let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
    }
}

/// The flags of a preset or of an earlier run stand before those given, so that the latter count.
fn parse() -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse()?;
    let flags: Vec<OsString> = match &cli.command {
        Command::Sweep(sweep::SweepArguments { preset: Some(preset), .. }) => {
            preset.flags().map(Into::into).collect()
        }
        Command::Run(run::RunArguments { config: Some(file), .. }) => {
            let config = RunConfig::of_result(file);
            let config = config.map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))?;
            config.flags().map(Into::into).collect()
        }
        _ => return Ok(cli),
    };
    let mut words: Vec<_> = std::env::args_os().collect();
    words.splice(2..2, flags); // after `slth sweep`
    Cli::try_parse_from(words)
}

/// Help and version as they are; errors in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if error.exit_code() == 0 || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
    } else {
        let text = error.to_string();
        let paragraph = text.split("\n\n").next().unwrap_or_default();
        let line = paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        say(&format!("{} (see --help)", line.trim_start_matches("error: ")));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// In one line, whatever a value or a file's name has in it.
fn say(message: &str) {
    note(&format!("error: {}", message.lines().collect::<Vec<_>>().join(" ")));
}

/// A line on standard error, where it can be had.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Notes which flags have no effect.
fn note_without_effect(config: &RunConfig) {
    // What draws weights has no effect where a file gives them; what prunes, where the method does something else.
    let (ignored, undrawn): (Vec<_>, Vec<_>) =
        config.without_effect().into_iter().partition(|name| config.method.ignores(name));
    for (cause, names) in
        [(format!("--method {}", config.method), ignored), ("--weights".to_owned(), undrawn)]
    {
        let flags: Vec<_> = names.iter().map(|name| format!("--{}", name.replace('_', "-"))).collect();
        if !flags.is_empty() {
            note(&format!("note: {cause} ignores {}", flags.join(", ")));
        }
    }
}

/// The library's message, a field of the configuration by the name of its flag.
fn describe(error: &Error) -> String {
    match error {
        Error::Config { field, problem } => format!("--{}: {problem}", field.replace('_', "-")),
        Error::Backend(problem) => format!("--backend or {BACKEND_VARIABLE}: {problem}"),
        Error::Stopped => {
            "stopped by a signal; what was computed is kept, the same command continues".to_owned()
        }
        other => other.to_string(),
    }
}
