//! `slth completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use slth::Error;

/// Print a script that completes commands and flags in a shell.
///
/// For example in bash: slth completions bash > ~/.local/share/bash-completion/completions/slth
#[derive(Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Generates; the text is the script for standard output.
pub(super) fn completions(arguments: &CompletionsArguments) -> Result<String, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "slth", &mut script);
    Ok(String::from_utf8(script).expect("names and help texts"))
}
