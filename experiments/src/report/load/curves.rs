//! `metrics.jsonl`: what was measured while models trained.

use std::{collections::BTreeMap, path::Path};

use moebert_core::file::FileError;
use serde::Deserialize;

use super::lines;
use crate::report::data::Curve;

#[derive(Deserialize)]
struct Line {
    stage: String,
    step: u64,
    split: String,
    name: String,
    value: Option<f64>,
    #[serde(default)]
    last: bool,
}

/// The curves, in the order in which they come first.
pub fn read(path: &Path) -> Result<Vec<Curve>, FileError> {
    let mut places: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let mut curves: Vec<Curve> = vec![];
    for line in lines::<Line>(path)? {
        let Some(value) = line.value.filter(|value| value.is_finite()) else {
            continue;
        };
        let split_is_train = line.split == "train";
        let key = (line.stage, line.split, line.name);
        let place = *places
            .entry(key)
            .or_insert_with_key(|(stage, split, name)| {
                let (seed, arm) = stage.split_once('/').unwrap_or(("", stage));
                let seed = seed
                    .strip_prefix("seed-")
                    .and_then(|seed| seed.parse().ok());
                curves.push(Curve {
                    arm: arm.to_owned(),
                    seed: seed.unwrap_or(0),
                    split: split.clone(),
                    name: name.clone(),
                    points: vec![],
                });
                curves.len() - 1
            });
        let points = &mut curves[place].points;
        match points.last_mut() {
            // Steps only rise.
            Some(last) if last.0 >= line.step => {}
            // While training, the end of an epoch has the mean of all of it.
            Some(_) if line.last && split_is_train => {}
            _ => points.push((line.step, value)),
        }
    }
    Ok(curves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_by_model_seed_and_metric() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = r#"{"stage":"seed-2/a/b","epoch":1,"step":1,"split":"train","name":"Loss","value":1.0}
{"stage":"seed-2/a/b","epoch":1,"step":2,"split":"train","name":"Loss","value":0.5}
{"stage":"seed-2/a/b","epoch":1,"step":2,"split":"train","name":"Loss","value":0.75,"last":true}
{"stage":"seed-2/a/b","epoch":1,"step":3,"split":"train","name":"Loss","value":null}
"#;
        std::fs::write(&path, text).unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].arm.as_str(), found[0].seed), ("a/b", 2));
        assert_eq!(found[0].points, [(1, 1.0), (2, 0.5)]);
        assert!(read(&folder.path().join("none")).unwrap().is_empty());
        std::fs::write(&path, "{").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: EOF"), "{error}");
    }
}
