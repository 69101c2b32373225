//! Runs all cases under criterion: `cargo bench -p slth-bench [--features peers] [-- FILTER]`. `slth_bench` defines the cases and
//! checks their results.

use std::time::Duration;

use clap::ValueEnum;
use criterion::{Criterion, Throughput};
use slth_bench::{Kernel, Machinery, Scale, cases, pin};

/// A group for each case, a benchmark for each contestant. With `--test`, every kind of case runs once, on small inputs.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let scale = if has("--bench") && !has("--test") { Scale::Full } else { Scale::Smoke };
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let machinery = Machinery::new(None, None).expect("threads can be started");
    pin();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    for case in Kernel::value_variants().iter().flat_map(|&kernel| cases(kernel, scale)) {
        let name = case.task.to_string();
        // Inputs are made only for measured cases.
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let mut group = criterion.benchmark_group(&name);
        for mut contestant in case.prepare(&machinery).expect("every result is right") {
            // Criterion counts whole elements; an epoch or a step is one.
            group.throughput(Throughput::Elements((contestant.work as u64).max(1)));
            let who = &contestant.who;
            let backend = who.backend.as_deref().unwrap_or("-");
            let id = format!("{} {}, {backend}, {} threads", who.role, who.label(), who.threads);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|times| contestant.run(times).expect("has run before"));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
