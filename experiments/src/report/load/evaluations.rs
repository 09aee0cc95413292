//! What models answered: `examples.json` and `predictions.jsonl` of evaluations.

use std::collections::BTreeMap;

use moebert_core::file::{self, FileError};
use serde_json::Value;

use super::Stages;
use crate::{
    examples::{Examples, Parts, share},
    json_file,
    predictions::PREDICTIONS,
    report::data::{Bin, Evaluation, Example, Positions, ReportData},
};

/// The bins of confidences.
const BINS: usize = 15;

/// What each example got, from what a metric is made of; none where it has no value of one example.
fn values(parts: &Parts) -> Option<Vec<Option<f32>>> {
    match parts {
        Parts::Mean(values) | Parts::Percent(values) => {
            let values = values.iter();
            Some(
                values
                    .map(|value| value.map(|value| value as f32))
                    .collect(),
            )
        }
        Parts::F1(classes) | Parts::Matthews(classes) => {
            let pairs = classes.predicted.iter().zip(&classes.right);
            let right = pairs.map(|(predicted, right)| Some(share(predicted == right) as f32));
            Some(right.collect())
        }
        _ => None,
    }
}

/// Reads the evaluations of all models. The examples are those of the first.
pub fn read(data: &mut ReportData, stages: &Stages) -> Result<(), FileError> {
    let metric = data.results.shown_metric().unwrap_or_default().to_owned();
    let mut ids: Option<Vec<String>> = None;
    for arm in &data.results.arms {
        for seed in &arm.seeds {
            let Some((_, folder)) = stages.find(arm, seed.seed, "evaluate") else {
                continue;
            };
            let mut evaluation = Evaluation {
                arm: arm.name.clone(),
                seed: seed.seed,
                ..Evaluation::default()
            };
            let splits = Examples::read_if_there(folder)?.unwrap_or_default();
            let path = folder.join(PREDICTIONS);
            let predictions = file::read_if_there(&path)?.unwrap_or_default();
            let predictions: Vec<Value> = json_file::lines(&path, &predictions)?;
            let mut start = 0;
            for split in splits {
                let end = start + split.ids.len();
                let own = predictions.get(start..end).unwrap_or_default();
                start = end;
                let found = split.metrics.get(&metric).and_then(values);
                let Some(values) = found.filter(|values| values.len() == split.ids.len()) else {
                    continue;
                };
                evaluation.calibration = calibration(own, &values);
                let first = ids.get_or_insert_with(|| split.ids.clone());
                if *first == split.ids {
                    evaluation.values = values;
                    evaluation.answers = own.iter().map(answer).collect();
                }
                break;
            }
            evaluation.positions = positions(&predictions);
            data.evaluations.push(evaluation);
        }
    }
    let examples = ids.into_iter().flatten();
    data.examples = examples
        .map(|id| Example {
            id,
            ..Example::default()
        })
        .collect();
    Ok(())
}

/// What a model answered, as text.
fn answer(prediction: &Value) -> String {
    let keys = ["label", "answer", "score", "summary"];
    let found = keys.iter().find_map(|key| prediction.get(key));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

/// Confidences of classes in bins of equal width; nothing where there are none.
fn calibration(predictions: &[Value], values: &[Option<f32>]) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    let mut has_some = false;
    for (prediction, value) in predictions.iter().zip(values) {
        let classes = prediction.get("probabilities").and_then(Value::as_object);
        let (Some(classes), Some(value)) = (classes, value) else {
            continue;
        };
        let best = classes
            .values()
            .filter_map(Value::as_f64)
            .fold(0.0, f64::max);
        let bin = &mut bins[((best * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
        bin.count += 1;
        bin.confidence += best;
        bin.right += usize::from(*value > 0.5);
        has_some = true;
    }
    if has_some { bins } else { vec![] }
}

/// Right answers by their place, where predictions tell it.
fn positions(predictions: &[Value]) -> Option<Positions> {
    let first = predictions.first()?;
    let name = ["distance", "position"]
        .into_iter()
        .find(|name| first.get(name).is_some())?;
    let mut counts: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for prediction in predictions {
        let place = prediction.get(name).and_then(Value::as_u64)?;
        let (answer, right) = (prediction.get("answer")?, prediction.get("right")?);
        let entry = counts.entry(place).or_default();
        entry.0 += usize::from(answer == right);
        entry.1 += 1;
    }
    Some(Positions {
        name: name.to_owned(),
        counts,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::examples::Classes;

    #[test]
    fn confidences_fall_into_bins_by_their_upper_ends() {
        let predictions = [
            json!({"probabilities": {"a": 0.2, "b": 0.8}}),
            json!({"probabilities": {"a": 1.0}}),
        ];
        let bins = calibration(&predictions, &[Some(1.0), Some(0.0)]);
        assert_eq!((bins[11].count, bins[11].right), (1, 1));
        assert_eq!((bins[14].count, bins[14].right), (1, 0));
        assert!(calibration(&[json!({})], &[Some(1.0)]).is_empty());
    }

    #[test]
    fn answers_are_counted_by_place() {
        let predictions = [
            json!({"position": 3, "answer": 1, "right": 1}),
            json!({"position": 3, "answer": 2, "right": 1}),
        ];
        let found = positions(&predictions).unwrap();
        assert_eq!(
            (found.name.as_str(), found.counts[&3]),
            ("position", (1, 2))
        );
        assert!(positions(&[json!({"index": 0})]).is_none());
    }

    #[test]
    fn metrics_of_classes_have_right_and_wrong_examples() {
        let parts = Parts::Matthews(Classes {
            predicted: vec![1, 0],
            right: vec![1, 1],
        });
        assert_eq!(values(&parts).unwrap(), [Some(1.0), Some(0.0)]);
        let mean = Parts::Mean(vec![Some(0.5), None]);
        assert_eq!(values(&mean).unwrap(), [Some(0.5), None]);
        let parts = Parts::BitsPerByte {
            nats: vec![1.0],
            bytes: vec![2],
        };
        assert!(values(&parts).is_none());
    }
}
