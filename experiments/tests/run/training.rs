//! What a training leaves: the epoch that is kept, and the losses that it shows.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::kiln::{Kiln, results};
use super::language;

const ONCE: [&str; 2] = ["latency.repeats=1", "--out=run"];

/// The values of whole epochs in `metrics.jsonl` of a training, by split and name.
fn epochs(kiln: &Kiln, stage: &str) -> BTreeMap<(String, String), Vec<f64>> {
    let path = format!("run/arms/{stage}/seed-1/train/training/metrics.jsonl");
    let text = fs::read_to_string(kiln.path(&path)).unwrap();
    let mut epochs: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["last"] == true {
            let key = ["split", "name"].map(|key| line[key].as_str().unwrap().to_owned());
            let values = epochs.entry(key.into()).or_default();
            values.push(line["value"].as_f64().unwrap());
        }
    }
    epochs
}

fn values(epochs: &BTreeMap<(String, String), Vec<f64>>, split: &str, name: &str) -> Vec<f64> {
    let key = (split.to_owned(), name.to_owned());
    epochs.get(&key).cloned().unwrap_or_default()
}

/// Which epoch a training kept, and which it ended with.
fn kept(kiln: &Kiln, stage: &str) -> (usize, usize) {
    let path = format!("run/arms/{stage}/seed-1/train/training/outcome.json");
    let outcome: Value = serde_json::from_slice(&fs::read(kiln.path(&path)).unwrap()).unwrap();
    let [kept, epoch] = ["kept", "epoch"].map(|key| outcome[key].as_u64().unwrap() as usize);
    (kept, epoch)
}

/// The first epoch, from 1, with the highest value.
fn highest(values: &[f64]) -> usize {
    let better = |best: usize, epoch: usize| {
        if values[epoch] > values[best] {
            epoch
        } else {
            best
        }
    };
    1 + (0..values.len()).fold(0, better)
}

#[test]
fn the_best_epoch_of_a_training_becomes_its_model() {
    let kiln = Kiln::new();
    // A rate at which scores go up and down.
    let settings = [
        "stages.teacher.train.keep=best",
        "stages.teacher.train.epochs=6",
        "train.learning_rate=0.03",
        "stages.student.train.keep=last",
    ];
    let arguments = [&["run", "small.toml"][..], &settings, &ONCE].concat();
    let output = kiln.start(&arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");

    let scores = values(&epochs(&kiln, "teacher"), "valid", "Accuracy");
    let (best, last) = kept(&kiln, "teacher");
    assert_eq!((best, last), (highest(&scores), 6), "{scores:?}");
    assert!(best < last, "nothing to tell apart: {scores:?}");
    let told_of = format!("seed 1 teacher: kept the best epoch, {best} of 6");
    assert!(told.contains(&told_of), "{told}");
    assert_eq!(kept(&kiln, "cut"), (3, 3));
    // The table judges the model that was kept, on the same data.
    let results = results(&kiln.path("run"));
    let accuracy = results["rows"][0]["metrics"]["accuracy"].as_f64().unwrap();
    assert!((accuracy - scores[best - 1]).abs() < 1e-9, "{results}");
}

#[test]
fn the_best_epoch_of_a_language_model_is_the_one_with_the_lowest_loss() {
    let kiln = language::kiln();
    let settings = [
        "seeds=[1]",
        "train.epochs=6",
        "train.learning_rate=0.1",
        "train.keep=best",
        "--out=run",
    ];
    kiln.succeed(&[&["run", "recall.toml"][..], &settings].concat());
    let losses = values(&epochs(&kiln, "full"), "valid", "Loss");
    let gains: Vec<f64> = losses.iter().map(|loss| -loss).collect();
    assert_eq!(kept(&kiln, "full"), (highest(&gains), 6), "{losses:?}");
}

#[test]
fn the_total_loss_is_shown_beside_its_parts_where_there_are_any() {
    let kiln = Kiln::new();
    let arms = "arms=[{name='cut'}, {name='plain', stages.student.methods=['experts']}, \
                {name='gated', experts.router='gate-token'}]";
    let settings = [
        "train.epochs=1",
        "experts.balance=0.5",
        "layerwise.weight=2",
        arms,
    ];
    kiln.succeed(&[&["run", "small.toml"][..], &settings, &ONCE].concat());

    let gated = epochs(&kiln, "gated");
    let train = |name: &str| values(&gated, "train", name)[0];
    let distilled = train("Distill hidden") + train("Distill logits");
    let sum = train("Loss") + 0.5 * train("Balance loss") + 2.0 * distilled;
    let total = train("Total loss");
    assert!((total - sum).abs() < 1e-4, "{total} {sum}");
    assert!(train("Balance loss") > 1.0, "a sum over two layers");

    let names = |stage: &str, name: &str| values(&epochs(&kiln, stage), "train", name).len();
    let shown = |stage| {
        [
            names(stage, "Loss"),
            names(stage, "Total loss"),
            names(stage, "Balance loss"),
        ]
    };
    assert_eq!(shown("gated"), [1, 1, 1]);
    assert_eq!(shown("cut"), [1, 1, 0]);
    assert_eq!(shown("plain"), [1, 0, 0]);
    assert_eq!(shown("teacher"), [1, 0, 0]);
    // Validation is judged by the task alone.
    assert!(values(&gated, "valid", "Total loss").is_empty());
    assert_eq!(values(&gated, "valid", "Loss").len(), 1);
}
