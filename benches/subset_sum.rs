//! Subset sums: `cargo bench -p slth-benches --bench subset_sum [-- FILTER]`.

fn main() {
    slth_benches::bench(slth::bench::Kernel::SubsetSum);
}
