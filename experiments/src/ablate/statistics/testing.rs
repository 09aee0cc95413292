//! Reference numbers and how near a result must be to them.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

use super::{Alpha, Direction, Interval, Jackknife, MetricValues, Unit, VerdictInput, two_way};

/// The cases of a file of reference numbers.
#[derive(serde::Deserialize)]
pub(super) struct Fixture<T> {
    pub(super) cases: Vec<T>,
}

/// A file of reference numbers, by its name without `.json`.
pub(super) fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/statistics");
    let text = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The cases of such a file.
pub(super) fn cases<T: DeserializeOwned>(name: &str) -> Vec<T> {
    fixture::<Fixture<T>>(name).cases
}

/// Relative to the larger one. What should be 0 may be a rounding of numbers near 1.
pub(super) fn is_near(left: f64, right: f64) -> bool {
    let scale = left.abs().max(right.abs());
    (left - right).abs() <= (1e-9 * scale).max(1e-13)
}

#[track_caller]
pub(super) fn assert_near(found: f64, expected: f64, what: &str) {
    assert!(
        is_near(found, expected),
        "{what}: {found} is not {expected}"
    );
}

#[track_caller]
pub(super) fn assert_option_near(found: Option<f64>, expected: Option<f64>, what: &str) {
    match (found, expected) {
        (Some(found), Some(expected)) => assert_near(found, expected, what),
        _ => assert_eq!(found, expected, "{what}"),
    }
}

#[track_caller]
pub(super) fn assert_all_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_near(*found, *expected, &format!("{what}, number {index}"));
    }
}

/// What the reference says of a difference.
#[derive(serde::Deserialize)]
pub(super) struct ExpectedInterval {
    theta: f64,
    msa: Option<f64>,
    msb: Option<f64>,
    mse: Option<f64>,
    se: f64,
    df: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    p: Option<f64>,
}

impl ExpectedInterval {
    /// Compares the two-way analysis of a difference, and returns its 95 % interval.
    #[track_caller]
    pub(super) fn check(&self, difference: &MetricValues, what: &str) -> Option<Interval> {
        let result = two_way(difference).unwrap();
        let interval = result.interval(Alpha::default());
        let squares = result.mean_squares;
        assert_near(result.theta, self.theta, what);
        assert_near(result.se, self.se, what);
        let pairs = [
            (squares.map(|squares| squares.seeds), self.msa),
            (squares.map(|squares| squares.examples), self.msb),
            (squares.map(|squares| squares.residual), self.mse),
            (result.df, self.df),
            (interval.map(|interval| interval.low), self.low),
            (interval.map(|interval| interval.high), self.high),
            (result.p(), self.p),
        ];
        for (index, (found, expected)) in pairs.into_iter().enumerate() {
            assert_option_near(found, expected, &format!("{what}, number {index}"));
        }
        interval
    }
}

#[derive(serde::Deserialize)]
struct MetricCase {
    name: String,
    metric: String,
    labels: Vec<f64>,
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
    value_a: Vec<f64>,
    value_b: Vec<f64>,
    pseudo_a_first_seed: Vec<f64>,
    pseudo_b_first_seed: Vec<f64>,
    expected: ExpectedInterval,
}

/// Compares a metric with the reference: its values, its pseudo-values, and the interval of the difference
/// of two arms.
pub(super) fn metric_cases(metric: &str, score: impl Fn(&[f64], &[f64]) -> Jackknife) {
    let cases = cases::<MetricCase>("metrics").into_iter();
    let cases: Vec<_> = cases.filter(|case| case.metric == metric).collect();
    assert!(!cases.is_empty(), "{metric}");
    for case in cases {
        let arm = |predictions: &[Vec<f64>], values: &[f64], pseudo_values: &[f64]| {
            let seeds: Vec<_> = predictions
                .iter()
                .map(|row| score(row, &case.labels))
                .collect();
            assert_all_near(&seeds[0].pseudo_values, pseudo_values, &case.name);
            let arm = MetricValues::from_jackknife(&seeds).unwrap();
            assert_all_near(arm.by_seed(), values, &case.name);
            arm
        };
        let a = arm(&case.a, &case.value_a, &case.pseudo_a_first_seed);
        let b = arm(&case.b, &case.value_b, &case.pseudo_b_first_seed);
        case.expected.check(&a.difference(&b).unwrap(), &case.name);
    }
}

/// A comparison that is undecided.
pub(super) fn input() -> VerdictInput<'static> {
    VerdictInput {
        arm: "A",
        reference: "R",
        metric: "accuracy",
        unit: Unit::Points,
        direction: Direction::HigherIsBetter,
        seeds: 6,
        examples: 872,
        alpha: Alpha::default(),
        margin: None,
        difference: 0.01,
        interval: Some(Interval {
            low: -0.01,
            high: 0.03,
        }),
        p: 0.25,
        identical: false,
        needs: Some(9),
        refusal: None,
    }
}
