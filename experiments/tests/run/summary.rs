//! Summaries: what a decoder learns of them, their scores by `kiln eval`, and what cannot be.

use std::fmt::Write as _;

use experiments::data::summary::{MarkedWords, SummarySplit};
use serde_json::json;

use super::bad_input;
use super::generate::kiln;
use super::kiln::{Kiln, printed, rows, text_of, without_intervals};

const EVAL: [&str; 6] = ["eval", "model", "--task", "summary", "--data", "pairs"];
const SHORT: [&str; 2] = ["--max-new-tokens", "24"];

/// A model that learns in a second to name the marked word, where words are few and whole tokens.
const RECIPE: &str = r#"
name = "summary"

[model.random]
layers = 2
hidden = 32
heads = 2
width = 64
dropout = 0.0
initializer_range = 0.2

[data]
task = "summary"
path = "marked"
length = 24
tokenizer = "bpe:512"
summary = { max_new_tokens = 4, separator = "=" }

[train]
epochs = 6
batch_size = 16
learning_rate = 5e-3
warmup = 0.05

[[arms]]
name = "full"
model.spans = "full"
"#;

const MODEL: &str = "run/arms/full/seed-1/train/model";

/// With the recipe, and the data that it names.
fn with_recipe() -> Kiln {
    let kiln = Kiln::new();
    kiln.write("summary.toml", RECIPE);
    let task = MarkedWords {
        seed: 1,
        words: 8,
        marked: 1,
    };
    let counts = [
        (SummarySplit::Train, 1000),
        (SummarySplit::Validation, 20),
        (SummarySplit::Test, 40),
    ];
    task.write(&kiln.path("marked"), &counts).unwrap();
    kiln
}

#[test]
fn a_model_learns_to_summarise_and_goes_on_from_its_folder() {
    let kiln = with_recipe();
    let table = kiln.succeed(&["run", "summary.toml", "--out", "run"]);
    assert!(
        table.contains("rougeL") && table.contains("perplexity"),
        "{table}"
    );
    let trained = &rows(&kiln, "run")[0]["metrics"];
    let rouge = trained["rouge1"].as_f64().unwrap();
    assert!(rouge > 0.9, "{trained}");

    // The folder alone has the same scores.
    let eval = [
        "eval",
        MODEL,
        "--task=summary",
        "--data=marked",
        "--split=test",
        "--max-new-tokens=4",
        "--separator==",
        "--batch-size=8",
    ];
    let scores = kiln.succeed(&eval);
    assert_eq!(without_intervals(&scores), printed(trained));
    let spans = kiln.succeed(&[&eval[..], &["--spans=window:2"]].concat());
    assert_ne!(spans, scores);

    // Where a fresh model begins, there is nothing of this.
    let fresh = kiln.succeed(&[&["eval", "run/start/seed-1/model"], &eval[2..]].concat());
    let (_, fresh) = fresh.split_once("rouge1 ").unwrap();
    let (fresh, _) = fresh.split_once(' ').unwrap();
    assert!(fresh.parse::<f64>().unwrap() < 0.2, "{fresh}");

    // The shipped recipe goes on with it.
    let table = kiln.succeed(&[
        "run",
        "summary",
        "--out=next",
        &format!("model.path={MODEL}"),
        "data.path=marked",
        "data.length=24",
        "data.epoch=8",
        "data.summary={max_new_tokens=4, separator='='}",
        "evaluate.beams=2",
        "train.epochs=1",
        r#"arms=[{name="switched", model.spans="window:4"}]"#,
    ]);
    assert!(table.contains("rouge1 before training"), "{table}");
    let next = rows(&kiln, "next");
    assert_eq!(next[0]["name"], "checkpoint");
    assert!(next[0]["metrics"]["rouge1"].as_f64().unwrap() > 0.6);
}

#[test]
fn models_are_judged_on_the_validation_split_where_the_test_split_has_no_answers() {
    let kiln = with_recipe();
    kiln.write("marked/test.jsonl", "{\"id\": 1, \"input\": \"a *b c\"}\n");
    let small = ["train.epochs=1", "data.epoch=16"];
    let output = kiln.start(&[&["run", "summary.toml", "--out", "run"][..], &small].concat());
    let errors = text_of(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let warning = "kiln: warning: marked/test.jsonl has no summaries to compare with; \
                   models are judged on the validation split\n";
    assert!(errors.contains(warning), "{errors}");
    let scores = kiln.succeed(&[
        "eval",
        MODEL,
        "--task=summary",
        "--data=marked",
        "--max-new-tokens=4",
        "--separator==",
        "--batch-size=8",
    ]);
    let trained = &rows(&kiln, "run")[0]["metrics"];
    assert_eq!(without_intervals(&scores), printed(trained));
}

#[test]
fn what_does_not_fit_is_refused_before_a_folder_is_made() {
    let kiln = with_recipe();
    let refuse = |changes: &[&str], texts: &[&str]| {
        let command = ["run", "summary.toml", "--out", "new"];
        bad_input::refuse(&kiln, &[&command[..], changes].concat(), texts);
        assert!(!kiln.path("new").exists(), "{changes:?}");
    };
    refuse(&["data.path=nowhere"], &["nowhere has no train.jsonl"]);
    refuse(
        &["data.length=5"],
        &[
            "`data.length` must be above 5",
            "`data.summary.max_new_tokens`",
        ],
    );
    refuse(
        &["data.summary.beams=2"],
        &["unknown key `data.summary.beams`"],
    );
    let line = r#"{"input": "a", "output": "b"}"#;
    kiln.write("part/train.jsonl", line);
    refuse(
        &["data.path=part"],
        &["part has no validation.jsonl or dev.jsonl"],
    );
    kiln.write("part/dev.jsonl", line);
    kiln.write("part/test.jsonl", format!("{line}\n{{}}"));
    refuse(
        &["data.path=part"],
        &[
            "part/test.jsonl: 1 of 2 lines",
            "line 2: no text in `input`",
        ],
    );
    kiln.write("part/dev.jsonl", r#"{"input": "a", "output": null}"#);
    refuse(
        &["data.path=part"],
        &["part/dev.jsonl has no summaries to compare with"],
    );

    let pretrained = super::generate::kiln();
    pretrained.write("part/train.jsonl", line);
    pretrained.write("part/dev.jsonl", line);
    let refuse = |changes: &[&str], texts: &[&str]| {
        let command = [
            "run",
            "summary",
            "--out=new",
            "model.path=model",
            "data.path=part",
        ];
        bad_input::refuse(&pretrained, &[&command[..], changes].concat(), texts);
        assert!(!pretrained.path("new").exists(), "{changes:?}");
    };
    let models = r#"arms=[{name="full", model.spans="full"}]"#;
    refuse(
        &[models, "data.length=64"],
        &[
            "a length of 64 tokens",
            "the summary takes 128",
            "at least 137",
        ],
    );
    let short = "data.summary.max_new_tokens=8";
    refuse(
        &[models, short],
        &["`data.length` = 1024", "64 positions", "`model.extend`"],
    );
    refuse(
        &[models, short, "data.length=64", "data.tokenizer=bytes"],
        &["`data.tokenizer` is for a fresh model"],
    );
    std::fs::remove_file(pretrained.path("model/tokenizer.json")).unwrap();
    refuse(
        &[models, short, "data.length=64"],
        &["model has neither tokenizer.json nor vocab.json"],
    );
}

/// Writes lines of id, text and summary.
fn write_pairs(kiln: &Kiln, file: &str, pairs: &[(&str, &str, &str)]) {
    let mut lines = String::new();
    for (id, input, output) in pairs {
        let line = json!({"id": id, "pid": format!("{id}_0"), "input": input, "output": output});
        writeln!(lines, "{line}").unwrap();
    }
    kiln.write(&format!("pairs/{file}"), lines);
}

#[test]
fn what_the_model_writes_is_scored_against_the_best_reference() {
    let kiln = kiln();
    let texts = ["a short text", "another"];
    let written = texts.map(|text| {
        let prompt = format!("{text}\n\nTL;DR:");
        kiln.succeed(&[&["generate", "model", "--prompt", &prompt], &SHORT[..]].concat())
    });
    let pairs = [
        ("0", texts[0], "something else"),
        ("1", texts[1], written[1].trim()),
        ("0", texts[0], written[0].trim()),
    ];
    write_pairs(&kiln, "validation.jsonl", &pairs);
    let eval =
        |more: &[&str]| without_intervals(&kiln.succeed(&[&EVAL, &SHORT[..], more].concat()));
    let own = eval(&["--split", "validation"]);
    // The model writes one long word, so that no two words follow each other.
    let (perplexity, rouge) = own.split_once('\n').unwrap();
    let expected = "rouge1 1.0000\nrouge2 0.0000\nrougeL 1.0000\nrougeLsum 1.0000\n\
                    rouge_geometric_mean 0.0000\n";
    assert_eq!(rouge, expected);
    let perplexity: f64 = perplexity
        .strip_prefix("perplexity ")
        .unwrap()
        .parse()
        .unwrap();
    assert!(perplexity > 1.0, "{perplexity}");
    assert_eq!(eval(&["--batch-size", "1", "--beams", "1"]), own);

    // With another prompt, it writes something else.
    let other = eval(&["--separator", "="]);
    assert!(other.contains("\nrouge1 0.0000\n"), "{other}");
    let names = |scores: &str| -> Vec<String> {
        let words = scores.lines().map(|line| line.split_once(' ').unwrap().0);
        words.map(str::to_owned).collect()
    };
    assert_eq!(
        names(&eval(&["--beams", "3", "--max-length", "60"])),
        names(&own)
    );
}

#[test]
fn what_cannot_be_is_refused_on_one_line() {
    let kiln = kiln();
    write_pairs(&kiln, "dev.jsonl", &[("0", "a text", "a summary")]);
    let refuse = |more: &[&str], texts: &[&str]| {
        let message = kiln.fail(&[&EVAL, more].concat());
        assert_eq!(message.lines().count(), 1, "{more:?}: {message}");
        for text in texts {
            assert!(message.contains(text), "{more:?}: {message}");
        }
    };
    refuse(
        &[],
        &[
            "a length of 64 tokens",
            "the summary takes 128",
            "at least 137",
        ],
    );
    refuse(
        &["--max-length", "65"],
        &["model: 65 tokens", "64 positions", "`tile`"],
    );
    let refuse = |more: &[&str], texts: &[&str]| refuse(&[&SHORT, more].concat(), texts);
    refuse(&["--beams", "0"], &["beams", "at least 1"]);
    refuse(&["--batch-size", "0"], &["batch"]);
    refuse(
        &["--max-length", "32"],
        &["a length of 32 tokens", "at least 33"],
    );
    refuse(&["--split", "test"], &["pairs has no test.jsonl"]);
    kiln.write("pairs/train.jsonl", b"{\"input\": \"\xff\"}");
    refuse(
        &["--split", "train"],
        &[
            "pairs/train.jsonl: 1 of 1 lines",
            "line 1: byte 11 is not UTF-8",
        ],
    );
    let bert = [
        "eval", "model", "--task", "sst2", "--data", "pairs", "--beams", "2",
    ];
    let message = kiln.fail(&bert);
    assert!(
        message.contains("`--beams` cannot go with --task sst2"),
        "{message}"
    );
    let message = kiln.fail(&["eval", "model", "--task", "sumary", "--data", "pairs"]);
    assert!(message.contains("did you mean `summary`?"), "{message}");
}
