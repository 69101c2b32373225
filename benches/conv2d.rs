//! Convolutions with masked weights: `cargo bench -p slth-benches --bench conv2d [-- FILTER]`.

fn main() {
    slth_benches::bench(slth::bench::Kernel::Conv2d);
}
