//! The configuration of a run.

use std::fmt::Display;

use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize};
use slth_kernels::Backend;

use super::hash::{dataset_hash, text_hash};
use super::infinity::number_or_inf;
use super::state_dict::StateDict;
use crate::data::{Augmentation, Dataset, NormalisationRule, Subset, image_size};
use crate::error::Error;
use crate::flags::{Maybe, maybe, number};
use crate::input::FileError;
use crate::network::{Architecture, Initialisation};
use crate::training::{KeepDense, Pattern, PruneMethod, Schedule, Scope};

/// Everything that decides a run, and where it is computed. The fields are the command line's flags and their help, but for
/// those that a sweep takes lists of (ε, sparsity, seed), those of the machine, and the network with its weights, which other
/// commands take too.
///
/// Serialisation omits `threads` and `backend`, which change no bit of any result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Args)]
pub struct RunConfig {
    /// The network; default 784-500-500-10.
    #[arg(skip)]
    pub network: Architecture,
    /// Distribution of the initial weights
    #[arg(long, value_name = "KIND", help_heading = "Network", default_value_t)]
    pub init: Initialisation,
    /// Multiply the initial weights by this, at least 1e-30 and below 1e30, so that f32 can hold them
    #[arg(long, value_name = "F", help_heading = "Network", allow_negative_numbers = true, value_parser = number::<f64>, default_value_t = 1.0)]
    pub init_scale: f64,
    /// Multiply the initial weights by 1/sqrt(keep), where keep = 1 - sparsity, so that a neuron's input has the same variance
    /// under a random mask. `scale_fan` of edge-popup's published code multiplies by 1/sqrt(1 - keep) instead: the same at
    /// sparsity 0.5 only
    #[arg(long, help_heading = "Network", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub scale_by_keep: bool,
    /// Give each layer biases, trained in pretraining and finetuning and never pruned; they begin at 0, with --init pytorch-default
    /// where PyTorch begins
    #[serde(default)]
    #[arg(long, help_heading = "Network", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub bias: bool,
    /// The safetensors file of a trained network to start from, as [`StateDict`] reads it; else the weights are drawn.
    #[serde(default)]
    #[arg(skip)]
    pub weights: Option<String>,
    /// The names of its layers' weights, first to last; default all, in natural order.
    #[serde(default)]
    #[arg(skip)]
    pub map: Option<Vec<String>>,
    /// How a pixel x becomes an input: mean-std gives each channel of the data set's training images mean 0 and standard
    /// deviation 1, unit is x/255, and numbers as in 0.1307,0.3081 are (x/255 - MEAN)/STD; of colours three means, then three
    /// deviations
    #[arg(long, value_name = "mean-std|unit|MEAN,STD", help_heading = "Data", default_value_t)]
    pub normalize: NormalisationRule,
    /// Random change of each training image in each epoch
    #[serde(default)]
    #[arg(long, value_name = "KIND", help_heading = "Data", default_value_t)]
    pub augment: Augmentation,
    /// ε, the largest change pretraining may make to a weight, in [0, ∞]; default 0.02.
    #[serde(with = "number_or_inf")]
    #[arg(skip = 0.02_f32)]
    pub epsilon: f32,
    /// s, the fraction of weights REMOVED, in [0, 1); default 0.5.
    #[arg(skip = 0.5)]
    pub sparsity: f64,
    /// How the weights to remove are found
    #[arg(long, value_name = "NAME", help_heading = "Pruning", default_value_t)]
    pub method: PruneMethod,
    /// What the sparsity is a fraction of
    #[arg(long, value_name = "NAME", help_heading = "Pruning", default_value_t)]
    pub scope: Scope,
    /// Keep N of every M consecutive weights of a neuron or filter, those of the largest scores: 2:4. Removes 1 - N/M, which is
    /// then the sparsity
    #[serde(default)]
    #[arg(long, value_name = "N:M|none", help_heading = "Pruning", value_parser = maybe::<Pattern>, default_value = "none")]
    pub pattern: Maybe<Pattern>,
    /// Which layers keep all their weights; the sparsity is then a fraction of the others' weights
    #[serde(default)]
    #[arg(long, value_name = "WHICH", help_heading = "Pruning", default_value_t)]
    pub keep_dense: KeepDense,
    /// Rounds of --method imp: each removes the same fraction of the weights that are left, 1 - (1 - sparsity)^(1/rounds)
    #[serde(default = "rounds")]
    #[arg(long, value_name = "N", help_heading = "Pruning", allow_negative_numbers = true, default_value_t = rounds())]
    pub rounds: usize,
    /// Epoch of --method imp whose weights the kept ones return to after each round; 0: those that pretraining left
    #[serde(default)]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Pruning",
        allow_negative_numbers = true,
        default_value_t = 0
    )]
    pub rewind_epoch: usize,
    /// Let each round of --method imp remove only half of the round's fraction from the last layer
    #[serde(default)]
    #[arg(long, help_heading = "Pruning", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub halve_output_rate: bool,
    /// Epochs of pretraining; 0 leaves the weights as they were drawn
    #[arg(
        long,
        value_name = "N",
        help_heading = "Pretraining",
        allow_negative_numbers = true,
        default_value_t = 1
    )]
    pub pretrain_epochs: usize,
    /// Epochs of edge-popup, of finetuning, or of each training of imp, at least 1 where anything is removed; magnitude and random
    /// pruning take none
    #[arg(
        long,
        value_name = "N",
        help_heading = "Pruning",
        allow_negative_numbers = true,
        default_value_t = 5
    )]
    pub prune_epochs: usize,
    /// Images per step of both trainings; all, if this exceeds their number
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 128)]
    pub batch: usize,
    /// Learning rate of pretraining, of finetuning and of imp, before --pretrain-schedule
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = 0.1)]
    pub pretrain_lr: f32,
    /// Learning-rate schedule of pretraining, of finetuning and of imp.
    #[arg(long, value_name = "SCHEDULE", help_heading = "Pretraining", default_value_t, help = Schedule::help("pretraining, of finetuning and of imp"))]
    pub pretrain_schedule: Schedule,
    /// Momentum of pretraining, of finetuning and of imp; 0 is plain SGD
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = 0.0)]
    pub pretrain_momentum: f32,
    /// Learning rate of edge-popup's scores, before --prune-schedule
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = 0.1)]
    pub prune_lr: f32,
    /// Learning-rate schedule of the scores.
    #[serde(default = "cosine")]
    #[arg(long, value_name = "SCHEDULE", help_heading = "Pruning", default_value_t = cosine(), help = Schedule::help("the scores"))]
    pub prune_schedule: Schedule,
    /// Momentum of the scores
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = 0.9)]
    pub momentum: f32,
    /// Weight decay of the scores
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = 1e-4)]
    pub weight_decay: f32,
    /// Hold out N training images for validation, drawn at random by the seed, stratified by class
    #[arg(
        long,
        value_name = "N",
        help_heading = "Data",
        allow_negative_numbers = true,
        default_value_t = 5000
    )]
    pub validation: usize,
    /// Train on N training images only, drawn at random by the seed, stratified by class [default: all that are not held out]
    #[arg(long, value_name = "N", help_heading = "Data", allow_negative_numbers = true)]
    pub train_images: Option<usize>,
    /// Keys all random numbers; default 1.
    #[arg(skip = 1_u64)]
    pub seed: u64,
    /// Number of threads; default all cores.
    #[serde(skip)]
    #[arg(skip)]
    pub threads: Option<usize>,
    /// The instruction set; default what the environment variable `SLTH_BACKEND` names, else the best.
    #[serde(skip)]
    #[arg(skip)]
    pub backend: Option<Backend>,
}

/// The schedule of the scores as published.
fn cosine() -> Schedule {
    Schedule::COSINE
}

/// Of imp.
fn rounds() -> usize {
    5
}

impl Default for RunConfig {
    /// The defaults of the flags.
    fn default() -> Self {
        crate::flags::defaults()
    }
}

/// The images of a run.
#[derive(Clone, Debug)]
pub(crate) struct Split<'a> {
    pub(crate) train: Subset<'a>,
    pub(crate) validation: Subset<'a>,
    pub(crate) test: Subset<'a>,
}

impl RunConfig {
    /// Maximum number of threads; more is an error of input.
    pub const MAX_THREADS: usize = 1024;

    /// Checks everything that can be checked without the data.
    ///
    /// # Errors
    /// [`Error::Config`] for the first invalid field.
    ///
    /// ```
    /// use slth::run::RunConfig;
    /// assert!(RunConfig::default().validate().is_ok());
    /// let error = RunConfig { sparsity: 1.0, ..RunConfig::default() }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "sparsity: must lie in [0, 1), but is 1");
    /// ```
    pub fn validate(&self) -> Result<(), Error> {
        let check = |field, holds, must: &str, is: &dyn Display| Error::check(field, holds, must, is);
        // −0 and 0 would be different runs with the same bits.
        let epsilon = self.epsilon >= 0.0 && self.epsilon.is_sign_positive();
        check("epsilon", epsilon, "lie in [0, inf]", &self.epsilon)?;
        let sparsity = (0.0..1.0).contains(&self.sparsity) && self.sparsity.is_sign_positive();
        check("sparsity", sparsity, "lie in [0, 1)", &self.sparsity)?;
        let prunes = self.sparsity == 0.0 || self.prune_epochs > 0 || self.method.ignores("prune_epochs");
        check("prune_epochs", prunes, "be at least 1 where weights are removed", &self.prune_epochs)?;
        self.cut(self.sparsity).check(&self.network)?;
        check("rounds", (1..=1000).contains(&self.rounds), "lie in 1 to 1000", &self.rounds)?;
        if self.method == PruneMethod::Imp && self.sparsity > 0.0 {
            self.imp_settings(self.sparsity).check()?;
        }
        let scale = (1e-30..1e30).contains(&self.init_scale);
        check("init_scale", scale, "lie in [1e-30, 1e30)", &self.init_scale)?;
        let drawn = !self.bias || self.weights.is_none();
        check(
            "bias",
            drawn,
            "be left out beside --weights, whose file says which layers have biases",
            &self.bias,
        )?;
        let mapped = self.map.is_none() || self.weights.is_some();
        check("map", mapped, "be left out without --weights", &"given")?;
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
    /// [`Error::Config`] for the first invalid field, by itself or for `dataset`.
    pub fn check(&self, dataset: &Dataset) -> Result<(), Error> {
        self.sizes(dataset)?;
        if self.weights.is_some() { self.initial().map(drop) } else { Ok(()) }
    }

    /// The same for the network that is `given`, else for that of the file of weights, else for the default.
    ///
    /// # Errors
    /// When the file does not tell which network it holds.
    pub fn with_network(self, given: Option<Architecture>) -> Result<Self, Error> {
        let network = match (given, &self.weights) {
            (Some(network), _) => network,
            (None, Some(file)) => StateDict::read(file, None, self.map.as_deref())?.network,
            (None, None) => Architecture::default(),
        };
        Ok(Self { network, ..self })
    }

    /// The hash of all that decides a result beside the configuration: the data, and the file of weights, where there is one.
    ///
    /// # Errors
    /// When that file cannot be read.
    pub fn data_hash(&self, dataset: &Dataset) -> Result<String, Error> {
        let data = dataset_hash(dataset);
        let Some(file) = &self.weights else { return Ok(data) };
        let bytes =
            crate::input::read(file.as_ref()).map_err(|problem| FileError { file: file.clone(), problem })?;
        Ok(text_hash([data.as_bytes(), &bytes].concat()))
    }

    /// Checks the configuration against the data and splits it.
    pub(crate) fn split<'a>(&self, dataset: &'a Dataset) -> Result<Split<'a>, Error> {
        let [validation, train] = Subset::stratified(dataset.train(), self.sizes(dataset)?, self.seed);
        Ok(Split { train, validation, test: Subset::all(dataset.test()) })
    }

    /// The numbers of held-out and of training images, after all checks.
    fn sizes(&self, dataset: &Dataset) -> Result<[usize; 2], Error> {
        self.validate()?;
        let available = dataset.train().len();
        let others = available.saturating_sub(self.validation);
        let must = format!("be less than the {available} training images it is taken from");
        Error::check("validation", others > 0, must, self.validation)?;
        let train = self.train_images.unwrap_or(others);
        let must = format!("be at most {others}, those not held out");
        Error::check("train_images", train <= others, must, train)?;
        check_network("network", &self.network, dataset)?;
        check_normalisation(dataset, self.normalize)?;
        if self.batch.min(available).saturating_mul(self.network.activations())
            > Architecture::MAX_ACTIVATIONS
        {
            let problem = format!(
                "{} images of {} need too much memory; give a smaller --batch",
                self.batch, self.network
            );
            return Err(Error::config("batch", problem));
        }
        Ok([self.validation, train])
    }
}

/// Checks a number of threads.
pub(crate) fn check_threads(threads: Option<usize>) -> Result<(), Error> {
    const MOST: usize = RunConfig::MAX_THREADS;
    let n = threads.unwrap_or(1);
    Error::check("threads", (1..=MOST).contains(&n), format_args!("lie in 1 to {MOST}"), n)
}

/// Checks that there are no constants of colours for images of one channel.
pub(crate) fn check_normalisation(dataset: &Dataset, rule: NormalisationRule) -> Result<(), Error> {
    let fits = dataset.shape()[0] == 3 || dataset.normalisation(rule).is_uniform();
    Error::check("normalize", fits, "have one mean for images of one channel", rule)
}

/// Checks that `network`, which `field` names, takes the images of `dataset` and has an output for each class.
pub(crate) fn check_network(
    field: &'static str,
    network: &Architecture,
    dataset: &Dataset,
) -> Result<(), Error> {
    let (inputs, outputs, source) = (network.inputs(), network.outputs(), dataset.source());
    let (shape, pixels) = (dataset.shape(), dataset.features());
    let size = image_size(shape);
    if let Some(image) = network.image().filter(|&image| image != shape) {
        let taken = image_size(image);
        let problem = format!("{network} takes images of {taken}, but those of {source} are {size}");
        return Err(Error::config(field, problem));
    }
    if inputs != pixels {
        let problem = format!("{network} takes {inputs} inputs, but {source} has {size} = {pixels} pixels");
        return Err(Error::config(field, problem));
    }
    if outputs < dataset.classes() {
        let (classes, label) = (dataset.classes(), dataset.largest_label());
        let problem = format!("{network} has {outputs} outputs, but {source} has {classes} classes: {label}");
        return Err(Error::config(field, problem));
    }
    Ok(())
}
