//! What a model gets for each example: the parts of its scores, by which models are compared example by example.

use std::{collections::BTreeMap, path::Path};

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    data::example::Label,
    json_file,
    metric::{Metric, MetricError},
};

/// The file of them in the folder of an evaluation.
const FILE: &str = "examples.json";

/// The examples of a split that a model was judged on, in the order of the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Examples {
    /// Their names, each once.
    pub ids: Vec<String>,
    /// A digest of what is right: data with the same names may have other contents ([`content`]).
    pub content: String,
    /// What each shares with others and is drawn with them, such as a passage or a document; empty where each stands alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What each metric is made of, by its name.
    pub metrics: BTreeMap<String, Parts>,
}

/// What a metric is made of, one entry per example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parts {
    /// The metric is the mean of these; `None` where an example does not count.
    Mean(Vec<Option<f64>>),
    /// As `Mean`, of a metric whose scores are told in percent; these are from 0 to 1.
    Percent(Vec<Option<f64>>),
    /// F1 of class 1.
    F1(Classes),
    /// Matthews correlation.
    Matthews(Classes),
    /// Pearson correlation.
    Pearson(Numbers),
    /// Spearman rank correlation.
    Spearman(Numbers),
    /// Nats over bytes, in bits.
    BitsPerByte {
        /// The negative log-likelihood of the example, in nats.
        nats: Vec<f64>,
        /// Bytes of its text.
        bytes: Vec<u64>,
    },
    /// Perplexity, by its logarithm: nats over tokens.
    Perplexity {
        /// The negative log-likelihood of the example, in nats.
        nats: Vec<f64>,
        /// Its tokens.
        tokens: Vec<u64>,
    },
}

/// Classes that were predicted, and the right ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// The predicted classes.
    pub predicted: Vec<usize>,
    /// The right classes.
    pub right: Vec<usize>,
}

/// Numbers that were predicted, and the right ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// The predicted numbers.
    pub predicted: Vec<f64>,
    /// The right numbers.
    pub right: Vec<f64>,
}

impl Examples {
    /// Reads those of an evaluation, by split, from its folder.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is none of an evaluation.
    pub fn read(dir: &Path) -> Result<Vec<Self>, FileError> {
        json_file::read(&dir.join(FILE))
    }

    /// Reads those of an evaluation, by split, from its folder; none where there is no file of them.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_if_there(dir: &Path) -> Result<Option<Vec<Self>>, FileError> {
        json_file::read_if_there(&dir.join(FILE))
    }

    /// Writes those of an evaluation, by split, into its folder.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(splits: &[Self], dir: &Path) -> Result<(), FileError> {
        let path = dir.join(FILE);
        match serde_json::to_vec(splits) {
            Ok(bytes) => file::write(&path, &bytes),
            Err(source) => Err(FileError::Json { path, source }),
        }
    }
}

impl Parts {
    /// The parts of a metric of labels.
    ///
    /// # Errors
    ///
    /// If a label is of another kind than the metric compares.
    pub fn of_labels(
        metric: Metric,
        predicted: &[Label],
        right: &[Label],
    ) -> Result<Self, MetricError> {
        let classes = || -> Result<Classes, MetricError> {
            Ok(Classes {
                predicted: metric.classes(predicted)?,
                right: metric.classes(right)?,
            })
        };
        let numbers = || -> Result<Numbers, MetricError> {
            Ok(Numbers {
                predicted: metric.scores(predicted)?,
                right: metric.scores(right)?,
            })
        };
        Ok(match metric {
            Metric::Accuracy => {
                let Classes { predicted, right } = classes()?;
                let pairs = predicted.iter().zip(&right);
                let is_right = pairs.map(|(predicted, right)| Some(share(predicted == right)));
                Self::Mean(is_right.collect())
            }
            Metric::F1 => Self::F1(classes()?),
            Metric::Matthews => Self::Matthews(classes()?),
            Metric::Pearson => Self::Pearson(numbers()?),
            Metric::Spearman => Self::Spearman(numbers()?),
        })
    }
}

/// The number of examples that count for each metric.
pub fn counts(splits: &[Examples]) -> BTreeMap<String, usize> {
    let metrics = splits.iter().flat_map(|split| {
        let all = split.ids.len();
        let metrics = split.metrics.iter();
        metrics.map(move |(name, parts)| {
            let count = match parts {
                Parts::Mean(values) | Parts::Percent(values) => values.iter().flatten().count(),
                _ => all,
            };
            (name.clone(), count)
        })
    });
    metrics.collect()
}

/// The digest of right answers, in their order.
pub fn content<T: AsRef<[u8]>>(right: impl IntoIterator<Item = T>) -> String {
    let mut digest = Sha256::new();
    for answer in right {
        let answer = answer.as_ref();
        digest.update(answer.len().to_le_bytes());
        digest.update(answer);
    }
    let digits = digest.finalize();
    let digits = digits.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// 1 for what is right, otherwise 0.
pub fn share(is_right: bool) -> f64 {
    f64::from(u8::from(is_right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_parts_is_the_metric() {
        let labels = |classes: &[usize]| -> Vec<Label> {
            classes.iter().copied().map(Label::Class).collect()
        };
        let (predicted, right) = (labels(&[1, 0, 1, 1]), labels(&[1, 1, 1, 0]));
        let parts = Parts::of_labels(Metric::Accuracy, &predicted, &right).unwrap();
        assert_eq!(
            parts,
            Parts::Mean(vec![Some(1.0), Some(0.0), Some(1.0), Some(0.0)])
        );
        let accuracy = Metric::Accuracy.score(&predicted, &right).unwrap();
        assert!((accuracy - 0.5).abs() < 1e-12);
        assert!(Parts::of_labels(Metric::Pearson, &predicted, &right).is_err());
    }

    #[test]
    fn contents_are_told_apart() {
        assert_eq!(content(["a", "b"]), content(["a", "b"]));
        assert_ne!(content(["a", "b"]), content(["ab", ""]));
        assert_ne!(content(["a", "b"]), content(["b", "a"]));
        assert_eq!(content(["a"]).len(), 64);
    }

    #[test]
    fn parts_come_back_from_json() {
        let examples = Examples {
            ids: vec!["a".to_owned(), "b".to_owned()],
            content: content(["yes", "no"]),
            groups: vec![],
            metrics: BTreeMap::from([
                (
                    "recall_beyond".to_owned(),
                    Parts::Mean(vec![None, Some(0.5)]),
                ),
                (
                    "bits_per_byte".to_owned(),
                    Parts::BitsPerByte {
                        nats: vec![1.25, 3.0],
                        bytes: vec![3, 4],
                    },
                ),
            ]),
        };
        let counted = [("bits_per_byte", 2), ("recall_beyond", 1)];
        let counted = counted.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(counts(std::slice::from_ref(&examples)), counted.into());
        let text = serde_json::to_string(&examples).unwrap();
        assert!(
            text.contains(r#""recall_beyond":{"mean":[null,0.5]}"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Examples>(&text).unwrap(), examples);
    }
}
