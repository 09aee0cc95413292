//! Runs of language models, on recipes that take about a second.

use std::fs;

use serde_json::Value;

use super::bad_input::refuse;
use super::kiln::{Kiln, printed, rows, without_intervals};
#[cfg(unix)]
use super::stops::{Has, Started, Told, is_there};

const TEXT: &str = r#"
name = "text"
grow = [{ length = 8, until = 0.4 }]

[model.random]
layers = 2
hidden = 16
heads = 2
width = 32
initializer_range = 0.2

[data]
task = "text"
path = "books"
length = 32
epoch = 40

[train]
epochs = 3
batch_size = 8
learning_rate = 3e-3

[[arms]]
name = "full"
model.spans = "full"

[[arms]]
name = "mixed"
model.spans = "bottom:1 window:4"
"#;

const RECALL: &str = r#"
name = "recall"
seeds = [1, 2]

[model.random]
layers = 2
hidden = 16
heads = 2
width = 32

[data]
task = "recall"
length = 40

[data.recall]
pairs = 4
queries = 4
keys = 8
values = 8
fillers = 4
window = 8
train = 64
dev = 8
test = 20

[train]
epochs = 1
batch_size = 8
learning_rate = 1e-3

[[arms]]
name = "full"
model.spans = "full"
"#;

/// A folder with two recipes, and with books of one sentence again and again.
pub fn kiln() -> Kiln {
    let kiln = Kiln::new();
    kiln.write("text.toml", TEXT);
    kiln.write("recall.toml", RECALL);
    let book = |from: usize, lines: usize| -> String {
        let words = ["the", "cat", "sat", "on", "a", "mat", "and", "slept"];
        let line = |line: usize| (0..6).map(move |word| words[(line * word + from) % 8]);
        let lines = (0..lines).map(|index| line(index).collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n")
    };
    kiln.write("books/train/one.txt", book(0, 60));
    kiln.write("books/train/two.txt", book(1, 60));
    kiln.write("books/valid.txt", book(2, 10));
    kiln.write("books/test.txt", book(3, 20));
    kiln
}

const MODEL: &str = "run/arms/full/seed-1/train/model";

#[test]
fn a_model_learns_text_and_continues_under_other_spans() {
    let kiln = kiln();
    let table = kiln.succeed(&["run", "text.toml", "--out", "run", "train.epochs=6"]);
    assert!(table.contains("bits_per_byte"), "{table}");
    let first = rows(&kiln, "run");
    let bits = |row: &Value| row["metrics"]["bits_per_byte"].as_f64().unwrap();
    assert_eq!(first.len(), 2);
    for row in &first {
        // A guess among bytes takes 8 bits.
        assert!(bits(row) < 6.5, "{row}");
        assert!(row["metrics_before"].is_null(), "{row}");
    }
    assert!((first[0]["attention_share"].as_f64().unwrap() - 1.0).abs() < 1e-12);
    assert!(first[1]["attention_share"].as_f64().unwrap() < 0.7);

    // The folder alone has the same scores.
    let eval = |data: &str, more: &[&str]| {
        let command = ["eval", MODEL, "--task=text", &format!("--data={data}")];
        kiln.succeed(&[&command, more].concat())
    };
    let own = eval("books/test.txt", &[]);
    let scores = printed(&first[0]["metrics"]);
    assert_eq!(without_intervals(&own), scores);
    assert!(
        own.contains("bits_per_byte_0_127") && own.contains("perplexity_128_255"),
        "{own}"
    );
    assert_eq!(
        eval("books/test.txt", &["--max-length=32", "--stride=16"]),
        own
    );
    for more in [
        &["--max-length=16"][..],
        &["--stride=32"],
        &["--spans=window:2"],
        &["--max-length=48", "--extend=interpolate"],
    ] {
        assert_ne!(eval("books/test.txt", more), own, "{more:?}");
    }
    assert!(eval("books/train", &[]).contains("perplexity_1024_2047"));

    // The checkpoint goes on, longer than it was trained.
    let table = kiln.succeed(&[
        "run",
        "continue",
        "--out",
        "next",
        &format!("model.path={MODEL}"),
        "data.path=books",
        "data.length=64",
        "model.extend=tile",
        "data.epoch=16",
        r#"arms=[{name="switched", model.spans="window:4"}]"#,
    ]);
    assert!(table.contains("bits_per_byte before training"), "{table}");
    let next = rows(&kiln, "next");
    assert_eq!(next[0]["name"], "checkpoint");
    assert_eq!(next[1]["name"], "switched");
    assert!(next[1]["metrics_before"]["bits_per_byte"].is_f64());
}

#[test]
fn chunks_of_feed_forward_layers_train_the_same_model() {
    let kiln = kiln();
    let bits = |out: &str, more: &[&str]| {
        let model = r#"arms=[{name="full", model.spans="full"}]"#;
        let command = ["run", "text.toml", "--out", out, "train.epochs=1", model];
        kiln.succeed(&[&command, more].concat());
        let rows = rows(&kiln, out);
        rows[0]["metrics"]["bits_per_byte"].as_f64().unwrap()
    };
    let whole = bits("whole", &[]);
    let chunks = bits("chunks", &["model.feed_forward_chunk=48"]);
    // Sums in another order tell that chunks were taken.
    assert!((whole - chunks).abs() < 1e-3, "{whole} {chunks}");
    assert!((whole - chunks).abs() > 0.0, "{whole}");
}

#[test]
fn arms_may_change_data_model_and_how_they_are_judged() {
    let kiln = kiln();
    let arms = "arms=[{name='full', model.spans='full'}, {name='short', data.length=16}, \
                {name='strict', model.spans='full', evaluate.stride=8}, {name='mixed', model.spans='bottom:1 window:4'}, \
                {name='wide', model.random.width=64}]";
    kiln.succeed(&["run", "text.toml", arms, "train.epochs=1", "--out", "run"]);
    let rows = rows(&kiln, "run");
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["full", "short", "strict", "mixed", "wide"]);
    let parameters = |row: usize| rows[row]["parameters"].as_u64().unwrap();
    assert_eq!(parameters(0), parameters(2));
    assert!(parameters(1) < parameters(0) && parameters(0) < parameters(4));
    let score = |row: usize| &rows[row]["metrics"]["bits_per_byte"];
    assert_ne!(score(0), score(2));

    let stage = |arm: &str, stage: &str| {
        let link = kiln.path(&format!("run/arms/{arm}/seed-1/{stage}"));
        fs::canonicalize(link).unwrap()
    };
    assert_eq!(stage("full", "train"), stage("strict", "train"));
    assert_ne!(stage("full", "evaluate"), stage("strict", "evaluate"));
    assert_ne!(stage("full", "train"), stage("short", "train"));
    let again = kiln.succeed(&["run", "text.toml", arms, "train.epochs=1", "--out", "run"]);
    assert!(again.contains("wide"), "{again}");
}

#[test]
fn recall_is_judged_within_and_beyond_the_window() {
    let kiln = kiln();
    let table = kiln.succeed(&["run", "recall.toml", "--out", "run"]);
    assert!(
        table.contains("recall_beyond") && table.contains("95 % interval"),
        "{table}"
    );
    let rows = rows(&kiln, "run");
    assert_eq!(rows.len(), 2);
    for name in ["recall", "recall_beyond", "recall_within"] {
        let share = rows[0]["metrics"][name].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share), "{name}: {share}");
    }

    // The folder alone has the same scores, on the recipe's sequences.
    let model = "run/arms/full/seed-1/train/model";
    let eval = ["eval", model, "--task=recall", "--data=recall.toml"];
    let scores = printed(&rows[0]["metrics"]);
    let own = kiln.succeed(&eval);
    assert_eq!(without_intervals(&own), scores);
    assert_eq!(kiln.succeed(&[&eval[..], &["--spans=full"]].concat()), own);
    let refuse = |arguments: &[&str], texts: &[&str]| refuse(&kiln, arguments, texts);
    refuse(
        &["eval", model, "--task=recall", "--data=text.toml"],
        &["text.toml is a recipe of another task than recall"],
    );
    refuse(
        &["eval", model, "--task=recall", "--data=recall"],
        &["40 positions", "48 tokens", "`tile`"],
    );
    refuse(
        &[&eval[..], &["--max-length=8"]].concat(),
        &["`--max-length` cannot go with --task recall"],
    );
}

#[test]
fn text_that_cannot_be_evaluated_is_refused_on_one_line() {
    let kiln = super::generate::kiln();
    kiln.write("text.txt", "a text");
    kiln.write("bytes.txt", b"caf\xe9");
    let refuse = |data: &str, more: &[&str], texts: &[&str]| {
        let command = ["eval", "model", "--task=text", "--data", data];
        refuse(&kiln, &[&command, more].concat(), texts);
    };
    refuse("nowhere", &[], &["nowhere"]);
    refuse("model", &[], &["model has no .txt files"]);
    refuse("bytes.txt", &[], &["bytes.txt: byte 3 is not UTF-8 text"]);
    refuse(
        "text.txt",
        &["--stride=65"],
        &["the stride must be from 1 to 64"],
    );
    refuse(
        "text.txt",
        &["--stride=0"],
        &["the stride must be from 1 to 64"],
    );
    refuse("text.txt", &["--max-length=0"], &["--max-length", "1.."]);
    refuse(
        "text.txt",
        &["--max-length=65"],
        &["65 tokens", "64 positions", "`tile`"],
    );
    refuse(
        "text.txt",
        &["--max-length=65", "--extend=scale-base"],
        &["`scale-base`", "`interpolate`"],
    );
    refuse("text.txt", &["--spans=bottom:3 window:8"], &["`bottom:3`"]);
    refuse(
        "text.txt",
        &["--split=dev"],
        &["`--split` cannot go with --task text"],
    );
    refuse(
        "text.txt",
        &["--beams=2"],
        &["`--beams` cannot go with --task text"],
    );
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_ends_as_an_unbroken_one() {
    const RUN: [&str; 4] = ["run", "text.toml", "--out", "run"];
    let unbroken = kiln();
    unbroken.succeed(&RUN);
    let kiln = kiln();
    for point in [
        Has("run/artifacts/tokens/train.json"),
        Has("runs/store/.kiln/work/train-*/training/checkpoints/epoch-1"),
        Told("evaluating `full`"),
        Told("mixed epoch 3/"),
    ] {
        if let Has(path) = point
            && is_there(&kiln.path(""), path)
        {
            continue;
        }
        let mut started = Started::new(&kiln, &RUN);
        started.wait_for(point);
        started.stop("-KILL");
    }
    kiln.succeed(&RUN);
    assert_eq!(rows(&kiln, "run"), rows(&unbroken, "run"));
    let metrics = |kiln: &Kiln| fs::read_to_string(kiln.path("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics(&kiln), metrics(&unbroken));
}

#[test]
fn what_does_not_fit_is_refused_before_a_folder_is_made() {
    let kiln = kiln();
    kiln.write("broken/train.txt", "x".repeat(99));
    kiln.write(
        "broken/valid.txt",
        b"caf\xe9, and so on, and on, and on, and on",
    );
    let refuse = |changes: &[&str], texts: &[&str]| {
        let command = ["run", "text.toml", "--out", "new"];
        refuse(&kiln, &[&command[..], changes].concat(), texts);
        assert!(!kiln.path("new").exists(), "{changes:?}");
    };
    refuse(&["data.path=nowhere"], &["nowhere", "`train`"]);
    refuse(
        &["data.path=broken"],
        &["broken/valid.txt", "byte 3 is not UTF-8"],
    );
    refuse(
        &["data.length=4096"],
        &["train has", "one sequence of 4096 needs 4097"],
    );
    refuse(
        &[r#"arms=[{name="a", model.spans="bottom:3 window:4"}]"#],
        &["`model.spans`", "more layers than the model has"],
    );
    refuse(
        &[r#"arms=[{name="a", model.spans="window:0"}]"#],
        &["unknown span `window:0`"],
    );
    refuse(&["data.task=rekall"], &["did you mean `recall`?"]);

    kiln.succeed(&["run", "text.toml", "--out", "run", "train.epochs=1"]);
    let refuse = |changes: &[&str], texts: &[&str]| {
        let model = format!("model.path={MODEL}");
        let command = ["run", "continue", "--out", "new", &model, "data.path=books"];
        super::bad_input::refuse(&kiln, &[&command[..], changes].concat(), texts);
        assert!(!kiln.path("new").exists(), "{changes:?}");
    };
    refuse(
        &["data.length=33"],
        &[
            "`data.length` = 33",
            "32 positions",
            "`model.extend`",
            "`tile`",
        ],
    );
    let short = "data.length=32";
    refuse(
        &[
            short,
            r#"arms=[{name="deep", model.spans="bottom:3 window:4"}]"#,
        ],
        &["model `deep`", "more layers than the model has"],
    );
    // The tokens of another model.
    let tokenizer = kiln.path(&format!("{MODEL}/tokenizer.json"));
    let text = fs::read_to_string(&tokenizer).unwrap();
    let more = text.replace("\"<|endoftext|>\": 256", "\"<|endoftext|>\": 300");
    fs::write(&tokenizer, more.replace("\"id\": 256", "\"id\": 300")).unwrap();
    refuse(&[short], &["tokenizer", "301", "257"]);
    fs::remove_file(&tokenizer).unwrap();
    refuse(&[short], &["tokenizer.json"]);
}
