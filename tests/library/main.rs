//! The library `slth`, tested through its public interface.

mod approximate;
mod candidates;
mod cells;
mod data;
mod network;
mod output;
mod random;
mod resume;
mod run;
mod sweep;
mod tensors;
mod training;
mod weights;
