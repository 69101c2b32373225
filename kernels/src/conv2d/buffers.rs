//! The scratch memory of every product.

use crate::aligned::AlignedBuffer;

#[derive(Clone, Debug, Default)]
pub(super) struct Buffers {
    pub(super) source: AlignedBuffer,
    pub(super) results: AlignedBuffer,
    pub(super) relu_output: AlignedBuffer,
}
