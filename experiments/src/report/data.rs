//! What a report is made of: the results of a run with all that its figures show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// All that a report shows, filled by [`load`](crate::report::load::load).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportData {
    /// `results.json`.
    pub results: Results,
    /// `timings.json`; none where nothing was measured.
    pub timings: Option<Timings>,
    /// What was measured while models trained.
    pub curves: Vec<Curve>,
    /// What models answered.
    pub evaluations: Vec<Evaluation>,
    /// The examples of the evaluations.
    pub examples: Vec<Example>,
    /// Why the examples have no texts, where they have none.
    pub no_texts: Option<String>,
    /// Importance of neurons.
    pub importance: Vec<Importance>,
    /// What the run was made with.
    pub record: Record,
}

/// The content of `results.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// The version of the file's form.
    pub schema: u32,
    /// The run's name.
    pub run: String,
    /// The metric that decides, where arms are compared.
    pub metric: Option<String>,
    /// All metrics in the order of the table.
    pub metrics: Vec<String>,
    /// Which values of metrics are better.
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
    pub arms: Vec<Arm>,
    /// All arms against the reference.
    pub comparisons: Vec<Comparison>,
    /// What each factor is worth.
    pub factors: Vec<Factor>,
    /// What to know beside them.
    pub notes: Vec<String>,
}

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Accuracy, F1.
    #[default]
    #[serde(rename = "higher-is-better", alias = "higher")]
    Higher,
    /// Bits per byte, perplexity.
    #[serde(rename = "lower-is-better", alias = "lower")]
    Lower,
}

/// In what differences of a metric are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A fraction, told in points: hundredths.
    Points,
    /// The number itself.
    Plain,
}

/// A model of a run: an arm, or one that arms are made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// The keys that it changes, with their values.
    pub set: Map<String, Value>,
    /// Whether it is an arm.
    pub is_arm: bool,
    /// Its layers in short, as in `2 full, 4 window:64`.
    pub layers: Option<String>,
    /// What each layer attends to, from the bottom, as texts.
    pub spans: Vec<Value>,
    /// What each layer mixes tokens with, from the bottom; empty where all are attention.
    pub mixers: Vec<Value>,
    /// Its experts; none for dense feed-forward layers.
    pub experts: Option<String>,
    /// What it got with each seed.
    pub seeds: Vec<Seed>,
    /// The metrics over the seeds that are done.
    pub metrics: BTreeMap<String, Estimate>,
    /// What it costs.
    pub cost: Option<Cost>,
}

/// A model with one seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seed {
    /// The seed.
    pub seed: u64,
    /// The keys of its stages, by what they are in its folder.
    pub stages: BTreeMap<String, String>,
    /// How far it came.
    pub status: Status,
    /// Why it failed, in one line.
    pub cause: Option<String>,
    /// The last lines of its log.
    pub log: Vec<String>,
    /// Why it failed, with the stage.
    pub failure: Option<Failure>,
    /// Its scores; empty where it is not done.
    pub metrics: BTreeMap<String, Option<f64>>,
    /// Its scores before its training, where it goes on from a given model.
    pub before: Option<BTreeMap<String, Option<f64>>>,
}

/// How far a model with one seed came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is trained and judged.
    Done,
    /// A stage of its own failed.
    Failed,
    /// It needs a stage that failed.
    Blocked,
    /// Something is left to do.
    #[default]
    Open,
}

/// A stage that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// Its key.
    pub stage: String,
    /// What it does, for people.
    pub title: String,
    /// The cause.
    pub cause: String,
    /// The error in one line.
    pub message: String,
    /// The last lines of its log.
    pub log: Vec<String>,
}

/// A metric over the seeds of an arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Estimate {
    /// The mean.
    pub mean: Option<f64>,
    /// The sample standard deviation.
    pub sd: Option<f64>,
    /// The lower end of the interval.
    pub low: Option<f64>,
    /// The upper end of the interval.
    pub high: Option<f64>,
}

/// What a model costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Number of weights.
    pub parameters: u64,
    /// Number of weights that one token passes through.
    pub active_parameters: u64,
    /// Multiply-adds of a forward pass, for one token.
    pub multiply_adds_per_token: u64,
    /// What attention costs, where it matters.
    pub attention: Option<AttentionCost>,
}

/// What the mixers of a model cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttentionCost {
    /// Pairs of a query and a key, one head per layer.
    pub attention_pairs: u64,
    /// These as a share of those of full attention.
    pub attention_share: f64,
    /// Positions that a decoder keeps, over all layers.
    pub cached_positions: u64,
    /// Numbers that a decoder keeps besides keys and values.
    pub state_numbers: u64,
}

/// One arm against the reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// The arm that it is compared with.
    pub reference: String,
    /// The metric.
    pub metric: String,
    /// In what the difference is told.
    pub unit: Option<Unit>,
    /// The number of seeds.
    pub seeds: usize,
    /// The number of examples.
    pub examples: usize,
    /// The mean difference to the reference.
    pub difference: Option<f64>,
    /// The lower end of its own interval.
    pub low: Option<f64>,
    /// The upper end of its own interval.
    pub high: Option<f64>,
    /// The interval that holds together with those of the other arms.
    pub simultaneous: Option<Ends>,
    /// The p of sign flips of the seeds, among all comparisons.
    pub p_adjusted: Option<f64>,
    /// The p of crossed random effects, among all comparisons.
    pub p_crossed: Option<f64>,
    /// Examples gained and lost with each seed.
    pub mcnemar: Vec<McNemar>,
    /// What it would take to decide.
    pub needs: Option<Needs>,
    /// What follows.
    pub verdict: Verdict,
}

/// The ends of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ends {
    /// The lower end.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

/// Examples gained and lost with one seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct McNemar {
    /// The seed, where it is told.
    pub seed: Option<u64>,
    /// Examples that the arm gets right and the reference wrong.
    pub gained: usize,
    /// Examples that the arm gets wrong and the reference right.
    pub lost: usize,
    /// The p of the exact test.
    pub p: f64,
}

/// What it would take to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Needs {
    /// The fewest seeds that can reach the level.
    pub seeds_at_least: usize,
    /// The seeds that a difference of this size needs.
    pub seeds: Option<usize>,
    /// What no number of seeds removes.
    pub examples_alone: Option<f64>,
}

/// What a comparison decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// The kind.
    pub kind: VerdictKind,
    /// The sentence of it.
    pub sentence: String,
}

/// The kind of a verdict.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictKind {
    /// The arm is better than the reference.
    Better,
    /// The arm is worse than the reference.
    Worse,
    /// The difference is smaller than the margin.
    Equivalent,
    /// The arm is at most by the margin worse than the reference.
    #[serde(rename = "not worse", alias = "not-worse")]
    NotWorse,
    /// The arms never differ.
    Identical,
    /// Nothing of that is shown.
    #[default]
    Undecided,
    /// The comparison is unfair or impossible.
    Refused,
}

/// What one factor is worth, dropped from all and added to none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Factor {
    /// The factor.
    pub name: String,
    /// The metric.
    pub metric: String,
    /// The arms: all factors on, all but this one, this one alone, none.
    pub arms: [Option<String>; 4],
    /// All less all but this one.
    pub drop: Option<Effect>,
    /// This one alone less none.
    pub add: Option<Effect>,
    /// `drop` less `add`.
    pub interaction: Option<Effect>,
}

/// A difference with its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effect {
    /// The difference.
    pub difference: f64,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

/// The content of `timings.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// The stages that are done.
    pub stages: Vec<StageTime>,
    /// How long passes of the models took.
    pub latencies: Vec<Latencies>,
}

/// What a stage took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageTime {
    /// The key: its kind, `-` and its hash.
    pub key: String,
    /// What it does, for people.
    pub title: String,
    /// The arms that use it, where they are told.
    pub arms: Vec<String>,
    /// Its seed.
    pub seed: u64,
    /// The time in seconds.
    pub seconds: f64,
    /// The peak memory in bytes.
    pub peak_memory: Option<u64>,
    /// The machine that did it.
    pub host: Option<String>,
    /// When it was started, in seconds since 1970.
    pub started: Option<f64>,
    /// When it was finished, in seconds since 1970.
    pub finished: Option<f64>,
}

/// The passes of a model with one seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latencies {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The milliseconds of each round; the models of a seed took turns.
    pub ms: Vec<f64>,
}

/// One metric of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Curve {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// `train` or `valid`.
    pub split: String,
    /// The metric.
    pub name: String,
    /// Step and value, by rising step.
    pub points: Vec<(u64, f64)>,
}

/// What a model with one seed answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evaluation {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// What each example got, from 0 to 1, in the order of [`ReportData::examples`]; empty where the model was judged on other
    /// examples, or the metric has no value of one example.
    pub values: Vec<Option<f32>>,
    /// Answers by example; empty as `values`.
    pub answers: Vec<String>,
    /// The confidence of answers, in equal bins from 0 to 1; empty where there are no class scores.
    pub calibration: Vec<Bin>,
    /// Right answers by a position.
    pub positions: Option<Positions>,
}

/// Answers of about the same confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Their number.
    pub count: usize,
    /// The sum of their confidences.
    pub confidence: f64,
    /// How many are right.
    pub right: usize,
}

/// Right answers by what their place is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// What the places are: `distance` or `position`.
    pub name: String,
    /// By place: how many are right, and how many there are.
    pub counts: BTreeMap<u64, (usize, usize)>,
}

/// An example that models were judged on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Example {
    /// Its name.
    pub id: String,
    /// Its text, if it can be read.
    pub text: Option<String>,
    /// The right answer.
    pub label: Option<String>,
}

/// Importance of the neurons of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Importance {
    /// The stage.
    pub key: String,
    /// The seed.
    pub seed: u64,
    /// The arms that use it.
    pub arms: Vec<String>,
    /// Scores by layer and neuron.
    pub layers: Vec<Vec<f32>>,
    /// How many of the most important neurons all experts have; 0 if that is not known.
    pub shared: usize,
}

/// What a run was made with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The recipe as resolved.
    pub recipe: String,
    /// What is known of each start.
    pub starts: Vec<Map<String, Value>>,
    /// Kind of stage and fingerprint of the data that it read.
    pub fingerprints: Vec<(String, String)>,
}

impl Results {
    /// The model of a name.
    pub fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// The comparison of an arm by the metric that decides.
    pub fn comparison(&self, arm: &str) -> Option<&Comparison> {
        let mut comparisons = self.primary();
        comparisons.find(|comparison| comparison.arm == arm)
    }

    /// The comparisons by the metric that decides.
    pub fn primary(&self) -> impl Iterator<Item = &Comparison> {
        let decides = |comparison: &&Comparison| {
            self.metric
                .as_ref()
                .is_none_or(|metric| *metric == comparison.metric)
        };
        self.comparisons.iter().filter(decides)
    }

    /// The metric that is shown where one is: that which decides, else the first.
    pub fn shown_metric(&self) -> Option<&str> {
        let first = || self.metrics.first();
        self.metric.as_ref().or_else(first).map(String::as_str)
    }

    /// Which values of a metric are better.
    pub fn direction(&self, metric: &str) -> Direction {
        self.directions.get(metric).copied().unwrap_or_default()
    }
}

impl Arm {
    /// The mean of a metric over the seeds.
    pub fn mean(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric)?.mean
    }

    /// The failed and blocked seeds.
    pub fn failures(&self) -> impl Iterator<Item = &Seed> {
        let is_lost = |seed: &&Seed| matches!(seed.status, Status::Failed | Status::Blocked);
        self.seeds.iter().filter(is_lost)
    }
}

impl Seed {
    /// Why it has no scores, in one line.
    pub fn reason(&self) -> String {
        match (&self.failure, &self.cause) {
            (Some(failure), _) => format!("{}: {}", failure.cause, failure.message),
            (None, Some(cause)) => cause.clone(),
            (None, None) => "no cause was recorded".to_owned(),
        }
    }

    /// The last lines of the log.
    pub fn last_lines(&self) -> &[String] {
        self.failure
            .as_ref()
            .map_or(&self.log, |failure| &failure.log)
    }
}

impl Comparison {
    /// The p that decides: the larger one.
    pub fn p(&self) -> Option<f64> {
        let both = self.p_adjusted.into_iter().chain(self.p_crossed);
        both.reduce(f64::max)
    }

    /// The ends of the interval that counts: the simultaneous one, else its own.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let simultaneous = self.simultaneous.and_then(|ends| ends.low.zip(ends.high));
        simultaneous.or(self.low.zip(self.high))
    }
}

impl VerdictKind {
    /// A sign beside the word, so that colour says nothing alone.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Better => "\u{25b2}",
            Self::Worse => "\u{25bc}",
            Self::Equivalent => "\u{2248}",
            Self::NotWorse => "\u{2265}",
            Self::Identical => "=",
            Self::Undecided => "\u{25cb}",
            Self::Refused => "\u{d7}",
        }
    }

    /// The verdict in a word or two.
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent => "equivalent",
            Self::NotWorse => "not worse",
            Self::Identical => "identical",
            Self::Undecided => "not decided",
            Self::Refused => "no verdict",
        }
    }

    /// The name of its style.
    pub fn class(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent | Self::NotWorse | Self::Identical => "same",
            Self::Undecided | Self::Refused => "open",
        }
    }

    /// Whether it says something of the arms.
    pub fn is_decided(self) -> bool {
        !matches!(self, Self::Undecided | Self::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_direction_and_a_verdict_are_read() {
        let read = |text: &str| serde_json::from_str::<Direction>(text).unwrap();
        assert_eq!(read("\"lower\""), Direction::Lower);
        assert_eq!(read("\"lower-is-better\""), Direction::Lower);
        let kind: VerdictKind = serde_json::from_str("\"not worse\"").unwrap();
        assert_eq!(kind, VerdictKind::NotWorse);
    }

    #[test]
    fn unknown_fields_are_no_error_and_missing_ones_are_empty() {
        let text = r#"{"run": "x", "new": 1, "arms": [{"name": "a", "seeds": [{"seed": 1, "status": "failed",
            "failure": {"cause": "not finite", "message": "the loss is NaN"}}]}]}"#;
        let results: Results = serde_json::from_str(text).unwrap();
        let seed = &results.arms[0].seeds[0];
        assert_eq!(seed.reason(), "not finite: the loss is NaN");
        assert_eq!(results.arms[0].failures().count(), 1);
        assert!(results.comparison("a").is_none());
        let comparison: Comparison =
            serde_json::from_str(r#"{"p_adjusted": 0.03, "p_crossed": 0.04}"#).unwrap();
        assert_eq!(comparison.p(), Some(0.04));
        assert_eq!(Comparison::default().p(), None);
    }
}
