//! Safetensors files.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Serialize;
use slth_kernels::PackedMask;

use crate::network::LayerShape;

/// A tensor of a file to be written.
pub(crate) struct Tensor {
    name: String,
    kind: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// Numbers of a layer, as f32.
    pub(crate) fn floats(name: impl Into<String>, shape: LayerShape, numbers: &[f32]) -> Self {
        let (name, shape) = (name.into(), shape.dimensions());
        Self { name, kind: Dtype::F32, shape, bytes: little_endian(numbers) }
    }

    /// The mask of a layer, as u8: 0 removed, 1 kept.
    pub(crate) fn mask(name: impl Into<String>, shape: LayerShape, mask: &PackedMask) -> Self {
        let (name, shape) = (name.into(), shape.dimensions());
        Self { name, kind: Dtype::U8, shape, bytes: mask_bytes(mask) }
    }
}

/// The bytes of a file with one entry of metadata, JSON. It has no second entry: the format's metadata has no order, and the
/// same content shall give the same bytes.
pub(crate) fn serialize(tensors: &[Tensor], entry: &str, value: &impl Serialize) -> Vec<u8> {
    let views = tensors.iter().map(|Tensor { name, kind, shape, bytes }| {
        let view = TensorView::new(*kind, shape.clone(), bytes);
        (name.as_str(), view.expect("as many bytes as the shape asks for"))
    });
    let json = serde_json::to_string(value).expect("no map with keys other than strings");
    let metadata = HashMap::from([(entry.to_owned(), json)]);
    safetensors::serialize(views, Some(metadata)).expect("well-formed tensors of distinct names")
}

/// The numbers in the bytes of a tensor of f32 or, rounded, of f64; where one is infinite or NaN, its index and value.
pub(crate) fn finite(kind: Dtype, bytes: &[u8]) -> Result<Vec<f32>, (usize, f32)> {
    let numbers: Vec<f32> = if kind == Dtype::F64 {
        bytes.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word) as f32).collect()
    } else {
        bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
    };
    match numbers.iter().position(|x| !x.is_finite()) {
        Some(index) => Err((index, numbers[index])),
        None => Ok(numbers),
    }
}

/// The bytes of `numbers`, little-endian.
pub(crate) fn little_endian(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A byte for each weight: 0 removed, 1 kept.
pub(crate) fn mask_bytes(mask: &PackedMask) -> Vec<u8> {
    mask.iter().map(u8::from).collect()
}
