//! The metrics of GLUE, as scikit-learn and `SciPy` define them, and those of other tasks.

pub mod perplexity;
pub mod rouge;
mod scores;
pub mod squad;

pub use scores::{Scores, UNDEFINED, shown};

use crate::data::{
    example::Label,
    glue::{GlueTask, Split},
};

/// A metric of GLUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Share of right answers.
    Accuracy,
    /// F1 of class 1.
    F1,
    /// Matthews correlation of two classes.
    Matthews,
    /// Pearson correlation.
    Pearson,
    /// Spearman rank correlation.
    Spearman,
}

/// Predictions that cannot be scored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// There is nothing to score.
    #[error("no predictions to score")]
    Empty,
    /// Not every example has one prediction.
    #[error("{predictions} predictions for {references} references")]
    Lengths {
        /// Number of predictions.
        predictions: usize,
        /// Number of references.
        references: usize,
    },
    /// Classes where the metric needs scores, or the reverse.
    #[error("example {index}: {metric} needs {expected}, found {found:?}")]
    Kind {
        /// The metric's name.
        metric: &'static str,
        /// The position in the list.
        index: usize,
        /// What the metric compares.
        expected: &'static str,
        /// What is there.
        found: Label,
    },
    /// A score is not a finite number.
    #[error("input {index}: the score {score} is not finite; the model has diverged or is damaged")]
    NotFinite {
        /// The position in the list.
        index: usize,
        /// The score.
        score: f32,
    },
    /// A likelihood is too low for a perplexity.
    #[error(
        "{nats} nats per token have no finite perplexity; the model has diverged or is damaged"
    )]
    Perplexity {
        /// The mean negative log-likelihood in nats.
        nats: f64,
    },
    /// The scores of tokens are not finite numbers.
    #[error("the model's logits are not finite; it has diverged or is damaged")]
    Logits,
    /// A token has a likelihood that no model gives.
    #[error(
        "token {position}: a negative log-likelihood of {nats} is not finite; the model has diverged"
    )]
    Likelihood {
        /// The position in the document.
        position: usize,
        /// The negative log-likelihood in nats.
        nats: f64,
    },
}

impl Metric {
    /// The name in results: `accuracy`, `f1`, `matthews`, `pearson` or `spearman`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::Matthews => "matthews",
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
        }
    }

    /// Scores predictions against references.
    ///
    /// # Errors
    ///
    /// If the lists are empty, differ in length, or hold another kind of label than the metric
    /// compares.
    pub fn score(self, predictions: &[Label], references: &[Label]) -> Result<f64, MetricError> {
        if predictions.len() != references.len() {
            return Err(MetricError::Lengths {
                predictions: predictions.len(),
                references: references.len(),
            });
        }
        if predictions.is_empty() {
            return Err(MetricError::Empty);
        }
        let classes = |labels| self.classes(labels);
        let scores = |labels| self.scores(labels);
        Ok(match self {
            Self::Accuracy => accuracy(&classes(predictions)?, &classes(references)?),
            Self::F1 => f1(&classes(predictions)?, &classes(references)?),
            Self::Matthews => matthews(&classes(predictions)?, &classes(references)?),
            Self::Pearson => pearson(&scores(predictions)?, &scores(references)?),
            Self::Spearman => spearman(&scores(predictions)?, &scores(references)?),
        })
    }

    pub(crate) fn classes(self, labels: &[Label]) -> Result<Vec<usize>, MetricError> {
        let class = |(index, label): (usize, &Label)| match *label {
            Label::Class(class) => Ok(class),
            found @ Label::Score(_) => Err(MetricError::Kind {
                metric: self.name(),
                index,
                expected: "classes",
                found,
            }),
        };
        labels.iter().enumerate().map(class).collect()
    }

    pub(crate) fn scores(self, labels: &[Label]) -> Result<Vec<f64>, MetricError> {
        let score = |(index, label): (usize, &Label)| match *label {
            Label::Score(score) if score.is_finite() => Ok(f64::from(score)),
            Label::Score(score) => Err(MetricError::NotFinite { index, score }),
            found @ Label::Class(_) => Err(MetricError::Kind {
                metric: self.name(),
                index,
                expected: "scores",
                found,
            }),
        };
        labels.iter().enumerate().map(score).collect()
    }
}

impl GlueTask {
    /// What GLUE reports for this task. The first is the one to choose a model by: the one that
    /// BERT's table (Devlin et al. 2018, arXiv 1810.04805) shows.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Cola => &[Metric::Matthews],
            Self::Mrpc | Self::Qqp => &[Metric::F1, Metric::Accuracy],
            Self::Stsb => &[Metric::Spearman, Metric::Pearson],
            Self::Sst2 | Self::Mnli | Self::Qnli | Self::Rte | Self::Wnli => &[Metric::Accuracy],
        }
    }

    /// The metric to choose a model by, on [`Split::Dev`].
    pub fn primary_metric(self) -> Metric {
        self.metrics()[0]
    }
}

/// The metrics that GLUE reports for a task; names carry [`Split::metric_suffix`], as in
/// `accuracy_mismatched`.
///
/// # Errors
///
/// As [`Metric::score`].
pub fn evaluate(
    task: GlueTask,
    split: Split,
    predictions: &[Label],
    references: &[Label],
) -> Result<Scores, MetricError> {
    let named = |metric: &Metric| {
        let name = format!("{}{}", metric.name(), split.metric_suffix());
        Ok((name, metric.score(predictions, references)?))
    };
    task.metrics().iter().map(named).collect()
}

fn count(predictions: &[usize], references: &[usize], rule: impl Fn(usize, usize) -> bool) -> f64 {
    predictions
        .iter()
        .zip(references)
        .filter(|(p, r)| rule(**p, **r))
        .count() as f64
}

fn accuracy(predictions: &[usize], references: &[usize]) -> f64 {
    count(predictions, references, |p, r| p == r) / predictions.len() as f64
}

/// `2 TP / (2 TP + FP + FN)`; 0 if class 1 is neither there nor predicted, as in scikit-learn.
fn f1(predictions: &[usize], references: &[usize]) -> f64 {
    let right = count(predictions, references, |p, r| p == 1 && r == 1);
    let wrong = count(predictions, references, |p, r| (p == 1) != (r == 1));
    ratio(2.0 * right, 2.0 * right + wrong)
}

/// `(TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN))`; 0 if one side is constant, as in
/// scikit-learn.
fn matthews(predictions: &[usize], references: &[usize]) -> f64 {
    let cell = |p, r| {
        count(predictions, references, |a, b| {
            (a == 1) == p && (b == 1) == r
        })
    };
    let (tp, fp, fn_, tn) = (
        cell(true, true),
        cell(true, false),
        cell(false, true),
        cell(false, false),
    );
    ratio(
        tp * tn - fp * fn_,
        ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt(),
    )
}

/// Pearson's correlation; NaN if one side is constant, as in `SciPy`: it is not defined there.
#[expect(clippy::float_cmp, reason = "constant is what is equal")]
fn pearson(x: &[f64], y: &[f64]) -> f64 {
    // The mean of equal numbers may be off by a rounding, which would pass for their spread.
    let is_constant = |values: &[f64]| values.windows(2).all(|pair| pair[0] == pair[1]);
    if is_constant(x) || is_constant(y) {
        return f64::NAN;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xy += dx * dy;
        xx += dx * dx;
        yy += dy * dy;
    }
    (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0)
}

/// Pearson's correlation of the ranks.
fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

/// The rank of each value, from 1; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    #[expect(clippy::float_cmp, reason = "ties are equal values")]
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = before as f64 + (tied.len() + 1) as f64 / 2.0;
        for &index in tied {
            ranks[index] = mean;
        }
        before += tied.len();
    }
    ranks
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 {
        0.0
    } else {
        numerator / denominator
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn classes(values: &[usize]) -> Vec<Label> {
        values.iter().copied().map(Label::Class).collect()
    }

    fn scores(values: &[f32]) -> Vec<Label> {
        values.iter().copied().map(Label::Score).collect()
    }

    fn assert_near(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-12, "{left} is not {right}");
    }

    /// scikit-learn 1.9.1: `accuracy_score`, `f1_score`, `matthews_corrcoef`.
    #[test]
    fn class_metrics_agree_with_scikit_learn() {
        let predictions = classes(&[1, 0, 1, 1, 0, 1, 0, 0, 1, 1]);
        let references = classes(&[1, 0, 0, 1, 0, 1, 1, 0, 1, 0]);
        let score = |metric: Metric| metric.score(&predictions, &references).unwrap();
        assert_near(score(Metric::Accuracy), 0.7);
        assert_near(score(Metric::F1), 0.727_272_727_272_727_3);
        assert_near(score(Metric::Matthews), 0.408_248_290_463_863);
    }

    /// `SciPy` 1.17.1: `pearsonr`, `spearmanr`, with ties on both sides.
    #[test]
    fn correlations_agree_with_scipy() {
        let x = scores(&[4.2, 0.5, 3.1, 3.1, 2.0, 4.9, 1.5, 0.5]);
        let y = scores(&[5.0, 0.0, 2.5, 3.5, 2.5, 4.0, 1.0, 1.25]);
        assert_near(
            Metric::Pearson.score(&x, &y).unwrap(),
            0.914_287_722_163_805_6,
        );
        assert_near(
            Metric::Spearman.score(&x, &y).unwrap(),
            0.915_168_322_804_899_8,
        );
    }

    #[test]
    fn constant_classes_score_as_in_scikit_learn() {
        assert_eq!(
            Metric::F1.score(&classes(&[0, 0]), &classes(&[0, 0])),
            Ok(0.0)
        );
        assert_eq!(
            Metric::F1.score(&classes(&[1, 1, 1]), &classes(&[1, 0, 1])),
            Ok(0.8)
        );
        assert_eq!(
            Metric::Matthews.score(&classes(&[1, 1, 1]), &classes(&[1, 0, 1])),
            Ok(0.0)
        );
    }

    /// As in `SciPy`, which warns and returns NaN.
    #[test]
    fn correlations_with_a_constant_are_not_defined() {
        let rising = scores(&[1.0, 2.0, 3.0]);
        for value in [2.0, 0.1, -1e-30] {
            let constant = scores(&[value; 3]);
            for metric in [Metric::Pearson, Metric::Spearman] {
                assert!(metric.score(&constant, &rising).unwrap().is_nan());
                assert!(metric.score(&rising, &constant).unwrap().is_nan());
            }
        }
        let one = scores(&[1.0]);
        assert!(Metric::Pearson.score(&one, &one).unwrap().is_nan());
    }

    #[test]
    fn tasks_report_what_glue_reports() {
        let expected = [
            (GlueTask::Cola, vec!["matthews"]),
            (GlueTask::Mrpc, vec!["accuracy", "f1"]),
            (GlueTask::Mnli, vec!["accuracy"]),
        ];
        let labels = classes(&[0, 1]);
        for (task, names) in expected {
            let scores = evaluate(task, Split::Dev, &labels, &labels).unwrap();
            assert_eq!(scores.keys().collect::<Vec<_>>(), names);
        }
        let mismatched = evaluate(GlueTask::Mnli, Split::DevMismatched, &labels, &labels).unwrap();
        assert_eq!(
            mismatched,
            Scores::from([("accuracy_mismatched".to_owned(), 1.0)])
        );
        let values = scores(&[0.0, 1.0]);
        let similar = evaluate(GlueTask::Stsb, Split::Dev, &values, &values).unwrap();
        assert_eq!(similar.keys().collect::<Vec<_>>(), ["pearson", "spearman"]);
    }

    #[test]
    fn lists_that_cannot_be_scored_are_errors() {
        let score = |p: &[Label], r: &[Label]| Metric::Pearson.score(p, r).unwrap_err();
        assert_eq!(score(&[], &[]), MetricError::Empty);
        let lengths = score(&scores(&[1.0]), &scores(&[1.0, 2.0]));
        assert_eq!(lengths.to_string(), "1 predictions for 2 references");
        let not_finite = score(&scores(&[1.0, f32::NAN]), &scores(&[1.0, 2.0]));
        assert_eq!(
            not_finite.to_string(),
            "input 1: the score NaN is not finite; the model has diverged or is damaged"
        );
        let kind = score(&classes(&[1]), &scores(&[1.0]));
        assert_eq!(
            kind.to_string(),
            "example 0: pearson needs scores, found Class(1)"
        );
    }

    proptest! {
        /// Ranks ignore a rising transformation; correlations stay in their range and do not depend
        /// on the side.
        #[test]
        #[expect(clippy::float_cmp, reason = "the same operations on the same numbers")]
        fn correlations_keep_their_rules(
            pairs in prop::collection::vec((-8_i8..8, -8_i8..8), 1..40),
        ) {
            let x: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0)).collect();
            let y: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1)).collect();
            let cubes: Vec<f64> = x.iter().map(|x| x.powi(3)).collect();
            if pearson(&x, &y).is_nan() {
                prop_assert!(spearman(&x, &y).is_nan());
                return Ok(());
            }
            prop_assert_eq!(spearman(&cubes, &y), spearman(&x, &y));
            for correlation in [pearson, spearman] {
                prop_assert!((-1.0..=1.0).contains(&correlation(&x, &y)));
                prop_assert_eq!(correlation(&x, &y), correlation(&y, &x));
            }
        }
    }
}
