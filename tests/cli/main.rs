//! The command as its users meet it.

mod approximate;
mod bad_input;
mod calibrate;
mod candidates;
mod determinism;
mod faults;
mod fixture;
mod output;
mod sweep;
