//! The cases, one module a kernel.

mod building;
mod conv2d;
mod masked_matmul;
mod pipeline;
mod roofline;
mod subset_sum;
mod top_k;

use crate::case::{Case, Scale};
use crate::task::Kernel;

/// All cases of a kernel, in the order of the tables.
pub fn cases(kernel: Kernel, scale: Scale) -> Vec<Case> {
    match kernel {
        Kernel::MaskedMatmul => {
            [masked_matmul::cases(scale), building::cases(scale)].into_iter().flatten().collect()
        }
        Kernel::Conv2d => conv2d::cases(scale),
        Kernel::TopK => top_k::cases(scale),
        Kernel::SubsetSum => subset_sum::cases(scale),
        Kernel::Pipeline => pipeline::cases(scale),
        Kernel::Roofline => roofline::cases(scale),
    }
}
