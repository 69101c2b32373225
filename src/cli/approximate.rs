//! `slth approximate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use slth::Error;
use slth::approximate::{ApproximateConfig, Approximator, Draw, Target};
use slth::approximate::{ApproximationResult, ApproximationRow, ConstructionRow, SmallestRow};
use slth::data::{Dataset, NormalisationRule};
use slth::output::OutputDirectory;
use slth::plot::png;
use slth::progress::Progress;

use super::list::List;
use super::number::number;
use super::progress::progress;
use super::table::numbers;
use super::{backend, dataset};

/// Rebuild a trained network from random candidates by subset sums.
///
/// Each weight becomes the sum of a subset of n random candidates, uniform between the network's least and largest weight;
/// each candidate may be moved by epsilon. Reports how near the weights come and the accuracy before and after. With
/// several epsilons also the smallest n for each at which no weight fails.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct ApproximateArguments {
    /// A fully connected network without biases: safetensors, one matrix [outputs, inputs] per layer, layers in the natural
    /// order of their names [default: trains 784-500-10; with --construction relu: draws 16-8-4]
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    target: Option<PathBuf>,

    /// Directory with the IDX files to train and test on, as for `slth run` [default: the built-in MNIST]
    #[arg(long, value_name = "DIR", help_heading = "Target")]
    data: Option<PathBuf>,

    /// How a pixel x becomes an input: mean-std, unit or MEAN,STD, as for `slth run`
    #[arg(long, value_name = "mean-std|unit|MEAN,STD", help_heading = "Target", default_value_t = ApproximateConfig::default().normalize)]
    normalize: NormalisationRule,

    /// The tolerance: a weight further from its subset has failed
    #[arg(long, value_name = "F", help_heading = "Approximation", allow_negative_numbers = true, value_parser = number::<f64>, default_value_t = ApproximateConfig::default().eta)]
    eta: f64,

    /// Candidates per weight are c times log2(1/eta), the logarithm rounded
    #[arg(long, value_name = "F", help_heading = "Approximation", allow_negative_numbers = true, value_parser = number::<f64>, default_value_t = ApproximateConfig::default().c)]
    c: f64,

    /// Candidates per weight, in place of --c
    #[arg(long, value_name = "N", help_heading = "Approximation", allow_negative_numbers = true)]
    candidates: Option<usize>,

    /// Which weights share their candidates: those of a row, or none
    #[arg(
        long,
        value_name = "per-row|per-weight",
        help_heading = "Approximation",
        default_value_t,
        conflicts_with = "construction"
    )]
    draw: Draw,

    /// How far each candidate may be moved; one approximation for each
    #[arg(
        long,
        value_name = "F,F,..",
        help_heading = "Approximation",
        allow_negative_numbers = true,
        default_value = "0"
    )]
    epsilon: List<f32>,

    /// Build the theorem's network instead: 2n hidden ReLU units per weight, all drawn for it alone, masked and perturbed;
    /// for small targets
    #[arg(long, value_name = "KIND", help_heading = "Approximation")]
    construction: Option<ConstructionKind>,

    /// Keys all random numbers
    #[arg(long, value_name = "N", help_heading = "Approximation", allow_negative_numbers = true, default_value_t = ApproximateConfig::default().seed)]
    seed: u64,

    /// Verify every subset against the optimum found in f64
    #[arg(long, help_heading = "Approximation", conflicts_with = "construction")]
    check: bool,

    /// Directory for approximation.json, the approximated network as safetensors and, with several epsilons, the plot of
    /// the smallest n
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,

    /// Replace results in --out
    #[arg(long, help_heading = "Output")]
    force: bool,

    /// Show no progress
    #[arg(long, help_heading = "Output")]
    quiet: bool,

    /// Number of threads; does not change the result [default: all cores]
    #[arg(long, value_name = "N", help_heading = "Where it is computed", allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Instruction set, as listed by `slth info`; does not change the result [default: $SLTH_BACKEND, else the best]
    #[arg(long, value_name = "NAME", help_heading = "Where it is computed")]
    backend: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ConstructionKind {
    Relu,
}

/// A file's name and content.
type File = (String, Vec<u8>);

/// Approximates; the text is the tables for standard output.
pub(super) fn approximate(arguments: ApproximateArguments) -> Result<String, Error> {
    let config = configuration(&arguments)?;
    config.validate()?;
    let given = arguments.target.as_ref().map(Target::read).transpose()?;
    let watch = progress(arguments.quiet);
    let names = file_names(&arguments, &config);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let prepare = || {
        let prepare = |path: &PathBuf| OutputDirectory::prepare(path, &names, arguments.force);
        arguments.out.as_ref().map(prepare).transpose()
    };
    let (text, files, out) = if arguments.construction.is_some() {
        let data = arguments.data.as_deref().map(|directory| dataset(Some(directory))).transpose()?;
        let target = match given {
            Some(target) => target,
            None => Target::draw("16-8-4".parse().expect("a network"), config.seed),
        };
        let approximator = Approximator::new(&config, &target)?;
        if let Some(data) = &data {
            approximator.fits(data)?;
        }
        let out = prepare()?;
        let (text, files) = construct(&config, &target, &approximator, data.as_ref(), watch.as_ref())?;
        (text, files, out)
    } else {
        let data = dataset(arguments.data.as_deref())?;
        if let Some(target) = &given {
            Approximator::new(&config, target)?.fits(&data)?;
        }
        let out = prepare()?;
        let target = match given {
            Some(target) => target,
            None => Target::train(&config, &data, watch.as_ref())?,
        };
        let approximator = Approximator::new(&config, &target)?;
        let (text, files) = rebuild(&config, &target, &approximator, &data, arguments.check, watch.as_ref())?;
        (text, files, out)
    };
    if let Some(out) = out {
        out.write(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>())?;
    }
    Ok(text)
}

fn configuration(arguments: &ApproximateArguments) -> Result<ApproximateConfig, Error> {
    Ok(ApproximateConfig {
        eta: arguments.eta,
        c: arguments.c,
        candidates: arguments.candidates,
        draw: if arguments.construction.is_some() { Draw::PerWeight } else { arguments.draw },
        epsilon: arguments.epsilon.0.clone(),
        normalize: arguments.normalize,
        seed: arguments.seed,
        threads: arguments.threads,
        backend: Some(backend(arguments.backend.as_deref())?),
    })
}

/// Every file that will be written, the sign of a complete result last.
fn file_names(arguments: &ApproximateArguments, config: &ApproximateConfig) -> Vec<String> {
    let networks = config.epsilon.iter().map(|&epsilon| ApproximationResult::network_file(config, epsilon));
    let plot = ApproximationResult::PLOT.map(str::to_owned);
    let plotted = config.epsilon.len() > 1 && arguments.construction.is_none();
    networks
        .chain(plot.into_iter().filter(|_| plotted))
        .chain([ApproximationResult::FILE.to_owned()])
        .collect()
}

fn rebuild(
    config: &ApproximateConfig,
    target: &Target,
    approximator: &Approximator<'_>,
    data: &Dataset,
    check: bool,
    watch: &dyn Progress,
) -> Result<(String, Vec<File>), Error> {
    let (backend, threads) = approximator.runs_on();
    let mut result = ApproximationResult::new(config, target, backend.name(), threads);
    let mut files = Vec::new();
    let mut checked = String::new();
    let before = approximator.evaluate(&target.weights, data)?;
    for &epsilon in &config.epsilon {
        let found = approximator.approximate(epsilon, watch)?;
        let check = check.then(|| approximator.check(&found, watch));
        if let Some(check) = check {
            if check.beyond > 0 {
                let (beyond, subsets, max_excess) = (check.beyond, check.subsets, check.max_excess);
                return Err(Error::NotOptimal { beyond, subsets, max_excess });
            }
            checked += &format!(
                "checked: all {} subsets at ε = {epsilon} are optimal in f64 within 2^-22 max(1, Σ|x|), the worst within \
                 {:.1e}\n",
                check.subsets, check.max_excess
            );
        }
        let after = approximator.evaluate(&found.weights, data)?;
        result.results.push(ApproximationRow::new(&found, before, after, check));
        let name = ApproximationResult::network_file(config, epsilon);
        files.push((name, found.to_safetensors(target, config)));
    }
    if config.epsilon.len() > 1 {
        for &epsilon in &config.epsilon {
            let candidates_per_weight = approximator.smallest(epsilon, watch)?;
            result.smallest.push(SmallestRow { epsilon, candidates_per_weight });
        }
        let picture = result.plot()?;
        let pixels = png(&picture, 2.0)?;
        let contents = [picture.into_bytes(), pixels];
        files.extend(ApproximationResult::PLOT.map(str::to_owned).into_iter().zip(contents));
    }
    let text = format!(
        "{} from {} candidates per weight, drawn {}, η = {}, seed {}; backend {backend}, threads {threads}\n{}\n{checked}\
         published (Pensia et al. 2020, 784-500-10, 21 per row, ε = 0): kept 44.7 %, 97.19 % before and after, 77266 s on \
         36 cores\n",
        target.network,
        config.candidates_per_weight(),
        config.draw,
        config.eta,
        config.seed,
        table(&result),
    );
    files.push((ApproximationResult::FILE.to_owned(), result.to_json().into_bytes()));
    Ok((text, files))
}

fn construct(
    config: &ApproximateConfig,
    target: &Target,
    approximator: &Approximator<'_>,
    data: Option<&Dataset>,
    watch: &dyn Progress,
) -> Result<(String, Vec<File>), Error> {
    let (backend, threads) = approximator.runs_on();
    let mut result = ApproximationResult::new(config, target, backend.name(), threads);
    let mut files = Vec::new();
    let before = data.map(|data| approximator.evaluate(&target.weights, data)).transpose()?;
    for &epsilon in &config.epsilon {
        let built = approximator.construct(epsilon, watch)?;
        let after = data.map(|data| approximator.evaluate_construction(&built, data)).transpose()?;
        let accuracies = before.zip(after).map(|(before, after)| [before, after]);
        result.results.push(ApproximationRow::of_construction(&built, config.eta, accuracies));
        result.construction.push(ConstructionRow::new(&built));
        let name = ApproximationResult::network_file(config, epsilon);
        files.push((name, built.to_safetensors(config)));
    }
    let mut networks = numbers(["ε", "network", "weights", "kept", "max |difference|", "max |output|"]);
    for row in &result.construction {
        networks.add_row([
            row.epsilon.to_string(),
            row.network.clone(),
            row.weights.to_string(),
            row.kept.to_string(),
            format!("{:.2e}", row.max_difference),
            format!("{:.3}", row.max_output),
        ]);
    }
    let text = format!(
        "{} as a masked, perturbed network of 2 · {} ReLU units per weight, η = {}, seed {}; backend {backend}, threads \
         {threads}\n{}\noutputs on {} random inputs in [-1, 1], beside the target's\n{networks}\n",
        target.network,
        config.candidates_per_weight(),
        config.eta,
        config.seed,
        table(&result),
        result.construction.first().map_or(0, |row| row.probes),
    );
    files.push((ApproximationResult::FILE.to_owned(), result.to_json().into_bytes()));
    Ok((text, files))
}

fn table(result: &ApproximationResult) -> comfy_table::Table {
    let mut header =
        vec!["ε", "weights", "kept", "of", "max residual", "mean", "failed", "before", "after", "seconds"];
    if !result.smallest.is_empty() {
        header.push("smallest n");
    }
    let mut table = numbers(header);
    let percent =
        |fraction: Option<f64>| fraction.map_or_else(|| "-".to_owned(), |x| format!("{:.2} %", 100.0 * x));
    for (index, row) in result.results.iter().enumerate() {
        let mut cells = vec![
            row.epsilon.to_string(),
            row.weights.to_string(),
            percent(Some(row.kept_fraction())),
            row.candidates_total.to_string(),
            format!("{:.2e}", row.max_residual),
            format!("{:.2e}", row.mean_residual),
            row.failed.to_string(),
            percent(row.accuracy_before),
            percent(row.accuracy_after),
            format!("{:.2}", row.seconds),
        ];
        if let Some(smallest) = result.smallest.get(index) {
            cells.push(smallest.candidates_per_weight.map_or_else(|| ">30".to_owned(), |n| n.to_string()));
        }
        table.add_row(cells);
    }
    table
}
