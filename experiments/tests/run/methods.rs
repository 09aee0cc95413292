//! Methods that recipes name: their list, students and decoders that learn by them, and mistakes.

use super::bad_input::refuse;
use super::kiln::{Kiln, results, rows};
use super::language;

const ONCE: [&str; 3] = ["latency.repeats=1", "train.epochs=1", "--out=run"];

#[test]
fn methods_are_listed_and_have_pages() {
    let kiln = Kiln::new();
    let list = kiln.succeed(&["methods"]);
    for name in [
        "layerwise",
        "kd",
        "pkd",
        "minilm",
        "tinybert",
        "distilbert",
        "lora",
    ] {
        assert!(list.contains(&format!("{name}: ")), "{list}");
        let page = kiln.succeed(&["methods", name]);
        assert!(page.starts_with(&format!("# {name}: ")), "{page}");
        assert!(page.contains("\nDefaults:\n    "), "{page}");
    }
    refuse(
        &kiln,
        &["methods", "pdk"],
        &["`pdk`", "did you mean `pkd`?"],
    );
}

fn run(kiln: &Kiln, students: &str) -> Vec<serde_json::Value> {
    let students = format!("students=[{students}]");
    kiln.succeed(&[&["run", "small.toml", &students][..], &ONCE].concat());
    let mut results = results(&kiln.path("run"));
    std::mem::take(results["rows"].as_array_mut().unwrap())
}

#[test]
fn students_keep_layers_or_begin_with_a_folder_and_learn_by_several_methods() {
    let kiln = Kiln::new();
    let shallow = r#"{ name = "shallow", keep_layers = "every:2", distill = false, task = 0.5,
        methods = { kd = { weight = 0.5, temperature = 2 }, minilm = {}, tinybert = {}, distilbert = {} } }"#;
    let mapped = r#"{ name = "mapped", keep_layers = "2", task = 0, methods = { pkd = {} } }"#;
    let rows = run(&kiln, &shallow.replace('\n', " "));
    assert_eq!(rows.len(), 2);
    let parameters = |row: &serde_json::Value| row["parameters"].as_u64().unwrap();
    assert!(parameters(&rows[1]) < parameters(&rows[0]));
    assert_eq!(rows[1]["parameters"], rows[1]["active_parameters"]);
    let model = "run/artifacts/seed-1/shallow/distil/model";
    let config = std::fs::read_to_string(kiln.path(model).join("config.json")).unwrap();
    assert!(config.contains("\"num_hidden_layers\": 1"), "{config}");
    let metrics = std::fs::read_to_string(kiln.path("run/metrics.jsonl")).unwrap();
    for name in [
        "Relation",
        "Distill logits",
        "Attention scores",
        "Projected hidden",
        "Cosine",
    ] {
        assert!(metrics.contains(&format!("\"name\":\"{name}\"")), "{name}");
    }

    // PKD compares layers before the last, and this student has none.
    let students = format!("students=[{mapped}]");
    let layers = "distill.layers=0-0,1-2";
    let message = kiln.fail(&[
        "run",
        "small.toml",
        &students,
        layers,
        "train.epochs=1",
        "--out=pkd",
    ]);
    assert!(
        message.contains("method `pkd`: a student of one layer"),
        "{message}"
    );

    // A folder with the same vocabulary is another beginning.
    let folder = kiln.path("run/artifacts/seed-1/shallow/distil/model");
    let folder = format!(
        r#"{{ name = "folder", model = "{}", distill = false, methods = {{ kd = {{}} }} }}"#,
        folder.display()
    );
    let students = format!("students=[{folder}]");
    kiln.succeed(&[
        "run",
        "small.toml",
        &students,
        "latency.repeats=1",
        "train.epochs=1",
        "--out=again",
    ]);
}

#[test]
fn adapters_are_saved_beside_the_model_that_they_are_merged_into() {
    let kiln = Kiln::new();
    let student = r#"{ name = "low", keep_layers = "every:1", distill = false, methods = { lora = { rank = 2, targets = ["query", "inner"] } } }"#;
    let rows = run(&kiln, student);
    assert_eq!(rows[0]["parameters"], rows[1]["parameters"]);
    let folder = kiln.path("run/artifacts/seed-1/low/distil");
    let config = std::fs::read_to_string(folder.join("adapter/adapter_config.json")).unwrap();
    assert!(
        config.contains("bert.encoder.layer.1.intermediate.dense"),
        "{config}"
    );
    assert!(folder.join("adapter/adapter_model.safetensors").exists());
    assert!(folder.join("model/model.safetensors").exists());
}

#[test]
fn a_decoder_learns_from_one_further_up() {
    let kiln = language::kiln();
    let models = r#"models=[{ name = "full", spans = "full" }, { name = "own", spans = "window:4", train = { epochs = 1 } },
        { name = "taught", spans = "window:4", teacher = "full", task = 0.5, train = { epochs = 1 },
          methods = { kd = { weight = 0.5 }, layerwise = { logits = "none" }, lora = { targets = ["mixer"] } },
          experts = { count = 2, width = 16, shared = 0, order = "random" } }]"#;
    let models = models.replace('\n', " ");
    kiln.succeed(&["run", "recall.toml", "seeds=[1]", &models, "--out=run"]);
    let rows = rows(&kiln, "run");
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["full", "own", "taught"]);
    let metrics = std::fs::read_to_string(kiln.path("run/metrics.jsonl")).unwrap();
    for name in ["Distill logits", "Distill hidden", "Busiest expert"] {
        assert!(metrics.contains(&format!("\"name\":\"{name}\"")), "{name}");
    }
}

#[test]
fn mistakes_name_what_would_be_right() {
    let kiln = language::kiln();
    let refuse_student = |student: &str, texts: &[&str]| {
        let students = format!("students=[{{ name = \"a\", {student} }}]");
        refuse(
            &kiln,
            &["run", "small.toml", "--out", "new", &students],
            texts,
        );
    };
    refuse_student(
        "methods = { pdk = {} }",
        &["`students.0.methods.pdk` is no method", "`pkd`"],
    );
    refuse_student(
        "methods = { kd = { temprature = 2 } }",
        &[
            "`students.0.methods.kd.temprature` is no setting of `kd`",
            "`temperature`",
        ],
    );
    refuse_student(
        "methods = { kd = { form = \"kll\" } }",
        &["`students.0.methods.kd` cannot work", "kll"],
    );
    refuse_student(
        "keep_layers = \"every:3\"",
        &["student `a`", "`every:3` does not fit a model of 2 layers"],
    );
    refuse_student("keep_layers = \"some\"", &["`some` is no choice of layers"]);
    refuse_student(
        "keep_layers = \"2\"",
        &["`distill.layers`", "`all` needs equal depths"],
    );
    refuse_student(
        "keep_layers = \"2\", width = 4",
        &["`students.0.width`", "is for experts"],
    );
    refuse_student(
        "keep_layers = \"2\", model = \"m\"",
        &["`students.0.model`", "one beginning"],
    );
    refuse_student("task = -1.0", &["`students.0.task`"]);
    let refuse_models = |models: &str, texts: &[&str]| {
        let models = format!("models=[{{ name = \"full\", spans = \"full\" }}, {models}]");
        refuse(
            &kiln,
            &["run", "recall.toml", "--out", "new", &models],
            texts,
        );
    };
    let second = |rest: &str| format!("{{ name = \"b\", spans = \"full\", {rest} }}");
    refuse_models(
        &second("teacher = \"fool\""),
        &["`models.1.teacher`", "did you mean `full`?"],
    );
    refuse_models(&second("teacher = \"b\""), &["`models.1.teacher`"]);
    refuse_models(&second("train = { epohcs = 2 }"), &["epohcs", "`epochs`"]);
    assert!(!kiln.path("new").exists());

    let models = format!(
        "models=[{{ name = \"full\", spans = \"full\" }}, {}]",
        second("teacher = \"full\", methods = { minilm = { heads = 3 } }")
    );
    let message = kiln.fail(&["run", "recall.toml", "seeds=[1]", "--out", "new", &models]);
    assert!(
        message.contains("method `minilm`: 3 relation heads do not divide"),
        "{message}"
    );
    let alone = format!(
        "models=[{{ name = \"full\", spans = \"full\" }}, {}]",
        second("methods = { kd = {} }")
    );
    let message = kiln.fail(&["run", "recall.toml", "seeds=[1]", "--out", "other", &alone]);
    assert!(
        message.contains("method `kd` compares a student with a teacher"),
        "{message}"
    );
}
