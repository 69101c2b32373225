//! Networks without biases, fully connected or with convolutions and max-pooling: ReLU between the layers, softmax
//! cross-entropy at the end.

mod architecture;
mod initialisation;
pub(crate) mod loss;
mod pooling;
pub(crate) mod propagation;
mod stage;

pub use architecture::Architecture;
pub use initialisation::Initialisation;
pub use stage::{LayerShape, Pool, Stage};

/// Finds the value whose name is `name` in `all`.
pub(crate) fn by_name<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T, String> {
    all.iter().copied().find(|&kind| name_of(kind) == name).ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|&kind| name_of(kind)).collect();
        format!("`{name}` is none of {}", known.join(", "))
    })
}
