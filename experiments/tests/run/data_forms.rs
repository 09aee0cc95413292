//! Data in the forms that people have: what means the same scores the same, and rows that cannot be used
//! are told.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::bad_input::refuse;
use super::generate;
use super::kiln::{Kiln, text_of};

/// A model of random weights for questions.
fn with_squad_model() -> Kiln {
    let kiln = Kiln::new();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/squad/model");
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        kiln.write(&format!("model/{name}"), fs::read(&path).unwrap());
    }
    kiln
}

fn squad(version: impl Into<Value>, qas: &Value) -> Value {
    let context = "The cat sat on the mat. Paris is big. The dog \u{fffd} ran.";
    let paragraph = json!({ "context": context, "qas": qas });
    json!({ "version": version.into(), "data": [{ "title": "t", "paragraphs": [paragraph] }] })
}

fn question(id: impl Into<Value>, text: &str, answers: Value) -> Value {
    json!({ "id": id.into(), "question": text, "answers": answers })
}

/// Questions with these ids, whose answers begin where `start` says.
fn answered(ids: [Value; 3], start: fn(usize) -> Value) -> Value {
    let asked = [
        ("What is big?", "Paris", 24),
        ("Who sat?", "cat", 4),
        ("Who ran?", "dog", 42),
    ];
    let questions = ids.into_iter().zip(asked).map(|(id, (text, answer, at))| {
        question(
            id,
            text,
            json!([{ "text": answer, "answer_start": start(at) }]),
        )
    });
    questions.collect()
}

/// The scores on a file; nothing may be said of it.
fn scores(kiln: &Kiln, task: &str, file: &str, text: impl AsRef<[u8]>) -> String {
    kiln.write(&format!("data/{file}"), text);
    let output = kiln.start(&["eval", "model", "--task", task, "--data", "data"]);
    assert_eq!(text_of(&output.stderr), "");
    text_of(&output.stdout)
}

#[test]
fn squad_files_of_other_tools_score_as_the_official_form() {
    let kiln = with_squad_model();
    let scores = |text: String| scores(&kiln, "squad", "dev-v1.1.json", text);
    let texts = || ["q1", "q2", "q3"].map(Value::from);
    let plain = squad("1.1", &answered(texts(), Value::from));
    let expected = scores(plain.to_string());
    assert!(expected.contains("total 3.0000"), "{expected}");
    let numbers = squad("1.1", &answered([1, 2, 30].map(Value::from), Value::from));
    let elsewhere = squad("1.1", &answered(texts(), |at| json!(at + 1)));
    let nowhere = squad("1.1", &answered(texts(), |_| Value::Null));
    let versions = [json!(1.0), json!("MLQA"), json!(null), json!("2.0")];
    let versions = versions.map(|version| squad(version, &answered(texts(), Value::from)));
    let same = [numbers, elsewhere, nowhere].into_iter().chain(versions);
    for data in same.map(|data| data.to_string()) {
        assert_eq!(scores(data.clone()), expected, "{data}");
    }
    for data in [
        format!("\u{feff}{plain}"),
        plain.to_string().replace('\u{fffd}', "\\ud83d"),
    ] {
        assert_eq!(scores(data), expected);
    }
    refuse(
        &kiln,
        &[
            "eval",
            "model",
            "--task=squad",
            "--data=data",
            "--split=test",
        ],
        &[
            "SQuAD 1.1 has no test split",
            "choose train (train-v1.1.json)",
        ],
    );
}

#[test]
fn a_question_of_squad_2_without_answers_is_unanswerable() {
    let kiln = with_squad_model();
    let scores = |qas: &Value| {
        let text = squad("v2.0", qas).to_string();
        scores(&kiln, "squad2", "dev-v2.0.json", text)
    };
    let mut qas = answered(["q1", "q2", "q3"].map(Value::from), Value::from);
    let unanswerable = question("i1", "Who is red?", json!([]));
    qas.as_array_mut().unwrap().push(unanswerable);
    let without = scores(&qas);
    qas[3]["answers"] = Value::Null;
    assert_eq!(scores(&qas), without);
    for (index, question) in qas.as_array_mut().unwrap().iter_mut().enumerate() {
        question["is_impossible"] = json!(index == 3);
    }
    qas[3]["answers"] = json!([]);
    assert_eq!(scores(&qas), without);
    assert!(without.contains("NoAns_total 1.0000"), "{without}");
}

#[test]
fn summaries_of_other_tools_score_as_the_plain_form() {
    let kiln = generate::kiln();
    let run = |text: &str| {
        kiln.write("pairs/dev.jsonl", text);
        let command = [
            "eval",
            "model",
            "--task=summary",
            "--data=pairs",
            "--max-new-tokens=8",
        ];
        let output = kiln.start(&command);
        (text_of(&output.stdout), text_of(&output.stderr))
    };
    let plain = "{\"id\": \"1\", \"input\": \"a \u{fffd} b\", \"output\": \"c\"}\n\
                 {\"id\": \"2\", \"input\": \"d\", \"output\": \"e\"}\n";
    let (expected, errors) = run(plain);
    assert!(expected.contains("rouge1"), "{errors}");
    for text in [
        plain.replace("\"1\"", "1").replace("\"2\"", "2"),
        plain.replace('\u{fffd}', "\\udc00"),
        format!("\u{feff}{}", plain.replace('\n', "\r\n")),
    ] {
        assert_eq!(run(&text), (expected.clone(), String::new()), "{text}");
    }

    let unanswered = "{\"input\": \"x\", \"output\": null}\n";
    let (scores, warning) = run(&format!("{plain}{unanswered}"));
    assert_eq!(scores, expected);
    assert_eq!(
        warning,
        "kiln: warning: pairs/dev.jsonl: 1 of 3 texts have no summary to compare with; \
         scores are of the others\n"
    );
    let (scores, error) = run(unanswered);
    assert_eq!(scores, "");
    assert_eq!(
        error,
        "kiln: error: pairs/dev.jsonl has no summaries to compare with\n"
    );
}

#[test]
fn text_is_scored_without_its_byte_order_mark() {
    let kiln = generate::kiln();
    let scores = |text: &str| {
        kiln.write("a.txt", text);
        kiln.succeed(&["eval", "model", "--task=text", "--data=a.txt"])
    };
    let text = "one and two\nand three";
    assert_eq!(scores(&format!("\u{feff}{text}")), scores(text));
}

#[test]
fn labelled_test_files_are_scored_and_others_refused() {
    let kiln = Kiln::with_teacher();
    let run = |split| kiln.start(&["eval", "teacher", "--task=sst2", "--data=sst2", split]);
    let dev = fs::read_to_string(kiln.path("sst2/dev.tsv")).unwrap();
    kiln.write("sst2/test.tsv", &dev);
    let (dev_scores, test_scores) = (run("--split=dev"), run("--split=test"));
    assert!(dev_scores.status.success());
    assert_eq!(test_scores, dev_scores);

    for hidden in [
        "index\tsentence\n0\tfine\n1\tsad\n",
        "sentence\tlabel\nfine\t-1\nsad\t-1\n",
    ] {
        kiln.write("sst2/test.tsv", hidden);
        let message = kiln.fail(&[
            "eval",
            "teacher",
            "--task=sst2",
            "--data=sst2",
            "--split=test",
        ]);
        assert_eq!(
            message,
            "kiln: error: test.tsv: this split has no labels to compare with; choose train or dev, or write its answers with --predictions FILE\n"
        );
    }

    // A few lines that are no examples are told, and change nothing else.
    kiln.write("sst2/dev.tsv", format!("{dev}fine\tgood\nfine\n"));
    let output = run("--split=dev");
    assert_eq!(output.stdout, dev_scores.stdout);
    assert_eq!(
        text_of(&output.stderr),
        "kiln: warning: sst2/dev.tsv: left out 2 of 42 lines: line 42: label `good` is not one of \
         0, 1; line 43: expected 2 cells between tabs, found 1\n"
    );
}
