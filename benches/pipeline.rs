//! Training: `cargo bench -p slth-benches --bench pipeline [-- FILTER]`.

fn main() {
    slth_benches::bench(slth::bench::Kernel::Pipeline);
}
