//! `slth info`.

use clap::Args;
use slth::Error;
use slth::machine::Machine;
use slth_kernels::{BACKEND_VARIABLE, Backend};

/// Show the CPU, its instruction sets, and the one that is used.
#[derive(Args)]
pub(super) struct InfoArguments {}

/// Returns the text for standard output.
pub(super) fn info(_arguments: &InfoArguments) -> Result<String, Error> {
    let Machine { cpu, cores, os } = Machine::current();
    let found = Backend::available().iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", ");
    let chosen = Backend::detect()?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "slth      {version}\ncpu       {cpu}\ncores     {cores}\nos        {os}\nbackends  {found}\n\
         chosen    {chosen} (--backend or {BACKEND_VARIABLE} choose another)\n"
    ))
}
