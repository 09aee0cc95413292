//! The table of all arms: what each changes, scores and costs. The page, Markdown and LaTeX show the same.

mod changes;
mod costs;

use crate::{
    ablate::{
        compare::Comparison,
        statistics::{Unit, VerdictKind},
    },
    report::{latency::Speeds, measure::Measure},
    results::{ArmResults, Results, SeedResults, Status},
};

pub use changes::{suffix, text as value_text};
pub use costs::Cost;

/// The table.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The factors or keys that arms change: the title of the column, and the whole key.
    pub changes: Vec<(String, String)>,
    /// The metrics.
    pub metrics: Vec<Measure>,
    /// The metric and unit of the differences, where arms are compared.
    pub difference: Option<(String, Unit)>,
    /// The titles of the costs.
    pub costs: Vec<String>,
    /// A row per model.
    pub rows: Vec<Row>,
    /// Seeds without scores.
    pub failed: Vec<FailedSeed>,
    /// What to know of the numbers.
    pub notes: Vec<String>,
}

/// A model of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its layers and experts in short.
    pub detail: String,
    /// Whether the others are compared with it.
    pub is_reference: bool,
    /// Whether it is no arm, but a model that arms are made of.
    pub is_source: bool,
    /// What it changes: a sign for a factor, else the value.
    pub changes: Vec<String>,
    /// The metrics.
    pub metrics: Vec<Option<Score>>,
    /// The difference to the reference, where it is compared.
    pub difference: Option<Difference>,
    /// The costs.
    pub costs: Vec<Option<Cost>>,
    /// How many of its seeds are done, and how many there are.
    pub seeds: (usize, usize),
}

/// A metric of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The mean over the seeds.
    pub mean: f64,
    /// The interval.
    pub interval: Option<(f64, f64)>,
    /// The standard deviation over the seeds, where there is no interval.
    pub deviation: Option<f64>,
    /// Whether it is the best mean, and that is decided against the reference.
    pub is_best: bool,
}

/// A difference to the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The difference, in the unit of the metric; none where there is no verdict.
    pub value: Option<f64>,
    /// The interval that holds together with the others.
    pub interval: Option<(f64, f64)>,
    /// What is decided.
    pub kind: VerdictKind,
    /// The p that decides.
    pub p: Option<f64>,
}

/// A seed without scores.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedSeed {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// Why.
    pub reason: String,
    /// The last lines of its log.
    pub log: String,
}

impl Summary {
    /// The table of a run.
    pub fn of(results: &Results, speeds: &Speeds<'_>) -> Self {
        let after = results.metrics.iter();
        let after: Vec<Measure> = after
            .map(|metric| Measure::of(results, metric).in_column(results))
            .collect();
        let before = |metric: &&Measure| {
            let mut arms = results.arms.iter();
            arms.any(|arm| before(arm, metric).is_some())
        };
        let before: Vec<Measure> = after.iter().filter(before).cloned().collect();
        let changes = changes::columns(results);
        let costs = costs::columns(results, speeds);
        let row = |arm: &ArmResults| Row {
            name: arm.name.clone(),
            detail: detail(arm),
            is_reference: results.reference.as_ref() == Some(&arm.name),
            is_source: !arm.is_arm,
            changes: changes.iter().map(|column| column.cell(arm)).collect(),
            metrics: before
                .iter()
                .map(|metric| self::before(arm, metric))
                .chain(after.iter().map(|metric| score(results, arm, metric)))
                .collect(),
            difference: results.comparison(&arm.name).map(difference),
            costs: costs.iter().map(|column| column.cell(arm)).collect(),
            seeds: seeds(arm),
        };
        let shown = results.shown_metric().unwrap_or_default();
        let mut notes = results.notes.clone();
        if costs.iter().any(|column| column.is_flagged) {
            notes.push(
                "A latency ratio with \u{2020} differs from the ratio of multiply-adds by more than 1.5 times."
                    .to_owned(),
            );
        }
        Self {
            difference: results.primary().next().map(|_| {
                let measure = Measure::of(results, shown);
                (measure.difference, measure.unit)
            }),
            rows: results.arms.iter().map(row).collect(),
            failed: results.arms.iter().flat_map(failed).collect(),
            changes: changes.into_iter().map(|column| column.title()).collect(),
            costs: costs.into_iter().map(|column| column.title).collect(),
            metrics: titled(&before).chain(after.iter().cloned()).collect(),
            notes,
        }
    }
}

fn detail(arm: &ArmResults) -> String {
    let parts = [&arm.layers, &arm.experts];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    parts.join("; ")
}

fn seeds(arm: &ArmResults) -> (usize, usize) {
    let done = |seed: &&SeedResults| seed.status == Status::Done;
    (arm.seeds.iter().filter(done).count(), arm.seeds.len())
}

fn failed(arm: &ArmResults) -> impl Iterator<Item = FailedSeed> {
    arm.failures().map(|seed| FailedSeed {
        arm: arm.name.clone(),
        seed: seed.seed,
        reason: match &seed.failure {
            Some(failure) => format!("{}: {}", failure.cause, failure.message),
            None => "no cause was recorded".to_owned(),
        },
        log: match &seed.failure {
            Some(failure) => failure.log.join("\n"),
            None => String::new(),
        },
    })
}

fn difference(comparison: &Comparison) -> Difference {
    Difference {
        value: comparison.difference(),
        interval: comparison
            .interval()
            .map(|interval| (interval.low, interval.high)),
        kind: comparison.verdict.kind,
        p: comparison.p(),
    }
}

fn score(results: &Results, arm: &ArmResults, metric: &Measure) -> Option<Score> {
    let estimate = arm.metrics.get(&metric.name)?;
    let mean = estimate.mean?;
    let interval = estimate.low.zip(estimate.high);
    Some(Score {
        mean,
        interval,
        deviation: estimate.sd.filter(|_| interval.is_none()),
        is_best: is_best(results, arm, metric, mean),
    })
}

/// The scores before the training, over the seeds.
fn before(arm: &ArmResults, metric: &Measure) -> Option<Score> {
    let seeds = arm.seeds.iter();
    let values = seeds.filter_map(|seed| seed.before.as_ref()?.get(&metric.name).copied());
    let values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    mean.is_finite().then_some(Score {
        mean,
        interval: None,
        deviation: None,
        is_best: false,
    })
}

fn titled(before: &[Measure]) -> impl Iterator<Item = Measure> {
    before.iter().map(|metric| Measure {
        title: format!("{} before training", metric.title),
        ..metric.clone()
    })
}

/// Whether no other arm has a better mean, and the comparisons decide that: it is better than the reference, or it is the
/// reference and all others are worse.
fn is_best(results: &Results, arm: &ArmResults, metric: &Measure, mean: f64) -> bool {
    let is_decisive = results.metric.as_ref() == Some(&metric.name);
    let mut others = results.arms.iter().filter(|other| other.is_arm);
    let is_beaten = others.any(|other| {
        let other = other.mean(&metric.name);
        other.is_some_and(|other| metric.is_better(other, mean))
    });
    if !is_decisive || !arm.is_arm || is_beaten {
        return false;
    }
    if results.reference.as_ref() == Some(&arm.name) {
        let mut kinds = results.primary().map(|comparison| comparison.verdict.kind);
        return results.primary().next().is_some() && kinds.all(|kind| kind == VerdictKind::Worse);
    }
    let comparison = results.comparison(&arm.name);
    comparison.is_some_and(|comparison| comparison.verdict.kind == VerdictKind::Better)
}
