//! A run as TensorBoard event files, in a folder for each model and seed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    error::ExportError,
    run_folder::{Loads, ModelRun, Point},
    tensorboard::{EventFile, Histogram, Moment, Origin, Value, is_event_file},
};
use crate::record::seed_folder;

/// The tag of the recipe.
const RECIPE: &str = "recipe/text_summary";

/// The folders for models, below `dir`: `ARM/seed-S`.
pub fn folders<'a>(models: &'a [ModelRun], dir: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
    let folder = |model: &ModelRun| seed_folder(dir, &model.arm, model.seed);
    models.iter().map(folder)
}

/// An event file among those that `folders` hold, if there is one: a reader would show its values and new ones as one series.
pub fn earlier(folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let files = folders.flat_map(|folder| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    });
    let mut files = files.filter(|path| path.file_name().is_some_and(is_event_file));
    files.next()
}

/// Writes the event file of a model into a folder: its recipe at step 0, then everything that was measured, and the loads of
/// its experts.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(model: &ModelRun, folder: &Path) -> Result<PathBuf, ExportError> {
    let [begun, _] = model.times;
    let mut file = EventFile::create(folder, &Origin::here(), begun, None)?;
    let keys = model.recipe.iter();
    // Indented lines are shown as they are.
    let recipe = keys.map(|(key, value)| format!("    {key} = {value}\n"));
    let start = Moment {
        step: 0,
        seconds: begun,
    };
    let recipe = Value::Text(recipe.collect());
    file.summary(start, vec![(RECIPE.to_owned(), recipe)])?;
    // Values of one step make one event.
    for points in model.points.chunk_by(is_together) {
        let at = Moment {
            step: points[0].step as i64,
            seconds: points[0].seconds,
        };
        let values = points.iter();
        let values = values.map(|point| (point.tag.clone(), Value::Scalar(point.value)));
        file.summary(at, values.collect())?;
    }
    for loads in model.loads.chunk_by(|one, next| one.step == next.step) {
        let at = Moment {
            step: loads[0].step as i64,
            seconds: loads[0].seconds,
        };
        file.summary(at, loads.iter().map(histogram).collect())?;
    }
    Ok(file.path().to_owned())
}

/// The loads of a layer: a bar per expert.
fn histogram(Loads { layer, tokens, .. }: &Loads) -> (String, Value) {
    let bars = Value::Histogram(Histogram::of_loads(tokens));
    (format!("experts/load/layer-{}", layer + 1), bars)
}

fn is_together(one: &Point, next: &Point) -> bool {
    one.step == next.step && one.seconds.to_bits() == next.seconds.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graph::Key, results::Status};

    fn model() -> ModelRun {
        let point = |tag: &str, step, value| Point {
            tag: tag.to_owned(),
            step,
            seconds: 100.0 + step as f64,
            value,
        };
        ModelRun {
            arm: "order=random shared=0".to_owned(),
            seed: 3,
            status: Status::Done,
            stage: None::<Key>,
            recipe: vec![("experts.shared".to_owned(), "0".to_owned())],
            points: vec![
                point("epoch/Loss", 10, 0.5),
                point("valid/Loss", 10, 0.25),
                point("valid/Loss", 20, 0.125),
            ],
            loads: vec![Loads {
                layer: 1,
                step: 10,
                seconds: 110.0,
                tokens: vec![3.0, 1.0],
            }],
            times: [100.0, 120.0],
            evaluation: None,
        }
    }

    #[test]
    fn a_model_has_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let models = [model()];
        let paths: Vec<PathBuf> = folders(&models, dir.path()).collect();
        assert_eq!(earlier(paths.iter().cloned()), None);
        let file = write(&models[0], &paths[0]).unwrap();
        assert!(
            file.parent().unwrap().ends_with("seed-3"),
            "{}",
            file.display()
        );
        let bytes = fs::read(&file).unwrap();
        let has = |text: &str| {
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        assert!(has("    experts.shared = 0\n") && has(RECIPE) && has("valid/Loss"));
        assert!(has("experts/load/layer-2"));
        assert_eq!(earlier(paths.into_iter()), Some(file));
    }

    #[test]
    fn values_of_one_step_are_together() {
        let model = model();
        let sizes: Vec<usize> = model.points.chunk_by(is_together).map(<[_]>::len).collect();
        assert_eq!(sizes, [2, 1]);
    }
}
