//! The configuration of a run.

use serde::{Deserialize, Serialize};
use slth_kernels::Backend;

use super::infinity::number_or_inf;
use crate::data::{Dataset, NormalisationRule, Subset};
use crate::error::Error;
use crate::network::{Architecture, Initialisation};
use crate::training::{EdgePopupSettings, PretrainSettings, PruneMethod, Schedule, Scope};

/// Everything that decides a run, and where it is computed. The command line's flags are called like the fields.
///
/// Serialised it lacks `threads` and `backend`, which change no bit of any result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// The network; default 784-500-500-10.
    pub network: Architecture,
    /// The distribution of the initial weights; default Kaiming normal.
    pub init: Initialisation,
    /// Multiplies the initial weights; in [1e-30, 1e30), so that f32 can hold them; default 1.
    pub init_scale: f64,
    /// Multiplies the initial weights by 1/√(1 − sparsity); default no.
    pub scale_by_keep: bool,
    /// How pixels become inputs; default mean-std. A ticket has the constants that were found.
    pub normalize: NormalisationRule,
    /// ε, the largest change pretraining may make to a weight, in [0, ∞]; default 0.02.
    #[serde(with = "number_or_inf")]
    pub epsilon: f32,
    /// s, the fraction of weights REMOVED, in [0, 1); default 0.5.
    pub sparsity: f64,
    /// How the weights to remove are found; default edge-popup. Finetuning is pretraining's SGD for `prune_epochs`, without
    /// a bound on the change.
    pub method: PruneMethod,
    /// Whether `sparsity` is that of each layer, the default, or of all weights.
    pub scope: Scope,
    /// Epochs of pretraining; default 1. 0 leaves the weights as they were drawn, like ε = 0.
    pub pretrain_epochs: usize,
    /// Epochs of edge-popup; default 5; at least 1 where anything is removed.
    pub prune_epochs: usize,
    /// Images per step of both trainings; default 128. More than there are means all.
    pub batch: usize,
    /// Learning rate of pretraining's first epoch; default 0.1.
    pub pretrain_lr: f32,
    /// How it changes from epoch to epoch; default constant.
    pub pretrain_schedule: Schedule,
    /// Momentum of pretraining; default 0, as in the paper.
    pub pretrain_momentum: f32,
    /// Learning rate of edge-popup's first epoch, on a cosine after it; default 0.1.
    pub prune_lr: f32,
    /// Momentum of edge-popup; default 0.9.
    pub momentum: f32,
    /// Weight decay of edge-popup; default 1e-4.
    pub weight_decay: f32,
    /// How many of the training images are held out for validation, drawn at random by `seed` and stratified by class;
    /// default 5000.
    pub validation: usize,
    /// Trains on so many of the others only, drawn likewise; default all of them.
    pub train_images: Option<usize>,
    /// Keys all random numbers; default 1.
    pub seed: u64,
    /// Number of threads; default all cores.
    #[serde(skip)]
    pub threads: Option<usize>,
    /// The instruction set; default what the environment variable `SLTH_BACKEND` names, else the best.
    #[serde(skip)]
    pub backend: Option<Backend>,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            network: Architecture::default(),
            init: Initialisation::default(),
            init_scale: 1.0,
            scale_by_keep: false,
            normalize: NormalisationRule::default(),
            epsilon: 0.02,
            sparsity: 0.5,
            method: PruneMethod::default(),
            scope: Scope::default(),
            pretrain_epochs: 1,
            prune_epochs: 5,
            batch: 128,
            pretrain_lr: 0.1,
            pretrain_schedule: Schedule::Constant,
            pretrain_momentum: 0.0,
            prune_lr: 0.1,
            momentum: 0.9,
            weight_decay: 1e-4,
            validation: 5000,
            train_images: None,
            seed: 1,
            threads: None,
            backend: None,
        }
    }
}

/// The images of a run.
#[derive(Clone, Debug)]
pub(crate) struct Split<'a> {
    pub(crate) train: Subset<'a>,
    pub(crate) validation: Subset<'a>,
    pub(crate) test: Subset<'a>,
}

/// Copies an option from the second configuration to the first.
type CopyOption = fn(&mut RunConfig, &RunConfig);

/// The options of pruning by their names; not every method heeds all.
const PRUNING: [(&str, CopyOption); 4] = [
    ("prune_epochs", |run, other| run.prune_epochs = other.prune_epochs),
    ("prune_lr", |run, other| run.prune_lr = other.prune_lr),
    ("momentum", |run, other| run.momentum = other.momentum),
    ("weight_decay", |run, other| run.weight_decay = other.weight_decay),
];

impl RunConfig {
    /// The most threads that make sense on any machine; more is taken for a slip.
    pub const MAX_THREADS: usize = 1024;

    /// Checks everything that can be checked without the data.
    ///
    /// # Errors
    /// [`Error::Config`] for the first field that makes no sense.
    ///
    /// ```
    /// use slth::run::RunConfig;
    /// assert!(RunConfig::default().validate().is_ok());
    /// let error = RunConfig { sparsity: 1.0, ..RunConfig::default() }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "sparsity: must lie in [0, 1), but is 1");
    /// ```
    pub fn validate(&self) -> Result<(), Error> {
        let check = |field, holds: bool, must: &str, is: &dyn std::fmt::Display| {
            if holds { Ok(()) } else { Err(Error::config(field, format!("must {must}, but is {is}"))) }
        };
        // −0 would be another run than 0, with the same bits.
        let epsilon = self.epsilon >= 0.0 && self.epsilon.is_sign_positive();
        check("epsilon", epsilon, "lie in [0, inf]", &self.epsilon)?;
        let sparsity = (0.0..1.0).contains(&self.sparsity) && self.sparsity.is_sign_positive();
        check("sparsity", sparsity, "lie in [0, 1)", &self.sparsity)?;
        let prunes = self.sparsity == 0.0 || self.prune_epochs > 0 || self.method.ignores("prune_epochs");
        check("prune_epochs", prunes, "be at least 1 where weights are removed", &self.prune_epochs)?;
        let scale = (1e-30..1e30).contains(&self.init_scale);
        check("init_scale", scale, "lie in [1e-30, 1e30)", &self.init_scale)?;
        check("batch", self.batch > 0, "be at least 1", &self.batch)?;
        for (field, rate) in [
            ("pretrain_lr", self.pretrain_lr),
            ("prune_lr", self.prune_lr),
            ("weight_decay", self.weight_decay),
        ] {
            check(field, rate >= 0.0 && rate.is_finite(), "be finite and not negative", &rate)?;
        }
        for (field, momentum) in [("pretrain_momentum", self.pretrain_momentum), ("momentum", self.momentum)]
        {
            check(field, (0.0..1.0).contains(&momentum), "lie in [0, 1)", &momentum)?;
        }
        if let Some(images) = self.train_images {
            check("train_images", images > 0, "be at least 1", &images)?;
        }
        check_threads(self.threads)
    }

    /// Checks everything that can be checked before the work starts.
    ///
    /// # Errors
    /// [`Error::Config`] for the first field that makes no sense, by itself or for `dataset`.
    pub fn check(&self, dataset: &Dataset) -> Result<(), Error> {
        self.sizes(dataset).map(drop)
    }

    /// Checks the configuration against the data and splits it.
    pub(crate) fn split<'a>(&self, dataset: &'a Dataset) -> Result<Split<'a>, Error> {
        let [validation, train] = Subset::stratified(dataset.train(), self.sizes(dataset)?, self.seed);
        Ok(Split { train, validation, test: Subset::all(dataset.test()) })
    }

    /// How many images are held out and how many trained on, after all checks.
    fn sizes(&self, dataset: &Dataset) -> Result<[usize; 2], Error> {
        self.validate()?;
        let available = dataset.train().len();
        let Some(others @ 1..) = available.checked_sub(self.validation) else {
            let problem = format!(
                "must be less than the {available} training images it is taken from, but is {}",
                self.validation
            );
            return Err(Error::config("validation", problem));
        };
        let train = self.train_images.unwrap_or(others);
        if train > others {
            let problem = format!("must be at most {others}, those not held out, but is {train}");
            return Err(Error::config("train_images", problem));
        }
        check_network(&self.network, dataset)?;
        if self.batch.min(available).saturating_mul(self.network.activations())
            > Architecture::MAX_ACTIVATIONS
        {
            let problem = format!("{} images of {} need too much memory", self.batch, self.network);
            return Err(Error::config("batch", problem));
        }
        Ok([self.validation, train])
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

    /// The options that are set but change nothing, by their names: `method` ignores them.
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
        PRUNING.iter().map(|(name, _)| *name).filter(|name| self.method.ignores(name) && set(name)).collect()
    }

    /// What the initial weights are multiplied by.
    pub(crate) fn initial_scale(&self) -> f64 {
        let by_keep = if self.scale_by_keep { libm::sqrt(1.0 - self.sparsity) } else { 1.0 };
        self.init_scale / by_keep
    }

    /// The same for all runs that start from the same pretrained network.
    pub(crate) fn pretraining(&self) -> Self {
        // Pruning decides nothing before it starts, unless the sparsity scales the weights.
        Self { sparsity: if self.scale_by_keep { self.sparsity } else { 0.0 }, ..self.clone() }
    }

    /// Whether the networks `other` prunes are the same, given the same ε and seed.
    pub(crate) fn pretrains_like(&self, other: &Self) -> bool {
        self.with_pruning_of(other, |_| true) == *other
    }

    pub(crate) fn pretrain_settings(&self) -> PretrainSettings {
        PretrainSettings {
            epsilon: self.epsilon,
            epochs: self.pretrain_epochs,
            batch: self.batch,
            learning_rate: self.pretrain_lr,
            schedule: self.pretrain_schedule,
            momentum: self.pretrain_momentum,
            seed: self.seed,
        }
    }

    pub(crate) fn finetune_settings(&self) -> PretrainSettings {
        PretrainSettings { epsilon: f32::INFINITY, epochs: self.prune_epochs, ..self.pretrain_settings() }
    }

    pub(crate) fn edge_popup_settings(&self, sparsity: f64) -> EdgePopupSettings {
        EdgePopupSettings {
            sparsity,
            scope: self.scope,
            epochs: self.prune_epochs,
            batch: self.batch,
            learning_rate: self.prune_lr,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            seed: self.seed,
        }
    }
}

/// Checks a number of threads.
pub(crate) fn check_threads(threads: Option<usize>) -> Result<(), Error> {
    match threads {
        Some(n) if !(1..=RunConfig::MAX_THREADS).contains(&n) => {
            Err(Error::config("threads", format!("must lie in 1 to {}, but is {n}", RunConfig::MAX_THREADS)))
        }
        _ => Ok(()),
    }
}

/// Checks that `network` takes the images of `dataset` and tells its classes apart.
pub(crate) fn check_network(network: &Architecture, dataset: &Dataset) -> Result<(), Error> {
    let (inputs, outputs, source) = (network.inputs(), network.outputs(), dataset.source());
    let (rows, columns, pixels) = (dataset.rows(), dataset.columns(), dataset.features());
    if let Some([height, width]) = network.image().filter(|&image| image != [rows, columns]) {
        let problem = format!(
            "{network} takes images of {height} × {width}, but those of {source} are {rows} × {columns}"
        );
        return Err(Error::config("network", problem));
    }
    if inputs != pixels {
        let problem =
            format!("{network} takes {inputs} inputs, but {source} has {rows} × {columns} = {pixels} pixels");
        return Err(Error::config("network", problem));
    }
    if outputs < dataset.classes() {
        let (classes, label) = (dataset.classes(), dataset.largest_label());
        let problem = format!("{network} has {outputs} outputs, but {source} has {classes} classes: {label}");
        return Err(Error::config("network", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn json_leads_back() {
        let mut stream = Stream::new(1, Purpose::Weights, 0, 0);
        for epsilon in [0.0, 0.02, f32::INFINITY] {
            // Random fractions: the shortest decimals have to lead back to every bit.
            for _ in 0..1000 {
                let sparsity = f64::from(stream.symmetric(1.0)).abs() * 0.999;
                let config = RunConfig { epsilon, sparsity, train_images: Some(9), ..RunConfig::default() };
                let json = serde_json::to_string(&config).unwrap();
                assert_eq!(serde_json::from_str::<RunConfig>(&json).unwrap(), config, "{json}");
            }
        }
        let json =
            serde_json::to_string(&RunConfig { epsilon: f32::INFINITY, ..RunConfig::default() }).unwrap();
        assert!(json.contains(r#""epsilon":"inf","sparsity":0.5"#), "{json}");
    }

    #[test]
    fn senseless_values_are_refused() {
        let refused = |field: &str, change: fn(&mut RunConfig)| {
            let mut config = RunConfig::default();
            change(&mut config);
            match config.validate() {
                Err(Error::Config { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{field}: {other:?}"),
            }
        };
        refused("epsilon", |c| c.epsilon = -0.1);
        refused("epsilon", |c| c.epsilon = f32::NAN);
        refused("epsilon", |c| c.epsilon = f32::NEG_INFINITY);
        refused("sparsity", |c| c.sparsity = 1.0);
        refused("sparsity", |c| c.sparsity = -0.1);
        refused("sparsity", |c| c.sparsity = f64::NAN);
        refused("prune_epochs", |c| c.prune_epochs = 0);
        refused("init_scale", |c| c.init_scale = 0.0);
        refused("init_scale", |c| c.init_scale = f64::INFINITY);
        refused("batch", |c| c.batch = 0);
        refused("threads", |c| c.threads = Some(0));
        refused("threads", |c| c.threads = Some(usize::MAX));
        refused("train_images", |c| c.train_images = Some(0));
        refused("pretrain_lr", |c| c.pretrain_lr = f32::NAN);
        refused("prune_lr", |c| c.prune_lr = f32::INFINITY);
        refused("weight_decay", |c| c.weight_decay = -1.0);
        refused("momentum", |c| c.momentum = 1.0);
        refused("pretrain_momentum", |c| c.pretrain_momentum = -0.5);
    }
}
