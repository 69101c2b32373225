//! The experiment: every ε of a configuration, and its files.

use super::check::Check;
use super::config::ApproximateConfig;
use super::network::Approximator;
use super::report::figure;
use super::result::{ApproximationResult, ApproximationRow, ConstructionRow, SmallestRow};
use crate::data::Dataset;
use crate::error::Error;
use crate::plot::PlotError;
use crate::progress::Progress;

/// What came out for every ε.
#[derive(Clone, Debug)]
pub struct ApproximateOutcome {
    /// The content of `approximation.json`.
    pub result: ApproximationResult,
    /// The check of each ε, where one was asked for; all have passed.
    pub checks: Vec<Check>,
    /// The safetensors file of each ε.
    networks: Vec<Vec<u8>>,
}

impl Approximator<'_> {
    /// Approximates the target with every ε; with several also finds the smallest n of each. `check`: compares every subset
    /// with the optimum.
    ///
    /// # Errors
    /// When the target does not fit `data`, or a subset is found not to be optimal.
    pub fn approximate_all(
        &self,
        data: &Dataset,
        check: bool,
        watch: &dyn Progress,
    ) -> Result<ApproximateOutcome, Error> {
        let mut outcome = self.outcome();
        let before = self.evaluate(&self.target.weights, data)?;
        for &epsilon in &self.config.epsilon {
            let found = self.approximate(epsilon, watch)?;
            let check = check.then(|| self.check(&found, watch).passed()).transpose()?;
            outcome.checks.extend(check);
            let after = self.evaluate(&found.weights, data)?;
            outcome.result.results.push(ApproximationRow {
                accuracy_before: Some(before.accuracy()),
                accuracy_after: Some(after.accuracy()),
                max_excess: check.map(|check| check.max_excess),
                ..found.summary()
            });
            outcome.networks.push(found.to_safetensors(self.target, self.config));
        }
        if self.config.epsilon.len() > 1 {
            for &epsilon in &self.config.epsilon {
                let candidates_per_weight = self.smallest(epsilon, watch)?;
                outcome.result.smallest.push(SmallestRow { epsilon, candidates_per_weight });
            }
        }
        Ok(outcome)
    }

    /// Builds the theorem's network with every ε, and evaluates it where `data` is given.
    ///
    /// # Errors
    /// When the target does not fit `data`, or the network would be too large.
    pub fn construct_all(
        &self,
        data: Option<&Dataset>,
        watch: &dyn Progress,
    ) -> Result<ApproximateOutcome, Error> {
        let mut outcome = self.outcome();
        let before = data.map(|data| self.evaluate(&self.target.weights, data)).transpose()?;
        for &epsilon in &self.config.epsilon {
            let built = self.construct(epsilon, watch)?;
            let after = data.map(|data| self.evaluate_construction(&built, data)).transpose()?;
            outcome.result.results.push(ApproximationRow {
                accuracy_before: before.map(|before| before.accuracy()),
                accuracy_after: after.map(|after| after.accuracy()),
                ..built.summary(self.config.eta)
            });
            outcome.result.construction.push(ConstructionRow::new(&built));
            outcome.networks.push(built.to_safetensors(self.config));
        }
        Ok(outcome)
    }

    fn outcome(&self) -> ApproximateOutcome {
        let (backend, threads) = self.runs_on();
        let result = ApproximationResult::new(self.config, self.target, backend.name(), threads);
        ApproximateOutcome { result, checks: Vec::new(), networks: Vec::new() }
    }
}

impl ApproximateOutcome {
    /// The names of all files, the sign of a complete result last. `construction`: those of the theorem's network.
    pub fn file_names(config: &ApproximateConfig, construction: bool) -> Vec<String> {
        let networks =
            config.epsilon.iter().map(|&epsilon| ApproximationResult::network_file(config, epsilon));
        let figure = ApproximationResult::PLOT.map(str::to_owned);
        let drawn = config.epsilon.len() > 1 && !construction;
        let result = ApproximationResult::FILE.to_owned();
        networks.chain(figure.into_iter().filter(|_| drawn)).chain([result]).collect()
    }

    /// Name and content of the same files.
    ///
    /// # Errors
    /// When the figure cannot be drawn.
    pub fn files(self) -> Result<Vec<(String, Vec<u8>)>, PlotError> {
        let Self { result, networks: mut contents, .. } = self;
        if !result.smallest.is_empty() {
            let figure = figure(&result);
            contents.extend([figure.svg()?.into_bytes(), figure.png(2.0)?]);
        }
        contents.push(result.to_json().into_bytes());
        let names = Self::file_names(&result.configuration, !result.construction.is_empty());
        Ok(names.into_iter().zip(contents).collect())
    }
}
