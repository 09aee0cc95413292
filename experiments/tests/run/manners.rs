//! What commands print for people and for programs.

use serde_json::Value;

use super::kiln::{Kiln, text_of};

const QUICK: [&str; 3] = [
    "latency.repeats=6",
    "train.epochs=1",
    "data.synthetic.dev=60",
];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn recipes_are_listed_and_printed() {
    let kiln = Kiln::new();
    let list = kiln.succeed(&["recipes"]);
    assert!(list.starts_with("quickstart "), "{list}");
    assert!(
        list.lines().all(|line| line.chars().count() <= 80),
        "{list}"
    );
    kiln.write("mine.toml", kiln.succeed(&["recipes", "quickstart"]));
    kiln.succeed(&["plan", "mine.toml", "name=mine"]);
    let all = json(&kiln.succeed(&["recipes", "--json"]));
    assert_eq!(all[0]["name"], "quickstart");
    assert_eq!(all[0]["command"], "run");
    let message = kiln.fail(&["recipes", "quikstart"]);
    assert!(message.contains("did you mean `quickstart`?"), "{message}");
    // The help knows all of them.
    let help = kiln.succeed(&["run", "--help"]);
    for recipe in all.as_array().unwrap() {
        assert!(help.contains(recipe["name"].as_str().unwrap()), "{help}");
    }
}

#[test]
fn commands_print_one_json_document() {
    let kiln = Kiln::new();
    for command in [
        &["methods", "--json"][..],
        &["methods", "lora", "--json"],
        &["devices", "--json"],
        &["recipes", "recall", "--json"],
        &["spans", "full", "--layers=2", "--length=8", "--json"],
        &["plan", "small.toml", "--json"],
        &[
            "run",
            "small.toml",
            "train.epochs=1",
            "latency.repeats=1",
            "--json",
        ],
        &["prune", "--dry-run", "--json", "--store=runs/store"],
    ] {
        json(&kiln.succeed(command));
    }
}

#[test]
fn a_run_tells_nothing_when_quiet_and_its_results_are_run_again() {
    let kiln = Kiln::new();
    let run = |more: &[&str]| {
        let command = ["run", "small.toml", "--quiet", "--out", "run"];
        kiln.start(&[&command[..], &QUICK, more].concat())
    };
    let output = run(&[]);
    assert!(output.status.success());
    assert_eq!(text_of(&output.stderr), "");
    let table = text_of(&output.stdout);
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    assert!(table.contains("% interval over"), "{table}");
    let results = json(&text_of(&run(&["--json"]).stdout));
    let accuracy = &results["arms"][0]["metrics"]["accuracy"];
    let [mean, low, high] = ["mean", "low", "high"].map(|key| accuracy[key].as_f64().unwrap());
    assert!(low <= mean && mean <= high && low < high, "{accuracy}");

    // The first word of a cell is the mean.
    let markdown = std::fs::read_to_string(kiln.path("run/results.md")).unwrap();
    let line = markdown.lines().nth(2).unwrap();
    let cell = line.split('|').nth(2).unwrap();
    let first = cell.split_whitespace().next().unwrap();
    assert!(
        (first.parse::<f64>().unwrap() - mean).abs() < 1e-4,
        "{line}"
    );

    // Committed, and run again.
    let committed = |name: &str, results: &Value| {
        kiln.write(&format!("docs/{name}.json"), results.to_string());
        let recipe = std::fs::read(kiln.path("run/recipe.toml")).unwrap();
        kiln.write(&format!("docs/{name}.toml"), recipe);
    };
    committed("same", &results);
    let again = |name: &str, more: &[&str]| {
        let command = ["reproduce", name, "--quiet"];
        kiln.start(&[&command[..], more].concat())
    };
    let output = again("docs/same", &["--out=again"]);
    let text = text_of(&output.stdout);
    assert!(output.status.success(), "{text}{}", text_of(&output.stderr));
    assert!(
        text.contains("all scores are the same, to the last"),
        "{text}"
    );

    let mut other = results.clone();
    let seeds = other["arms"][0]["seeds"].as_array_mut().unwrap();
    for seed in seeds {
        seed["metrics"]["accuracy"] = 0.125.into();
    }
    other["arms"][0]["metrics"]["accuracy"] =
        serde_json::json!({ "mean": 0.125, "sd": null, "low": 0.12, "high": 0.13 });
    committed("other", &other);
    let output = again("docs/other.json", &["--out=again", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told = json(&text_of(&output.stdout));
    assert_eq!(told["agrees"], false);
    assert_eq!(told["metrics"][0]["agreement"], "outside");
    let errors = text_of(&output.stderr);
    assert!(
        errors.ends_with("the run does not agree with docs/other.json\n"),
        "{errors}"
    );

    other["arms"][0]["name"] = "nobody".into();
    committed("nobody", &other);
    let message = kiln.fail(&["reproduce", "docs/nobody", "--out=again"]);
    assert!(message.contains("no model `nobody`"), "{message}");
    kiln.write("docs/old.json", "{\"rows\": []}");
    kiln.write("docs/old.toml", "name = \"old\"\n");
    let message = kiln.fail(&["reproduce", "docs/old"]);
    assert!(message.contains("docs/old.json"), "{message}");
    let message = kiln.fail(&["reproduce", "docs/nothing"]);
    assert!(message.contains("docs/nothing.json"), "{message}");
}
