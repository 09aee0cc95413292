//! `metrics.jsonl`: what was measured while models trained.

use std::{collections::BTreeMap, path::Path};

use moebert_core::file::FileError;

use crate::{metric_line::MetricLine, report::data::Curve};

/// The curves, in the order in which they come first; none where there is no file.
pub fn read(path: &Path) -> Result<Vec<Curve>, FileError> {
    let lines = if path.exists() {
        MetricLine::read(path)?
    } else {
        vec![]
    };
    let mut places: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let mut curves: Vec<Curve> = vec![];
    for line in lines {
        let (seed, arm) = line.model();
        let key = (line.stage.clone(), line.split.clone(), line.name.clone());
        let place = *places.entry(key).or_insert_with(|| {
            curves.push(Curve {
                arm: arm.to_owned(),
                seed,
                split: line.split.clone(),
                name: line.name.clone(),
                points: vec![],
            });
            curves.len() - 1
        });
        let points = &mut curves[place].points;
        match points.last_mut() {
            // Steps only rise.
            Some(last) if last.0 >= line.step => {}
            // While training, the end of an epoch has the mean of all of it.
            Some(_) if line.last && line.split == "train" => {}
            _ => points.push((line.step, line.value)),
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
