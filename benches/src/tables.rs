//! Tables of recordings in Markdown, and their places in pages.

use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::plots::crossovers;
use crate::recording::Recording;
use crate::row::{Role, Row};
use crate::task::{
    Convolution, Kernel, LayerOperation, Matmul, Phase, Scores, Search, Selection, SubsetSum, Task, Training,
};
use crate::text::columns;

/// The tasks of the brief table, among those of [`chosen`].
const BRIEF: [&str; 6] = [
    "forward 128x784x500 s=0.5",
    "forward 256x4096x4096 s=0.8",
    "forward 1x4096x4096 s=0.9",
    "forward 16@5x5 128x6x14x14 s=0.5",
    "selection from normal 392000 s=0.5",
    "pruning epoch 784-500-500-10 s=0.5",
];

/// The rows of the pages, on one thread: tasks and our variants.
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
    let subset = |operation, candidates| {
        Task::SubsetSum(SubsetSum { operation, candidates, epsilon: 0.0, eta: None, size: None })
    };
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

/// The files made of the newest recordings below `results`, as (path, content): each of `pages` with the chosen rows of a CPU,
/// and `<cpu>/tables.md` with all cases. The rows of a page stand between `<!-- bench CPU -->`, or `<!-- bench CPU brief -->` for
/// the few that matter most, and `<!-- /bench -->`.
///
/// # Errors
/// When a recording cannot be read, or a page has no place for a table or names a CPU without a recording.
pub fn tables(results: &Path, pages: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, Error> {
    let recordings = Recording::newest(results)?;
    let of_all = |(folder, recording): &(String, Recording)| {
        (results.join(folder).join("tables.md"), everything(recording))
    };
    let mut files: Vec<_> = recordings.iter().map(of_all).collect();
    for page in pages {
        let wrong = |problem: String| Error::file(page, problem);
        let mut text = fs::read_to_string(page).map_err(|error| wrong(error.to_string()))?;
        let Section { range, cpu, brief } = section(&text).map_err(wrong)?;
        let recording = recordings.iter().find(|(folder, _)| *folder == cpu);
        let (_, Recording { origin, rows }) =
            recording.ok_or_else(|| wrong(format!("{}: no recording of `{cpu}`", results.display())))?;
        let mut written = format!("{origin}. Medians, one thread.\n\n{}", of_chosen(rows, brief));
        if !brief {
            let _ = write!(written, "\n{}", crossovers(rows));
        }
        text.replace_range(range, &written);
        files.push((page.clone(), text));
    }
    Ok(files)
}

/// The section of a page that holds a table.
#[derive(Debug)]
struct Section {
    /// The byte range of the table.
    range: Range<usize>,
    cpu: String,
    brief: bool,
}

/// Finds the place of the table in `text`.
fn section(text: &str) -> Result<Section, String> {
    const END: &str = "<!-- /bench -->";
    let mut from = 0;
    for line in text.split_inclusive('\n') {
        from += line.len();
        let named = line.strip_prefix("<!-- bench ").and_then(|rest| rest.trim_end().strip_suffix("-->"));
        if let Some(named) = named.map(str::trim) {
            let to = from + text[from..].find(END).ok_or_else(|| format!("has no `{END}`"))?;
            let cpu = named.strip_suffix(" brief");
            let (brief, cpu) = (cpu.is_some(), cpu.unwrap_or(named).to_owned());
            return Ok(Section { range: from..to, cpu, brief });
        }
    }
    Err("has no `<!-- bench CPU -->`".to_owned())
}

/// One variant of ours of a task on a number of threads, on each backend, with its peers and limits.
struct Line<'a> {
    first: &'a Row,
    /// All rows of the same task, unit and number of threads.
    beside: Vec<&'a Row>,
}

const ALL: &str = "| `--case` | threads | slth | ± | variants | peers | × best | limit | of it |\n|---|---:|---:|---:|---|---|---:|---:|---:|\n";
const CHOSEN: &str =
    "| `--case` | | slth | best peer | × | limit | of it |\n|---|---|---:|---:|---:|---:|---:|\n";

impl<'a> Line<'a> {
    /// All lines in the order of the rows; limits without a row of ours have separate lines.
    fn all(rows: &'a [Row]) -> Vec<Self> {
        let mut lines: Vec<Self> = Vec::new();
        let same = |a: &Row, b: &Row| a.task == b.task && a.unit == b.unit && a.who.threads == b.who.threads;
        for row in rows.iter().filter(|r| r.who.role == Role::Ours || r.task.kernel() == Kernel::Roofline) {
            if !lines.iter().any(|line| same(line.first, row) && line.first.who.variant == row.who.variant) {
                lines.push(Self {
                    first: row,
                    beside: rows.iter().filter(|other| same(other, row)).collect(),
                });
            }
        }
        lines
    }

    /// Whether this line is of its task's first variant. The table of all cases shows only such lines, with the other variants beside.
    fn is_main(&self) -> bool {
        let ours = self.beside.iter().find(|row| row.who.role == Role::Ours);
        ours.is_none_or(|row| row.who.variant == self.first.who.variant)
    }

    /// The other variants, each on its fastest backend.
    fn variants(&self) -> Vec<&'a Row> {
        let mut variants: Vec<&Row> = Vec::new();
        for row in self.of(Role::Ours) {
            if [self.first].iter().chain(&variants).all(|shown| shown.who.variant != row.who.variant) {
                variants.push(row);
            }
        }
        variants
    }

    /// The rows of this role, fastest first.
    fn of(&self, role: Role) -> Vec<&'a Row> {
        let mut rows: Vec<_> = self.beside.iter().filter(|row| row.who.role == role).copied().collect();
        rows.sort_by(|a, b| b.rate().total_cmp(&a.rate()));
        rows
    }

    /// Ours of the line's variant on every backend, fastest first.
    fn ours(&self) -> Vec<&'a Row> {
        let mut ours = self.of(Role::Ours);
        ours.retain(|row| row.who.variant == self.first.who.variant);
        ours
    }

    /// Peers, fastest first: those of the same precision, because ours are compared with them; then the others.
    fn peers(&self) -> Vec<&'a Row> {
        let mut peers = self.of(Role::Peer);
        peers.sort_by_key(|row| row.is_bf16() != self.first.is_bf16());
        peers
    }

    /// The fastest peer of the same precision.
    fn rival(&self) -> Option<&'a Row> {
        self.peers().into_iter().next().filter(|row| row.is_bf16() == self.first.is_bf16())
    }

    /// How many times as fast as another row ours is.
    fn over(&self, other: Option<&Row>) -> String {
        let both = self.ours().into_iter().next().zip(other);
        both.map_or_else(String::new, |(ours, other)| format!("{:.2}", ours.rate() / other.rate()))
    }

    /// A line of a table: all backends and peers, or the best of each.
    fn text(&self, all: bool) -> String {
        let Row { task, who, unit, .. } = self.first;
        let variant = if who.variant.is_empty() { String::new() } else { format!(", {}", who.variant) };
        let (ours, peers, rival, limits) = (self.ours(), self.peers(), self.rival(), self.of(Role::Limit));
        let list = |rows: &[&Row], name: fn(&Row) -> String| {
            let shown = rows.iter().take(if all { rows.len() } else { 1 });
            shown.map(|row| format!("{} {}", row.figure(), name(row))).collect::<Vec<_>>().join(", ")
        };
        let mut cells = vec![format!("`\"{}\"`{variant}", task.name())];
        let backends = list(&ours, |row| row.who.backend.clone().unwrap_or_default());
        if all {
            let spread = ours.first().map_or_else(String::new, |row| format!("{:.1} %", 100.0 * row.spread));
            let variants = list(&self.variants(), |row| row.who.variant.clone());
            cells.extend([who.threads.to_string(), backends, spread, variants]);
        } else {
            cells.extend([unit.symbol().to_owned(), backends]);
        }
        let nearest =
            limits.last().map_or_else(String::new, |row| format!("{} {}", row.figure(), row.who.label()));
        cells.extend([
            list(if all { &peers } else { rival.as_slice() }, |row| row.who.label()),
            self.over(rival),
            nearest,
            self.over(limits.last().copied()),
        ]);
        format!("| {} |\n", cells.join(" | "))
    }

    /// The fraction of the time that each part takes.
    fn parts(&self) -> String {
        let (parts, ours) = (self.of(Role::Part), self.of(Role::Ours));
        let Some(whole) = ours.first().filter(|_| self.first.who.variant.is_empty() && !parts.is_empty())
        else {
            return String::new();
        };
        let share = |row: &&Row| format!("{} {:.0} %", row.who.variant, 100.0 * row.each() / whole.each());
        let shares = parts.iter().map(share).collect::<Vec<_>>().join(", ");
        format!("\nOf the time of `{}`: {shares}.\n", self.first.task.name())
    }
}

/// A line for each case and number of threads, for a terminal: ours on its fastest instruction set beside the fastest peer, whichever script or
/// library it is of.
pub fn digest(rows: &[Row]) -> String {
    let lines = Line::all(rows);
    if lines.iter().all(|line| line.ours().is_empty()) {
        return String::new();
    }
    let mut table = columns(["case", "slth", "best peer", "x best peer", "of limit", "limit", "threads"]);
    for line in lines.iter().filter(|line| line.is_main()) {
        let Some(ours) = line.ours().into_iter().next() else { continue };
        let figure = |row: &Row, name: String| format!("{} {} {name}", row.figure(), row.unit.symbol());
        table.add_row([
            line.first.task.name(),
            figure(ours, ours.who.backend.clone().unwrap_or_default()),
            line.rival().map_or_else(String::new, |row| format!("{} {}", row.figure(), row.who.label())),
            line.over(line.rival()),
            line.over(line.of(Role::Limit).last().copied()),
            line.of(Role::Limit).last().map_or_else(String::new, |row| row.who.label()),
            ours.who.threads.to_string(),
        ]);
    }
    format!(
        "All cases in short; x best peer: our speed over that of the fastest peer of the same precision\n{table}\n"
    )
}

fn of_chosen(rows: &[Row], brief: bool) -> String {
    let lines = Line::all(rows);
    let mut chosen = chosen();
    chosen.retain(|(task, variant)| !brief || variant.is_empty() && BRIEF.contains(&task.name().as_str()));
    let line = |(task, variant): &(Task, &str)| {
        let is = |line: &&Line| line.first.task == *task && line.first.who.variant == *variant;
        lines.iter().find(|line| is(line) && line.first.who.threads == 1)
    };
    CHOSEN.to_owned() + &chosen.iter().filter_map(line).map(|line| line.text(false)).collect::<String>()
}

/// All tables of a recording.
fn everything(recording: &Recording) -> String {
    let Recording { origin, rows } = recording;
    let peers: String = origin.peers.iter().map(|peer| format!("- {peer}\n")).collect();
    let mut text = format!(
        "# {}\n\nGenerated by `slth-bench tables`. {origin}. Medians; ±: half the interquartile range, % of the median.\n\nPeers:\n{peers}",
        origin.cpu.name
    );
    let lines = Line::all(rows);
    for lines in lines.chunk_by(|a, b| a.first.task.kernel() == b.first.task.kernel()) {
        let _ = writeln!(text, "\n## {}", lines[0].first.task.kernel());
        for lines in lines.chunk_by(|a, b| a.first.unit == b.first.unit) {
            let _ = write!(text, "\nIn {}:\n\n{ALL}", lines[0].first.unit.symbol());
            text.extend(lines.iter().filter(|line| line.is_main()).map(|line| line.text(true)));
            text.extend(lines.iter().map(Line::parts));
        }
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
        let Section { range, cpu, brief } = section(page).unwrap();
        assert_eq!((&page[range], cpu.as_str(), brief), ("old\n", "some-cpu", false));
        let Section { cpu, brief, .. } = section("<!-- bench some-cpu brief -->\n<!-- /bench -->").unwrap();
        assert_eq!((cpu.as_str(), brief), ("some-cpu", true));
        assert!(section("a").unwrap_err().contains("<!-- bench CPU -->"));
        assert!(section("<!-- bench a -->\n").unwrap_err().contains("/bench"));
    }

    #[test]
    fn chosen_rows_are_measured() {
        let measured = |task: &Task| cases(task.kernel(), Scale::Full).iter().any(|case| case.task == *task);
        let chosen = chosen();
        for (task, _) in &chosen {
            assert!(measured(task), "{task}");
        }
        for name in BRIEF {
            assert!(chosen.iter().any(|(task, _)| task.name() == name), "{name}");
        }
    }
}
