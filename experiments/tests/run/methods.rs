//! Methods that recipes name: their list, students and decoders that learn by them, and mistakes.

use super::bad_input::refuse;
use super::kiln::{Kiln, TEACHER, results, rows};
use super::language;

const ONCE: [&str; 3] = ["latency.repeats=1", "train.epochs=1", "--out=run"];

#[test]
fn methods_are_listed_and_have_pages() {
    let kiln = Kiln::new();
    let list = kiln.succeed(&["methods"]);
    for name in [
        "experts",
        "layerwise",
        "kd",
        "pkd",
        "minilm",
        "tinybert",
        "distilbert",
        "ted-filters",
        "ted",
        "lora",
    ] {
        assert!(list.contains(&format!("{name}: ")), "{list}");
        let page = kiln.succeed(&["methods", name]);
        assert!(page.starts_with(&format!("# {name}: ")), "{page}");
        assert!(page.contains("\nDefaults:\n    "), "{page}");
    }
    refuse(
        &kiln,
        &["methods", "pkdd"],
        &["`pkdd`", "did you mean `pkd`?"],
    );
}

/// The rows of a run of the recipe's student under these changes, one arm each.
fn run(kiln: &Kiln, students: &[(&str, &str)]) -> Vec<serde_json::Value> {
    let arms = students.iter().map(|(name, keys)| {
        let keys = keys.replace('\n', " ");
        format!("{{ name = \"{name}\", stages.student = {{ {keys} }} }}")
    });
    let arms = format!("arms=[{}]", arms.collect::<Vec<_>>().join(", "));
    kiln.succeed(&[&["run", "small.toml", &arms][..], &ONCE].concat());
    let mut results = results(&kiln.path("run"));
    std::mem::take(results["rows"].as_array_mut().unwrap())
}

#[test]
fn students_keep_layers_or_begin_elsewhere_and_learn_by_several_methods() {
    let kiln = Kiln::new();
    let shallow = r#"keep_layers = "every:2", task = 0.5,
        methods = { kd = { weight = 0.5, temperature = 2 }, minilm = {}, tinybert = {}, distilbert = {} }"#;
    let split = r#"keep_layers = "1", methods = ["experts"]"#;
    let fresh = r#"random = { layers = 1, hidden = 8, heads = 2, width = 12 }, methods = ["kd", "tinybert"]"#;
    let rows = run(
        &kiln,
        &[("shallow", shallow), ("split", split), ("fresh", fresh)],
    );
    assert_eq!(rows.len(), 4);
    let parameters = |row: &serde_json::Value| row["parameters"].as_u64().unwrap();
    assert!(parameters(&rows[1]) < parameters(&rows[0]));
    assert_eq!(rows[1]["parameters"], rows[1]["active_parameters"]);
    assert_ne!(rows[2]["parameters"], rows[2]["active_parameters"]);
    assert!(parameters(&rows[3]) < parameters(&rows[2]));
    assert!(kiln.path("run/arms/fresh/seed-1/start/model").exists());
    let model = "run/arms/shallow/seed-1/train/model";
    let config = std::fs::read_to_string(kiln.path(model).join("config.json")).unwrap();
    assert!(config.contains("\"num_hidden_layers\": 1"), "{config}");
    let metrics = std::fs::read_to_string(kiln.path("run/metrics.jsonl")).unwrap();
    for name in [
        "Relation",
        "KD logits",
        "Attention scores",
        "Projected hidden",
        "Cosine",
    ] {
        assert!(metrics.contains(&format!("\"name\":\"{name}\"")), "{name}");
    }

    // PKD compares layers before the last, and this student has none.
    let mapped = r#"arms=[{ name = "mapped", stages.student = { keep_layers = "2", task = 0, methods = ["pkd"] } }]"#;
    let message =
        kiln.fail_in_a_stage(&["run", "small.toml", mapped, "train.epochs=1", "--out=pkd"]);
    assert!(
        message.contains("method `pkd`: a student of one layer"),
        "{message}"
    );

    // A folder with the vocabulary of the teacher's is another beginning.
    let folder = format!(
        r#"arms=[{{ name = "folder", stages.student = {{ folder = "{model}", methods = ["kd"] }} }}]"#
    );
    let teacher = format!("model.path={TEACHER}");
    kiln.write_without_model("path.toml");
    let settings = ["latency.repeats=1", "train.epochs=1", "--out=again"];
    kiln.succeed(&[&["run", "path.toml", &teacher, &folder][..], &settings].concat());

    // One whose embeddings or positions are too few is refused before work starts.
    let path = kiln.path(model).join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    for (from, to, messages) in [
        (
            "\"max_position_embeddings\": 32",
            "\"max_position_embeddings\": 16",
            ["`data.max_length` is 32", "16 positions"],
        ),
        (
            "\"vocab_size\": ",
            "\"vocab_size\": 1, \"was\": ",
            ["`folder`: ", "embedding only 1"],
        ),
    ] {
        assert!(config.contains(from), "{config}");
        std::fs::write(&path, config.replace(from, to)).unwrap();
        let arguments = ["run", "path.toml", &teacher, &folder, "--out=small"];
        refuse(&kiln, &arguments, &messages);
    }
}

#[test]
fn filters_are_trained_in_stages_of_their_own_and_followed_in_another() {
    let kiln = Kiln::new();
    let stages = r#"arms=[{ name = "ted", stages = {
        small = { from = "teacher", keep_layers = "2" },
        filters = { from = "small", methods = ["ted-filters"] },
        teacher-filters = { from = "teacher", methods = { ted-filters = { every = 2 } }, train.keep = "best" },
        student = { from = "filters", teacher = "teacher-filters", methods = ["kd", "ted"], freeze = ["embeddings"] }
    } }]"#
        .replace('\n', " ");
    kiln.succeed(&[&["run", "small.toml", &stages][..], &ONCE].concat());
    let found = rows(&kiln, "run");
    let names: Vec<&str> = found
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    // Models that stayed as they were have no rows.
    assert_eq!(names, ["teacher", "small", "ted"]);
    let of = |model: &str, file: &str| {
        let path = format!("run/arms/{model}/seed-1/train/{file}");
        std::fs::read(kiln.path(&path)).ok()
    };
    let weights = |model: &str| of(model, "model/model.safetensors").unwrap();
    assert_eq!(weights("teacher-filters"), weights("teacher"));
    assert_eq!(weights("filters"), weights("small"));
    assert_ne!(weights("ted"), weights("small"));
    for (model, is_left) in [
        ("filters", true),
        ("teacher-filters", true),
        ("teacher", false),
        ("ted", false),
    ] {
        assert_eq!(of(model, "left.safetensors").is_some(), is_left, "{model}");
    }
    let metrics = std::fs::read_to_string(kiln.path("run/metrics.jsonl")).unwrap();
    for name in ["Filters", "Filtered hidden", "KD logits"] {
        assert!(metrics.contains(&format!("\"name\":\"{name}\"")), "{name}");
    }
}

#[test]
fn a_model_is_kept_compact_and_trained_on() {
    let kiln = Kiln::new();
    let losparse = |form: &str| {
        format!(
            r#"losparse = {{ rank = 0.1, keep = 0.1, every = 1, start = 0.0, settle = 0.5, form = "{form}" }}"#
        )
    };
    let (compact, dense) = (losparse("compact"), losparse("dense"));
    let arms = format!(
        r#"arms=[
        {{ name = "dense", stages.student = {{ from = "teacher", methods = {{ {dense} }} }} }},
        {{ name = "compact", stages = {{
            thin = {{ from = "teacher", methods = {{ {compact} }} }},
            student = {{ from = "thin", teacher = "teacher", methods = ["kd"] }}
        }} }}]"#
    )
    .replace('\n', " ");
    kiln.succeed(&[&["run", "small.toml", &arms][..], &ONCE].concat());
    let found = rows(&kiln, "run");
    let of = |name: &str, key: &str| {
        let row = found.iter().find(|row| row["name"] == name);
        row.unwrap()[key].as_u64().unwrap()
    };
    for key in ["parameters", "multiply_adds_per_token"] {
        assert!(of("thin", key) < of("dense", key), "{key}");
        // A student keeps the form that it begins with.
        assert_eq!(of("thin", key), of("compact", key), "{key}");
    }
    let model = "run/arms/compact/seed-1/train/model";
    let config = std::fs::read_to_string(kiln.path(model).join("config.json")).unwrap();
    assert!(config.contains("\"weights\": ["), "{config}");
}

#[test]
fn adapters_are_saved_beside_the_model_that_they_are_merged_into() {
    let kiln = Kiln::new();
    let lora = |train: &str| {
        format!(r#"lora = {{ rank = 2, targets = ["query", "inner"], train = [{train}] }}"#)
    };
    let (low, pooled) = (lora(""), lora(r#""pooler""#));
    let rows = run(
        &kiln,
        &[
            ("low", &format!("methods = {{ {low} }}")),
            // Those of the others do not belong to the weights of any folder.
            ("pooled", &format!("methods = {{ {pooled} }}")),
            (
                "shallow",
                &format!(r#"keep_layers = "2", methods = {{ {low} }}"#),
            ),
            (
                "split",
                &format!("methods = {{ experts = {{ order = \"random\" }}, {low} }}"),
            ),
        ],
    );
    assert_eq!(rows[0]["parameters"], rows[1]["parameters"]);
    let folder = |name: &str| kiln.path("run/arms").join(name).join("seed-1/train");
    let low = folder("low");
    let config = std::fs::read_to_string(low.join("adapter/adapter_config.json")).unwrap();
    assert!(
        config.contains("bert.encoder.layer.1.intermediate.dense"),
        "{config}"
    );
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let base = std::fs::canonicalize(kiln.path(TEACHER)).unwrap();
    assert_eq!(
        config["base_model_name_or_path"],
        base.to_str().unwrap(),
        "{config}"
    );
    assert!(low.join("adapter/adapter_model.safetensors").exists());
    for name in ["low", "pooled", "shallow", "split"] {
        let folder = folder(name);
        assert!(folder.join("model/model.safetensors").exists(), "{name}");
        assert_eq!(folder.join("adapter").exists(), name == "low", "{name}");
    }
}

#[test]
fn a_decoder_learns_from_one_further_up() {
    let kiln = language::kiln();
    let stages = r#"stages={ full = {}, student = { teacher = "full", spans = "window:4", train = { epochs = 1 } } }"#;
    let taught = r#"{ name = "taught", experts = { count = 2, width = 16, shared = 0, order = "random" }, stages.student = {
        task = 0.5, methods = { experts = {}, kd = { weight = 0.5 }, layerwise = { logits = "none" },
        lora = { targets = ["mixer"] } } } }"#;
    let fresh = r#"{ name = "fresh", stages.student = { random = { layers = 1, hidden = 8, heads = 2, width = 8 },
        spans = "full", methods = ["kd"] } }"#;
    let arms = format!("arms=[{{ name = \"own\" }}, {taught}, {fresh}]").replace('\n', " ");
    kiln.succeed(&[
        "run",
        "recall.toml",
        "seeds=[1]",
        stages,
        &arms,
        "--out=run",
    ]);
    let rows = rows(&kiln, "run");
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["full", "own", "taught", "fresh"]);
    assert!(rows[3]["parameters"].as_u64() < rows[1]["parameters"].as_u64());
    let metrics = std::fs::read_to_string(kiln.path("run/metrics.jsonl")).unwrap();
    for name in ["KD logits", "Distill hidden", "Busiest expert"] {
        assert!(metrics.contains(&format!("\"name\":\"{name}\"")), "{name}");
    }
}

#[test]
fn a_decoder_starts_from_a_stage_or_from_a_folder() {
    let kiln = language::kiln();
    kiln.succeed(&["run", "text.toml", "--out=run", "train.epochs=1"]);
    let (full, mixed) = (
        "model.path=run/arms/full/seed-1/train/model",
        "run/arms/mixed/seed-1/train/model",
    );
    let stages = format!(
        r#"stages={{ more = {{}}, local = {{ from = "more", spans = "window:4", train = {{ epochs = 0 }} }},
            other = {{ folder = "{mixed}", teacher = "local", methods = ["kd"] }} }}"#
    );
    let command = [
        "run",
        "continue",
        full,
        "data.path=books",
        "data.length=32",
        "data.epoch=16",
    ];
    let run = [
        &stages.replace('\n', " "),
        "arms=[]",
        "--out=next",
        "train.epochs=1",
    ];
    kiln.succeed(&[&command[..], &run].concat());
    let found = rows(&kiln, "next");
    let names: Vec<&str> = found
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["checkpoint", "more", "local", "other"]);
    assert!(found[1]["metrics_before"]["bits_per_byte"].is_f64());
    assert!(found[2]["metrics_before"].is_null());
    assert_ne!(found[1]["metrics"], found[2]["metrics"]);
    assert_eq!(found[2]["spans"][0], "window:4");
    // Longer inputs than the folder has positions for.
    let longer = ["data.length=48", "model.extend=tile", "--out=no"];
    let long = [
        &command[..4],
        &["data.epoch=16", run[0], "arms=[]"],
        &longer,
    ]
    .concat();
    refuse(&kiln, &long, &["`data.length` is 48", "32 positions"]);
}

#[test]
fn mistakes_name_what_would_be_right() {
    let kiln = language::kiln();
    let refuse_student = |student: &str, texts: &[&str]| {
        let arms = format!("arms=[{{ name = \"a\", stages.student = {{ {student} }} }}]");
        refuse(&kiln, &["run", "small.toml", "--out", "new", &arms], texts);
    };
    refuse_student(
        "methods = [\"pkdd\"]",
        &["`stages.student.methods.pkdd` is no method", "`pkd`"],
    );
    refuse_student(
        "methods = { kd = { form = \"kll\" } }",
        &["`stages.student.methods.kd.form` cannot work", "kll"],
    );
    refuse_student(
        "keep_layers = \"every:3\", methods = []",
        &["`a`: `every:3` does not fit a model of 2 layers"],
    );
    refuse_student(
        "keep_layers = \"2\"",
        &["model `a`: `layerwise.layers`", "`all` needs equal depths"],
    );
    refuse_student(
        "task = 0, methods = []",
        &["`stages.student.task` is 0, and no method adds to the loss"],
    );
    refuse_student(
        "folder = \"m\"",
        &["`stages.student.folder` cannot go with `model.random`"],
    );
    let refuse_decoder = |stages: &str, texts: &[&str]| {
        let stages = format!("stages={{ {stages} }}");
        refuse(
            &kiln,
            &["run", "recall.toml", "--out", "new", &stages, "arms=[]"],
            texts,
        );
    };
    refuse_decoder(
        "full = {}, b = { teacher = \"ful\" }",
        &["`stages.b.teacher`", "did you mean `full`?"],
    );
    refuse_decoder(
        "full = {}, b = { from = \"full\", train = { epohcs = 2 } }",
        &["epohcs", "`epochs`"],
    );
    refuse_decoder(
        "full = { from = \"b\" }, b = { methods = [\"kd\"] }",
        &["`stages.b.methods` has `kd`, which compares the model with its teacher"],
    );
    assert!(!kiln.path("new").exists());

    let stages =
        "stages={ full = {}, b = { teacher = \"full\", methods = { minilm = { heads = 3 } } } }";
    let message = kiln.fail_in_a_stage(&[
        "run",
        "recall.toml",
        "seeds=[1]",
        "--out",
        "new",
        stages,
        "arms=[]",
    ]);
    assert!(
        message.contains("method `minilm`: 3 relation heads do not divide"),
        "{message}"
    );
}
