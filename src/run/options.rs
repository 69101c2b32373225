//! The options of a run by their names: compared, repeated, left out where a method ignores them.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::config::RunConfig;
use crate::input::FileError;

/// Options by name, as JSON.
pub(crate) type Setting = serde_json::Map<String, serde_json::Value>;

/// Copies an option from the second configuration to the first.
type CopyOption = fn(&mut RunConfig, &RunConfig);

/// The options of pruning by their names; not every method heeds all.
const PRUNING: [(&str, CopyOption); 8] = [
    ("rounds", |run, other| run.rounds = other.rounds),
    ("rewind_epoch", |run, other| run.rewind_epoch = other.rewind_epoch),
    ("halve_output_rate", |run, other| run.halve_output_rate = other.halve_output_rate),
    ("prune_epochs", |run, other| run.prune_epochs = other.prune_epochs),
    ("prune_lr", |run, other| run.prune_lr = other.prune_lr),
    ("prune_schedule", |run, other| run.prune_schedule.clone_from(&other.prune_schedule)),
    ("momentum", |run, other| run.momentum = other.momentum),
    ("weight_decay", |run, other| run.weight_decay = other.weight_decay),
];

impl RunConfig {
    /// The configuration of an earlier run, from its `result.json`.
    ///
    /// # Errors
    /// When the file cannot be read or has none.
    pub fn of_result(file: &Path) -> Result<Self, FileError<io::Error>> {
        #[derive(Deserialize)]
        struct Found {
            configuration: RunConfig,
        }
        crate::input::parse(file, |bytes| Ok(serde_json::from_slice::<Found>(bytes)?.configuration))
    }

    /// The flags of `slth run` that give it.
    pub fn flags(&self) -> impl Iterator<Item = String> {
        // The sparsity of a pattern is its own, so that another pattern may be given beside these flags.
        let implied = self.pattern.is_some_and(|pattern| pattern.sparsity() == self.sparsity);
        let given =
            move |name: &str, value: &serde_json::Value| !(value.is_null() || implied && name == "sparsity");
        self.setting().into_iter().filter(move |(name, value)| given(name, value)).map(|(name, value)| {
            let word =
                |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let words = |list: &Vec<_>| list.iter().map(word).collect::<Vec<_>>().join(",");
            let text = value.as_array().map_or_else(|| word(&value), words);
            format!("--{}={text}", name.replace('_', "-"))
        })
    }

    /// The same with the options of pruning that `which` names as they are in `other`.
    fn with_pruning_of(&self, other: &Self, which: impl Fn(&str) -> bool) -> Self {
        let mut run = self.clone();
        PRUNING.iter().filter(|(name, _)| which(name)).for_each(|(_, copy)| copy(&mut run, other));
        run
    }

    /// The same run: the options that `method` ignores have their defaults.
    pub(crate) fn canonical(&self) -> Self {
        self.with_pruning_of(&Self::default(), |name| self.method.ignores(name))
    }

    /// The options that are set but change nothing, by their names: `method` ignores them, or a file gives the weights that they
    /// draw.
    ///
    /// ```
    /// use slth::{run::RunConfig, training::PruneMethod};
    /// let config = RunConfig { momentum: 0.5, ..RunConfig::default() };
    /// assert!(config.without_effect().is_empty());
    /// let config = RunConfig { method: PruneMethod::MagnitudeThenFinetune, ..config };
    /// assert_eq!(config.without_effect(), ["momentum"]);
    /// ```
    pub fn without_effect(&self) -> Vec<&'static str> {
        let set = |name: &str| self.with_pruning_of(&Self::default(), |option| option == name) != *self;
        let drawing = [
            ("init", self.init != Self::default().init),
            ("init_scale", self.init_scale != Self::default().init_scale),
            ("scale_by_keep", self.scale_by_keep),
        ];
        let undrawn = drawing.into_iter().filter(|(_, set)| *set && self.weights.is_some());
        let ignored = PRUNING.iter().map(|(name, _)| *name);
        let ignored = ignored.filter(|name| self.method.ignores(name) && set(name));
        undrawn.map(|(name, _)| name).chain(ignored).collect()
    }

    /// Its options.
    pub(crate) fn setting(&self) -> Setting {
        // By way of text: turned into values directly, 0.9_f32 would be shown as 0.8999999761581421.
        let json = serde_json::to_string(self).expect("no map with keys other than strings");
        serde_json::from_str(&json).expect("a struct is an object")
    }

    /// The same for all runs that start from the same pretrained network.
    pub(crate) fn pretraining(&self) -> Self {
        // Pruning decides nothing before it starts, unless the sparsity scales the weights.
        let scales = self.scale_by_keep && self.weights.is_none();
        Self { sparsity: if scales { self.sparsity } else { 0.0 }, ..self.clone() }
    }

    /// Whether the networks `other` prunes are the same, given the same ε and seed.
    pub(crate) fn pretrains_like(&self, other: &Self) -> bool {
        self.with_pruning_of(other, |_| true) == *other
    }
}

/// How options, or fields, differ that both have; `None` where they agree.
pub(crate) fn differences(there: &Setting, here: &Setting) -> Option<String> {
    let difference = |(key, there): (&String, &serde_json::Value)| {
        let here = here.get(key).filter(|&here| here != there)?;
        let [there, here] = [there, here].map(|value| value.to_string().trim_matches('"').to_owned());
        Some(format!("{key} is {there} there, {here} here"))
    };
    let differences: Vec<_> = there.iter().filter_map(difference).collect();
    (!differences.is_empty()).then(|| differences.join("; "))
}
