//! Continuations and samplers against Transformers, on what `fixtures/generation_fixtures.py` made.

use std::{fs, ops::ControlFlow, path::Path};

use burn::prelude::*;
use masformer_core::{
    BeamConfig, GenerateConfig, Generator, SampleConfig, Strategy, pretrained::DecoderFolder,
};
use serde_json::Value;

fn fixtures() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"))
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixtures().join(name)).unwrap()).unwrap()
}

fn parse<T: burn::serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// A value of a case that may be absent.
fn get<T: burn::serde::de::DeserializeOwned>(case: &Value, key: &str) -> Option<T> {
    case.get(key).map(parse)
}

#[test]
fn continuations_are_those_of_transformers() {
    let expected = read("generation.json");
    for (name, expected) in expected.as_object().unwrap() {
        let folder = DecoderFolder::open(fixtures().join(name)).unwrap();
        let (model, _) = folder.load(&Device::default()).unwrap();
        let prompts: Vec<Vec<u32>> = parse(&expected["prompts"]);
        for case in expected["cases"].as_array().unwrap() {
            let strategy = match parse(&case["num_beams"]) {
                1 => Strategy::Greedy,
                beams => Strategy::Beam(
                    BeamConfig::new()
                        .with_beams(beams)
                        .with_length_penalty(parse(&case["length_penalty"])),
                ),
            };
            let config = GenerateConfig::new()
                .with_max_new_tokens(parse(&expected["max_new_tokens"]))
                .with_strategy(strategy)
                .with_repetition_penalty(get(case, "repetition_penalty").unwrap_or(1.0))
                .with_no_repeat_ngram(get(case, "no_repeat_ngram_size"))
                .with_stop_tokens(parse(&case["stop"]));
            let found = Generator::new(&model, &config)
                .generate(&prompts, |_| ControlFlow::Continue(()))
                .unwrap();
            let found: Vec<Vec<u32>> = found.into_iter().map(|found| found.tokens).collect();
            let expected: Vec<Vec<u32>> = parse(&case["continuations"]);
            assert_eq!(found, expected, "{name} {config}");
        }
    }
}

#[test]
fn samplers_draw_with_the_probabilities_of_transformers() {
    let expected = read("sampling.json");
    let logits: Vec<Vec<f32>> = parse(&expected["logits"]);
    for case in expected["cases"].as_array().unwrap() {
        let config = SampleConfig::new()
            .with_temperature(parse(&case["temperature"]))
            .with_top_k(get(case, "top_k"))
            .with_top_p(get(case, "top_p").unwrap_or(1.0));
        let expected: Vec<Vec<f64>> = parse(&case["probabilities"]);
        for (logits, expected) in logits.iter().zip(expected) {
            for (found, expected) in config.probabilities(logits).into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{config}: {found} {expected}"
                );
                assert_eq!(found > 0.0, expected > 0.0, "{config}: {found} {expected}");
            }
        }
    }
}
