//! Shards, stores, studies.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use slth::BITS_REVISION;
use slth::data::Augmentation;
use slth::data::Dataset;
use slth::machine::Machine;
use slth::progress::Progress;
use slth::run::RunConfig;
use slth::sweep::{
    Cell, CellConfig, CellOutcome, CellResult, CellTiming, Choice, Comparison, Grid, Merged, Shard, Store,
    StoreError, Study, Sweep, calibrate, findings_by_seed, merge, parse_cells, read_cells,
};

/// A cell with this test accuracy and validation loss; the loss is `None` if no images are held out. `found` is `None` for a
/// failed cell.
fn cell_at(epsilon: f32, sparsity: f64, seed: u64, found: Option<(f64, Option<f64>)>) -> Cell {
    let validation = if found.is_some_and(|(_, loss)| loss.is_none()) { 0 } else { 5000 };
    let run = RunConfig { epsilon, sparsity, seed, validation, ..RunConfig::default() };
    let timing = CellTiming {
        pretrain_seconds: 1.5,
        prune_seconds: 0.25,
        finished: 1,
        backend: "scalar".to_owned(),
        threads: 1,
        data_name: String::new(),
        host: "here".to_owned(),
        machine: Machine::current(),
    };
    let mut cell = Cell::failed(CellConfig::new(&run, "data"), "diverged\n\"x\"".to_owned(), timing);
    if let Some((test_accuracy, validation_loss)) = found {
        cell.outcome = CellOutcome::Done(CellResult {
            validation_loss,
            validation_accuracy: validation_loss.map(|_| 0.1 + 0.2),
            test_accuracy,
            weights_hash: "w".to_owned(),
            mask_hash: "m".to_owned(),
        });
    }
    cell
}

fn cell(sparsity: f64, seed: u64, test_accuracy: f64) -> Cell {
    cell_at(f32::INFINITY, sparsity, seed, Some((test_accuracy, Some(0.5))))
}

#[test]
fn a_pattern_goes_with_its_sparsity_and_none() {
    let sweep = |sparsities| Sweep {
        config: RunConfig { pattern: Some("1:4".parse().unwrap()), ..RunConfig::default() },
        grid: Grid { epsilons: vec![0.0], sparsities, seeds: vec![1] },
        shard: Shard::ALL,
        retry_failed: false,
    };
    let mnist = slth::data::Dataset::mnist().unwrap();
    assert!(sweep(vec![0.0, 0.75]).check(&mnist).is_ok());
    assert!(
        sweep(vec![0.5, 0.75]).check(&mnist).unwrap_err().to_string().contains("0.75, which 1:4 removes")
    );
}

/// The cell's line in a store.
fn line(cell: &Cell) -> String {
    serde_json::to_string(cell).unwrap() + "\n"
}

fn parse(text: &str) -> Result<Vec<Cell>, String> {
    parse_cells(Path::new("file"), text.as_bytes()).map_err(|error| error.to_string())
}

/// The shard detected from an environment given as `NAME=value` words.
fn detect(environment: &str) -> Result<Option<String>, String> {
    let value = |name: &str| {
        let word = environment.split_whitespace().find(|word| word.split('=').next() == Some(name))?;
        Some(word[name.len() + 1..].to_owned())
    };
    Shard::detect(value).map(|found| found.map(|(shard, _)| shard.to_string())).map_err(|e| e.to_string())
}

#[test]
fn every_launcher_is_understood() {
    let array = "SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_MIN=3 SLURM_ARRAY_TASK_MAX=9 SLURM_ARRAY_TASK_STEP=2 SLURM_ARRAY_TASK_COUNT=4";
    for (environment, expected) in [
        ("", None),
        ("SLTH_SHARD=3/5 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=4", Some("3/5")),
        ("SLTH_SHARD=1/1 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=4", Some("1/1")),
        ("OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4", Some("4/4")),
        ("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1", None),
        ("PMI_RANK=1 PMI_SIZE=3", Some("2/3")),
        ("SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_STEP_ID=0", Some("2/2")),
        ("SLURM_PROCID=1 SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_ID=0", Some("2/2")),
        // A batch script outside of any job step.
        ("SLURM_PROCID=0 SLURM_NTASKS=8", None),
        // Under mpirun, Slurm's variables count its daemons, one per node.
        (
            "SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_STEP_ID=0 OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8",
            Some("6/8"),
        ),
        (array, Some("3/4")),
        ("SLURM_ARRAY_TASK_ID=0 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=9", Some("1/10")),
        ("SLURM_ARRAY_TASK_ID=4 SLURM_ARRAY_TASK_MIN=4 SLURM_ARRAY_TASK_MAX=4", None),
        (&format!("{array} SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2"), Some("6/8")),
        ("PBS_ARRAY_INDEX=2 SLTH_SHARDS=10", Some("2/10")),
        ("PBS_ARRAYID=10 SLTH_SHARDS=10", Some("10/10")),
        ("SGE_TASK_ID=undefined SGE_TASK_FIRST=undefined", None),
        ("SGE_TASK_ID=5 SGE_TASK_FIRST=1 SGE_TASK_LAST=10 SGE_TASK_STEPSIZE=4", Some("2/3")),
    ] {
        assert_eq!(detect(environment), Ok(expected.map(str::to_owned)), "{environment}");
    }
}

#[test]
fn shards_that_make_no_sense_are_errors() {
    for (environment, word) in [
        ("SLTH_SHARD=0/4", "SLTH_SHARD"),
        ("SLTH_SHARD=", "SLTH_SHARD"),
        ("PBS_ARRAY_INDEX=2", "SLTH_SHARDS"),
        ("PBS_ARRAY_INDEX=0 SLTH_SHARDS=4", "0/4"),
        ("SLURM_ARRAY_TASK_ID=5", "Slurm"),
        (
            "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=9 SLURM_ARRAY_TASK_COUNT=3",
            "holes",
        ),
        ("OMPI_COMM_WORLD_RANK=4 OMPI_COMM_WORLD_SIZE=4", "5/4"),
    ] {
        let error = detect(environment).unwrap_err();
        assert!(error.contains(word), "{environment}: {error}");
    }
    for text in ["", "1", "/", "1/", "5/4", "0/1", "-1/4", "a/b", "1/2/3"] {
        assert!(text.parse::<Shard>().is_err(), "{text}");
    }
}

#[test]
fn shards_share_out_the_work() {
    for of in 1..9 {
        for piece in 0..20 {
            let takers = (1..=of).filter(|&index| Shard::new(index, of).unwrap().takes(piece));
            assert_eq!(takers.count(), 1);
        }
    }
}

#[test]
fn lines_lead_back() {
    let done = cell(0.3, u64::MAX, 1.0 / 3.0);
    let failed = cell_at(0.1, 0.3, 1, None);
    // A number that imprecise decimal parsers read as its neighbour.
    let mut lossy = cell(0.3, 1, 0.5);
    lossy.timing.pretrain_seconds = 1.9190291795360575;
    for cell in [done, failed, lossy] {
        assert_eq!(line(&cell).lines().count(), 1);
        assert_eq!(parse(&line(&cell)), Ok(vec![cell]));
    }
}

#[test]
fn a_cell_without_an_option_has_its_default_and_the_same_id() {
    let cell = cell(0.3, 1, 0.5);
    let text = line(&cell).replace(r#","augment":"none""#, "").replace(r#","prune_schedule":"cosine""#, "");
    let text = text.replace(r#","pattern":null,"keep_dense":"none""#, "");
    let text = text.replace(r#","rounds":5,"rewind_epoch":0,"halve_output_rate":false"#, "");
    assert!(text.len() < line(&cell).len());
    assert_eq!(parse(&text), Ok(vec![cell.clone()]));
    let mut other = cell.config.clone();
    other.run.augment = Augmentation::FlipCrop;
    assert_ne!(other.id(), cell.id);
}

#[test]
fn another_version_of_the_same_revision_is_the_same_cell() {
    let mut other = cell(0.3, 1, 0.5);
    other.config.slth_version = "9.9.9".to_owned();
    assert_eq!(other.config.id(), cell(0.3, 1, 0.5).id);
    assert_eq!(parse(&line(&other)), Ok(vec![other]));
}

#[test]
fn other_lines_are_refused() {
    let whole = line(&cell(0.3, 1, 0.5));
    for (from, to, problem) in [
        ("\"sparsity\":0.3", "\"sparsity\":0.4", "damaged"),
        (&format!("\"bits_revision\":{BITS_REVISION}"), "\"bits_revision\":7777", "revision 7777"),
        ("bits_revision", "revision", "not a cell"),
        ("{\"id\"", "{id", "key"),
        ("prune_epochs", "epochs", "prune_epochs"),
        ("\"test_accuracy\":0.5", "\"test_accuracy\":1.5", "an accuracy of 1.5"),
    ] {
        let error = parse(&whole.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains("file, line 1") && error.contains(problem), "{error}");
    }
    for sparsity in [-0.0, 1.0, f64::MAX] {
        let error = parse(&line(&cell(sparsity, 1, 0.5))).unwrap_err();
        assert!(error.contains("sparsity"), "{error}");
    }
}

#[test]
fn a_line_torn_anywhere_is_removed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cells.jsonl");
    let lines = [line(&cell(0.1, 1, 0.5)), line(&cell(0.2, 1, 0.6))];
    let last: usize = lines[1].len();
    for kept in 0..=last {
        fs::write(&path, format!("{}{}", lines[0], &lines[1][..kept])).unwrap();
        assert_eq!(read_cells(directory.path()).unwrap().len(), if kept == last { 2 } else { 1 });
        let mut store = Store::open(directory.path(), Shard::ALL).unwrap();
        if kept < last {
            assert_eq!(fs::read_to_string(&path).unwrap(), lines[0], "{kept}");
            store.append(&cell(0.2, 1, 0.6)).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), lines.concat(), "{kept}");
    }
}

#[test]
fn a_failure_is_superseded_and_other_contradictions_are_errors() {
    let (done, failed) = (cell_at(0.1, 0.1, 1, Some((0.5, Some(1.0)))), cell_at(0.1, 0.1, 1, None));
    let mut later = done.clone();
    later.timing.prune_seconds = 99.0;
    let text = [&failed, &done, &failed, &later].map(line).concat();
    let [found] = &parse(&text).unwrap()[..] else { panic!("one cell") };
    assert_eq!(found.outcome, done.outcome);
    let other = cell_at(0.1, 0.1, 1, Some((0.6, Some(1.0))));
    assert_eq!(
        parse(&(text + &line(&other))).unwrap_err(),
        "file and file: different results of one cell (ε = 0.1, sparsity 0.1, seed 1, edge-popup): test_accuracy is 0.5 there, 0.6 here"
    );
}

#[test]
fn cells_of_another_configuration_are_refused_with_what_differs() {
    let one = cell(0.1, 1, 0.5);
    let mut config = cell(0.7, 4, 0.5).config;
    let other = |config: CellConfig| Cell::failed(config, String::new(), one.timing.clone());
    assert_eq!(parse(&[&one, &other(config.clone())].map(line).concat()).unwrap().len(), 2);
    config.run.prune_epochs = 9;
    config.run.train_images = Some(3);
    let error = parse(&[&other(config), &one].map(line).concat()).unwrap_err();
    assert!(error.contains("prune_epochs is 5 there, 9 here; train_images is null there, 3 here"), "{error}");
}

#[test]
fn merging_unites_and_adds_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let shard = |i| Shard::new(i, 2).unwrap();
    for (i, sparsities) in [(1, [0.1, 0.2]), (2, [0.2, 0.3])] {
        let mut store = Store::open(&at("shards"), shard(i)).unwrap();
        sparsities.iter().for_each(|&s| store.append(&cell(s, 1, 0.5)).unwrap());
    }
    let merged = |read, repeated, added| Merged { read, repeated, added };
    assert_eq!(merge(&at("out"), &[at("shards")]).unwrap(), merged(3, 0, 3));
    assert_eq!(merge(&at("out"), &[at("shards"), at("out")]).unwrap(), merged(6, 3, 0));
    assert_eq!(merge(&at("shards"), &[at("shards")]).unwrap(), merged(3, 0, 3));
    assert_eq!(read_cells(&at("out")).unwrap(), read_cells(&at("shards")).unwrap());

    Store::open(&at("other"), Shard::ALL).unwrap().append(&cell(0.1, 1, 0.4)).unwrap();
    assert!(matches!(merge(&at("out"), &[at("other")]), Err(StoreError::Conflict { .. })));
    assert!(matches!(merge(&at("new"), &[at("out"), at("other")]), Err(StoreError::Conflict { .. })));
    assert!(!at("new").exists());
    assert_eq!(read_cells(&at("out")).unwrap().len(), 3);
}

struct Panics;

impl Progress for Panics {
    fn advance(&self, _units: usize) {
        panic!("as a bug in training would");
    }
}

/// The other worker waits for the pretrained network, which the panic prevents.
#[test]
fn a_panic_in_pretraining_ends_the_sweep() {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let sweep = Sweep {
            config: RunConfig {
                network: "784-10".parse().unwrap(),
                train_images: Some(300),
                threads: Some(2),
                ..RunConfig::default()
            },
            grid: Grid { epsilons: vec![0.1], sparsities: vec![0.0, 0.5], seeds: vec![1] },
            shard: Shard::ALL,
            retry_failed: false,
        };
        let (mnist, directory) = (Dataset::mnist().unwrap(), tempfile::tempdir().unwrap());
        let stop = AtomicBool::new(false);
        let run = || sweep.run(&mnist, directory.path(), &stop, &Panics);
        sender.send(catch_unwind(AssertUnwindSafe(run)).is_err()).unwrap();
    });
    assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(true));
}

#[test]
fn a_calibration_takes_the_threads_it_is_given() {
    let mnist = Dataset::mnist().unwrap();
    let grid = Grid { epsilons: vec![0.0], sparsities: vec![0.5], seeds: vec![1] };
    for threads in [1, 3] {
        let setting = RunConfig {
            network: "784-10".parse().unwrap(),
            train_images: Some(100),
            prune_epochs: 1,
            threads: Some(threads),
            ..RunConfig::default()
        };
        let mut found = 0;
        calibrate(&[setting], &grid, &mnist, |_| {
            found = rayon::current_num_threads();
            Ok(())
        })
        .unwrap();
        assert_eq!(found, threads);
    }
}

/// The study of cells that were all pruned by one method.
fn study(cells: &[Cell]) -> Study {
    let mut studies = Study::of(cells);
    assert_eq!(studies.len(), 1);
    studies.remove(0)
}

/// One cell per entry of `found`, with seeds counted from 1.
fn seeds(epsilon: f32, sparsity: f64, found: &[Option<(f64, f64)>]) -> Vec<Cell> {
    let cell = |(seed, found): (u64, &Option<(f64, f64)>)| {
        cell_at(epsilon, sparsity, seed, found.map(|(test, loss)| (test, Some(loss))))
    };
    (1..).zip(found).map(cell).collect()
}

#[test]
fn a_table_agrees_with_itself() {
    let table = Study::published();
    let Comparison { cells, mean_difference, mean_absolute_difference, rank_correlation, ahead } =
        table.compare(&table);
    assert_eq!((cells, mean_difference, mean_absolute_difference, ahead), (99, 0.0, 0.0, 0));
    assert!((rank_correlation - 1.0).abs() < 1e-12);
}

#[test]
fn findings_are_counted_by_seed() {
    let published = Study::published();
    // Seed 1 has the published table, seed 2 a flat one, seed 3 a single cell, which tells nothing.
    let mut cells: Vec<Cell> = Vec::new();
    for (epsilon, s) in
        published.epsilons.iter().flat_map(|&e| published.sparsities.iter().map(move |&s| (e, s)))
    {
        let accuracy = published.accuracy(epsilon, s).unwrap();
        cells.push(cell_at(epsilon, s, 1, Some((accuracy, Some(1.0)))));
        cells.push(cell_at(epsilon, s, 2, Some((0.5, Some(1.0)))));
    }
    cells.push(cell_at(0.77, 0.5, 3, Some((0.5, Some(1.0)))));
    assert_eq!(findings_by_seed(&cells, "edge-popup"), [[1, 2]; 5]);
    assert_eq!(findings_by_seed(&cells, "magnitude"), [[0, 0]; 5]);
}

#[test]
fn findings_of_a_flat_or_other_table_do_not_hold() {
    let published = Study::published();
    let at = |&epsilon: &f32| {
        published.sparsities.iter().flat_map(move |&s| seeds(epsilon, s, &[Some((0.5, 1.0))]))
    };
    let flat = study(&published.epsilons.iter().flat_map(at).collect::<Vec<_>>());
    assert_eq!(flat.compare(&published).cells, 99);
    assert!(flat.findings().iter().all(|finding| finding.holds == Some(false)));
    let other = study(&seeds(0.77, 0.5, &[Some((0.5, 1.0))]));
    assert!(other.findings().iter().all(|finding| finding.holds.is_none()));
    assert!(other.compare(&flat).mean_difference.is_nan());
}

/// Each seed chooses its own sparsity; the least mean loss lies at a third one.
#[test]
fn each_run_chooses_for_itself() {
    let study = study(
        &[
            seeds(0.02, 0.1, &[Some((0.90, 0.30)), Some((0.70, 0.90))]),
            seeds(0.02, 0.3, &[Some((0.85, 0.40)), Some((0.84, 0.40))]),
            seeds(0.02, 0.5, &[Some((0.60, 0.95)), Some((0.88, 0.30))]),
        ]
        .concat(),
    );
    let choice = study.chosen(0.02).unwrap();
    assert_eq!(choice.sparsities, [Some(0.1), Some(0.5)]);
    assert!((choice.test - 0.89).abs() < 1e-12 && (choice.deviation - 0.02 / 2_f64.sqrt()).abs() < 1e-12);
    assert_eq!(study.of_least_mean_loss(0.02).unwrap().0, 0.3);
    assert_eq!(study.best(0.02).unwrap().0, 0.3);
    assert_eq!(study.column(0.02).map(|(_, summary)| summary.chosen).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!(study.criterion(), "validation loss");
}

#[test]
fn a_seed_that_failed_counts_as_chance_and_is_not_chosen() {
    // At s = 0, the second seed's loss is above that of guessing.
    let study = study(
        &[
            seeds(0.3, 0.0, &[Some((0.9, 0.3)), Some((0.12, 2.5))]),
            seeds(0.3, 0.8, &[Some((0.5, 1.0)), None]),
            seeds(0.5, 0.0, &[None]),
        ]
        .concat(),
    );
    let summary = study.summary(0.3, 0.8).unwrap();
    assert_eq!((summary.seeds, summary.failed, study.failed()), (2, 1, 2));
    assert!((summary.test - 0.3).abs() < 1e-12 && summary.loss.unwrap() > 1.0);
    assert_eq!(study.chosen(0.3).unwrap().sparsities, [Some(0.0), Some(0.0)]);
    let Choice { sparsities, test, .. } = study.chosen(0.5).unwrap();
    assert_eq!((&sparsities[..], *test), (&[None][..], 0.1));
    assert!(study.of_least_mean_loss(0.5).is_none());
}

#[test]
fn without_validation_images_the_test_accuracy_chooses() {
    let tests = [(0.2, [0.5, 0.9]), (0.4, [0.8, 0.7])];
    let cells = tests
        .map(|(s, tests)| [1, 2].map(|seed| cell_at(0.0, s, seed, Some((tests[seed as usize - 1], None)))));
    let study = study(&cells.concat());
    assert_eq!(study.chosen(0.0).unwrap().sparsities, [Some(0.4), Some(0.2)]);
    assert!(study.of_least_mean_loss(0.0).is_none());
    assert_eq!(study.criterion(), "test accuracy, as no images are held out");
}

/// The paper's claim concerns the best accuracy over s, not the accuracy at the s that a run chose.
#[test]
fn findings_are_of_the_best() {
    let study = study(
        &[
            seeds(0.0, 0.0, &[Some((0.1, 2.3))]),
            seeds(0.0, 0.5, &[Some((0.8, 0.5))]),
            // The sparsity of least loss does not have the best accuracy.
            seeds(0.1, 0.0, &[Some((0.9, 0.4))]),
            seeds(0.1, 0.5, &[Some((0.7, 0.3))]),
        ]
        .concat(),
    );
    assert_eq!((study.chosen(0.1).unwrap().test, study.best(0.1).unwrap().1.test), (0.7, 0.9));
    let findings = study.findings();
    assert_eq!(findings[2].holds, Some(true), "{:?}", findings[2]);
    assert_eq!(findings[2].found, "from 0.800 to 0.900, largest fall 0.000");
    assert!(findings[3].found.starts_with("s = 0.5, 0;"), "{:?}", findings[3]);
}
