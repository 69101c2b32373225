//! One cell of a sweep: a configuration and its result, a line of the store.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::run::hash::{BITS_REVISION, mask_hash, text_hash, weights_hash};
use crate::run::{PrunedOutcome, RunConfig, Setting, number_or_inf};
use crate::training::{Evaluation, PrunedLayer, Scope};

/// Defaults of options that older stores do not have. They are omitted, so that cells keep their [`id`](CellConfig::id).
const NEWER_DEFAULTS: [&str; 6] = [
    r#","bias":false,"weights":null,"map":null"#,
    r#","augment":"none""#,
    r#","pattern":null"#,
    r#","keep_dense":"none""#,
    r#","rounds":5,"rewind_epoch":0,"halve_output_rate":false"#,
    r#","prune_schedule":"cosine""#,
];

/// Everything that decides the result of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellConfig {
    /// The version of slth that computed it. Not part of the [`id`](Self::id).
    pub slth_version: String,
    /// The [`BITS_REVISION`] of that version: another one may give other bits.
    pub bits_revision: u32,
    /// The [`data_hash`](RunConfig::data_hash): of the data, and of the weights to start from.
    pub data: String,
    /// The configuration of the run this cell equals. Options that its method ignores have their defaults.
    #[serde(flatten)]
    pub run: RunConfig,
}

impl CellConfig {
    /// The cell of `run` on the data of hash `data`, computed by this version.
    pub fn new(run: &RunConfig, data: &str) -> Self {
        Self {
            slth_version: env!("CARGO_PKG_VERSION").to_owned(),
            bits_revision: BITS_REVISION,
            data: data.to_owned(),
            run: run.canonical(),
        }
    }

    /// SHA-256, in hex, over the configuration as JSON, without the version.
    pub fn id(&self) -> String {
        text_hash(NEWER_DEFAULTS.iter().fold(self.json(), |json, default| json.replace(default, "")))
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Decisive<'a> {
            bits_revision: u32,
            data: &'a str,
            #[serde(flatten)]
            run: &'a RunConfig,
        }
        let Self { bits_revision, data, run, .. } = self;
        // `data` knows the file of weights by its content; where it lies decides nothing.
        let weights = run.weights.as_ref().map(|_| String::new());
        let decisive =
            Decisive { bits_revision: *bits_revision, data, run: &RunConfig { weights, ..run.clone() } };
        serde_json::to_string(&decisive).expect("no map with keys other than strings")
    }

    /// The method, and its scope if that is not the default.
    pub fn method(&self) -> String {
        match self.run.scope {
            Scope::PerLayer => self.run.method.to_string(),
            Scope::Global => format!("{}, global", self.run.method),
        }
    }

    /// The options that all cells of a store share, as far as their methods use them: everything except ε, sparsity and seed,
    /// which form its grid, and the methods that it compares.
    pub fn setting(&self) -> Setting {
        const GRID: [&str; 5] = ["epsilon", "sparsity", "seed", "method", "scope"];
        // Converted through text, because a direct conversion would show 0.9_f32 as 0.8999999761581421.
        let mut setting: Setting = serde_json::from_str(&self.json()).expect("a struct is an object");
        setting.retain(|key, _| !GRID.contains(&key.as_str()) && !self.run.method.ignores(key));
        setting
    }
}

/// The result of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CellOutcome {
    /// A pruned network.
    Done(CellResult),
    /// The cell failed, and would fail again: its configuration determines it.
    Failed {
        /// The error.
        error: String,
    },
}

impl CellOutcome {
    /// Its fields by name.
    pub(super) fn fields(&self) -> Setting {
        let json = serde_json::to_string(self).expect("no map with keys other than strings");
        serde_json::from_str(&json).expect("a struct is an object")
    }
}

/// The result of the pruned network of a cell. Accuracies are fractions in [0, 1].
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

/// Fields that may differ between two computations of the same cell.
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
    /// Number of cells computed in parallel.
    pub threads: usize,
    /// What the directory or file of the images is called; empty in older stores.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_name: String,
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
    /// The configuration.
    pub config: CellConfig,
    /// ε
    #[serde(with = "number_or_inf")]
    pub epsilon: f32,
    /// s, the fraction of weights REMOVED.
    pub sparsity: f64,
    /// The seed.
    pub seed: u64,
    /// The result.
    #[serde(flatten)]
    pub outcome: CellOutcome,
    /// Fields that may differ when it is computed again.
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

    /// The name and the error of a cell that failed.
    pub fn failure(&self) -> Option<String> {
        match &self.outcome {
            CellOutcome::Failed { error } => Some(format!("{}: {error}", self.name())),
            CellOutcome::Done(_) => None,
        }
    }

    /// ε, sparsity, seed and method in words.
    pub fn name(&self) -> String {
        let Self { epsilon, sparsity, seed, .. } = self;
        format!("ε = {epsilon}, sparsity {sparsity}, seed {seed}, {}", self.config.method())
    }

    /// The cell as a line of JSON, including the newline.
    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).expect("no map with keys other than strings") + "\n"
    }

    /// Parses a line of a store; the error says what is wrong, or that the cell has another revision.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let json: serde_json::Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match json["config"]["bits_revision"].as_u64() {
            Some(revision) if revision == u64::from(BITS_REVISION) => {}
            Some(other) => {
                return Err(format!(
                    "a cell of bits revision {other}; this slth has {BITS_REVISION}, which may give other results; choose \
                     another directory"
                ));
            }
            None => return Err("not a cell of slth: it has no bits_revision".to_owned()),
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
