//! A run of 1,000 arms, all of whose stages are in the store: how long its plan and its results take.

use std::{fs, path::Path, time::Instant};

use burn::tensor::Device;
use serde_json::{Value, json};

use super::*;
use crate::{
    ablate::arms::Command,
    examples::{Examples, Parts, share},
    graph::{Done, host},
    recipe::OfEncoders,
};

const SEEDS: [u64; 3] = [1, 2, 3];
const EXAMPLES: usize = 2000;

fn recipe() -> Recipe<OfEncoders> {
    let rates: Vec<String> = (1..=125).map(|rate| format!("{rate}e-6")).collect();
    let axes = [
        "arms=[]".to_owned(),
        format!("stages.student.train.learning_rate={}", rates.join(",")),
        "experts.shared=0,4".to_owned(),
        "experts.order=importance,random".to_owned(),
        "layerwise.weight=1,2".to_owned(),
    ];
    let command = Command {
        seeds: Some(SEEDS.to_vec()),
        ..Command::parse(&axes).unwrap()
    };
    match AnyRecipe::load_ablation("quickstart", &command).unwrap() {
        AnyRecipe::Encoder(recipe) => *recipe,
        AnyRecipe::Decoder(_) => panic!("a recipe of encoders"),
    }
}

/// Examples of which about one in eleven differs between two arms.
fn examples(arm: usize, seed: u64) -> Examples {
    let right = (0..EXAMPLES).map(|example| {
        let is_odd = (example * 7919 + arm * 104_729 + seed as usize * 31).is_multiple_of(23);
        Some(share(!is_odd))
    });
    Examples {
        ids: (0..EXAMPLES).map(|example| example.to_string()).collect(),
        content: String::new(),
        groups: vec![],
        metrics: [("accuracy".to_owned(), Parts::Mean(right.collect()))].into(),
    }
}

/// Writes a stage as if it had been done.
fn finish(store: &Store, node: &nodes::Node, place: usize, judged: usize) {
    let dir = store.stage(&node.key);
    fs::create_dir_all(dir.join("training")).unwrap();
    let result = match node.key.kind() {
        "evaluate" => {
            Examples::write(&[examples(place, node.seed)], &dir).unwrap();
            json!({
                "scores": { "accuracy": 0.95 }, "spans": [], "mixers": [],
                "parameters": 100_000, "active_parameters": 50_000, "multiply_adds_per_token": 60_000, "attention": null,
            })
        }
        "measure" => json!(vec![vec![1.0, 1.1, 1.2]; judged]),
        _ => {
            let line = json!({ "epoch": 1, "step": 188, "split": "valid", "name": "Accuracy", "value": 95.0, "last": true });
            fs::write(dir.join("training/metrics.jsonl"), format!("{line}\n")).unwrap();
            Value::Null
        }
    };
    let done = Done {
        document: node.document.clone(),
        result,
        files: [].into(),
        seconds: 1.0 + (place % 7) as f64 / 10.0,
        peak_memory: Some(1_000_000),
        host: host(),
        backend: "flex".to_owned(),
        environment: json!({}),
        claim: String::new(),
    };
    write(&dir.join("done.json"), &json!(done));
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

#[test]
#[ignore = "it writes 200 MB, and its times count in an optimised build alone"]
fn a_thousand_arms_are_planned_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Instant::now();
    let recipe = recipe();
    eprintln!("recipe: {:?}", clock.elapsed());
    let options = RunOptions {
        out: folder.path().join("run"),
        store: folder.path().join("store"),
        shard: None,
        retry: None,
        keep_going: false,
        is_worker: false,
        print: Print::Nothing,
        device: Device::default(),
        device_name: "flex".to_owned(),
        ui: Ui::None,
        stop: Stop::default(),
    };
    let store = Store::open(&options.store).unwrap();
    let pipeline = Pipeline::new(&recipe, &options);
    let bases = pipeline.read().unwrap();
    let makings = pipeline
        .makings(&bases, Fingerprints::open(&store))
        .unwrap();
    let clock = Instant::now();
    let nodes = nodes_of(&makings, &Phase::whole(&recipe.seeds)).unwrap();
    eprintln!("stages: {:?}", clock.elapsed());
    for nodes in &nodes {
        let judged = nodes.seeds[0].judged().count();
        for (place, node) in nodes.all.iter().enumerate() {
            finish(&store, node, place, judged);
        }
    }
    let clock = Instant::now();
    let plan = pipeline.planned(&[1, 2].into()).unwrap();
    eprintln!("plan: {:?}", clock.elapsed());
    assert_eq!(plan.arms.len(), 1000);
    assert!(plan.rows.iter().all(|row| row.done == row.all));
    let clock = Instant::now();
    pipeline.run().unwrap();
    eprintln!("run: {:?}", clock.elapsed());
    let results = fs::read(folder.path().join("run/results.json")).unwrap();
    let results: Value = serde_json::from_slice(&results).unwrap();
    assert_eq!(results["comparisons"].as_array().unwrap().len(), 999);
}
