//! `slth bench`.

use std::time::Duration;

use clap::Args;
use slth::Error;
use slth::bench::{Kernel, Machinery, Measurement, Role, Sampling, Scale, Unit, cases, measure, pin};

use super::list::List;
use super::note;
use super::report::numbers;

/// Measure the kernels and the pipeline, beside other people's and the machine's limits.
///
/// Every result is checked, then all contestants of a case take turns: ours on every backend, peers and limits. Tables give
/// medians with half the distance of the quartiles in percent, the least time, the rate at the median, and its ratios to the limit and to the best peer on as many
/// threads. Peers beyond the standard library are there when built with `--features peers`.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct BenchArguments {
    /// The more important cases only, in less than a minute altogether
    #[arg(long)]
    quick: bool,

    /// What to measure, of masked-matmul, top-k, subset-sum and pipeline [default: all]
    #[arg(long, value_name = "NAME,..")]
    kernel: Option<List<Kernel>>,

    /// Cases whose name contains this, as "forward 512x784x500"
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,

    /// So many rounds for each case [default: as the time allows]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// Threads for those that can use more than one [default: all cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Print JSON lines instead of tables
    #[arg(long)]
    json: bool,
}

/// All of a quick measurement.
const QUICK: Duration = Duration::from_secs(35);

/// Measures; the text is what remains to be printed.
pub(super) fn bench(arguments: &BenchArguments) -> Result<String, Error> {
    let BenchArguments { quick, kernel, case, rounds, threads, json } = arguments;
    let scale = if *quick { Scale::Quick } else { Scale::Full };
    let kernels = kernel.as_ref().map_or(Kernel::ALL.to_vec(), |List(kernels)| kernels.clone());
    let cases: Vec<_> = kernels
        .into_iter()
        .flat_map(|kernel| cases(kernel, scale))
        .filter(|c| case.as_ref().is_none_or(|text| c.task.to_string().contains(text)))
        .collect();
    let machinery = Machinery::new(*threads)?;
    let pinned = pin();
    if pinned.is_none() {
        note("cannot pin the thread to a core: the figures will spread more");
    }
    let budget = if *quick { QUICK / cases.len().max(1) as u32 } else { Sampling::default().budget };
    for case in &cases {
        let rows = measure(case, &machinery, Sampling { budget, rounds: *rounds })?;
        if *json {
            rows.iter().for_each(|row| println!("{}", serde_json::to_string(row).unwrap_or_default()));
        } else {
            println!("{}\n{}\n", case.task, table(&rows));
        }
    }
    Ok(String::new())
}

fn table(rows: &[Measurement]) -> comfy_table::Table {
    let mut table =
        numbers(["who", "backend", "threads", "median", "±", "least", "rate", "of limit", "x best peer"]);
    for row in rows {
        let same = |role: Role| {
            let rows =
                rows.iter().filter(move |r| r.role == role && r.threads == row.threads && r.unit == row.unit);
            rows.map(Measurement::rate).fold(f64::NAN, f64::max)
        };
        let limit =
            rows.iter().filter(|r| r.role == Role::Limit && r.threads == row.threads && r.unit == row.unit);
        let limit = limit.map(Measurement::rate).fold(f64::NAN, f64::min);
        let number = |x: f64| if x.is_nan() { String::new() } else { format!("{x:.2}") };
        table.add_row([
            row.who.clone(),
            row.backend.clone().unwrap_or_default(),
            row.threads.to_string(),
            duration(row.seconds),
            format!("{:.1} %", 100.0 * row.spread()),
            duration(row.least),
            rate(row),
            if row.role == Role::Limit { String::new() } else { number(row.rate() / limit) },
            if row.role == Role::Ours { number(row.rate() / same(Role::Peer)) } else { String::new() },
        ]);
    }
    table
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn rate(row: &Measurement) -> String {
    let per_unit = row.seconds / row.work;
    match row.unit {
        Unit::Flop => format!("{:.1} GFLOP/s", row.rate() / 1e9),
        Unit::Cycle => format!("{:.2} GHz", row.rate() / 1e9),
        Unit::Weight => format!("{:.3} ns/weight", per_unit * 1e9),
        Unit::Score => format!("{:.3} ns/score", per_unit * 1e9),
        Unit::Target => format!("{:.2} µs/target", per_unit * 1e6),
        Unit::Sum => format!("{:.1} G sums/s", row.rate() / 1e9),
        Unit::Step => format!("{:.3} ms/step", per_unit * 1e3),
        Unit::Piece => format!("{:.2} s", per_unit),
    }
}
