//! A made-up run folder of many arms and seeds, with all that a report can show.

mod layers;

use std::{fs, io, path::Path};

use serde_json::{Map, Value, json};

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The number of arms, at least 4.
    pub arms: usize,
    /// The number of seeds.
    pub seeds: usize,
    /// The number of examples.
    pub examples: usize,
    /// The number of measured steps of a training.
    pub steps: usize,
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal, mean 0 and deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

const ORDERS: [&str; 4] = [
    "importance",
    "random",
    "inverse",
    "<script>alert(1)</script>",
];

/// The name and the keys of an arm. One is named as a script would be.
fn arm(index: usize) -> (String, Map<String, Value>) {
    let order = ORDERS[index % 4];
    let shared = 64 * (index / 4 % 5);
    let rate = 1e-5 * 1.5_f64.powi((index / 20) as i32);
    let name = format!("order={order} shared={shared} learning_rate={rate:.1e}");
    let set =
        json!({"experts.order": order, "experts.shared": shared, "train.learning_rate": rate});
    (name, set.as_object().cloned().unwrap_or_default())
}

fn key(kind: &str, arm: usize, seed: usize) -> String {
    format!("{kind}-{:032x}", arm * 1000 + seed)
}

/// A run folder that is being written.
struct Maker<'a> {
    run: &'a Path,
    sweep: Sweep,
    random: Random,
    /// How hard each example is.
    difficulty: Vec<f64>,
    /// `metrics.jsonl`.
    lines: String,
    stages: Vec<Value>,
    latencies: Vec<Value>,
    clock: f64,
}

/// Writes the folder.
pub fn write(run: &Path, sweep: Sweep) -> io::Result<()> {
    let mut random = Random(1);
    let mut maker = Maker {
        run,
        sweep,
        difficulty: (0..sweep.examples).map(|_| random.normal()).collect(),
        random,
        lines: String::new(),
        stages: vec![],
        latencies: vec![],
        clock: 1_790_000_000.0,
    };
    let (mut arms, mut scores) = (vec![], vec![]);
    for index in 0..sweep.arms {
        let (made, own) = maker.arm(index)?;
        arms.push(made);
        scores.push(own);
    }
    maker.importance()?;
    let (reference, _) = arm(1);
    let comparisons: Vec<Value> = (0..sweep.arms)
        .filter(|index| *index != 1)
        .map(|index| comparison(index, &reference, &scores, sweep))
        .collect();
    let seeds: Vec<usize> = (1..=sweep.seeds).collect();
    let results = json!({"schema": 1, "run": "sweep </title><script>alert(2)</script>", "metric": "accuracy", "metrics": ["accuracy"], "directions": {"accuracy": "higher-is-better"},
        "alpha": 0.05, "margin": 0.02, "reference": reference, "seeds": seeds, "arms": arms, "comparisons": comparisons, "notes": ["made up"],
        "factors": [factor("distillation", 0.03, 0.012), factor("importance", 0.015, 0.018)]});
    fs::write(run.join("results.json"), results.to_string())?;
    let timings = json!({"schema": 1, "stages": maker.stages, "latencies": maker.latencies});
    fs::write(run.join("timings.json"), timings.to_string())?;
    fs::write(run.join("metrics.jsonl"), &maker.lines)?;
    let recipe = "name = \"sweep\"\n\n[data]\ntask = \"sst2\"\npath = \"/nowhere/<b>\"\n";
    fs::write(run.join("recipe.toml"), recipe)?;
    let start = json!([{"kiln": "0.1.0", "commit": "abc", "system": "linux", "cpus": 4, "device": "flex", "command": ["kiln", "ablate", "sweep"], "started_unix_s": 1_790_000_000}]);
    fs::write(run.join("environment.json"), start.to_string())
}

impl Maker<'_> {
    /// An arm as `results.json` has it, and its score with each seed. The last arm fails with seed 2.
    fn arm(&mut self, index: usize) -> io::Result<(Value, Vec<f64>)> {
        let (name, set) = arm(index);
        let skill = 1.8 + 0.3 * self.random.normal() - 0.5 * (index % 4) as f64 / 3.0;
        let width = 384 - 32 * (index / 4 % 5);
        let (mut own, mut rows) = (vec![], vec![]);
        for seed in 1..=self.sweep.seeds {
            if index + 1 == self.sweep.arms && seed == 2 {
                let failure = json!({"stage": key("train", index, seed), "title": format!("train {name}"), "cause": "not finite",
                    "message": "the loss is NaN at step 410", "log": ["step 400 loss 3.1", "step 410 loss NaN"]});
                rows.push(json!({"seed": seed, "stages": {}, "status": "failed", "failure": failure, "metrics": {}}));
                continue;
            }
            let accuracy = self.evaluate(index, seed, skill)?;
            self.train(&name, seed, skill, accuracy);
            let folder = |kind| self.run.join("store").join(key(kind, index, seed));
            layers::train(&folder("train"), self.sweep.steps.min(60), index + seed)?;
            layers::evaluate(&folder("evaluate"), index + seed)?;
            self.time(&name, index, seed, 0.5 + width as f64 / 400.0);
            own.push(accuracy);
            let stages = [("evaluate", index), ("train", index), ("importance", 0)];
            let stages: Map<String, Value> = stages
                .into_iter()
                .map(|(kind, index)| (kind.to_owned(), key(kind, index, seed).into()))
                .collect();
            for (kind, target) in &stages {
                let folder = self.run.join(format!("arms/{index}/seed-{seed}"));
                fs::create_dir_all(&folder)?;
                let target = format!("../../../store/{}", target.as_str().unwrap_or_default());
                fs::write(folder.join(kind), target)?;
            }
            rows.push(json!({"seed": seed, "stages": stages, "status": "done", "metrics": {"accuracy": accuracy}, "before": {"accuracy": 0.5}}));
        }
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        let estimate = json!({"mean": mean, "sd": 0.01, "low": (mean - 0.015).max(0.0), "high": (mean + 0.015).min(1.0)});
        let cost = json!({"parameters": 22_000_000, "active_parameters": 10_000_000 + 20_000 * width,
            "multiply_adds_per_token": 1_000_000 + 10_000 * width, "attention": null});
        let spans = vec!["full"; 6];
        let made = json!({"name": name, "set": set, "is_arm": true, "layers": "6 full", "spans": spans, "experts": format!("4 experts of {width}, hash-random"),
            "seeds": rows, "metrics": {"accuracy": estimate}, "cost": cost});
        Ok((made, own))
    }

    /// Writes an evaluation and returns its accuracy.
    fn evaluate(&mut self, index: usize, seed: usize, skill: f64) -> io::Result<f64> {
        let luck = skill + 0.1 * self.random.normal();
        let mut predictions = String::new();
        let mut right = vec![];
        for (place, difficulty) in self.difficulty.iter().enumerate() {
            let margin = luck - difficulty + 0.4 * self.random.normal();
            let confidence = 0.5 + 0.5 * (margin.abs() / 2.0).tanh();
            let is_right = margin > 0.0;
            let mut labels = ["positive", "negative"];
            if is_right != place.is_multiple_of(2) {
                labels.reverse();
            }
            let [label, other] = labels;
            predictions += &json!({"index": place, "label": label, "probabilities": {label: confidence, other: 1.0 - confidence}}).to_string();
            predictions.push('\n');
            right.push(f64::from(u8::from(is_right)));
        }
        let accuracy = right.iter().sum::<f64>() / right.len() as f64;
        let names: Vec<String> = (0..right.len()).map(|place| place.to_string()).collect();
        let folder = self.run.join("store").join(key("evaluate", index, seed));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("predictions.jsonl"), predictions)?;
        let examples =
            json!([{"ids": names, "content": "", "metrics": {"accuracy": {"mean": right}}}]);
        fs::write(folder.join("examples.json"), examples.to_string())?;
        Ok(accuracy)
    }

    /// Adds what was measured in a training.
    fn train(&mut self, name: &str, seed: usize, skill: f64, accuracy: f64) {
        let stage = format!("seed-{seed}/{name}");
        for step in 1..=self.sweep.steps {
            let loss = 1.5 * (-(step as f64) / 20.0).exp() - 0.05 * skill;
            let loss = 0.3 + loss + 0.05 * self.random.normal();
            let busiest = 0.3 + 0.02 * self.random.normal();
            let mut add = |split: &str, name: &str, value: f64| {
                self.lines += &json!({"stage": stage, "epoch": 1, "step": step * 10, "split": split, "name": name, "value": value}).to_string();
                self.lines.push('\n');
            };
            add("train", "Loss", loss);
            add("train", "Busiest expert", busiest);
            if step % 10 == 0 {
                add("valid", "Accuracy", accuracy - 0.2 / step as f64);
            }
        }
    }

    /// Adds the times of stages and passes.
    fn time(&mut self, name: &str, index: usize, seed: usize, speed: f64) {
        for (kind, seconds) in [
            ("train", 60.0 + 20.0 * self.random.share()),
            ("evaluate", 4.0),
        ] {
            self.clock += seconds / 2.0;
            let host = if index.is_multiple_of(2) {
                "node1"
            } else {
                "node2"
            };
            self.stages.push(json!({"key": key(kind, index, seed), "title": format!("{kind} {name} seed {seed}"), "seed": seed, "seconds": seconds,
                "peak_memory": 500_000_000, "host": host, "finished": self.clock.round() as u64}));
        }
        let ms = (0..20).map(|_| speed * (0.1 * self.random.normal()).exp());
        let ms: Vec<f64> = ms.collect();
        self.latencies
            .push(json!({"arm": name, "seed": seed, "ms": ms}));
    }

    /// Writes scores of neurons of 12 layers, which all arms share.
    fn importance(&mut self) -> io::Result<()> {
        for seed in 1..=self.sweep.seeds {
            let scores = (0..12 * 64).map(|_| (self.random.normal() as f32).exp());
            let bytes: Vec<u8> = scores.flat_map(f32::to_le_bytes).collect();
            let folder = self.run.join("store").join(key("importance", 0, seed));
            fs::create_dir_all(&folder)?;
            let header =
                r#"{"importance":{"dtype":"F32","shape":[12,64],"data_offsets":[0,3072]}}"#;
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend(header.bytes());
            file.extend(&bytes);
            fs::write(folder.join("importance.safetensors"), file)?;
        }
        Ok(())
    }
}

fn factor(name: &str, drop: f64, add: f64) -> Value {
    let effect = |difference: f64| json!({"difference": difference, "low": difference - 0.008, "high": difference + 0.008});
    json!({"name": name, "metric": "accuracy", "arms": ["full", format!("-{name}"), format!("+{name}"), "base"],
        "drop": effect(drop), "add": effect(add), "interaction": effect(drop - add)})
}

fn comparison(index: usize, reference: &str, scores: &[Vec<f64>], sweep: Sweep) -> Value {
    let (name, _) = arm(index);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let difference = mean(&scores[index]) - mean(&scores[1]);
    if scores[index].len() < sweep.seeds {
        return json!({"arm": name, "reference": reference, "metric": "accuracy", "unit": "points", "seeds": sweep.seeds, "examples": sweep.examples, "mcnemar": [],
            "verdict": {"kind": "refused", "sentence": format!("{name} against {reference}: no verdict: 1 of {} seeds of {name} failed; leaving them out would favour it", sweep.seeds)}});
    }
    let half = 0.012 + 0.002 * (index % 5) as f64;
    let p = if difference.abs() > half { 0.031 } else { 0.4 };
    let (kind, words) = match difference {
        difference if difference > half => ("better", "beats"),
        difference if difference < -half => ("worse", "loses to"),
        difference if difference.abs() + half < 0.02 => ("equivalent", "is within 2 points of"),
        _ => ("undecided", "is not decided against"),
    };
    let tests: Vec<Value> = (0..sweep.seeds)
        .map(|_| json!({"gained": 10, "lost": 12, "p": 0.83}))
        .collect();
    json!({"arm": name, "reference": reference, "metric": "accuracy", "unit": "points", "seeds": sweep.seeds, "examples": sweep.examples, "mcnemar": tests,
        "difference": difference, "se": half / 2.6, "df": 5.0, "low": difference - half * 0.7, "high": difference + half * 0.7,
        "simultaneous": {"low": difference - half, "high": difference + half, "alpha_star": 0.002}, "percentile": null, "p_sign_flip": 0.031, "p_adjusted": p, "p_crossed": p,
        "needs": {"seeds_at_least": 6, "seeds": 14, "examples_alone": 0.004},
        "verdict": {"kind": kind, "sentence": format!("{name} {words} {reference}: accuracy {:+.1} points [{:+.1}, {:+.1}] ({} seeds, {} examples, p = 0.031)",
            100.0 * difference, 100.0 * (difference - half), 100.0 * (difference + half), sweep.seeds, sweep.examples)}})
}
