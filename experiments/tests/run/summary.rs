//! `kiln eval --task summary`: the scores of a decoder's summaries, and what cannot be.

use std::fmt::Write as _;

use serde_json::json;

use super::generate::kiln;
use super::kiln::Kiln;

const EVAL: [&str; 6] = ["eval", "model", "--task", "summary", "--data", "pairs"];
const SHORT: [&str; 2] = ["--max-new-tokens", "24"];

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
    let eval = |more: &[&str]| kiln.succeed(&[&EVAL, &SHORT[..], more].concat());
    let own = eval(&["--split", "validation"]);
    // The model writes one long word, so that no two words follow each other.
    let expected = "rouge1 1.0000\nrouge2 0.0000\nrougeL 1.0000\nrougeLsum 1.0000\n\
                    rouge_geometric_mean 0.0000\n";
    assert_eq!(own, expected);
    assert_eq!(eval(&["--batch-size", "1", "--beams", "1"]), own);

    // With another prompt, it writes something else.
    let other = eval(&["--separator", "="]);
    assert!(other.starts_with("rouge1 0.0000\n"), "{other}");
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
        &["`--max-length` is 65", "model", "64 positions"],
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
        &["pairs/train.jsonl, line 1: byte 11 is not UTF-8"],
    );
    let bert = [
        "eval", "model", "--task", "sst2", "--data", "pairs", "--beams", "2",
    ];
    let message = kiln.fail(&bert);
    assert!(
        message.contains("`--beams` is for --task summary, not for sst2"),
        "{message}"
    );
    let message = kiln.fail(&["eval", "model", "--task", "sumary", "--data", "pairs"]);
    assert!(message.contains("did you mean `summary`?"), "{message}");
}
