//! What single layers of the models of a made-up run did.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

const LAYERS: usize = 6;
const EXPERTS: usize = 4;

/// Writes `layers.jsonl` of a training whose values differ by `salt`.
pub fn train(folder: &Path, steps: usize, salt: usize) -> io::Result<()> {
    let mut text = String::new();
    for step in 1..=steps {
        let mut add = |name: &str, layer: usize, values: Vec<f64>| {
            let line = json!({"epoch": 1, "step": step * 10, "name": name, "layer": layer, "values": values});
            text += &line.to_string();
            text.push('\n');
        };
        let late = step as f64 / steps as f64;
        for layer in 0..LAYERS {
            let load = |expert: usize| {
                let wave = (salt + 3 * layer + 5 * expert) as f64 + 4.0 * late;
                (100.0 * (1.0 + 0.9 * wave.sin())).round()
            };
            add("load", layer, (0..EXPERTS).map(load).collect());
            add(
                "entropy",
                layer,
                vec![1.3 - late * (0.2 + 0.1 * layer as f64)],
            );
        }
        for state in 0..=LAYERS {
            let error = state as f64 * (1.2 - late) / 10.0;
            add("hidden", state, vec![error]);
        }
    }
    let folder = folder.join("training");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("layers.jsonl"), text)
}

/// Writes `routed.json` and `distances.json` of an evaluation.
pub fn evaluate(folder: &Path, salt: usize) -> io::Result<()> {
    let word = |expert: usize, place: usize| {
        let token = if place == 0 {
            "<b>".to_owned()
        } else {
            format!("##word{}", (salt + expert * 7 + place * 3) % 50)
        };
        json!({"token": token, "count": 40 - place, "share": if place.is_multiple_of(2) { 1.0 } else { 0.61 }})
    };
    let layers = (0..LAYERS).map(|layer| {
        let experts = (0..EXPERTS).map(|expert| {
            let words: Vec<Value> = (0..20).map(|place| word(expert, place)).collect();
            json!({"tokens": 2000 + 300 * expert, "words": words})
        });
        json!({"layer": layer, "tokens": 9800, "experts": experts.collect::<Vec<_>>()})
    });
    let routed = json!({"schema": 1, "layers": layers.collect::<Vec<_>>()});
    fs::write(folder.join("routed.json"), routed.to_string())?;
    let table = |of: &dyn Fn(f64) -> f64| -> Vec<Vec<f64>> {
        let row = |own: usize| (0..=LAYERS).map(move |other| own.abs_diff(other) as f64);
        (0..=LAYERS).map(|own| row(own).map(of).collect()).collect()
    };
    let apart = |error: f64| json!({"cka": table(&|far| (-far / 3.0 - error).exp()), "mse": table(&|far| error * (1.0 + far))});
    let squares = vec![1.0; LAYERS + 1];
    let after = 0.05 + 0.01 * (salt % 7) as f64;
    let distances = json!({"schema": 1, "to": null, "tokens": 512, "squares": squares, "before": apart(0.4), "after": apart(after)});
    fs::write(folder.join("distances.json"), distances.to_string())
}
