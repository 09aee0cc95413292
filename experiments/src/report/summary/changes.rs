//! What arms change, as columns: factors, else keys.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    ablate::compare::FactorWorth,
    results::{ArmResults, Results},
};

/// More keys than this are not shown as columns; names say what arms change.
const MOST: usize = 6;

/// The places of the arms of a factor.
const FULL: usize = 0;
const WITHOUT: usize = 1;
const ALONE: usize = 2;
const BASE: usize = 3;

/// A column.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// A factor, by its place among all.
    Factor(usize, &'a [FactorWorth]),
    /// A key, with its shortest end that no other key has.
    Key(&'a str, &'a str),
}

/// The columns of a run.
pub fn columns(results: &Results) -> Vec<Change<'_>> {
    let is_of_factors = |arm: &ArmResults| is_on(0, &results.factors, &arm.name).is_some();
    if !results.factors.is_empty() && results.arms.iter().any(is_of_factors) {
        let places = 0..results.factors.len();
        return places
            .map(|place| Change::Factor(place, &results.factors))
            .collect();
    }
    let mut keys: Vec<&str> = vec![];
    for arm in &results.arms {
        for key in arm.set.keys() {
            if !keys.contains(&key.as_str()) {
                keys.push(key);
            }
        }
    }
    keys.retain(|key| {
        let values = results.arms.iter().map(|arm| arm.set.get(*key));
        let values: BTreeSet<Option<String>> =
            values.map(|value| value.map(ToString::to_string)).collect();
        values.len() > 1
    });
    if keys.len() > MOST {
        return vec![];
    }
    let short = keys.iter().map(|key| suffix(key, &keys));
    let columns = keys.iter().zip(short);
    columns
        .map(|(key, short)| Change::Key(key, short))
        .collect()
}

/// The shortest end of a key that no other key has.
pub fn suffix<'a>(key: &'a str, keys: &[&str]) -> &'a str {
    let dots = key.rmatch_indices('.').map(|(place, _)| place + 1);
    for start in dots {
        let end = &key[start..];
        let has_end = |other: &&&str| {
            **other == end
                || other.ends_with(end) && other[..other.len() - end.len()].ends_with('.')
        };
        if keys.iter().filter(has_end).count() == 1 {
            return end;
        }
    }
    key
}

impl Change<'_> {
    /// The title of the column, and the whole key.
    pub fn title(&self) -> (String, String) {
        match self {
            Self::Factor(place, factors) => (factors[*place].name.clone(), String::new()),
            Self::Key(key, short) => ((*short).to_owned(), (*key).to_owned()),
        }
    }

    /// The cell of an arm; empty where it leaves the key as it is.
    pub fn cell(&self, arm: &ArmResults) -> String {
        match self {
            Self::Factor(place, factors) => match is_on(*place, factors, &arm.name) {
                Some(true) => "\u{2713}".to_owned(),
                Some(false) => "\u{2013}".to_owned(),
                None => String::new(),
            },
            Self::Key(key, _) => arm.set.get(*key).map_or_else(String::new, text),
        }
    }
}

/// A value as people write it.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Whether a factor is on in an arm; none where the arm is not made of factors.
fn is_on(place: usize, factors: &[FactorWorth], arm: &str) -> Option<bool> {
    let is = |factor: &FactorWorth, part: usize| factor.arms[part].as_deref() == Some(arm);
    let is_any = |part| factors.iter().any(|factor| is(factor, part));
    let position = |part| factors.iter().position(|factor| is(factor, part));
    if is_any(FULL) {
        Some(true)
    } else if is_any(BASE) {
        Some(false)
    } else if let Some(dropped) = position(WITHOUT) {
        Some(dropped != place)
    } else {
        position(ALONE).map(|added| added == place)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_have_the_shortest_end_of_their_own() {
        let keys = [
            "experts.order",
            "train.epochs",
            "stages.student.train.epochs",
        ];
        assert_eq!(suffix(keys[0], &keys), "order");
        assert_eq!(suffix(keys[1], &keys), "train.epochs");
        assert_eq!(suffix(keys[2], &keys), "student.train.epochs");
    }

    #[test]
    fn factors_are_on_or_off() {
        let factor = |name: &str| FactorWorth {
            name: name.to_owned(),
            metric: "accuracy".to_owned(),
            drop: None,
            add: None,
            interaction: None,
            arms: [
                Some("full".to_owned()),
                Some(format!("-{name}")),
                Some(format!("+{name}")),
                Some("base".to_owned()),
            ],
        };
        let factors = [factor("a"), factor("b")];
        let states = |arm: &str| [0, 1].map(|place| is_on(place, &factors, arm));
        assert_eq!(states("full"), [Some(true), Some(true)]);
        assert_eq!(states("-a"), [Some(false), Some(true)]);
        assert_eq!(states("+a"), [Some(true), Some(false)]);
        assert_eq!(states("other"), [None, None]);
        assert_eq!(text(&json!(["a", 1])), "[a, 1]");
    }
}
