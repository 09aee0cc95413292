//! Successive halving: its rungs are one training in parts, and any number of processes decide alike.

use std::{fs, process::Stdio, thread, time::Duration};

use serde_json::Value;

use super::{
    bad_input::refuse,
    kiln::{Kiln, results, text_of},
};

/// A halving of six points, of which one survives, and of two more that cannot be trained.
const RECIPE: &str = r#"
extends = "small.toml"
name = "halved"
arms = []

[data]
synthetic = { train = 160, dev = 60 }

[train]
epochs = 4

[latency]
repeats = 1

[stages.teacher]
train.epochs = 1

[ablate]
seeds = [1, 2]

[[ablate.block]]
variants = [{ name = "recipe", set = {} }]

[[ablate.block]]
variants = [{ name = "gated", set = { "experts.order" = "random", "experts.router" = "gate-token" } }]

[[ablate.block]]
exclude = [{ "stages.student.train.learning_rate" = 1e30, "experts.shared" = 0 }]
[ablate.block.halving]
samples = 40
seed = 3
keys = { "experts.shared" = [0, 8], "experts.order" = ["random", "inverse"], "stages.student.train.learning_rate" = [1e-2, 1e-3, 1e30] }
over = "train.epochs"
min = 1
max = 4
eta = 2
final_seeds = [11, 12]
"#;

const HALVE: [&str; 6] = ["ablate", "halved.toml", "--out", "run", "--ui", "none"];

fn kiln() -> Kiln {
    let kiln = Kiln::new();
    kiln.write("halved.toml", RECIPE);
    kiln
}

fn json(kiln: &Kiln, path: &str) -> Value {
    serde_json::from_slice(&fs::read(kiln.path(path)).unwrap()).unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|name| name.as_str().unwrap()).collect()
}

/// The folder of an arm, whose name may have digits behind it there.
fn folder(kiln: &Kiln, arm: &str) -> String {
    let start = arm.replace(' ', "_");
    let arms = fs::read_dir(kiln.path("run/arms")).unwrap();
    let mut arms = arms.map(|arm| arm.unwrap().file_name().into_string().unwrap());
    arms.find(|name| name.starts_with(&start)).unwrap()
}

/// The last rung of a survivor has the weights and metrics of the training in one go.
fn is_the_training_in_one_go(kiln: &Kiln, survivor: &str) {
    let record = fs::read_to_string(kiln.path("run/recipe.toml")).unwrap();
    let record: toml::Table = record.parse().unwrap();
    let arms = record["arms"].as_array().unwrap().iter();
    let mut arms = arms.filter_map(toml::Value::as_table);
    let arm = arms
        .find(|arm| arm["name"].as_str() == Some(survivor))
        .unwrap();
    let arm = toml::Value::Array(vec![arm.clone().into()]);
    let one = format!("arms={arm}");
    kiln.succeed(&[
        "run",
        "halved.toml",
        &one,
        "seeds=[1]",
        "--out",
        "whole",
        "--store",
        "whole-store",
    ]);
    let folder = folder(kiln, survivor);
    let [parts, whole] = [
        format!("run/arms/{folder}/seed-1/train-after-4"),
        format!("whole/arms/{folder}/seed-1/train"),
    ]
    .map(|path| kiln.path(&path));
    for file in fs::read_dir(whole.join("model")).unwrap() {
        let name = file.unwrap().file_name();
        let [one, other] =
            [&parts, &whole].map(|dir| fs::read(dir.join("model").join(&name)).unwrap());
        assert!(one == other, "{}", name.display());
    }
    let [one, other] =
        [&parts, &whole].map(|dir| fs::read(dir.join("training/metrics.jsonl")).unwrap());
    assert!(one == other);
    assert!(!parts.join("training/checkpoints").exists());
}

#[test]
fn rungs_are_one_training_in_parts_and_survivors_are_reported_on_fresh_seeds() {
    let kiln = kiln();
    // What the rungs will decide is not known before.
    let plan = kiln.succeed(&["ablate", "halved.toml", "--plan", "--json"]);
    assert!(
        plan.contains("rung 1") && !plan.contains("rung 2"),
        "{plan}"
    );
    assert!(!plan.contains("seed 11"), "{plan}");

    let output = kiln.start(&HALVE);
    let errors = text_of(&output.stderr);
    // Some points failed, and that is told in the end.
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.lines().last().unwrap().contains("1e30") || errors.contains("1e+30"),
        "{errors}"
    );

    let halved = json(&kiln, "run/halving.json");
    let rungs = halved["rungs"].as_array().unwrap();
    let budgets: Vec<_> = rungs.iter().map(|rung| rung["budget"].as_u64()).collect();
    assert_eq!(budgets, [Some(1), Some(2), Some(4)]);
    let sizes = rungs
        .iter()
        .map(|rung| rung["arms"].as_array().unwrap().len());
    assert_eq!(sizes.collect::<Vec<_>>(), [10, 5, 2]);
    let failed = rungs[0]["arms"].as_array().unwrap().iter();
    let failed = failed.filter(|arm| arm["score"].is_null());
    assert_eq!(failed.clone().count(), 2);
    assert!(failed.clone().all(|arm| arm["goes_on"] == false));
    let survivors = names(&halved["survivors"]);
    let [survivor] = survivors.as_slice() else {
        panic!("{survivors:?}");
    };

    // The table has the final seeds alone, and the verdicts those who ran them.
    let rows = results(&kiln.path("run"));
    let rows = rows["rows"].as_array().unwrap();
    let shown = |row: &Value| format!("{} {}", row["name"].as_str().unwrap(), row["seed"]);
    let shown: Vec<String> = rows.iter().map(shown).collect();
    let expected = ["teacher", "recipe", "gated", survivor];
    let expected = expected
        .iter()
        .flat_map(|name| [11, 12].map(|seed| format!("{name} {seed}")));
    assert_eq!(shown, expected.collect::<Vec<_>>());
    let compared = json(&kiln, "run/results.json");
    for arm in compared["comparisons"].as_array().unwrap() {
        let sentence = arm["verdict"]["sentence"].as_str().unwrap();
        let is_reported = [*survivor, "gated"].contains(&arm["arm"].as_str().unwrap());
        let is_refused =
            sentence.ends_with("no verdict: the seeds that chose the arm are the seeds reported");
        assert_ne!(is_reported, is_refused, "{sentence}");
    }
    assert_eq!(compared["comparisons"].as_array().unwrap().len(), 11);

    is_the_training_in_one_go(&kiln, survivor);

    // Once more does nothing, and all of its stages are in the plan.
    let before = fs::read_dir(kiln.path("runs/store")).unwrap().count();
    let again = kiln.start(&HALVE);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(
        fs::read_dir(kiln.path("runs/store")).unwrap().count(),
        before
    );
    assert_eq!(json(&kiln, "run/halving.json"), halved);
    let plan = kiln.succeed(&["ablate", "halved.toml", "--plan"]);
    assert!(plan.contains("evaluate"), "{plan}");
    let stages = json(&kiln, "run/stages.json")["stages"]
        .as_array()
        .unwrap()
        .len();
    let failed = fs::read_dir(kiln.path("runs/store/.kiln/failed"))
        .unwrap()
        .count();
    // Those of the store, those that failed, and the judgements that these would have had; `.kiln` is no stage.
    assert_eq!(stages, before - 1 + 2 * failed);
}

#[test]
fn any_number_of_processes_decide_alike() {
    let decided = |processes: usize| {
        let kiln = kiln();
        let mut started: Vec<_> = (0..processes)
            .map(|_| {
                let mut command = kiln.command(&HALVE);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                command.spawn().unwrap()
            })
            .collect();
        if processes > 2 {
            // One of them dies on the way.
            thread::sleep(Duration::from_secs(2));
            let mut first = started.remove(0);
            // It may have ended by itself.
            let _ = first.kill();
            first.wait().unwrap();
        }
        for mut process in started {
            assert_eq!(process.wait().unwrap().code(), Some(1));
        }
        (
            json(&kiln, "run/halving.json"),
            json(&kiln, "run/results.json"),
        )
    };
    let one = decided(1);
    assert!(decided(2) == one);
    assert!(decided(4) == one);
}

#[test]
fn mistakes_of_a_halving_are_refused() {
    let kiln = kiln();
    let halve = ["ablate", "halved.toml", "--out", "refused"];
    for (from, to, texts) in [
        (
            "over = \"train.epochs\"",
            "over = \"stages.teacher.train.epochs\"",
            &["`stages.teacher.train.epochs` = 4, but the recipe has 1"][..],
        ),
        (
            "train.epochs = 1",
            "train.epochs = 4\n[stages.student.train]\nepochs = 4",
            &["its `over` is \"stages.student.train.epochs\", not \"train.epochs\""],
        ),
        (
            "max = 4",
            "max = 5",
            &["halved.toml, line", "set one to the other"],
        ),
        ("[11, 12]", "[2, 3]", &["final seed 2", "no rung has seen"]),
        (
            "name = \"recipe\", set = {}",
            "name = \"other\", set = { \"experts.width\" = 4 }",
            &["`reference`"],
        ),
        (
            "\"experts.order\" = [\"random\", \"inverse\"]",
            "\"stages.student.train.epochs\" = [2]",
            &["arm `", "is trained for 2 epochs"],
        ),
    ] {
        assert!(RECIPE.contains(from), "{from}");
        kiln.write("halved.toml", RECIPE.replacen(from, to, 1));
        refuse(&kiln, &halve, texts);
    }
    assert!(!kiln.path("refused").exists());
}
