//! What a run found, for programs: the files `results.json`, `arms.json` and `timings.json` of a run folder.

mod arms;
mod timings;

pub use arms::{ArmStages, ArmsFile, SeedStages, StageLine};
pub use timings::{Latencies, StageTime, Timings};

use std::{collections::BTreeMap, path::Path};

use masformer_core::{MixerSpec, Span};
use moebert_core::file::FileError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ablate::{
        compare::{Comparison, FactorWorth},
        statistics::Direction,
    },
    graph::{Key, failure::Cause},
    json_file,
    metric::Scores,
    record::RESULTS,
    table::AttentionCost,
};

/// The version of the files' form.
pub const SCHEMA: u32 = 1;

/// The content of `results.json`: what each model got with each seed, and what the arms show. It holds no times, so that a run
/// that was broken off and one that was not have the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The run's name.
    pub run: String,
    /// The metric that decides, where arms are compared.
    pub metric: Option<String>,
    /// All metrics in the order of the table.
    pub metrics: Vec<String>,
    /// Which values are better, of each metric that examples have parts of.
    pub directions: BTreeMap<String, Direction>,
    /// The level of tests and intervals.
    pub alpha: f64,
    /// The difference that does not matter, in the unit of the metric.
    pub margin: Option<f64>,
    /// The arm that the others are compared with.
    pub reference: Option<String>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The models in the order of the table.
    pub arms: Vec<ArmResults>,
    /// What the arms show.
    pub comparisons: Vec<Comparison>,
    /// What each factor is worth, where some are dropped or added.
    pub factors: Vec<FactorWorth>,
    /// What to know beside them.
    pub notes: Vec<String>,
}

/// A model of a run: an arm, or one that arms are made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmResults {
    /// Its name.
    pub name: String,
    /// The keys that it changes, with their values; empty where it is no arm.
    pub set: Map<String, Value>,
    /// Whether it is an arm.
    pub is_arm: bool,
    /// Its layers in short, as in `2 full, 4 window:64`.
    pub layers: Option<String>,
    /// What each layer attends to, from the bottom.
    pub spans: Vec<Span>,
    /// What each layer mixes tokens with, from the bottom; empty where all are attention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixers: Vec<MixerSpec>,
    /// Its experts; none for dense feed-forward layers.
    pub experts: Option<String>,
    /// What it got with each seed.
    pub seeds: Vec<SeedResults>,
    /// The metrics over the seeds that are done.
    pub metrics: BTreeMap<String, Estimate>,
    /// What it costs; none where no seed is done.
    pub cost: Option<ModelCost>,
}

/// A model with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedResults {
    /// The seed.
    pub seed: u64,
    /// The keys of its stages, by what they are in its folder.
    pub stages: BTreeMap<String, Key>,
    /// How far it came.
    pub status: Status,
    /// Why it failed, or which failed stage it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<SeedFailure>,
    /// Its scores; empty where it is not done.
    pub metrics: Scores,
    /// The number of examples that count, of each metric that examples have parts of.
    #[serde(default)]
    pub examples: BTreeMap<String, usize>,
    /// Its scores before its training, where it goes on from a given model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Scores>,
}

/// How far a model with one seed came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is trained and judged.
    Done,
    /// A stage of its own failed.
    Failed,
    /// It needs a stage that failed.
    Blocked,
    /// Something is left to do.
    Open,
}

/// Why a model with one seed has no scores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFailure {
    /// The stage that failed.
    pub stage: Key,
    /// What it does, for people.
    pub title: String,
    /// The cause.
    pub cause: Cause,
    /// The error in one line.
    pub message: String,
    /// The last lines of its log.
    pub log: Vec<String>,
}

/// A metric over the seeds of an arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean; none where the metric has no value with a seed.
    pub mean: Option<f64>,
    /// The sample standard deviation; none for one seed.
    pub sd: Option<f64>,
    /// The lower end of the interval; none where there is none.
    pub low: Option<f64>,
    /// The upper end of the interval.
    pub high: Option<f64>,
}

/// What a model costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCost {
    /// Number of weights.
    pub parameters: u64,
    /// Number of weights that one token passes through.
    pub active_parameters: u64,
    /// Multiply-adds of a forward pass, for one token.
    pub multiply_adds_per_token: u64,
    /// What attention costs, where it matters.
    pub attention: Option<AttentionCost>,
}

impl Results {
    /// Reads those of a run folder.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is none of a run.
    pub fn read(run: &Path) -> Result<Self, FileError> {
        Self::of_file(&run.join(RESULTS))
    }

    /// Reads them from their file, whatever its name.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is none of a run.
    pub fn of_file(path: &Path) -> Result<Self, FileError> {
        json_file::read(path)
    }

    /// The model of a name.
    pub fn arm(&self, name: &str) -> Option<&ArmResults> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// The metric that is shown where one is: that which decides, else the first.
    pub fn shown_metric(&self) -> Option<&str> {
        let first = || self.metrics.first();
        self.metric.as_ref().or_else(first).map(String::as_str)
    }

    /// Which values of a metric are better; the higher ones where examples have no parts of it.
    pub fn direction(&self, metric: &str) -> Direction {
        let known = self.directions.get(metric).copied();
        known.unwrap_or(Direction::HigherIsBetter)
    }

    /// The comparisons by the metric that decides.
    pub fn primary(&self) -> impl Iterator<Item = &Comparison> {
        let decides = |comparison: &&Comparison| {
            let metric = self.metric.as_ref();
            metric.is_none_or(|metric| *metric == comparison.metric)
        };
        self.comparisons.iter().filter(decides)
    }

    /// The comparison of an arm by the metric that decides.
    pub fn comparison(&self, arm: &str) -> Option<&Comparison> {
        let mut comparisons = self.primary();
        comparisons.find(|comparison| comparison.arm == arm)
    }
}

impl ArmResults {
    /// The mean of a metric over the seeds.
    pub fn mean(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric)?.mean
    }

    /// The seeds without scores: those that failed, and those that need a stage that did.
    pub fn failures(&self) -> impl Iterator<Item = &SeedResults> {
        let is_lost = |seed: &&SeedResults| matches!(seed.status, Status::Failed | Status::Blocked);
        self.seeds.iter().filter(is_lost)
    }
}

impl Estimate {
    /// The estimate of values, one per seed, without an interval.
    pub fn of(values: &[f64]) -> Self {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt());
        Self {
            mean: Some(mean).filter(|mean| mean.is_finite()),
            sd: sd.filter(|sd| sd.is_finite()),
            low: None,
            high: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_has_a_spread_from_two_seeds_on() {
        let one = Estimate::of(&[0.5]);
        assert_eq!((one.mean, one.sd), (Some(0.5), None));
        let two = Estimate::of(&[0.25, 0.75]);
        assert_eq!(two.mean, Some(0.5));
        assert!((two.sd.unwrap() - 0.125_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Estimate::of(&[f64::NAN, 1.0]).mean, None);
        assert_eq!(Estimate::of(&[]).mean, None);
    }

    #[test]
    fn the_metric_that_decides_is_shown_and_else_the_first() {
        let mut results = Results {
            metrics: vec!["f1".to_owned(), "accuracy".to_owned()],
            ..Results::default()
        };
        assert_eq!(results.shown_metric(), Some("f1"));
        assert_eq!(results.direction("f1"), Direction::HigherIsBetter);
        assert!(results.comparison("a").is_none());
        results.metric = Some("accuracy".to_owned());
        assert_eq!(results.shown_metric(), Some("accuracy"));
    }

    #[test]
    fn failed_and_blocked_seeds_are_failures() {
        let seed = |seed, status| SeedResults {
            seed,
            stages: BTreeMap::new(),
            status,
            failure: None,
            metrics: Scores::default(),
            examples: BTreeMap::new(),
            before: None,
        };
        let arm = ArmResults {
            seeds: vec![
                seed(1, Status::Done),
                seed(2, Status::Failed),
                seed(3, Status::Blocked),
                seed(4, Status::Open),
            ],
            ..ArmResults::default()
        };
        let seeds: Vec<u64> = arm.failures().map(|seed| seed.seed).collect();
        assert_eq!(seeds, [2, 3]);
    }
}
