//! Made-up arms for the tests of comparisons.

use std::collections::BTreeMap;

use super::{JudgedArm, Question};
use crate::examples::{Classes, Examples, Parts, share};

/// An arm that is right on all examples but those that a rule names, by seed and example.
pub(super) fn arm(name: &str, seeds: usize, is_wrong: impl Fn(usize, usize) -> bool) -> JudgedArm {
    let examples = |seed: usize| {
        let right = |example| Some(share(!is_wrong(seed, example)));
        let right: Vec<Option<f64>> = (0..200).map(right).collect();
        let classes = Classes {
            predicted: right
                .iter()
                .map(|right| usize::from(*right == Some(1.0)))
                .collect(),
            right: vec![1; 200],
        };
        Examples {
            ids: (0..200).map(|example| example.to_string()).collect(),
            content: "200".to_owned(),
            groups: vec![],
            metrics: BTreeMap::from([
                ("accuracy".to_owned(), Parts::Mean(right)),
                ("f1".to_owned(), Parts::F1(classes)),
            ]),
        }
    };
    JudgedArm {
        name: name.to_owned(),
        seeds: (0..seeds)
            .map(|seed| (seed as u64, vec![examples(seed)]))
            .collect(),
        failed: 0,
        is_dropped: false,
    }
}

/// What is asked of a metric.
pub(super) fn question(metric: &str) -> Question<'_> {
    Question {
        metric,
        margin: None,
        alpha: 0.05,
    }
}
