//! A run of Kiln as runs of MLflow: one per model and seed.

use std::path::Path;

use moebert_core::file;

use super::{
    error::ExportError,
    mlflow::{Artifact, Metric, Run, Status},
    run_folder::ModelRun,
};
use crate::results;

/// Files of a run folder that go to MLflow, where they are there.
const FILES: [&str; 4] = ["recipe.toml", "results.json", "results.md", "report.html"];

/// The files of a run.
///
/// # Errors
///
/// If one is there and cannot be read.
pub fn artifacts(run: &Path) -> Result<Vec<Artifact>, ExportError> {
    let mut artifacts = vec![];
    for name in FILES {
        if let Some(bytes) = file::read_if_there(&run.join(name))? {
            let name = name.to_owned();
            artifacts.push(Artifact { name, bytes });
        }
    }
    Ok(artifacts)
}

/// A model as a run of MLflow; none of one that is not done and did not fail.
pub fn of_model(model: &ModelRun, artifacts: Vec<Artifact>) -> Option<Run> {
    let status = match model.status {
        results::Status::Done => Status::Finished,
        results::Status::Failed | results::Status::Blocked => Status::Failed,
        results::Status::Open => return None,
    };
    let [start_ms, end_ms] = model.times.map(milliseconds);
    let points = model.points.iter();
    let metrics = points.map(|point| Metric {
        name: point.tag.clone(),
        value: point.value,
        at_ms: milliseconds(point.seconds),
        step: point.step as i64,
    });
    Some(Run {
        arm: model.arm.clone(),
        seed: model.seed,
        stage: model.stage.as_ref()?.to_string(),
        start_ms,
        end_ms,
        status,
        parameters: model.recipe.clone(),
        metrics: metrics.collect(),
        artifacts,
    })
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::run_folder::Point;

    #[test]
    fn a_model_that_is_open_is_no_run() {
        let model = |status| ModelRun {
            arm: "a".to_owned(),
            seed: 1,
            status,
            stage: Some(format!("train-{}", "0".repeat(32)).parse().unwrap()),
            recipe: vec![("train.epochs".to_owned(), "2".to_owned())],
            points: vec![Point {
                tag: "valid/Loss".to_owned(),
                step: 7,
                seconds: 1.2344,
                value: 0.5,
            }],
            loads: vec![],
            times: [1.0, 2.5],
            evaluation: None,
        };
        let run = |status| of_model(&model(status), vec![]);
        assert_eq!(run(results::Status::Open), None);
        let done = run(results::Status::Done).unwrap();
        assert_eq!(
            (done.status, done.start_ms, done.end_ms),
            (Status::Finished, 1000, 2500)
        );
        assert_eq!((done.metrics[0].at_ms, done.metrics[0].step), (1234, 7));
        assert_eq!(
            run(results::Status::Blocked).unwrap().status,
            Status::Failed
        );
    }

    #[test]
    fn only_files_that_are_there_are_sent() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(artifacts(folder.path()).unwrap(), []);
        std::fs::write(folder.path().join("results.md"), "table").unwrap();
        let found = artifacts(folder.path()).unwrap();
        assert_eq!(found[0].name, "results.md");
        assert_eq!(found.len(), 1);
    }
}
