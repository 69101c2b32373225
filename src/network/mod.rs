//! Networks, fully connected or with convolutions and max-pooling: ReLU between the layers, softmax cross-entropy at the end.
//!
//! A layer's parameters are one slice: its weights `[outputs, inputs]`, then its biases `[outputs]`, where it has some.

mod architecture;
mod initialisation;
mod loss;
mod pooling;
pub(crate) mod propagation;
mod stage;

pub use architecture::Architecture;
pub use initialisation::Initialisation;
pub use loss::{LossSum, cross_entropy};
pub use stage::{LayerShape, Pool, Stage};
