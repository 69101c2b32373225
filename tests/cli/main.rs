//! The command `slth`, tested from outside.

mod approximate;
mod bad_input;
mod calibrate;
mod candidates;
mod data;
mod determinism;
mod faults;
mod fixture;
mod help;
mod output;
mod report;
mod sweep;
mod weights;
