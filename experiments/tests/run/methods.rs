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
        &["methods", "pkdd"],
        &["`pkdd`", "did you mean `pkd`?"],
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

    // A folder with the vocabulary of the teacher's is another beginning.
    let folder = format!(
        r#"students=[{{ name = "folder", model = "{model}", distill = false, methods = {{ kd = {{}} }} }}]"#
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
fn adapters_are_saved_beside_the_model_that_they_are_merged_into() {
    let kiln = Kiln::new();
    let student = |name: &str, rest: &str, train: &str| {
        format!(
            r#"{{ name = "{name}", {rest} distill = false,
            methods = {{ lora = {{ rank = 2, targets = ["query", "inner"], train = [{train}] }} }} }}"#
        )
        .replace('\n', " ")
    };
    let students = [
        student("low", r#"keep_layers = "every:1","#, ""),
        // Those of the others do not belong to the weights of any folder.
        student("pooled", r#"keep_layers = "every:1","#, r#""pooler""#),
        student("shallow", r#"keep_layers = "2","#, ""),
        student("split", r#"order = "random","#, ""),
    ];
    let rows = run(&kiln, &students.join(", "));
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
    for name in ["KD logits", "Distill hidden", "Busiest expert"] {
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
        "methods = { pkdd = {} }",
        &["`students.0.methods.pkdd` is no method", "`pkd`"],
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
        &["`a`: `every:3` does not fit a model of 2 layers"],
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
    refuse_student(
        "task = 0, distill = false",
        &["`students.0.task` is 0, and no method adds to the loss"],
    );
    refuse_student(
        "methods = { layerwise = {} }",
        &["`students.0.methods.layerwise` cannot go with `distill = true`"],
    );
    refuse_student(
        "methods = { minilm = { heads = 0 } }",
        &["`students.0.methods.minilm` cannot work: `heads` must be at least 1, not 0"],
    );
    refuse_student(
        "model = \"m\"",
        &["`students.0.model` cannot go with `model.random`"],
    );
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
        &second("teacher = \"ful\""),
        &["`models.1.teacher`", "did you mean `full`?"],
    );
    refuse_models(&second("teacher = \"b\""), &["`models.1.teacher`"]);
    refuse_models(&second("train = { epohcs = 2 }"), &["epohcs", "`epochs`"]);
    refuse_models(
        &second("methods = { kd = {} }"),
        &["`models.1.methods.kd` compares the model with its teacher"],
    );
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
}
