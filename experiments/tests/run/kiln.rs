//! Starts the program, on a recipe that takes about a second.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const RECIPE: &str = r#"
name = "small"

[model.random]
layers = 2
hidden = 16
heads = 2
width = 32
vocabulary = 200
positions = 32

[data]
task = "synthetic"
max_length = 32
synthetic = { train = 400, dev = 600 }

[train]
epochs = 3
batch_size = 8
learning_rate = 1e-3

[experts]
count = 4
width = 8
shared = 4

[latency]
batch = 4
length = 32
repeats = 200

[stages.teacher]

[stages.student]
from = "teacher"
methods = ["experts", "layerwise"]

[[arms]]
name = "cut"

[[arms]]
name = "gated"
experts = { order = "random", router = "gate-token" }
stages.student.methods = ["experts"]
"#;

/// A folder with the recipe `small.toml`, in which the program is started.
pub struct Kiln {
    folder: TempDir,
}

impl Kiln {
    pub fn new() -> Self {
        let kiln = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        kiln.write("small.toml", RECIPE);
        kiln
    }

    /// With a task in GLUE's format as well, and a teacher fine-tuned on it: `sst2` and `teacher`; and
    /// a recipe `path.toml` for the task that names no model.
    pub fn with_teacher() -> Self {
        let kiln = Self::new();
        let mut text = "sentence\tlabel\n".to_owned();
        for index in 0..40 {
            let (word, label) = [("sad", 0), ("merry", 1)][index % 2];
            writeln!(text, "a {word} film about {} cats\t{label}", index / 2).unwrap();
        }
        kiln.write("sst2/train.tsv", &text);
        kiln.write("sst2/dev.tsv", &text);
        // Without the synthetic data's keys, and quicker.
        let recipe: Vec<&str> = RECIPE
            .lines()
            .filter(|line| !line.starts_with("synthetic"))
            .collect();
        let recipe = recipe.join("\n").replace("synthetic", "sst2");
        let (before, after) = recipe.split_once("[model.random]").unwrap();
        let (_, data) = after.split_once("[data]").unwrap();
        kiln.write("path.toml", format!("{before}[data]{data}"));
        kiln.write("sst2.toml", &recipe);
        let settings = ["data.path=sst2", "train.epochs=1", "latency.repeats=1"];
        let output = kiln.start(&[&["run", "sst2.toml", "--out", "run"][..], &settings].concat());
        assert!(output.status.success(), "{}", text_of(&output.stderr));
        kiln.copy(TEACHER, "teacher");
        kiln
    }

    /// Writes the recipe `small.toml` under another name, without its model.
    pub fn write_without_model(&self, name: &str) {
        let (before, after) = RECIPE.split_once("[model.random]").unwrap();
        let (_, data) = after.split_once("[data]").unwrap();
        self.write(name, format!("{before}[data]{data}"));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Copies the files of a folder.
    pub fn copy(&self, from: &str, to: &str) {
        for entry in fs::read_dir(self.path(from)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            self.write(&format!("{to}/{name}"), fs::read(&path).unwrap());
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Runs the program to its end.
    pub fn start(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program to its end, which must be a good one; returns what it printed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.start(arguments);
        let errors = text_of(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        text_of(&output.stdout)
    }

    /// Runs the program to its end, which must be exit code 2; returns what it told on standard error.
    pub fn fail(&self, arguments: &[&str]) -> String {
        refusal(&self.start(arguments))
    }

    /// As `fail`, for a run of which a stage finds what is wrong: its table says what else there is.
    pub fn fail_in_a_stage(&self, arguments: &[&str]) -> String {
        bad_input(&self.start(arguments))
    }
}

/// Where a run of one seed leaves the fine-tuned teacher.
pub const TEACHER: &str = "run/arms/teacher/seed-1/train/model";

pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The last line of standard error of a program that failed as it should.
pub fn refusal(output: &Output) -> String {
    let errors = bad_input(output);
    assert!(output.stdout.is_empty(), "{errors}");
    errors
}

/// What is on standard error of a program that was ended by wrong input.
fn bad_input(output: &Output) -> String {
    let errors = text_of(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let last = errors.lines().last().unwrap_or_default();
    assert!(last.starts_with("kiln: error: "), "{errors}");
    assert!(!last.contains("internal error"), "{errors}");
    errors
}

/// What a run folder's `results.json` says, with a line for each model and seed in `rows`.
pub fn results(run: &Path) -> Value {
    let text = fs::read(run.join("results.json")).unwrap();
    let mut results: Value = serde_json::from_slice(&text).unwrap();
    let mut rows = vec![];
    for arm in results["arms"].as_array().unwrap() {
        for seed in arm["seeds"].as_array().unwrap() {
            let mut row = json!({ "name": arm["name"], "seed": seed["seed"], "spans": arm["spans"], "metrics": seed["metrics"] });
            for (key, from) in [("mixers", arm), ("experts", arm)] {
                if !from[key].is_null() {
                    row[key] = from[key].clone();
                }
            }
            if !seed["before"].is_null() {
                row["metrics_before"] = seed["before"].clone();
            }
            for (key, value) in arm["cost"].as_object().into_iter().flatten() {
                match value.as_object() {
                    Some(attention) => row.as_object_mut().unwrap().extend(attention.clone()),
                    None if value.is_null() => {}
                    None => row[key] = value.clone(),
                }
            }
            rows.push(row);
        }
    }
    results["rows"] = rows.into();
    results
}

/// A line for each model and seed of a run of language models.
pub fn rows(kiln: &Kiln, run: &str) -> Vec<Value> {
    let mut results = results(&kiln.path(run));
    std::mem::take(results["rows"].as_array_mut().unwrap())
}

/// What `kiln eval` prints, without intervals.
pub fn without_intervals(printed: &str) -> String {
    let lines = printed.lines().map(|line| match line.split_once(" [") {
        Some((score, _)) => format!("{score}\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// The scores of such a row as `kiln eval` prints them, without intervals.
pub fn printed(scores: &Value) -> String {
    let scores = scores.as_object().unwrap().iter();
    let lines = scores.map(|(name, score)| format!("{name} {:.4}\n", score.as_f64().unwrap()));
    lines.collect::<Vec<_>>().concat()
}
