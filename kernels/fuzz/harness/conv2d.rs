//! Convolutions.

use arbitrary::{Result, Unstructured};
use slth_kernels::conv2d::{self, Shape, Weights, Workspace};
use slth_kernels::masked_matmul::Activation;
use slth_kernels::{MaskedWeights, Path, ShapeError};

use crate::harness::{Floats, Lengths, MOST, bits, everywhere, mask, size};

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let shape = Shape {
        channels: size(u, 20)?,
        height: size(u, 40)?,
        width: size(u, 40)?,
        outputs: size(u, 20)?,
        kernel: [size(u, 12)?, size(u, 12)?],
        stride: size(u, 6)?,
        padding: size(u, 8)?,
    };
    let batch = size(u, 70)?;
    let Shape { channels, height, width, outputs, kernel, .. } = shape;
    let columns =
        [channels, kernel[0], kernel[1]].into_iter().try_fold(1_usize, |n, size| n.checked_mul(size));
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let work = [columns.unwrap_or(0), outputs, out_height, out_width, batch];
    let work = work.into_iter().fold(1, usize::saturating_mul);
    if work > 1 << 19 && work < usize::MAX / 2 {
        return Ok(()); // too slow
    }
    let [mut w_lengths, mut x_lengths, mut y_lengths] = [const { Lengths { fit: true } }; 3];
    let len = w_lengths.of(u, &[outputs, channels, kernel[0], kernel[1]])?;
    let weights = Floats::new(u, len)?;
    let len = x_lengths.of(u, &[channels, height, width, batch])?;
    let x = Floats::new(u, len)?;
    let len = y_lengths.of(u, &[outputs, out_height, out_width, batch])?;
    let dy = Floats::new(u, len)?;
    let mask = mask(u, weights.get().len())?;
    let activation = *u.choose(&[Activation::Identity, Activation::Relu])?;
    let relu_of = u.arbitrary::<bool>()?.then(|| x.get());
    let path = *u.choose(&[Path::Auto, Path::Sparse, Path::Dense])?;

    let found = everywhere(|engine| {
        let mut space = Workspace::default();
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), weights.clone());
        let mut found: Vec<(Result<(), ShapeError>, Vec<u32>)> = Vec::new();
        let layer = columns.map(|columns| {
            let layer = MaskedWeights::new(engine, weights.get(), outputs, columns)?;
            let mut layer = layer.with_path(path);
            layer.set_mask(engine, &mask).map(|()| layer)
        });
        let mut filters = vec![Weights::Dense(weights.get())];
        filters.extend(layer.iter().flatten().map(Weights::Masked));
        for filters in filters {
            let (x, y) = (x.get(), y.get_mut());
            let result = conv2d::forward(engine, &shape, filters, x, batch, activation, y, &mut space);
            found.push((result, bits(y)));
            let (dy, dx) = (dy.get(), dx.get_mut());
            let result = conv2d::input_gradient(engine, &shape, filters, dy, batch, relu_of, dx, &mut space);
            found.push((result, bits(dx)));
        }
        let dw = dw.get_mut();
        let result = conv2d::weight_gradient(engine, &shape, dy.get(), x.get(), batch, dw, &mut space);
        found.push((result, bits(dw)));
        found
    });
    let fit = w_lengths.fit && x_lengths.fit && y_lengths.fit && shape.stride > 0;
    let huge = [channels, height, width, outputs, kernel[0], kernel[1], shape.stride, shape.padding, batch]
        .into_iter()
        .any(|size| size > MOST);
    for (result, _) in found {
        // Of sizes beyond memory some are errors although all slices fit, being empty.
        assert!(if fit { huge || result.is_ok() } else { result.is_err() }, "{result:?}");
    }
    Ok(())
}
