//! A pruned layer in a program of your own: `cargo run --release --package slth-kernels --example embed`.
use slth_kernels::matmul::{Activation, Epilogue, Workspace, forward};
use slth_kernels::top_k::{Order, Selector, keep_at};
use slth_kernels::{Engine, KernelError, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions};

const INPUTS: usize = 784;
const OUTPUTS: usize = 500;
const BATCH: usize = 64;

fn main() -> Result<(), KernelError> {
    let engine = Engine::detect()?.with_threads(2); // the best instruction set of this CPU, two threads

    // What a framework has: weights [outputs, inputs], a bias, activations [batch, inputs].
    let weights: Vec<f32> = (0..OUTPUTS * INPUTS).map(|i| (i as f32 * 0.7).sin()).collect();
    let bias: Vec<f32> = (0..OUTPUTS).map(|i| i as f32 / 100.0).collect();
    let x: Vec<f32> = (0..BATCH * INPUTS).map(|i| (i as f32 * 0.3).cos()).collect();
    let mut y = vec![0.0; BATCH * OUTPUTS];

    // Sparsity 0.9: int(0.9 n) weights are removed, those with the largest magnitudes are kept.
    let mut mask = PackedMask::none_kept(weights.len());
    let keep = keep_at(0.9, weights.len());
    Selector::default().keep_largest(engine, &weights, keep, Order::Magnitude, &mut mask)?;

    // Prepared once, used for many batches.
    let options = PrepareOptions::default().max_batch(BATCH);
    let layer =
        PackedWeights::prepare(engine, MatRef::row_major(&weights, OUTPUTS, INPUTS)?, Some(&mask), &options)?;

    // Products take [inputs, batch]: what is [batch, inputs] in memory is handed over as its transpose.
    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
    let x = MatRef::row_major(&x, BATCH, INPUTS)?.t();
    let into = MatMut::row_major(&mut y, BATCH, OUTPUTS)?.t();
    forward(engine, &layer, x, &epilogue, into, &mut Workspace::default())?;

    println!("{} of {} weights kept on {}; y[0] = {:?}", layer.kept(), mask.len(), engine.backend(), &y[..3]);
    Ok(())
}
