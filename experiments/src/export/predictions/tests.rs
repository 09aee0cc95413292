use std::fs;

use serde_json::json;

use super::*;
use crate::examples::{Classes, Numbers};

/// The tables of a stage with these files.
fn tables(
    reading: Value,
    rows: &[Value],
    splits: &[Examples],
) -> Result<Vec<SplitTable>, ExportError> {
    let folder = tempfile::tempdir().unwrap();
    let done = json!({
        "document": {
            "format": 1, "kind": "evaluate", "settings": { "reading": reading }, "inputs": {},
            "data": format!("sha256:{}", "0".repeat(64)), "result_version": 2,
        },
        "result": null, "files": {}, "seconds": 1.0, "peak_memory": null, "host": "h", "backend": "flex",
        "environment": null, "claim": "c",
    });
    fs::write(folder.path().join(DONE), done.to_string()).unwrap();
    let lines = rows.iter().map(|row| format!("{row}\n"));
    fs::write(folder.path().join(PREDICTIONS), lines.collect::<String>()).unwrap();
    Examples::write(splits, folder.path()).unwrap();
    of_stage(folder.path())
}

fn split(ids: &[&str], metrics: Vec<(&str, Parts)>) -> Examples {
    let metrics = metrics.into_iter();
    Examples {
        ids: ids.iter().map(ToString::to_string).collect(),
        metrics: metrics
            .map(|(name, parts)| (name.to_owned(), parts))
            .collect(),
        ..Examples::default()
    }
}

fn column<'a>(table: &'a SplitTable, name: &str) -> &'a Column {
    let mut columns = table.table.columns().iter();
    &columns.find(|(other, _)| other == name).unwrap().1
}

fn class(index: u32, label: &str, names: &[&str]) -> Value {
    let share = |name: &&str| {
        (
            name.to_string(),
            json!(if *name == label { 0.75 } else { 0.25 }),
        )
    };
    let probabilities: Map<String, Value> = names.iter().map(share).collect();
    json!({ "index": index, "label": label, "probabilities": probabilities })
}

#[test]
fn classes_have_labels_where_the_parts_tell_them() {
    let names = ["negative", "positive"];
    let rows = [class(4, "positive", &names), class(9, "negative", &names)];
    let accuracy = Parts::Mean(vec![Some(1.0), Some(0.0)]);
    let examples = [split(&["4", "9"], vec![("accuracy", accuracy)])];
    let found = tables(json!({ "task": "sst2" }), &rows, &examples).unwrap();
    let [table] = found.as_slice() else {
        panic!("{found:?}")
    };
    let text = |texts: [&str; 2]| Column::Text(texts.map(|text| Some(text.to_owned())).to_vec());
    assert_eq!(table.split, "eval");
    assert_eq!(column(table, "example"), &text(["eval:4", "eval:9"]));
    assert_eq!(column(table, "group"), &Column::Text(vec![None; 2]));
    assert_eq!(
        column(table, "label"),
        &Column::Whole32(vec![Some(1), Some(1)])
    );
    assert_eq!(
        column(table, "prediction"),
        &Column::Whole32(vec![Some(1), Some(0)])
    );
    let scores = vec![Some(vec![0.25, 0.75]), Some(vec![0.75, 0.25])];
    assert_eq!(column(table, "scores"), &Column::Reals32(scores));
    assert_eq!(
        column(table, "accuracy"),
        &Column::Real(vec![Some(1.0), Some(0.0)])
    );
    assert_eq!(column(table, "start"), &Column::Whole(vec![None; 2]));
    let [schema, stage, task, metrics] = &table.metadata;
    assert_eq!(
        (schema, task),
        (
            &("kiln.schema", "1".to_owned()),
            &("kiln.task", "sst2".to_owned())
        )
    );
    assert!(stage.1.starts_with("evaluate-"), "{stage:?}");
    assert_eq!(metrics.1, "accuracy");
}

#[test]
fn splits_follow_each_other() {
    let names = ["entailment", "neutral", "contradiction"];
    let rows = [
        class(0, "neutral", &names),
        class(0, "neutral", &names),
        class(1, "entailment", &names),
    ];
    let mean = |values: &[f64]| Parts::Mean(values.iter().copied().map(Some).collect());
    let examples = [
        split(&["0"], vec![("accuracy", mean(&[0.0]))]),
        split(
            &["0", "1"],
            vec![("accuracy_mismatched", mean(&[1.0, 0.0]))],
        ),
    ];
    let found = tables(json!({ "task": "mnli" }), &rows, &examples).unwrap();
    let [first, second] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (first.split.as_str(), second.split.as_str()),
        ("eval", "eval-mismatched")
    );
    // One of the two others is right.
    assert_eq!(column(first, "label"), &Column::Whole32(vec![None]));
    assert_eq!(
        column(second, "label"),
        &Column::Whole32(vec![Some(1), None])
    );
}

#[test]
fn metrics_that_are_no_means_are_no_columns() {
    let rows = [
        json!({ "index": 0, "score": 2.5 }),
        json!({ "index": 1, "score": 0.0 }),
    ];
    let numbers = Numbers {
        predicted: vec![2.5, 0.0],
        right: vec![3.0, 0.5],
    };
    let examples = [split(
        &["0", "1"],
        vec![("pearson", Parts::Pearson(numbers))],
    )];
    let found = tables(json!({ "task": "stsb" }), &rows, &examples).unwrap();
    assert_eq!(
        column(&found[0], "label"),
        &Column::Real32(vec![Some(3.0), Some(0.5)])
    );
    assert_eq!(
        column(&found[0], "prediction"),
        &Column::Real32(vec![Some(2.5), Some(0.0)])
    );
    assert_eq!(found[0].table.columns().len(), 9);
    assert_eq!(found[0].metadata[3].1, "");

    let names = ["0", "1"];
    let rows = [class(0, "0", &names)];
    let classes = Classes {
        predicted: vec![0],
        right: vec![1],
    };
    let examples = [split(&["0"], vec![("matthews", Parts::Matthews(classes))])];
    let found = tables(json!({ "task": "cola" }), &rows, &examples).unwrap();
    assert_eq!(column(&found[0], "label"), &Column::Whole32(vec![Some(1)]));
}

#[test]
fn decoders_have_their_own_columns() {
    let rows = [json!({ "document": 0, "tokens": 7, "bytes": 9, "nats": 1.5 })];
    let parts = Parts::Perplexity {
        nats: vec![1.5],
        tokens: vec![7],
    };
    let examples = [split(&["0"], vec![("perplexity", parts)])];
    let found = tables(json!({ "data": { "task": "text" } }), &rows, &examples).unwrap();
    assert_eq!(found[0].metadata[2].1, "text");
    assert_eq!(column(&found[0], "nats"), &Column::Real(vec![Some(1.5)]));
    for (name, value) in [("tokens", 7), ("bytes", 9), ("start", 0)] {
        assert_eq!(column(&found[0], name), &Column::Whole(vec![Some(value)]));
    }
    let rows = [json!({ "sequence": 3, "position": 8, "answer": 5, "right": 6 })];
    let mut recall = split(&["3:8"], vec![("recall", Parts::Mean(vec![Some(0.0)]))]);
    recall.groups = vec!["3".to_owned()];
    let found = tables(json!({ "data": { "task": "recall" } }), &rows, &[recall]).unwrap();
    let text = |text: &str| Column::Text(vec![Some(text.to_owned())]);
    assert_eq!(column(&found[0], "example"), &text("3:8"));
    assert_eq!(column(&found[0], "group"), &text("3"));
    assert_eq!(column(&found[0], "label"), &Column::Whole32(vec![Some(6)]));
    let rows = [json!({ "id": "q1", "answer": "a cat" })];
    let squad = split(&["q1"], vec![("f1", Parts::Percent(vec![Some(0.5)]))]);
    let found = tables(json!({ "task": "squad" }), &rows, &[squad]).unwrap();
    assert_eq!(column(&found[0], "prediction"), &text("a cat"));
    assert_eq!(column(&found[0], "f1"), &Column::Real(vec![Some(0.5)]));
}

#[test]
fn damage_is_told() {
    let examples = [split(
        &["0"],
        vec![("recall", Parts::Mean(vec![Some(0.0)]))],
    )];
    let error = |rows: &[Value]| tables(json!({}), rows, &examples).unwrap_err().to_string();
    assert!(error(&[]).ends_with("predictions.jsonl: `predictions` has 0 lines for 1 examples"));
    let wrong = error(&[json!({ "right": 1 })]);
    assert!(
        wrong.ends_with("line 1 of its split has no `answer`"),
        "{wrong}"
    );
}
