//! The command as its users meet it.

mod bad_input;
mod determinism;
mod fixture;
mod output;
