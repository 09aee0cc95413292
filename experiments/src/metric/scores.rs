//! Metrics by their name.

use std::{
    collections::{BTreeMap, btree_map},
    ops::{Deref, DerefMut},
};

use serde::{Deserialize, Serialize};

/// Metrics by their name. Shares and correlations are fractions, not percent. A metric that has no value on these
/// answers is NaN, which JSON knows as `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    from = "BTreeMap<String, Option<f64>>",
    into = "BTreeMap<String, Option<f64>>"
)]
pub struct Scores(BTreeMap<String, f64>);

/// How the value of a metric is shown, with four digits.
pub fn shown(value: f64) -> String {
    if value.is_nan() {
        UNDEFINED.to_owned()
    } else {
        format!("{value:.4}")
    }
}

/// What is shown of a metric without a value.
pub const UNDEFINED: &str = "undefined";

impl Deref for Scores {
    type Target = BTreeMap<String, f64>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Scores {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl FromIterator<(String, f64)> for Scores {
    fn from_iter<I: IntoIterator<Item = (String, f64)>>(scores: I) -> Self {
        Self(scores.into_iter().collect())
    }
}

impl<const N: usize> From<[(String, f64); N]> for Scores {
    fn from(scores: [(String, f64); N]) -> Self {
        scores.into_iter().collect()
    }
}

impl IntoIterator for Scores {
    type Item = (String, f64);
    type IntoIter = btree_map::IntoIter<String, f64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<BTreeMap<String, Option<f64>>> for Scores {
    fn from(scores: BTreeMap<String, Option<f64>>) -> Self {
        let value = |(name, value): (String, Option<f64>)| (name, value.unwrap_or(f64::NAN));
        scores.into_iter().map(value).collect()
    }
}

impl From<Scores> for BTreeMap<String, Option<f64>> {
    fn from(scores: Scores) -> Self {
        let value = |(name, value): (String, f64)| (name, (!value.is_nan()).then_some(value));
        scores.into_iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_without_a_value_survives_its_file() {
        let scores = Scores::from([("a".to_owned(), 0.25), ("b".to_owned(), f64::NAN)]);
        let json = serde_json::to_string(&scores).unwrap();
        assert_eq!(json, r#"{"a":0.25,"b":null}"#);
        let again: Scores = serde_json::from_str(&json).unwrap();
        assert_eq!(again.get("a"), Some(&0.25));
        assert_eq!(shown(again["b"]), "undefined");
        assert_eq!(shown(again["a"]), "0.2500");
    }
}
