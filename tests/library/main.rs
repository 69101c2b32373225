//! The library as its users meet it.

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
