//! Exact top-k selection: `cargo bench -p slth-benches --bench top_k [-- FILTER]`.

fn main() {
    slth_benches::bench(slth::bench::Kernel::TopK);
}
