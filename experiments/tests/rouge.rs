//! ROUGE and stems against `rouge_score` and NLTK: `fixtures/rouge/reference.py` says how the expected
//! values were made.

use std::path::Path;

use experiments::metric::rouge::{Rouge, stem};
use serde::Deserialize;

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rouge");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[derive(Deserialize)]
struct Scored {
    prediction: String,
    reference: String,
    rouge1: f64,
    rouge2: f64,
    #[serde(rename = "rougeL")]
    rouge_l: f64,
    #[serde(rename = "rougeLsum")]
    rouge_lsum: f64,
}

#[test]
fn scores_are_those_of_rouge_score() {
    let text = fixture("scores.jsonl");
    let mut largest = 0.0_f64;
    for line in text.lines() {
        let expected: Scored = serde_json::from_str(line).unwrap();
        let found = Rouge::of(&expected.prediction, &expected.reference);
        for (found, expected) in [
            (found.rouge_1, expected.rouge1),
            (found.rouge_2, expected.rouge2),
            (found.rouge_l, expected.rouge_l),
            (found.rouge_lsum, expected.rouge_lsum),
        ] {
            let difference = (found - expected).abs();
            assert!(difference <= 1e-9, "{found} is not {expected}: {line}");
            largest = largest.max(difference);
        }
    }
    println!(
        "{} pairs, the largest difference is {largest:e}",
        text.lines().count()
    );
}

#[test]
fn stems_are_those_of_nltk() {
    let text = fixture("stems.tsv");
    for line in text.lines() {
        let (word, expected) = line.split_once('\t').unwrap();
        assert_eq!(stem(word), expected, "{word}");
    }
    println!("{} words", text.lines().count());
}
