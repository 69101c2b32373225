//! The experiment: every ε of a configuration, and its files.

use super::check::Check;
use super::config::ApproximateConfig;
use super::network::{Approximator, Rebuilt};
use super::report::figure;
use super::result::{ApproximationResult, ApproximationRow, ConstructionRow, SmallestRow};
use super::rewrite::Rewrite;
use super::target::Target;
use crate::data::Dataset;
use crate::error::Error;
use crate::machine::Machine;
use crate::output::{Content, NamedContent, OutputDirectory};
use crate::plot::PlotError;
use crate::progress::Progress;
use crate::run::hash::BITS_REVISION;

/// The results for every ε.
pub struct ApproximateOutcome {
    /// The content of `approximation.json`.
    pub result: ApproximationResult,
    /// The check of each ε, if requested; all have passed.
    pub checks: Vec<Check>,
    /// The safetensors files of each ε.
    files: Vec<Box<dyn Content>>,
}

impl Approximator<'_> {
    /// Approximates the tensors with every ε; with several also finds the smallest n of each. `network`: the file's network, if
    /// it is a fully connected one without biases, and its test images. `check`: compares every subset with the optimum. `out`:
    /// the directory of the files, and whether the subsets are written too.
    ///
    /// # Errors
    /// When the network does not fit its data, a subset is found not to be optimal, or a file cannot be read or written.
    pub fn approximate_all(
        &self,
        network: Option<(&Target, &Dataset)>,
        check: bool,
        out: Option<(&OutputDirectory, bool)>,
        watch: &dyn Progress,
    ) -> Result<ApproximateOutcome, Error> {
        let mut outcome = self.outcome(network.map(|(target, _)| target));
        let accuracy = |target: &Target, data| Ok::<_, Error>(self.evaluate(target, data)?.accuracy());
        let before = network.map(|(target, data)| accuracy(target, data)).transpose()?;
        for &epsilon in &self.config.epsilon {
            let rewrite = |(out, subsets)| Rewrite::new(self, epsilon, subsets, out);
            let mut rewrite = out.map(rewrite).transpose()?;
            let mut after = network.map(|(target, data)| (target.clone(), data));
            let mut take = |rebuilt: Rebuilt<'_>| {
                if let Some((target, _)) = &mut after {
                    let weights = rebuilt.weights();
                    target.weights[rebuilt.tensor.rank][rebuilt.first..][..weights.len()]
                        .copy_from_slice(&weights);
                }
                rewrite.as_mut().map_or(Ok(()), |rewrite| rewrite.add(&rebuilt))
            };
            let (row, check) = self.approximate(epsilon, check, &mut take, watch)?;
            let check = check.map(Check::passed).transpose()?;
            outcome.checks.extend(check);
            let after = after.map(|(target, data)| accuracy(&target, data)).transpose()?;
            outcome.result.results.push(ApproximationRow {
                accuracy_before: before,
                accuracy_after: after,
                max_excess: check.map(|check| check.max_excess),
                ..row
            });
            for file in rewrite.map(Rewrite::finish).transpose()?.unwrap_or_default() {
                outcome.files.push(Box::new(file));
            }
        }
        if self.config.epsilon.len() > 1 {
            for &epsilon in &self.config.epsilon {
                let candidates_per_weight = self.smallest(epsilon, watch)?;
                outcome.result.smallest.push(SmallestRow { epsilon, candidates_per_weight });
            }
        }
        Ok(outcome)
    }

    /// Builds the theorem's network for `target` with every ε, and evaluates it if `data` is given.
    ///
    /// # Errors
    /// When the target does not fit `data`, or the network would be too large.
    pub fn construct_all(
        &self,
        target: &Target,
        data: Option<&Dataset>,
        watch: &dyn Progress,
    ) -> Result<ApproximateOutcome, Error> {
        let mut outcome = self.outcome(Some(target));
        let before = data.map(|data| self.evaluate(target, data)).transpose()?;
        for &epsilon in &self.config.epsilon {
            let built = self.construct(target, epsilon, watch)?;
            let after = data.map(|data| self.evaluate_construction(&built, data)).transpose()?;
            outcome.result.results.push(ApproximationRow {
                accuracy_before: before.map(|before| before.accuracy()),
                accuracy_after: after.map(|after| after.accuracy()),
                ..built.summary(self.config.eta)
            });
            outcome.result.construction.push(ConstructionRow::new(&built));
            outcome.files.push(Box::new(built.to_safetensors(self.config)));
        }
        Ok(outcome)
    }

    /// Without results yet.
    fn outcome(&self, network: Option<&Target>) -> ApproximateOutcome {
        let (backend, threads) = self.runs_on();
        let result = ApproximationResult {
            results: Vec::new(),
            smallest: Vec::new(),
            construction: Vec::new(),
            network: network.map(|target| target.network.to_string()),
            tensors: self.parts.iter().map(|part| part.tensor.name.clone()).collect(),
            target_hash: self.hash.clone(),
            backend: backend.name().to_owned(),
            threads,
            slth_version: env!("CARGO_PKG_VERSION").to_owned(),
            bits_revision: BITS_REVISION,
            machine: Machine::current(),
            configuration: self.config.clone(),
        };
        ApproximateOutcome { result, checks: Vec::new(), files: Vec::new() }
    }
}

impl ApproximateOutcome {
    /// The names of all files; the last one marks a complete result. `subsets`: with those of the subsets.
    pub fn file_names(config: &ApproximateConfig, subsets: bool) -> Vec<String> {
        let whats = if subsets { &["approximated", "subsets"][..] } else { &["approximated"] };
        let of = |&epsilon| whats.iter().map(move |what| ApproximationResult::file_of(config, what, epsilon));
        let figure = if config.epsilon.len() > 1 { &ApproximationResult::PLOT[..] } else { &[] };
        let networks = config.epsilon.iter().flat_map(of);
        let rest = figure.iter().chain([&ApproximationResult::FILE]).map(|name| (*name).to_owned());
        networks.chain(rest).collect()
    }

    /// Name and content of the same files.
    ///
    /// # Errors
    /// When the figure cannot be drawn.
    pub fn files(self) -> Result<Vec<NamedContent>, PlotError> {
        let Self { result, files: mut contents, .. } = self;
        let subsets = contents.len() > result.results.len();
        if result.results.len() > 1 {
            let figure = figure(&result);
            contents.extend([Box::new(figure.svg()?.into_bytes()) as _, Box::new(figure.png(2.0)?) as _]);
        }
        contents.push(Box::new(result.to_json().into_bytes()));
        let names = Self::file_names(&result.configuration, subsets);
        Ok(names.into_iter().zip(contents).collect())
    }
}
