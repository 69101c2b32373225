//! Prepared weights and thresholds from arbitrary bytes.

use arbitrary::{Result, Unstructured};
use slth_kernels::matmul::{Epilogue, Workspace, forward};
use slth_kernels::top_k::Threshold;
use slth_kernels::{Engine, KernelError, MatMut, MatRef, PackedWeights};

use crate::harness::{Floats, bits, everywhere, mask, options, size};

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=3_u8)? {
        // The raw input.
        0 => read(u.bytes(u.len())?),
        // A valid beginning, so that the following bytes are read at all.
        1 => {
            let mut bytes = b"SLTH-PW\x02".to_vec();
            for _ in 0..3 {
                bytes.extend((size(u, 30)? as u64).to_le_bytes());
            }
            bytes.extend(u.arbitrary::<[u8; 6]>()?.map(|flag| if flag < 250 { flag % 2 } else { flag }));
            bytes.extend(u.bytes(u.len())?);
            read(&bytes);
        }
        // The bytes of a layer, with a few changes.
        2 => {
            let [outputs, inputs] = [size(u, 40)?.min(100), size(u, 100)?.min(100)];
            let weights = Floats::new(u, outputs * inputs)?;
            let mask = if u.arbitrary()? { Some(mask(u, outputs * inputs)?) } else { None };
            let options = options(u)?;
            let weights = MatRef::row_major(weights.get(), outputs, inputs).expect("as many weights");
            let layer = PackedWeights::prepare(Engine::serial(), weights, mask.as_ref(), &options);
            let mut bytes = layer.expect("a mask over as many").to_bytes();
            read(&bytes);
            for _ in 0..u.int_in_range(0..=4_u8)? {
                // Prefer changes within the first 40 bytes, which hold sizes and flags.
                let most = if u.arbitrary()? { bytes.len() } else { bytes.len().min(40) };
                match u.int_in_range(0..=3_u8)? {
                    0 if most > 0 => drop(bytes.remove(u.int_in_range(0..=most - 1)?)),
                    1 => bytes.push(u.arbitrary()?),
                    _ if most > 0 => bytes[u.int_in_range(0..=most - 1)?] = u.arbitrary()?,
                    _ => {}
                }
            }
            read(&bytes);
        }
        _ => threshold(u.bytes(u.len())?),
    }
    Ok(())
}

/// Any bytes either give weights or are refused. Products with the weights are the same on every backend.
fn read(bytes: &[u8]) {
    let _ = everywhere(|engine| {
        let layer = match PackedWeights::from_bytes(engine, bytes) {
            Ok(layer) => layer,
            Err(error) => return Err(error),
        };
        let written = layer.to_bytes();
        let again = PackedWeights::from_bytes(engine, &written).expect("bytes that were written");
        assert!(again.to_bytes() == written);
        let shape = |layer: &PackedWeights| (layer.outputs(), layer.inputs(), layer.kept(), layer.format());
        assert_eq!((shape(&again), again.options()), (shape(&layer), layer.options()));
        let (outputs, inputs, ..) = shape(&layer);
        if outputs.max(inputs) > 1 << 16 {
            return Ok((shape(&layer), Vec::new()));
        }
        let x: Vec<f32> = (0..inputs * 3).map(|i| i as f32 - 5.0).collect();
        let x = MatRef::row_major(&x, inputs, 3).expect("as many elements");
        let product = |layer: &PackedWeights| {
            let mut y = vec![0.0; outputs * 3];
            let into = MatMut::row_major(&mut y, outputs, 3).expect("as many elements");
            forward(engine, layer, x, &Epilogue::default(), into, &mut Workspace::default())?;
            Ok::<_, KernelError>(bits(&y))
        };
        let y = product(&layer)?;
        assert_eq!(product(&again)?, y);
        Ok((shape(&layer), y))
    });
}

fn threshold(bytes: &[u8]) {
    match Threshold::from_bytes(bytes) {
        Ok(threshold) => assert_eq!(threshold.to_bytes(), bytes),
        Err(error) => assert!(matches!(error, KernelError::Malformed { what: "threshold", .. })),
    }
}
