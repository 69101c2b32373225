//! Products with dense and masked weights.

use arbitrary::Unstructured;
use slth_kernels::masked_matmul::{self, Activation, Shape, Workspace, dense};
use slth_kernels::{MaskedWeights, Path, ShapeError};

use crate::harness::{Floats, Lengths, MOST, bits, everywhere, mask, size};

/// A product, given the room for its result.
type Call<'a> = dyn Fn(&mut [f32], &mut Workspace) -> Result<(), ShapeError> + 'a;

pub(super) fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let shape = Shape { outputs: size(u, 300)?, inputs: size(u, 700)?, batch: size(u, 150)? };
    let Shape { outputs, inputs, batch } = shape;
    if outputs.saturating_mul(inputs).saturating_mul(batch) > 1 << 20 && outputs.max(inputs).max(batch) < MOST
    {
        return Ok(()); // too slow
    }
    let mut lengths = Lengths { fit: true };
    let [mut lengths_w, mut lengths_x, mut lengths_dy] = [const { Lengths { fit: true } }; 3];
    let weights_len = lengths_w.of(u, &[outputs, inputs])?;
    let weights = Floats::new(u, weights_len)?;
    let x_len = lengths_x.of(u, &[inputs, batch])?;
    let x = Floats::new(u, x_len)?;
    let dy_len = lengths_dy.of(u, &[outputs, batch])?;
    let dy = Floats::new(u, dy_len)?;
    let out_len = match u.int_in_range(0..=2_u8)? {
        0 => lengths.of(u, &[outputs, batch])?,
        1 => lengths.of(u, &[inputs, batch])?,
        _ => lengths.of(u, &[outputs, inputs])?,
    };
    let out = Floats::new(u, out_len)?;
    let mask_len = if u.int_in_range(0..=31_u8)? == 0 { size(u, 70)?.min(MOST) } else { weights_len };
    let mask = mask(u, mask_len)?;
    let activation = *u.choose(&[Activation::Identity, Activation::Relu])?;
    let relu_of = u.arbitrary::<bool>()?.then(|| x.get());
    let path = *u.choose(&[Path::Auto, Path::Sparse, Path::Dense])?;
    // Around the batches where another path is taken, and beyond all.
    let columns = *u.choose(&[0, 1, 2, 3, 4, 8, 15, 16, 17, 63, 64, 65, usize::MAX])?;
    let used_once = u.arbitrary()?;

    let result = everywhere(|engine| {
        let mut workspace = Workspace::default();
        let mut found = Vec::new();
        let mut call = |call: &Call<'_>| {
            let mut out = out.clone();
            let result = call(out.get_mut(), &mut workspace);
            found.push((result, bits(out.get())));
        };
        let (w, x, dy) = (weights.get(), x.get(), dy.get());
        call(&|out, space| dense::forward(engine, shape, w, x, activation, out, space));
        call(&|out, space| dense::input_gradient(engine, shape, w, dy, relu_of, out, space));
        call(&|out, space| masked_matmul::weight_gradient(engine, shape, dy, x, out, space));
        call(&|out, space| masked_matmul::kept_weight_gradient(engine, shape, &mask, dy, x, out, space));
        let layer = MaskedWeights::with_input_gradient(engine, w, outputs, inputs);
        let masked = layer.and_then(|layer| {
            let mut layer = layer.with_path(path).with_batch(columns).with_masks_used_once(used_once);
            layer.set_mask(engine, &mask)?;
            assert_eq!(layer.kept(), mask.kept());
            call(&|out, space| masked_matmul::forward(engine, &layer, x, batch, activation, out, space));
            call(&|out, space| masked_matmul::input_gradient(engine, &layer, dy, batch, relu_of, out, space));
            Ok(())
        });
        (found, masked)
    });

    let y_fits = Some(out_len) == outputs.checked_mul(batch);
    let dx_fits = Some(out_len) == inputs.checked_mul(batch);
    let dw_fits = Some(out_len) == outputs.checked_mul(inputs);
    let forward = lengths_w.fit && lengths_x.fit && y_fits;
    let backward = lengths_w.fit && lengths_dy.fit && dx_fits && (relu_of.is_none() || lengths_x.fit);
    let gradient = lengths_x.fit && lengths_dy.fit && dw_fits;
    let mask_fits = outputs.checked_mul(inputs) == Some(mask_len);
    let masked = lengths_w.fit && mask_fits;
    let expected =
        [forward, backward, gradient, gradient && mask_fits, forward && masked, backward && masked];
    let (found, layer) = result;
    assert_eq!(layer.is_ok(), masked);
    for ((result, _), expected) in found.iter().zip(expected) {
        assert_eq!(result.is_ok(), expected, "{result:?}");
    }
    Ok(())
}
