//! The extension module `slth._slth`: masks, products and experiments of slth for Python.
//!
//! The Python part of the package, `python/slth`, defines what is public. Every function releases the GIL while it computes,
//! raises a TypeError or a ValueError for invalid arguments, and never panics outwards.

mod argument;
mod array;
mod conv2d;
mod driver;
mod edge_popup;
mod engine;
mod mask;
mod pool;
mod subset_sum;
mod top_k;
mod weights;

#[pyo3::pymodule]
mod _slth {
    #[pymodule_export]
    use crate::conv2d::{_restore_conv2d, Conv2d};
    #[pymodule_export]
    use crate::driver::{_required_candidates, _run, _sweep};
    #[pymodule_export]
    use crate::edge_popup::EdgePopup;
    #[pymodule_export]
    use crate::engine::{get_num_threads, info, set_num_threads};
    #[pymodule_export]
    use crate::subset_sum::nearest_subset;
    #[pymodule_export]
    use crate::top_k::top_k;
    #[pymodule_export]
    use crate::weights::{_restore_weights, PackedWeights, weight_gradient};
}
