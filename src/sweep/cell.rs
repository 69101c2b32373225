//! One cell of a sweep: a configuration and what came of it, a line of the store.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::run::hash::{mask_hash, text_hash, weights_hash};
use crate::run::{PrunedOutcome, RunConfig, number_or_inf};
use crate::training::{Evaluation, PrunedLayer, Scope};

/// Everything that decides the result of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellConfig {
    /// The version of slth: another one may give other bits.
    pub slth_version: String,
    /// The [`dataset_hash`](crate::run::dataset_hash) of the data.
    pub data: String,
    /// The configuration of the run this cell equals.
    #[serde(flatten)]
    pub run: RunConfig,
}

impl CellConfig {
    /// The cell of `run` on the data of hash `data`, computed by this version.
    pub fn new(run: RunConfig, data: &str) -> Self {
        Self { slth_version: env!("CARGO_PKG_VERSION").to_owned(), data: data.to_owned(), run }
    }

    /// SHA-256, in hex, over the configuration as JSON.
    pub fn id(&self) -> String {
        text_hash(&serde_json::to_string(self).expect("no map with keys other than strings"))
    }

    /// The method, and its scope where that is not the default.
    pub fn method(&self) -> String {
        match self.run.scope {
            Scope::PerLayer => self.run.method.to_string(),
            Scope::Global => format!("{}, global", self.run.method),
        }
    }

    /// What all cells of a store share, as JSON: everything but ε, sparsity and seed, which make its grid, and the methods
    /// it compares.
    pub(super) fn setting(&self) -> serde_json::Map<String, serde_json::Value> {
        // By way of text: turned into values directly, 0.9_f32 would be shown as 0.8999999761581421.
        let json = serde_json::to_string(self).expect("no map with keys other than strings");
        match serde_json::from_str(&json) {
            Ok(serde_json::Value::Object(mut setting)) => {
                setting.retain(|key, _| {
                    !["epsilon", "sparsity", "seed", "method", "scope"].contains(&key.as_str())
                });
                setting
            }
            other => unreachable!("a struct is an object: {other:?}"),
        }
    }
}

/// What came of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CellOutcome {
    /// A pruned network.
    Done(CellResult),
    /// It failed, and would again: all that decides it is in its configuration.
    Failed {
        /// Why.
        error: String,
    },
}

/// How the pruned network of a cell did. Accuracies are fractions in [0, 1].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// Mean cross-entropy on the images held out; `None` when there are none.
    pub validation_loss: Option<f64>,
    /// Accuracy on the images held out.
    pub validation_accuracy: Option<f64>,
    /// Accuracy on the test images.
    pub test_accuracy: f64,
    /// As in `result.json`.
    pub weights_hash: String,
    /// As in `result.json`.
    pub mask_hash: String,
}

/// What may differ between two computations of the same cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellTiming {
    /// Seconds of the pretraining that this cell shares with those of its ε and seed.
    pub pretrain_seconds: f64,
    /// Seconds of its pruning.
    pub prune_seconds: f64,
    /// When it was done, in seconds since 1970.
    pub finished: u64,
    /// The instruction set.
    pub backend: String,
    /// How many cells were computed side by side.
    pub threads: usize,
    /// The name of the machine.
    pub host: String,
    /// The machine.
    #[serde(flatten)]
    pub machine: Machine,
}

/// A line of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// [`CellConfig::id`]
    pub id: String,
    /// What decides it.
    pub config: CellConfig,
    /// ε
    #[serde(with = "number_or_inf")]
    pub epsilon: f32,
    /// s, the fraction of weights REMOVED.
    pub sparsity: f64,
    /// The seed.
    pub seed: u64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: CellOutcome,
    /// What may differ when it is computed again.
    pub timing: CellTiming,
}

impl Cell {
    /// The cell of `config`, pruned to `layers` with the accuracies of `pruned`.
    pub fn done(
        config: CellConfig,
        layers: &[PrunedLayer],
        pruned: &PrunedOutcome,
        timing: CellTiming,
    ) -> Self {
        let validation = pruned.validation.as_ref();
        let result = CellResult {
            validation_loss: validation.map(|evaluation| evaluation.loss),
            validation_accuracy: validation.map(Evaluation::accuracy),
            test_accuracy: pruned.test.accuracy(),
            weights_hash: weights_hash(layers),
            mask_hash: mask_hash(layers),
        };
        Self::new(config, CellOutcome::Done(result), timing)
    }

    /// The cell of `config`, which failed because of `error`.
    pub fn failed(config: CellConfig, error: String, timing: CellTiming) -> Self {
        Self::new(config, CellOutcome::Failed { error }, timing)
    }

    fn new(config: CellConfig, outcome: CellOutcome, timing: CellTiming) -> Self {
        let RunConfig { epsilon, sparsity, seed, .. } = config.run;
        Self { id: config.id(), config, epsilon, sparsity, seed, outcome, timing }
    }

    /// The result, unless the cell failed.
    pub fn result(&self) -> Option<&CellResult> {
        match &self.outcome {
            CellOutcome::Done(result) => Some(result),
            CellOutcome::Failed { .. } => None,
        }
    }

    /// ε, sparsity, seed and method in words.
    pub fn name(&self) -> String {
        let Self { epsilon, sparsity, seed, .. } = self;
        format!("ε = {epsilon}, sparsity {sparsity}, seed {seed}, {}", self.config.method())
    }

    /// The cell as a line of JSON, its end included.
    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).expect("no map with keys other than strings") + "\n"
    }

    /// A line of a store; what is wrong with it if it is none. Cells of other versions are not understood, and said so.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        const VERSION: &str = env!("CARGO_PKG_VERSION");
        let json: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match json["config"]["slth_version"].as_str() {
            Some(VERSION) => {}
            Some(other) => {
                return Err(format!(
                    "a cell of slth {other}, and this is {VERSION}, which may give other results; choose another directory"
                ));
            }
            None => return Err("not a cell of slth".to_owned()),
        }
        let cell: Self = serde_json::from_value(json).map_err(|error| error.to_string())?;
        let RunConfig { epsilon, sparsity, seed, .. } = cell.config.run;
        if cell.id != cell.config.id()
            || (cell.epsilon, cell.sparsity, cell.seed) != (epsilon, sparsity, seed)
        {
            return Err("damaged: its id is not that of its configuration".to_owned());
        }
        cell.config.run.validate().map_err(|error| format!("damaged: {error}"))?;
        if let Some(result) = cell.result() {
            let accuracies = [Some(result.test_accuracy), result.validation_accuracy];
            if let Some(no) = accuracies.into_iter().flatten().find(|no| !(0.0..=1.0).contains(no)) {
                return Err(format!("damaged: an accuracy of {no}"));
            }
        }
        Ok(cell)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn cell(sparsity: f64, seed: u64, test_accuracy: f64) -> Cell {
        let run = RunConfig { sparsity, seed, epsilon: f32::INFINITY, ..RunConfig::default() };
        let timing = CellTiming {
            pretrain_seconds: 1.5,
            prune_seconds: 0.25,
            finished: 1,
            backend: "scalar".to_owned(),
            threads: 1,
            host: "here".to_owned(),
            machine: Machine::current(),
        };
        let result = CellResult {
            validation_loss: None,
            validation_accuracy: Some(0.1 + 0.2),
            test_accuracy,
            weights_hash: "w".to_owned(),
            mask_hash: "m".to_owned(),
        };
        Cell::new(CellConfig::new(run, "data"), CellOutcome::Done(result), timing)
    }

    #[test]
    fn lines_lead_back() {
        let done = cell(0.3, u64::MAX, 1.0 / 3.0);
        let failed =
            Cell { outcome: CellOutcome::Failed { error: "diverged\n\"x\"".to_owned() }, ..done.clone() };
        // Numbers whose nearest shorter decimals are read as their neighbours by careless parsers.
        let mut lossy = cell(0.3, 1, 0.5);
        lossy.timing.pretrain_seconds = 1.9190291795360575;
        for cell in [done, failed, lossy] {
            assert_eq!(Cell::parse(&cell.line()), Ok(cell.clone()));
            assert_eq!(cell.line().lines().count(), 1);
        }
    }

    #[test]
    fn a_line_has_the_documented_keys() {
        let json: serde_json::Value = serde_json::from_str(&cell(0.3, 1, 0.5).line()).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = "config epsilon id mask_hash seed sparsity test_accuracy timing validation_accuracy \
                        validation_loss weights_hash";
        assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn a_setting_shows_numbers_as_they_were_given() {
        assert_eq!(cell(0.3, 1, 0.5).config.setting()["momentum"].to_string(), "0.9");
    }

    /// Written before `--init-scale` and `--pretrain-schedule` were: options at their defaults leave no trace, so that a store
    /// goes on.
    #[test]
    fn a_cell_of_an_older_store_is_read() {
        let line = include_str!("older_cell.jsonl");
        let cell = Cell::parse(line.trim_end()).unwrap();
        assert_eq!(cell.line().trim_end(), line.trim_end());
    }

    #[test]
    fn other_lines_are_refused() {
        let line = cell(0.3, 1, 0.5).line();
        for (from, to, problem) in [
            ("\"sparsity\":0.3", "\"sparsity\":0.4", "damaged"),
            (env!("CARGO_PKG_VERSION"), "0.0.9", "0.0.9"),
            ("slth_version", "version", "not a cell"),
            ("{\"id\"", "{id", "key"),
            ("prune_epochs", "epochs", "prune_epochs"),
            ("\"test_accuracy\":0.5", "\"test_accuracy\":1.5", "an accuracy of 1.5"),
        ] {
            let error = Cell::parse(&line.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        for sparsity in [-0.0, 1.0, f64::MAX] {
            let error = Cell::parse(&cell(sparsity, 1, 0.5).line()).unwrap_err();
            assert!(error.contains("sparsity"), "{error}");
        }
    }
}
