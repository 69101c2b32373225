//! The cases of [`slth::bench`] under criterion: what is measured, and the check of each result, is there.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use slth::bench::{Kernel, Machinery, Scale, cases, pin};

/// Measures a kernel: a criterion group for each case, a benchmark for each contestant.
///
/// With `--test` (which `cargo test` implies) every kind of case runs once, on small inputs. A word that is no flag selects
/// groups by their name.
///
/// # Panics
/// When a result is wrong.
pub fn bench(kernel: Kernel) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let scale = if measured && !arguments.iter().any(|argument| argument == "--test") {
        Scale::Full
    } else {
        Scale::Smoke
    };
    let machinery = Machinery::new(None).expect("threads can be started");
    pin();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    for case in cases(kernel, scale) {
        let name = case.task.to_string();
        // Inputs are made for what is measured only.
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let mut group = criterion.benchmark_group(&name);
        for mut contestant in case.prepare(&machinery).expect("every result is right") {
            // Of whole units only; epochs and steps have none smaller.
            group.throughput(Throughput::Elements((contestant.work as u64).max(1)));
            let on = contestant.backend.unwrap_or("-");
            let id = format!("{}, {on}, {} threads", contestant.who, contestant.threads);
            group.bench_function(id, |bencher| bencher.iter_custom(|times| contestant.run(times)));
        }
        group.finish();
    }
    criterion.final_summary();
}
