//! What runs keep of single layers.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::kiln::Kiln;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn experts_and_hidden_states_are_watched() {
    let kiln = Kiln::new();
    let arguments =
        "run small.toml seeds=[1] latency.repeats=2 data.synthetic.dev=60 --out run --ui none";
    kiln.succeed(&arguments.split(' ').collect::<Vec<_>>());
    let stage = |arm: &str, stage: &str| kiln.path(&format!("run/arms/{arm}/seed-1/{stage}"));

    // A dense model that was made from no other one has nothing of its layers.
    assert!(
        !stage("teacher", "train")
            .join("training/layers.jsonl")
            .exists()
    );
    for file in ["routed.json", "distances.json"] {
        assert!(!stage("teacher", "evaluate").join(file).exists());
    }

    let mut after = vec![];
    for (arm, names) in [
        ("cut", &["hidden", "load"][..]),
        ("gated", &["entropy", "load"]),
    ] {
        let text = fs::read_to_string(stage(arm, "train").join("training/layers.jsonl")).unwrap();
        let mut by_name: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let name = line["name"].as_str().unwrap().to_owned();
            by_name.entry(name).or_default().push(line);
        }
        assert!(by_name.keys().eq(names), "{arm}: {:?}", by_name.keys());
        for line in &by_name["load"] {
            // Each token of a batch of 8 has one expert.
            let loads = numbers(&line["values"]);
            let tokens: f64 = loads.iter().sum();
            assert!(loads.len() == 4 && tokens > 8.0, "{line}");
        }
        if let Some(lines) = by_name.get("entropy") {
            let is_possible = |line: &Value| {
                let entropy = numbers(&line["values"])[0];
                (0.0..=4_f64.ln() + 1e-4).contains(&entropy)
            };
            assert!(lines.iter().all(is_possible));
        }

        let routed = json(&stage(arm, "evaluate").join("routed.json"));
        let layers = routed["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        for layer in layers {
            let experts = layer["experts"].as_array().unwrap();
            let sum: u64 = experts
                .iter()
                .map(|it| it["tokens"].as_u64().unwrap())
                .sum();
            assert_eq!((experts.len(), Some(sum)), (4, layer["tokens"].as_u64()));
            assert_eq!(layer["tokens"], layers[0]["tokens"]);
        }
        // All sequences begin with this token; a table sends it to one expert, and it is the most frequent of that.
        let first = layers[0]["experts"].as_array().unwrap();
        let mut words = first.iter().filter_map(|expert| expert["words"].get(0));
        let start = words.find(|word| word["token"] == "[CLS]");
        assert!(arm == "gated" || start.unwrap()["count"] == 60, "{start:?}");

        let distances = json(&stage(arm, "evaluate").join("distances.json"));
        let teacher = fs::read_link(stage("teacher", "train")).unwrap();
        let teacher = teacher.file_name().unwrap().to_str().unwrap();
        assert_eq!(distances["to"], teacher);
        let error = |when: &str, state: usize| {
            let row = numbers(&distances[when]["mse"][state]);
            row[state] / numbers(&distances["squares"])[state]
        };
        // The embedding is that of the teacher, what comes after it was cut.
        assert!(error("before", 0).abs() < 1e-9 && error("before", 2) > 1e-6);
        after.push(error("after", 2));
    }
    // One of them learns from the teacher's states.
    assert!(after[0] < after[1], "{after:?}");

    let page = |kiln: &Kiln| {
        kiln.succeed(&["report", "run"]);
        fs::read_to_string(kiln.path("run/report.html")).unwrap()
    };
    let views = ["id=\"words\"", "id=\"distances\"", "experts-load-1"];
    let html = page(&kiln);
    for view in views {
        assert!(html.contains(view), "{view}");
    }
    // Stages of earlier versions have none of the files.
    for arm in ["cut", "gated"] {
        fs::remove_file(stage(arm, "train").join("training/layers.jsonl")).unwrap();
        for file in ["routed.json", "distances.json"] {
            fs::remove_file(stage(arm, "evaluate").join(file)).unwrap();
        }
    }
    let html = page(&kiln);
    for view in views {
        assert!(!html.contains(view), "{view}");
    }
    assert!(html.contains("no evaluation recorded which tokens pass through which expert"));
    kiln.succeed(&["export", "run", "--to", "tensorboard"]);
}
