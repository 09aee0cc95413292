//! What a run folder has for other programs: each model with each seed, with its recipe and the values of its training.

use std::path::{Path, PathBuf};

use moebert_core::file::FileError;

use super::{
    predictions::split_of,
    results_tables::{last_stage, stage_of},
};
use crate::{
    ablate::run_arm,
    error::Error,
    graph::{Done, Key},
    layer_lines::layer_lines,
    metric_line::{MetricLine, TRAINED},
    record::{MODELS, folder_of, seed_folder},
    results::{Results, SeedResults, Status},
};

/// A model of a run with one seed.
#[derive(Clone, Debug)]
pub struct ModelRun {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// How far it came.
    pub status: Status,
    /// The stage that judged it, or else the one that trained it.
    pub stage: Option<Key>,
    /// The keys of its recipe with their values.
    pub recipe: Vec<(String, String)>,
    /// What was measured, in its order: the values of its training, then its scores.
    pub points: Vec<Point>,
    /// What the experts of its layers got while it trained, by rising step; empty without experts.
    pub loads: Vec<Loads>,
    /// When its training began and ended, or its evaluation where it has none, in seconds since 1970.
    pub times: [f64; 2],
    /// The folder of its evaluation, if that is done.
    pub evaluation: Option<PathBuf>,
}

/// A value at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What it is: `train/NAME` and `epoch/NAME` for means over some steps and over an epoch, `valid/NAME` after an
    /// epoch, and `eval/NAME` for a score.
    pub tag: String,
    /// The optimiser step.
    pub step: u64,
    /// Seconds since 1970.
    pub seconds: f64,
    /// The value.
    pub value: f64,
}

/// The loads of a layer's experts at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Loads {
    /// The layer, from 0.
    pub layer: usize,
    /// The optimiser step.
    pub step: u64,
    /// Seconds since 1970.
    pub seconds: f64,
    /// Tokens of each expert, in the mean of some batches.
    pub tokens: Vec<f64>,
}

impl ModelRun {
    /// The name of its folder or file.
    pub fn folder(&self) -> String {
        folder_of(&self.arm)
    }
}

/// The models of a run in the order of its table, each with its seeds.
///
/// # Errors
///
/// If a file of the run cannot be read or is damaged.
pub fn models(run: &Path, results: &Results) -> Result<Vec<ModelRun>, Error> {
    let mut models = vec![];
    for arm in &results.arms {
        let recipe = run_arm::recipe(run, &arm.name)?.into_iter();
        let recipe = recipe.filter(|(key, _)| !is_of_the_run(key));
        let recipe: Vec<_> = recipe.map(|(key, value)| (key, shown(&value))).collect();
        for seed in &arm.seeds {
            let folder = seed_folder(&run.join(MODELS), &arm.name, seed.seed);
            let recipe = recipe.clone();
            models.push(model(&arm.name, seed, &folder, recipe)?);
        }
    }
    Ok(models)
}

/// Whether a key says nothing of a single model: a run that goes on may have other seeds.
fn is_of_the_run(key: &str) -> bool {
    key == "seeds" || key == "ablate" || key.starts_with("ablate.")
}

/// A string as it is, anything else as TOML.
fn shown(value: &toml::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn model(
    arm: &str,
    seed: &SeedResults,
    folder: &Path,
    recipe: Vec<(String, String)>,
) -> Result<ModelRun, Error> {
    let stage = |what| {
        let stage = stage_of(seed, what);
        stage
            .map(|(name, _)| folder.join(name))
            .filter(|path| path.is_dir())
    };
    let evaluation = stage("evaluate").filter(|_| seed.status == Status::Done);
    let training = stage("train");
    let timed = training.as_ref().or(evaluation.as_ref());
    let times = timed.map(|stage| times(stage)).transpose()?;
    let times = times.unwrap_or_default();
    let mut points = match &training {
        Some(training) => trained(&training.join(TRAINED), times)?,
        None => vec![],
    };
    let step = points
        .iter()
        .map(|point| point.step)
        .max()
        .unwrap_or_default();
    let loads = match &training {
        Some(training) => loads(training, times, step)?,
        None => vec![],
    };
    points.extend(seed.metrics.iter().map(|(metric, value)| Point {
        tag: format!("{}/{metric}", split_of(metric)),
        step,
        seconds: times[1],
        value: *value,
    }));
    Ok(ModelRun {
        arm: arm.to_owned(),
        seed: seed.seed,
        status: seed.status,
        stage: last_stage(seed).cloned(),
        recipe,
        points,
        loads,
        times,
        evaluation,
    })
}

/// When the process that finished a stage was started, and how long the stage took after that.
fn times(stage: &Path) -> Result<[f64; 2], FileError> {
    let done = Done::of_folder(stage)?;
    let started = done.environment["started_unix_s"].as_f64();
    let started = started.unwrap_or_default();
    Ok([started, started + done.seconds])
}

/// The time of a step of a training. Lines of trainings have no times: the steps are spread evenly over that of the training.
fn at([begun, ended]: [f64; 2], step: u64, steps: u64) -> f64 {
    begun + (ended - begun) * step as f64 / steps.max(1) as f64
}

/// The values of a training.
fn trained(path: &Path, times: [f64; 2]) -> Result<Vec<Point>, FileError> {
    let lines = MetricLine::read(path)?;
    let steps = lines.iter().map(|line| line.step).max().unwrap_or_default();
    let points = lines.into_iter().map(|line| Point {
        tag: line.tag(),
        step: line.step,
        seconds: at(times, line.step, steps),
        value: line.value,
    });
    Ok(points.collect())
}

/// The loads that a training kept, if it has some.
fn loads(training: &Path, times: [f64; 2], steps: u64) -> Result<Vec<Loads>, FileError> {
    let lines = layer_lines(training)?;
    let loads = lines.into_iter().filter(|line| line.name == "load");
    let loads = loads.map(|line| Loads {
        layer: line.layer,
        step: line.step as u64,
        seconds: at(times, line.step as u64, steps),
        tokens: line.values.into_iter().map(f64::from).collect(),
    });
    Ok(loads.collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_training_is_spread_over_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines = [
            json!({ "epoch": 1, "step": 5, "split": "train", "name": "Loss", "value": 2.0 }),
            json!({ "epoch": 1, "step": 10, "split": "train", "name": "Loss", "value": 1.5, "last": true }),
            json!({ "epoch": 1, "step": 10, "split": "valid", "name": "Loss", "value": 1.0, "last": true }),
        ];
        let lines = lines.map(|line| format!("{line}\n"));
        fs::write(&path, lines.concat()).unwrap();
        let point = |tag: &str, step, seconds, value| Point {
            tag: tag.to_owned(),
            step,
            seconds,
            value,
        };
        let expected = [
            point("train/Loss", 5, 150.0, 2.0),
            point("epoch/Loss", 10, 200.0, 1.5),
            point("valid/Loss", 10, 200.0, 1.0),
        ];
        assert_eq!(trained(&path, [100.0, 200.0]).unwrap(), expected);
        fs::write(&path, "{}\n").unwrap();
        let error = trained(&path, [0.0, 1.0]).unwrap_err().to_string();
        assert!(
            error.contains("metrics.jsonl: missing field `step`"),
            "{error}"
        );
    }

    #[test]
    fn loads_are_those_of_experts_and_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let stage = folder.path();
        let path = stage.join("training/layers.jsonl");
        assert!(loads(stage, [0.0, 1.0], 10).unwrap().is_empty());
        fs::create_dir(stage.join("training")).unwrap();
        let lines = [
            json!({ "epoch": 1, "step": 5, "name": "hidden", "layer": 0, "values": [0.5] }),
            json!({ "epoch": 1, "step": 5, "name": "load", "layer": 2, "values": [3.0, 1.5] }),
        ];
        fs::write(&path, lines.map(|line| format!("{line}\n")).concat()).unwrap();
        let expected = Loads {
            layer: 2,
            step: 5,
            seconds: 150.0,
            tokens: vec![3.0, 1.5],
        };
        assert_eq!(loads(stage, [100.0, 200.0], 10).unwrap(), [expected]);
        fs::write(&path, "{}\n").unwrap();
        let error = loads(stage, [0.0, 1.0], 10).unwrap_err().to_string();
        assert!(error.contains("layers.jsonl: missing field"), "{error}");
    }

    #[test]
    fn keys_of_the_whole_run_are_left_out() {
        assert!(is_of_the_run("seeds") && is_of_the_run("ablate.reference"));
        assert!(!is_of_the_run("experts.shared") && !is_of_the_run("seedsman"));
    }
}
