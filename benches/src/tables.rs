//! Tables of recordings, in Markdown, and where they stand in a page.

use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::error::Error;
use crate::plots::crossovers;
use crate::recording::Recording;
use crate::row::{Role, Row, Unit, fastest, nearest};
use crate::task::{
    Convolution, Kernel, LayerOperation, Matmul, Phase, Scores, Search, Selection, SubsetSum, Task, Training,
};

/// The rows of the page, on one thread: tasks and variants of ours.
fn chosen() -> Vec<(Task, &'static str)> {
    use LayerOperation::{Forward, InputGradient, WeightGradient};
    let matmul = |operation, [batch, inputs, outputs]: [usize; 3], sparsity| {
        Task::MaskedMatmul(Matmul { operation, batch, inputs, outputs, sparsity })
    };
    // LeNet-5's second layer.
    let convolution = |operation, sparsity| {
        let [batch, channels, height, width, outputs] = [128, 6, 14, 14, 16];
        let (window, stride, padding) = (5, 1, 0);
        Task::Conv2d(Convolution {
            operation,
            batch,
            channels,
            height,
            width,
            outputs,
            window,
            stride,
            padding,
            sparsity,
        })
    };
    let training = |operation, network: &str, images, sparsity| {
        Task::Pipeline(Training { operation, network: network.to_owned(), images, sparsity: Some(sparsity) })
    };
    let selection = Task::TopK(Selection { scores: Scores::Normal, count: 392_000, sparsity: 0.5 });
    let subset =
        |operation, candidates| Task::SubsetSum(SubsetSum { operation, candidates, epsilon: 0.0, eta: None });
    vec![
        (matmul(Forward, [128, 784, 500], Some(0.0)), ""),
        (matmul(Forward, [128, 784, 500], Some(0.5)), ""),
        (matmul(Forward, [128, 784, 500], Some(0.5)), "rebuilt"),
        (matmul(Forward, [128, 784, 500], Some(0.9)), ""),
        (matmul(Forward, [256, 4096, 4096], Some(0.8)), ""),
        (matmul(Forward, [1, 4096, 4096], Some(0.9)), ""),
        (matmul(WeightGradient, [512, 784, 500], None), ""),
        (convolution(Forward, Some(0.5)), ""),
        (convolution(InputGradient, Some(0.5)), ""),
        (convolution(WeightGradient, None), ""),
        (selection.clone(), ""),
        (selection, "warm"),
        (subset(Search::Fresh, 21), ""),
        (subset(Search::BruteForce, 24), ""),
        (training(Phase::PruningStep, "784-500-500-10", 1024, 0.5), ""),
        (training(Phase::PruningEpoch, "784-500-500-10", 60_000, 0.5), ""),
        (training(Phase::PruningStep, "lenet5", 1024, 0.5), ""),
        (training(Phase::Cell, "784-32-10", 60_000, 0.4), ""),
    ]
}

/// The files made of the newest recordings below `results`, as (path, content): `page` with chosen rows of a CPU between
/// `<!-- bench CPU -->` and `<!-- /bench -->`, and everything in `<cpu>/tables.md`.
///
/// # Errors
/// When a recording cannot be read, or `page` has no place for the table or wants that of a CPU without a recording.
pub fn tables(results: &Path, page: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let recordings = Recording::newest(results)?;
    let wrong = |problem: String| Error::Page { file: page.to_owned(), problem };
    let mut text = fs::read_to_string(page).map_err(Error::of(page))?;
    let (place, cpu) = place(&text).map_err(wrong)?;
    let recording = recordings.iter().find(|(folder, _)| *folder == cpu);
    let (_, recording) =
        recording.ok_or_else(|| wrong(format!("{}: no recording of `{cpu}`", results.display())))?;
    let mut section =
        format!("\n{}. Medians, one thread.\n\n{}", recording.origin, of_chosen(&recording.rows));
    let _ = writeln!(section, "\n{}", crossovers(&recording.rows));
    text.replace_range(place, &section);
    let of_all = |(folder, recording): &(String, Recording)| {
        (results.join(folder).join("tables.md"), everything(recording))
    };
    let mut files: Vec<_> = recordings.iter().map(of_all).collect();
    files.push((page.to_owned(), text));
    Ok(files)
}

/// Where in `text` the table stands, and of which CPU.
fn place(text: &str) -> Result<(Range<usize>, String), String> {
    const END: &str = "<!-- /bench -->";
    let mut from = 0;
    for line in text.split_inclusive('\n') {
        from += line.len();
        let cpu = line.strip_prefix("<!-- bench ").and_then(|rest| rest.trim_end().strip_suffix("-->"));
        if let Some(cpu) = cpu {
            let to = from + text[from..].find(END).ok_or_else(|| format!("has no `{END}`"))?;
            return Ok((from..to, cpu.trim().to_owned()));
        }
    }
    Err("has no `<!-- bench CPU -->`".to_owned())
}

/// One way of ours to do a task on so many threads, on each backend, and those beside it.
struct Line<'a> {
    task: &'a Task,
    variant: &'a str,
    threads: usize,
    unit: Unit,
    /// All of this task, in this unit and on as many threads.
    beside: Vec<&'a Row>,
    /// The speed over that of one thread, the best backend of each.
    over_one_thread: Option<f64>,
}

impl<'a> Line<'a> {
    fn all(rows: &[&'a Row]) -> Vec<Self> {
        let mut lines: Vec<Self> = Vec::new();
        for row in rows.iter().filter(|row| row.who.role == Role::Ours) {
            let (task, variant, threads, unit) = (&row.task, &row.who.variant, row.who.threads, row.unit);
            let is = |l: &Self| l.task == task && l.variant == variant && l.threads == threads;
            if lines.iter().any(is) {
                continue;
            }
            let same = rows.iter().copied().filter(|r| &r.task == task && r.unit == unit);
            let on = |threads| {
                let mine = same.clone().filter(move |r| r.who.role == Role::Ours && r.who.threads == threads);
                fastest(mine.filter(|r| r.who.variant == *variant)).map(Row::rate)
            };
            let over_one_thread = on(threads).zip(on(1)).map(|(all, one)| all / one).filter(|_| threads > 1);
            let beside = same.clone().filter(|r| r.who.threads == threads).collect();
            lines.push(Self { task, variant, threads, unit, beside, over_one_thread });
        }
        lines
    }

    fn of(&self, role: Role) -> impl Iterator<Item = &'a Row> + '_ {
        self.beside.iter().filter(move |row| row.who.role == role).copied()
    }

    fn ours(&self) -> impl Iterator<Item = &'a Row> + '_ {
        self.of(Role::Ours).filter(|row| row.who.variant == self.variant)
    }

    /// The best of ours over a row.
    fn over(&self, other: Option<&Row>) -> String {
        let both = fastest(self.ours()).zip(other);
        both.map_or_else(String::new, |(ours, other)| format!("{:.2}", ours.rate() / other.rate()))
    }
}

fn of_chosen(rows: &[Row]) -> String {
    let mut text =
        "| `--case` | slth | fastest peer | × | limit | of it |\n|---|---:|---:|---:|---:|---:|\n".to_owned();
    let rows: Vec<&Row> = rows.iter().filter(|row| row.who.threads == 1).collect();
    let lines = Line::all(&rows);
    for (task, variant) in chosen() {
        let Some(line) = lines.iter().find(|line| *line.task == task && line.variant == variant) else {
            continue;
        };
        let [peer, limit] = [fastest(line.of(Role::Peer)), nearest(line.of(Role::Limit))];
        let ours = fastest(line.ours()).map_or_else(String::new, |row| {
            let backend = row.who.backend.as_deref().unwrap_or_default();
            format!("{} {} ({backend})", row.figure(), row.unit.symbol())
        });
        let named = |row: Option<&Row>| {
            row.map_or_else(String::new, |row| format!("{} {}", row.who.label(), row.figure()))
        };
        let variant = if variant.is_empty() { String::new() } else { format!(", {variant}") };
        let _ = writeln!(
            text,
            "| `\"{}\"`{variant} | {ours} | {} | {} | {} | {} |",
            task.name(),
            named(peer),
            line.over(peer),
            named(limit),
            line.over(limit)
        );
    }
    text
}

/// All tables of a recording.
fn everything(recording: &Recording) -> String {
    let mut text = format!(
        "# {}\n\nGenerated by `slth-bench tables`. {}. Medians; `±` is half the interquartile range of the best backend, in % of \
         the median.\n",
        recording.origin.cpu.name, recording.origin
    );
    if !recording.origin.peers.is_empty() {
        text += "\nPeers:\n";
        recording.origin.peers.iter().for_each(|peer| {
            let _ = writeln!(text, "- {peer}");
        });
    }
    for &kernel in Kernel::value_variants() {
        let rows: Vec<&Row> = recording.rows.iter().filter(|row| row.task.kernel() == kernel).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n## {kernel}");
        let lines = Line::all(&rows);
        let mut units: Vec<Unit> = Vec::new();
        for line in &lines {
            if !units.contains(&line.unit) {
                units.push(line.unit);
                text += "\n";
                text += &of_unit(&lines, line.unit);
            }
        }
        text += &parts(&lines);
        if kernel == Kernel::Roofline {
            text += &limits(&rows);
        }
    }
    text
}

/// The lines that count in `unit`; columns are what some of them have.
fn of_unit(lines: &[Line<'_>], unit: Unit) -> String {
    let lines: Vec<_> = lines.iter().filter(|line| line.unit == unit).collect();
    let distinct = |role: Role, name: fn(&Row) -> String| {
        let mut seen: Vec<String> = Vec::new();
        for name in lines.iter().flat_map(|line| line.of(role)).map(name) {
            if !seen.contains(&name) {
                seen.push(name);
            }
        }
        seen
    };
    let backend = |row: &Row| row.who.backend.clone().unwrap_or_default();
    let backends = distinct(Role::Ours, backend);
    let peers = distinct(Role::Peer, |row| row.who.label());
    let limited = lines.iter().any(|line| line.of(Role::Limit).next().is_some());
    let threaded = lines.iter().any(|line| line.over_one_thread.is_some());
    let mut columns: Vec<String> = backends.iter().map(|backend| format!("slth {backend}")).collect();
    columns.push("±".to_owned());
    columns.extend(peers.iter().cloned());
    columns.extend(limited.then_some(["limit", "of limit"]).into_iter().flatten().map(str::to_owned));
    columns.extend((!peers.is_empty()).then(|| "× best peer".to_owned()));
    columns.extend(threaded.then(|| "× one thread".to_owned()));
    let mut text = format!("| `--case` | {} | threads | {} |\n", unit.symbol(), columns.join(" | "));
    let _ = writeln!(text, "|---|---|---:|{}", "---:|".repeat(columns.len()));
    for line in lines {
        let figure = |row: Option<&Row>| row.map_or_else(String::new, Row::figure);
        let mut cells =
            vec![format!("`\"{}\"`", line.task.name()), line.variant.to_owned(), line.threads.to_string()];
        cells.extend(backends.iter().map(|name| figure(line.ours().find(|row| backend(row) == *name))));
        cells.push(
            fastest(line.ours()).map_or_else(String::new, |row| format!("{:.1} %", 100.0 * row.spread)),
        );
        cells.extend(
            peers.iter().map(|peer| figure(line.of(Role::Peer).find(|row| row.who.label() == *peer))),
        );
        if limited {
            let limit = nearest(line.of(Role::Limit));
            cells.push(
                limit.map_or_else(String::new, |row| format!("{} ({})", row.figure(), row.who.label())),
            );
            cells.push(line.over(limit));
        }
        if !peers.is_empty() {
            cells.push(line.over(fastest(line.of(Role::Peer))));
        }
        if threaded {
            cells.push(line.over_one_thread.map_or_else(String::new, |ratio| format!("{ratio:.2}")));
        }
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// What fraction of the time of one thread each part of a task takes.
fn parts(lines: &[Line<'_>]) -> String {
    let mut text = String::new();
    for line in lines.iter().filter(|line| line.variant.is_empty() && line.threads == 1) {
        let parts: Vec<&Row> = line.of(Role::Part).collect();
        let (Some(whole), false) = (fastest(line.ours()), parts.is_empty()) else { continue };
        let share = |row: &&Row| format!("{} {:.0} %", row.who.variant, 100.0 * row.each() / whole.each());
        let shares = parts.iter().map(share).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "\nBeside the time of `{}`: {shares}.", line.task.name());
    }
    text
}

fn limits(rows: &[&Row]) -> String {
    let mut text = "\n| `--case` | threads | |\n|---|---:|---:|\n".to_owned();
    for row in rows {
        let (name, threads, unit) = (row.task.name(), row.who.threads, row.unit.symbol());
        let _ = writeln!(text, "| `\"{name}\"` | {threads} | {} {unit} |", row.figure());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Scale;
    use crate::cases::cases;

    #[test]
    fn sections_are_replaced_and_missing_places_told() {
        let page = "a\n<!-- bench some-cpu -->\nold\n<!-- /bench -->\nb\n";
        let (range, cpu) = place(page).unwrap();
        assert_eq!((&page[range], cpu.as_str()), ("old\n", "some-cpu"));
        assert!(place("a").unwrap_err().contains("<!-- bench CPU -->"));
        assert!(place("<!-- bench a -->\n").unwrap_err().contains("/bench"));
    }

    #[test]
    fn chosen_rows_are_measured() {
        let measured = |task: &Task| cases(task.kernel(), Scale::Full).iter().any(|case| case.task == *task);
        for (task, _) in chosen() {
            assert!(measured(&task), "{task}");
        }
    }
}
