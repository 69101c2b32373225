//! Trained networks in safetensors files, as PyTorch's state dicts are saved.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use safetensors::Dtype;

use crate::input::FileError;
use crate::network::Architecture;
use crate::tensors::{Parameter, TensorFile, TensorProblem};

/// The parameters of a trained network.
#[derive(Clone, Debug, PartialEq)]
pub struct StateDict {
    /// Its layers.
    pub network: Architecture,
    /// The name of each layer's weights.
    pub names: Vec<String>,
    /// Each layer's weights `[outputs, inputs]`, then its biases if it has some, first to last.
    pub parameters: Vec<Vec<f32>>,
}

/// Why a file holds no network.
pub type StateDictError = FileError<StateDictProblem>;

/// What is wrong with the tensors of a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateDictProblem {
    /// It is no safetensors file, or has numbers that are not finite.
    #[error(transparent)]
    File(#[from] TensorProblem),
    /// What does not fit, tensor by tensor.
    #[error("{}", .0.join("; "))]
    Misfit(Vec<String>),
}

type Named<'a> = HashMap<&'a str, Parameter<'a>>;

/// The tensors of a layer.
struct Layer<'a> {
    weights: Parameter<'a>,
    bias: Option<Parameter<'a>>,
}

impl StateDict {
    /// Reads a network from a file, see [`of`](Self::of).
    ///
    /// # Errors
    /// When the file cannot be read, or as `of`.
    pub fn read(
        file: impl AsRef<Path>,
        network: Option<&Architecture>,
        map: Option<&[String]>,
    ) -> Result<Self, StateDictError> {
        Self::of(&TensorFile::open(file).map_err(FileError::convert)?, network, map)
    }

    /// Takes the tensors of F16, BF16, F32 and F64 with two or more dimensions as the layers' weights, in the natural order of
    /// their names (`fc2` before `fc10`), and as the biases of `NAME.weight` the vector `NAME.bias`. What PyTorch has pruned into
    /// `NAME_orig` and `NAME_mask` is their product, as are `NAME.weight` and `NAME.mask` of an expanded ticket. With `map` the layers are those it lists, first to last, each by the name of
    /// its weights, with or without `.weight`; `WEIGHT+BIAS` names the biases too. Other tensors are then ignored, and without it
    /// refused. Without `network` it is the chain of fully connected layers that the sizes tell. Reads no numbers unless all
    /// types and sizes are those of the network.
    ///
    /// # Errors
    /// When a tensor does not fit (all that do not are listed), the network is needed, or a number is not finite.
    pub fn of(
        file: &TensorFile,
        network: Option<&Architecture>,
        map: Option<&[String]>,
    ) -> Result<Self, StateDictError> {
        let all = with_masks(file.parameters());
        let named: Named<'_> = all.iter().map(|&parameter| (parameter.name, parameter)).collect();
        let layers =
            map.map_or_else(|| natural(&all, &named), |map| mapped(&named, map)).and_then(|layers| {
                let network = network.map_or_else(|| chain(&layers), |network| Ok(network.clone()))?;
                let problems = misfits(&network, &layers);
                if problems.is_empty() { Ok((network, layers)) } else { Err(problems) }
            });
        let (network, layers) = layers.map_err(|problems| file.error(StateDictProblem::Misfit(problems)))?;
        let numbers = |Layer { weights, bias }: &Layer<'_>| {
            let mut numbers = file.values(weights)?;
            numbers.extend(bias.as_ref().map(|bias| file.values(bias)).transpose()?.into_iter().flatten());
            Ok(numbers)
        };
        let names = layers.iter().map(|layer| layer.weights.name.to_owned()).collect();
        let parameters = layers.iter().map(numbers).collect::<Result<_, _>>().map_err(FileError::convert)?;
        Ok(Self { network, names, parameters })
    }
}

/// Joins what `slth ticket expand` writes, NAME.weight and NAME.mask, as PyTorch's `NAME_orig` and `NAME_mask` are joined.
fn with_masks(all: Vec<Parameter<'_>>) -> Vec<Parameter<'_>> {
    let shape = |parameter: &Parameter<'_>| parameter.tensor.info.shape.clone();
    let masks: HashMap<_, _> = (all.iter().filter(|mask| mask.tensor.info.dtype == Dtype::U8))
        .filter_map(|mask| Some(((mask.name.strip_suffix(".mask")?, shape(mask)), mask.tensor)))
        .collect();
    let mut joined = HashSet::new();
    let mut parameters = Vec::with_capacity(all.len());
    for parameter in &all {
        let stem = parameter.name.strip_suffix(".weight").filter(|_| parameter.tensor.is_float());
        let mask = stem.and_then(|stem| masks.get(&(stem, shape(parameter))).copied());
        joined.extend(mask.map(|mask| &*mask.name));
        parameters.push(Parameter { mask: parameter.mask.or(mask), ..*parameter });
    }
    parameters.retain(|parameter| !joined.contains(parameter.name));
    parameters
}

/// The layer of these weights; its biases have the same name with `bias` in place of the last `weight`.
fn layer<'a>(named: &Named<'a>, weights: Parameter<'a>) -> Layer<'a> {
    let bias = weights.name.rsplit_once("weight").map(|(before, after)| format!("{before}bias{after}"));
    Layer { weights, bias: bias.and_then(|bias| named.get(&*bias).copied()) }
}

/// The layers that a map lists.
fn mapped<'a>(named: &Named<'a>, map: &[String]) -> Result<Vec<Layer<'a>>, Vec<String>> {
    let find =
        |name: &str| named.get(name).copied().ok_or_else(|| vec![format!("no tensor is called `{name}`")]);
    let entry = |entry: &String| {
        let (name, bias) = entry.split_once('+').map_or((&**entry, None), |(name, bias)| (name, Some(bias)));
        let weights = find(name).or_else(|error| find(&format!("{name}.weight")).map_err(|_| error))?;
        match bias {
            Some(bias) => Ok(Layer { weights, bias: Some(find(bias)?) }),
            None => Ok(layer(named, weights)),
        }
    };
    map.iter().map(entry).collect()
}

/// All tensors as layers.
fn natural<'a>(all: &[Parameter<'a>], named: &Named<'a>) -> Result<Vec<Layer<'a>>, Vec<String>> {
    let weights =
        |parameter: &&Parameter<'_>| parameter.tensor.is_float() && parameter.tensor.info.shape.len() > 1;
    let layers: Vec<_> = all.iter().filter(weights).map(|&weights| layer(named, weights)).collect();
    let biases: HashSet<_> = layers.iter().filter_map(|layer| Some(layer.bias?.name)).collect();
    let other = |parameter: &&Parameter<'_>| !weights(parameter) && !biases.contains(parameter.name);
    let other = all.iter().filter(other);
    let problems: Vec<_> = other
        .map(|other| format!("{other} is neither weights nor biases of a layer: name the layers by --map"))
        .collect();
    match layers.is_empty() {
        _ if !problems.is_empty() => Err(problems),
        true => Err(vec!["no tensors".to_owned()]),
        false => Ok(layers),
    }
}

/// The fully connected network of these layers.
fn chain(layers: &[Layer<'_>]) -> Result<Architecture, Vec<String>> {
    let mut widths: Vec<usize> = Vec::new();
    for Layer { weights, .. } in layers {
        let &[outputs, inputs] = &*weights.tensor.info.shape else {
            return Err(vec![format!(
                "{weights} is a filter: give the network by --network, as no file says image size, strides, padding and pooling"
            )]);
        };
        if let Some(before) = widths.last().filter(|&&before| before != inputs) {
            return Err(vec![format!(
                "{weights} follows a layer of {before} outputs in the natural order of the names: list the layers in their order by --map"
            )]);
        }
        widths.extend([inputs, outputs].into_iter().skip(usize::from(!widths.is_empty())));
    }
    Architecture::new(widths).map_err(|problem| vec![problem])
}

/// What of the layers is not as the network asks.
fn misfits(network: &Architecture, layers: &[Layer<'_>]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |index: usize, found: &Parameter<'_>, what: &str, expected: &[usize]| {
        if !found.tensor.is_float() || found.tensor.info.shape != expected {
            problems
                .push(format!("{found} does not fit the {what} of layer {index} of {network}, {expected:?}"));
        }
    };
    for ((index, shape), Layer { weights, bias }) in (1..).zip(network.layers()).zip(layers) {
        check(index, weights, "weights", &shape.dimensions());
        if let Some(bias) = bias {
            check(index, bias, "biases", &[shape.outputs]);
        }
    }
    let count = network.layers().len();
    let more = layers.iter().skip(count);
    problems.extend(more.map(|layer| format!("{} is beyond the {count} layers of {network}", layer.weights)));
    let fewer = (1..).zip(network.layers()).skip(layers.len());
    problems.extend(fewer.map(|(index, shape)| {
        format!("layer {index} of {network}, {:?}, has no tensor", shape.dimensions())
    }));
    problems
}
