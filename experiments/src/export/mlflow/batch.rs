//! What fits in one call.

use std::mem;

use super::{
    key::{SameKey, keys},
    run::{Metric, Run},
};

/// The most metrics in a call.
const METRICS: usize = 1_000;
/// The most parameters in a call.
const PARAMETERS: usize = 100;
/// The most bytes of JSON in a call, with room for the rest of the document; the server's limit is 1,000,000.
const BYTES: usize = 900_000;
/// Bytes of JSON around the texts of one entry, at most.
const ENTRY_BYTES: usize = 150;
/// The most characters of a parameter's value.
const VALUE: usize = 6_000;

/// Parameters or metrics for one call, their names already keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// At most 100 parameters with their values.
    pub parameters: Vec<(String, String)>,
    /// At most 1,000 metrics.
    pub metrics: Vec<Metric>,
}

/// The run's parameters, then its metrics, in batches that the server takes: at most 100 parameters or 1,000 metrics, and
/// less than 1 MB. Names become [`keys`]; of values, 6,000 characters are kept, the last of which is then `…`.
///
/// # Errors
///
/// If two parameters or two metrics have the same key.
pub fn batches(run: &Run) -> Result<Vec<Batch>, SameKey> {
    let names = run.parameters.iter().map(|(name, _)| name.as_str());
    let parameter_keys = keys(names)?;
    let metric_keys = keys(run.metrics.iter().map(|metric| metric.name.as_str()))?;
    let parameters = run.parameters.iter();
    let parameters = parameters.map(|(name, value)| {
        let parameter = (parameter_keys[name.as_str()].clone(), shortened(value));
        let bytes = parameter.0.len() + json_bytes(&parameter.1);
        (parameter, bytes)
    });
    let metrics = run.metrics.iter().map(|metric| {
        let name = metric_keys[metric.name.as_str()].clone();
        let bytes = name.len();
        let metric = metric.clone();
        (Metric { name, ..metric }, bytes)
    });
    let parameters = split(parameters, PARAMETERS)
        .into_iter()
        .map(|parameters| Batch {
            parameters,
            metrics: vec![],
        });
    let metrics = split(metrics, METRICS).into_iter().map(|metrics| Batch {
        parameters: vec![],
        metrics,
    });
    Ok(parameters.chain(metrics).collect())
}

/// Items with the bytes of their texts, in groups of at most `count` items.
fn split<T>(items: impl Iterator<Item = (T, usize)>, count: usize) -> Vec<Vec<T>> {
    let mut groups = vec![];
    let (mut group, mut group_bytes) = (vec![], 0);
    for (item, bytes) in items {
        let bytes = bytes + ENTRY_BYTES;
        if group.len() == count || (!group.is_empty() && group_bytes + bytes > BYTES) {
            groups.push(mem::take(&mut group));
            group_bytes = 0;
        }
        group.push(item);
        group_bytes += bytes;
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// Bytes of the text in JSON, at most: a control character takes six.
fn json_bytes(text: &str) -> usize {
    let bytes = text.bytes();
    bytes.map(|byte| if byte < 0x20 { 6 } else { 2 }).sum()
}

fn shortened(value: &str) -> String {
    if value.chars().count() <= VALUE {
        return value.to_owned();
    }
    let kept = value.chars().take(VALUE - 1);
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::mlflow::{Body, request::log_batch, testing::run};

    fn with(parameters: Vec<(String, String)>, metrics: usize) -> Run {
        let metric = |step: usize| Metric {
            name: "train/loss=x".to_owned(),
            value: step as f64,
            at_ms: 1,
            step: step as i64,
        };
        Run {
            parameters,
            metrics: (0..metrics).map(metric).collect(),
            ..run()
        }
    }

    #[test]
    fn refuses_the_same_key() {
        let pair = |name: &str| (name.to_owned(), "1".to_owned());
        let error = batches(&with(vec![pair("a=b"), pair("a:b")], 0)).unwrap_err();
        assert_eq!(error.key, "a:b");
    }

    #[test]
    fn shortens_long_values() {
        let run = with(vec![("a".to_owned(), "é".repeat(7_000))], 0);
        let batches = batches(&run).unwrap();
        let value = &batches[0].parameters[0].1;
        assert_eq!(value.chars().count(), 6_000);
        assert!(value.ends_with("é…"));
    }

    proptest! {
        #[test]
        fn all_entries_are_there_in_order_and_calls_are_small(
            parameters in 0..350_usize, metrics in 0..3_500_usize, length in 0..7_000_usize,
            c in prop::sample::select(vec!['a', '"', '\u{1}', '語']),
        ) {
            let value = c.to_string().repeat(length);
            let pairs = (0..parameters).map(|at| (format!("key.{at}"), value.clone())).collect();
            let run = with(pairs, metrics);
            let batches = batches(&run).unwrap();
            let names: Vec<_> = batches.iter().flat_map(|batch| &batch.parameters).map(|(key, _)| key).collect();
            prop_assert!(names.into_iter().eq(run.parameters.iter().map(|(name, _)| name)));
            let steps = batches.iter().flat_map(|batch| &batch.metrics).map(|metric| metric.step);
            prop_assert!(steps.eq(0..metrics as i64));
            for batch in &batches {
                prop_assert!(batch.parameters.len() <= 100 && batch.metrics.len() <= 1_000);
                prop_assert!(batch.parameters.is_empty() != batch.metrics.is_empty());
                let Body::Json(body) = log_batch(&"0".repeat(32), batch).body else { panic!() };
                prop_assert!(body.to_string().len() < 1_000_000);
            }
        }
    }
}
