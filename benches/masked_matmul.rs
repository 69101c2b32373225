//! Products with masked weights: `cargo bench -p slth-benches --bench masked_matmul [-- FILTER]`.

fn main() {
    slth_benches::bench(slth::bench::Kernel::MaskedMatmul);
}
