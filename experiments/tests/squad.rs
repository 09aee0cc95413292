//! Windows, answers and scores of a small `SQuAD` file against Transformers and its copy of the official
//! script: `fixtures/squad/reference.py` says how the expected values were made.

use std::fs;
use std::path::PathBuf;

use experiments::data::squad::spans::{SpanLogits, SpanPrediction, SpanSearch};
use experiments::data::squad::windows::{SquadFeature, WindowConfig, features};
use experiments::data::squad::{SquadExample, SquadVersion, read};
use experiments::metric::Scores;
use experiments::metric::squad::{best_thresholds, evaluate};
use serde_json::Value;
use tokenizers::Tokenizer;

fn fixture(name: &str) -> PathBuf {
    [
        env!("CARGO_MANIFEST_DIR"),
        "tests",
        "fixtures",
        "squad",
        name,
    ]
    .iter()
    .collect()
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn windows(examples: &[SquadExample]) -> Vec<SquadFeature> {
    let config = WindowConfig {
        max_length: 80,
        doc_stride: 24,
        max_query_length: 50,
    };
    let tokenizer = Tokenizer::from_file(fixture("tokenizer.json")).unwrap();
    features(examples, &tokenizer, &config).unwrap()
}

/// The formula of `logits` in `reference.py`.
fn logits(index: usize, feature: &SquadFeature) -> SpanLogits {
    let row = |side: usize, gold: usize| {
        let tokens = 0..feature.input_ids.len();
        let mut row: Vec<f64> = tokens
            .map(|token| ((index * 7919 + token * 104_729 + side * 4001) % 10007) as f64 / 1000.0)
            .collect();
        row[0] = 10.0 + (index * 37 % 23) as f64 / 2.0;
        if gold > 0 && !index.is_multiple_of(3) {
            row[gold] += 10.0;
        }
        row.into_iter().map(|logit| logit as f32).collect()
    };
    SpanLogits {
        start: row(0, feature.start),
        end: row(1, feature.end),
    }
}

fn predictions(examples: &[SquadExample]) -> Vec<SpanPrediction> {
    let features = windows(examples);
    let scored: Vec<_> = features
        .iter()
        .enumerate()
        .map(|(index, feature)| logits(index, feature))
        .collect();
    let search = SpanSearch {
        max_answer_length: 12,
        ..SpanSearch::default()
    };
    search.predictions(examples, &features, &scored).unwrap()
}

fn assert_scores(found: &Scores, expected: &Value) {
    let expected = expected.as_object().unwrap();
    assert_eq!(found.len(), expected.len());
    for (name, value) in expected {
        let difference = found[name] - value.as_f64().unwrap();
        assert!(
            difference.abs() < 1e-5,
            "{name}: {} for {value}",
            found[name]
        );
    }
}

#[test]
fn windows_are_those_of_transformers() {
    let examples = read(&fixture("dev-v2.0.json"), SquadVersion::V2).unwrap();
    let found = windows(&examples);
    let expected = expected();
    let expected = expected["features"].as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(serde_json::json!(found.input_ids), expected["input_ids"]);
        assert_eq!(serde_json::json!(found.type_ids), expected["type_ids"]);
        assert_eq!(serde_json::json!(found.example), expected["example"]);
        assert_eq!(
            serde_json::json!([found.start, found.end]),
            serde_json::json!([expected["start"], expected["end"]]),
            "{found:?}"
        );
    }
}

#[test]
fn answers_are_those_of_transformers() {
    let examples = read(&fixture("dev-v2.0.json"), SquadVersion::V2).unwrap();
    let expected = expected();
    let expected = expected["predictions"].as_array().unwrap();
    let found = predictions(&examples);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.id, expected["id"]);
        assert_eq!(found.answer, expected["answer"]);
        let margin = expected["null_margin"].as_f64().unwrap();
        assert!((f64::from(found.null_margin) - margin).abs() < 1e-4);
    }
}

#[test]
fn scores_are_those_of_the_official_script() {
    let examples = read(&fixture("dev-v2.0.json"), SquadVersion::V2).unwrap();
    let predictions = predictions(&examples);
    let texts = predictions
        .iter()
        .map(|found| {
            (
                found.id.clone(),
                found.text(SquadVersion::V2, 0.0).to_owned(),
            )
        })
        .collect();
    let expected = expected();
    let scores = evaluate(SquadVersion::V2, &examples, &texts);
    assert_scores(&scores, &expected["scores"]);
    assert_scores(&best_thresholds(&examples, &predictions), &expected["best"]);
}

#[test]
fn every_shipped_file_reads_under_its_own_version() {
    for (version, other) in [
        (SquadVersion::V1, SquadVersion::V2),
        (SquadVersion::V2, SquadVersion::V1),
    ] {
        for file in [version.train_file(), version.dev_file()] {
            let path = fixture(&file);
            assert!(read(&path, version).unwrap().len() > 6, "{file}");
            assert!(read(&path, other).is_err(), "{file}");
        }
    }
}
