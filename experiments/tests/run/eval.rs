//! `kiln eval` on what people have: lengths, classes in another order, and the answer to every example.

use std::fs;

use serde_json::{Value, json};

use super::bad_input::refuse;
use super::kiln::Kiln;

const TASK: [&str; 4] = ["--task", "sst2", "--data", "sst2"];

fn eval<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["eval", "teacher"], &TASK[..], more].concat()
}

fn json(kiln: &Kiln, path: &str) -> Value {
    serde_json::from_slice(&fs::read(kiln.path(path)).unwrap()).unwrap()
}

/// The printed value of a metric.
fn score(printed: &str, name: &str) -> f64 {
    let lines = printed.lines();
    let mut values =
        lines.filter_map(|line| line.strip_prefix(name)?.split(' ').next()?.parse().ok());
    values.next().unwrap()
}

#[test]
fn every_answer_is_written_and_scores_follow_from_the_files() {
    let kiln = Kiln::with_teacher();
    let printed = kiln.succeed(&eval(&["--predictions", "sst2.tsv"]));
    assert_eq!(
        printed,
        kiln.succeed(&eval(&["--predictions", "sst2.jsonl"]))
    );
    let table = fs::read_to_string(kiln.path("sst2.tsv")).unwrap();
    let data = fs::read_to_string(kiln.path("sst2/dev.tsv")).unwrap();
    let cells = |text: &str, column: usize| -> Vec<String> {
        let lines = text.lines().skip(1);
        lines
            .map(|line| line.split('\t').nth(column).unwrap().to_owned())
            .collect()
    };
    assert!(table.starts_with("index\tprediction\n0\t"), "{table}");
    let (found, right) = (cells(&table, 1), cells(&data, 1));
    assert_eq!(found.len(), right.len());
    let hits = found
        .iter()
        .zip(&right)
        .filter(|(found, right)| found == right);
    let accuracy = hits.count() as f64 / right.len() as f64;
    assert!(
        (accuracy - score(&printed, "accuracy ")).abs() < 1e-4,
        "{printed}"
    );

    let lines = fs::read_to_string(kiln.path("sst2.jsonl")).unwrap();
    for ((line, answer), index) in lines.lines().zip(&found).zip(0..) {
        let object: Value = serde_json::from_str(line).unwrap();
        let names = ["negative", "positive"];
        let probabilities = names.map(|name| object["probabilities"][name].as_f64().unwrap());
        assert!(
            (probabilities[0] + probabilities[1] - 1.0).abs() < 1e-9,
            "{line}"
        );
        let best = usize::from(probabilities[1] > probabilities[0]);
        assert_eq!(object["index"], json!(index));
        assert_eq!(object["label"], json!(names[best]));
        assert_eq!(*answer, best.to_string());
    }
}

#[test]
fn predictions_go_over_nothing_that_is_read() {
    let kiln = Kiln::with_teacher();
    let before = fs::read(kiln.path("sst2/dev.tsv")).unwrap();
    for (path, texts) in [
        (
            "sst2/dev.tsv",
            ["sst2/dev.tsv is what the command reads", ""],
        ),
        (
            "answers.json",
            ["answers to sst2 are written as .tsv or .jsonl", ""],
        ),
        ("answers", ["`--predictions` answers", ".tsv or .jsonl"]),
        ("no/such/folder.tsv", ["cannot write", "no/such/folder.tsv"]),
    ] {
        refuse(&kiln, &eval(&["--predictions", path]), &texts);
    }
    assert_eq!(fs::read(kiln.path("sst2/dev.tsv")).unwrap(), before);
    let weights = fs::read(kiln.path("teacher/model.safetensors")).unwrap();
    let output = ["--output", "teacher/model.safetensors"];
    let command = [&["importance", "teacher"], &TASK[..], &output].concat();
    refuse(&kiln, &command, &["model.safetensors is a file of a model"]);
    let command = [
        "spans",
        "full",
        "--layers",
        "1",
        "--length",
        "4",
        "--svg",
        "teacher/config.json",
    ];
    refuse(&kiln, &command, &["config.json is a file of a model"]);
    refuse(
        &kiln,
        &["run", "small.toml", "--out", "sst2"],
        &["sst2 is no run folder", "choose another --out"],
    );
    assert_eq!(
        fs::read(kiln.path("teacher/model.safetensors")).unwrap(),
        weights
    );
}

#[test]
fn texts_are_read_as_by_the_run_that_made_the_model() {
    let kiln = Kiln::with_teacher();
    let saved = json(&kiln, "teacher/kiln_task.json");
    assert_eq!(saved, json!({ "task": "sst2", "max_length": 32 }));
    let as_saved = kiln.succeed(&eval(&["--predictions", "saved.jsonl"]));
    let told = ["--max-length", "32", "--predictions", "told.jsonl"];
    assert_eq!(kiln.succeed(&eval(&told)), as_saved);
    let shorter = ["--max-length", "5", "--predictions", "shorter.jsonl"];
    kiln.succeed(&eval(&shorter));
    kiln.write(
        "teacher/kiln_task.json",
        json!({ "task": "sst2", "max_length": 5 }).to_string(),
    );
    kiln.succeed(&eval(&["--predictions", "shorter-saved.jsonl"]));
    let file = |name: &str| fs::read(kiln.path(name)).unwrap();
    assert_eq!(file("saved.jsonl"), file("told.jsonl"));
    assert_eq!(file("shorter.jsonl"), file("shorter-saved.jsonl"));
    assert_ne!(file("shorter.jsonl"), file("saved.jsonl"));
    // Another task's settings, and none: as many tokens as the model has positions.
    for settings in [
        json!({ "task": "squad", "max_length": 5 }),
        json!({ "task": "sst2" }),
    ] {
        kiln.write("teacher/kiln_task.json", settings.to_string());
        assert_eq!(kiln.succeed(&eval(&[])), as_saved);
    }
    refuse(
        &kiln,
        &eval(&["--max-length", "33"]),
        &["`--max-length` 33", "32 positions", "at most 32"],
    );
    refuse(
        &kiln,
        &eval(&["--doc-stride", "3"]),
        &["`--doc-stride` cannot go with --task sst2"],
    );
    kiln.write("teacher/kiln_task.json", "{");
    refuse(&kiln, &eval(&[]), &["teacher/kiln_task.json"]);
}

#[test]
fn classes_are_mapped_by_their_names_and_others_are_refused() {
    let kiln = Kiln::with_teacher();
    let config = json(&kiln, "teacher/config.json");
    let with_labels = |names: [&str; 2]| {
        let mut config = config.clone();
        config["id2label"] = json!({ "0": names[0], "1": names[1] });
        config["label2id"] = json!({ names[0]: 0, names[1]: 1 });
        kiln.write("teacher/config.json", config.to_string());
    };
    let accuracy = |printed: String| score(&printed, "accuracy ");
    let right = accuracy(kiln.succeed(&eval(&[])));
    with_labels(["POSITIVE", "NEGATIVE"]);
    let swapped = accuracy(kiln.succeed(&eval(&[])));
    assert!((right + swapped - 1.0).abs() < 2e-4, "{right} {swapped}");
    with_labels(["unacceptable", "acceptable"]);
    refuse(
        &kiln,
        &eval(&[]),
        &[
            "labels are unacceptable, acceptable",
            "sst2 needs negative, positive",
        ],
    );
    with_labels(["bad", "good"]);
    assert!((accuracy(kiln.succeed(&eval(&[]))) - right).abs() < 1e-9);
    // Experts are Kiln's own: their names are those of their task.
    let sizes = [
        "--experts",
        "4",
        "--width",
        "8",
        "--shared",
        "4",
        "--order",
        "random",
    ];
    kiln.succeed(&[&["adapt", "teacher", "--output", "cut"], &sizes[..]].concat());
    let cut = [&["eval", "cut"], &TASK[..]].concat();
    refuse(&kiln, &cut, &["cut/config.json: labels are bad, good"]);
}
