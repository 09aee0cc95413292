//! Encoders against Transformers, on the checkpoints of `fixtures/make_fixtures.py` and two of ELECTRA's pretraining.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use burn::{
    prelude::*,
    store::{ModuleStore, SafetensorsStore, bridge},
};
use masformer_core::{Keep, Layers, Trace};
use moebert_core::{
    bert::BertInput,
    heads::{BertModel, Head, Logits},
    pretrained::{Pretrained, SaveOptions, save},
};
use safetensors::SafeTensors;
use tempfile::TempDir;

const TOLERANCE: f32 = 1e-5;
const FIXTURES: [(&str, Head); 11] = [
    (
        "bert-tiny-classification",
        Head::Classification { classes: 3 },
    ),
    ("bert-tiny-regression", Head::Regression),
    ("bert-small-qa", Head::SpanQa),
    ("bert-tiny-encoder", Head::Encoder),
    (
        "electra-tiny-classification",
        Head::Classification { classes: 3 },
    ),
    ("electra-tiny-qa", Head::SpanQa),
    (
        "roberta-tiny-classification",
        Head::Classification { classes: 3 },
    ),
    ("roberta-tiny-qa", Head::SpanQa),
    ("roberta-tiny-encoder", Head::Encoder),
    (
        "distilbert-tiny-classification",
        Head::Classification { classes: 3 },
    ),
    ("distilbert-tiny-qa", Head::SpanQa),
];

/// The device of these tests: flex, unless `BURN_DEVICE` names another backend that is compiled in
/// (`BURN_DEVICE=ndarray cargo test -p kiln-tests --features burn/ndarray --test parity`).
fn device() -> Device {
    Device::default()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// A copy of a fixture's configuration and one file of weights.
fn copy(name: &str, weights: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", weights] {
        fs::copy(fixture(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn open(dir: &Path) -> BertModel {
    let (model, report) = Pretrained::open(dir)
        .unwrap()
        .load(None, &device())
        .unwrap();
    assert!(report.is_exact(), "{report}");
    model
}

/// A file of tensors, read with Burn's store.
struct Tensors(SafetensorsStore);

impl Tensors {
    fn read(path: PathBuf) -> Self {
        Self(SafetensorsStore::from_file(path))
    }

    fn get(&mut self, name: &str) -> TensorData {
        let tensor = self.0.get_tensor(name).unwrap();
        bridge::to_data(tensor.unwrap_or_else(|| panic!("no tensor {name}"))).unwrap()
    }

    fn names(&mut self) -> Vec<String> {
        self.0.keys().unwrap()
    }
}

fn inputs(name: &str) -> BertInput {
    let mut file = Tensors::read(fixture(name).join("inputs.safetensors"));
    let mut ids = |name| Tensor::<2, Int>::from_data(file.get(name), &device());
    BertInput {
        input_ids: ids("input_ids"),
        token_type_ids: ids("token_type_ids"),
        padding: Some(ids("attention_mask").equal_elem(0)),
    }
}

/// The outputs of a model under the names of the fixtures.
fn outputs(model: &BertModel, input: &BertInput) -> Vec<(String, TensorData)> {
    let mut trace = Trace::new(Keep {
        hidden: Layers::All,
        ..Keep::default()
    });
    let output = model.forward(input, &mut trace);
    let hidden = trace.hidden.into_iter();
    let hidden = hidden.map(|(layer, state)| (format!("hidden_states.{layer}"), state.into_data()));
    let logits = output.logits.map(|logits| match logits {
        Logits::Sequence(logits) => logits.into_data(),
        Logits::Span(logits) => logits.into_data(),
    });
    let pooled = output.pooled.map(Tensor::into_data);
    hidden
        .chain(logits.map(|logits| ("logits".to_owned(), logits)))
        .chain(pooled.map(|pooled| ("pooled".to_owned(), pooled)))
        .collect()
}

/// Compares every output, padded positions included: they attend to the real ones in both.
fn assert_parity(model: &BertModel, name: &str) {
    let mut expected = Tensors::read(fixture(name).join("expected.safetensors"));
    let found = outputs(model, &inputs(name));
    let mut names: Vec<_> = found.iter().map(|(output, _)| output.clone()).collect();
    names.sort();
    assert_eq!(names, expected.names(), "{name}");
    for (output, found) in found {
        let expected = expected.get(&output);
        assert_eq!(found.shape(), expected.shape(), "{name} {output}");
        let difference = found
            .iter::<f32>()
            .zip(expected.iter::<f32>())
            .map(|(found, expected)| (found - expected).abs())
            .fold(0.0, f32::max);
        assert!(
            difference <= TOLERANCE,
            "{name} {output} differs by {difference:e}"
        );
    }
}

#[test]
fn hidden_states_and_logits_are_those_of_transformers() {
    for (name, head) in FIXTURES {
        let model = open(&fixture(name));
        assert_eq!(model.head_kind(), head);
        assert_parity(&model, name);
    }
}

/// Compares what a model computes for the inputs beside its outputs, at the tokens that are not padding.
fn assert_parity_of_real_tokens(model: &BertModel, name: &str) {
    let mut file = Tensors::read(fixture(name).join("expected.safetensors"));
    let mut ids = |name| Tensor::<2, Int>::from_data(file.get(name), &device());
    let input_ids = ids("input_ids");
    let padding = ids("attention_mask").equal_elem(0);
    let input = BertInput {
        token_type_ids: input_ids.zeros_like(),
        input_ids,
        padding: Some(padding.clone()),
    };
    let tensor = |data: TensorData| Tensor::<3>::from_data(data, &device());
    for (output, found) in outputs(model, &input) {
        let Some(expected) = file.names().contains(&output).then(|| file.get(&output)) else {
            continue;
        };
        let difference = if output.starts_with("hidden_states") {
            let difference = tensor(found) - tensor(expected);
            let padding = padding.clone().unsqueeze_dim::<3>(2);
            let padding = padding.expand(difference.dims());
            difference.mask_fill(padding, 0.0)
        } else {
            let pair = [found, expected].map(|data| Tensor::<2>::from_data(data, &device()));
            let [found, expected] = pair;
            (found - expected).unsqueeze()
        };
        let largest: f32 = difference.abs().max().into_scalar();
        assert!(
            largest <= TOLERANCE,
            "{name} {output} differs by {largest:e}"
        );
    }
}

#[test]
fn electra_is_read_without_the_heads_of_its_pretraining() {
    for (name, head) in [
        ("electra_discriminator", "discriminator_predictions."),
        ("electra_generator", "generator_"),
    ] {
        let folder = Pretrained::open(fixture(name)).unwrap();
        let (model, report) = folder.load(None, &device()).unwrap();
        assert_eq!(model.head_kind(), Head::Encoder);
        assert!(report.anew().is_empty(), "{report}");
        let mut unexpected = report.unexpected.iter();
        assert!(
            unexpected.all(|tensor| tensor.starts_with(head)),
            "{report}"
        );
        assert_parity_of_real_tokens(&model, name);
    }
}

#[test]
fn deberta_comes_back_as_transformers_has_it() {
    for (name, head) in [
        ("deberta_v3", Head::Encoder),
        ("deberta_v2_untied", Head::Encoder),
        ("deberta_v3_classifier", Head::Classification { classes: 3 }),
    ] {
        let source = fixture(name);
        let model = open(&source);
        assert_eq!(model.head_kind(), head);
        assert_parity_of_real_tokens(&model, name);
        let folder = Pretrained::open(&source).unwrap();
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &model, folder.config(), SaveOptions::default()).unwrap();
        let json = fs::read(dir.path().join("config.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        for (key, value) in folder.config().json() {
            assert_eq!(json.get(key), Some(value), "{name} {key}");
        }
        assert_parity_of_real_tokens(&open(dir.path()), name);
    }
    let dir = tempfile::tempdir().unwrap();
    let config = fixture("deberta_v2_conv").join("config.json");
    fs::copy(config, dir.path().join("config.json")).unwrap();
    assert_refused(
        &dir,
        &["config.json", "`conv_kernel_size` is 3; expected 0"],
    );
}

#[test]
fn pickled_weights_are_read_as_well() {
    let name = "bert-tiny-regression";
    let dir = copy(name, "pytorch_model.bin");
    assert_parity(&open(dir.path()), name);
}

#[test]
fn a_saved_folder_has_every_tensor_and_key_of_its_source() {
    for (name, _) in FIXTURES {
        let source = fixture(name);
        let folder = Pretrained::open(&source).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let model = open(&source);
        save(dir.path(), &model, folder.config(), SaveOptions::default()).unwrap();

        let read = |dir: &Path, file| fs::read(dir.join(file)).unwrap();
        let before = read(&source, "model.safetensors");
        let after = read(dir.path(), "model.safetensors");
        let after = SafeTensors::deserialize(&after).unwrap();
        let before = SafeTensors::deserialize(&before).unwrap();
        assert_eq!(before.len(), after.len(), "{name}");
        for (tensor, before) in before.iter() {
            // Transformers leaves out the prefix where there is no head.
            let prefix = match name.strip_suffix("-tiny-encoder") {
                Some(family) => format!("{family}."),
                None => String::new(),
            };
            let after = after.tensor(&format!("{prefix}{tensor}")).unwrap();
            assert!(before == after, "{name} {tensor}");
        }

        let json = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        let before = json(read(&source, "config.json"));
        let after = json(read(dir.path(), "config.json"));
        for (key, value) in before.as_object().unwrap() {
            assert_eq!(after.get(key), Some(value), "{name} {key}");
        }
        assert_parity(&open(dir.path()), name);
    }
}

/// `PYTHON=python3 cargo test -p kiln-tests --test parity -- --ignored`
#[test]
#[ignore = "needs Python with Transformers"]
fn transformers_reads_what_is_saved() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let names = FIXTURES.map(|(name, _)| name).into_iter();
    for name in names.chain(["deberta_v3_classifier", "deberta_v2_untied"]) {
        let source = fixture(name);
        let folder = Pretrained::open(&source).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let model = open(&source);
        save(dir.path(), &model, folder.config(), SaveOptions::default()).unwrap();
        let status = Command::new(&python)
            .arg(fixture("check_saved.py"))
            .args([&source, dir.path()])
            .status();
        assert!(status.unwrap().success(), "{name}");
    }
}

#[track_caller]
fn assert_refused(dir: &TempDir, expected: &[&str]) {
    let result = Pretrained::open(dir).and_then(|folder| folder.load(None, &device()));
    let message = result.expect_err("an error").to_string();
    for part in expected {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn truncated_weights_are_refused() {
    for (name, weights) in [
        ("bert-tiny-classification", "model.safetensors"),
        ("bert-tiny-regression", "pytorch_model.bin"),
    ] {
        let dir = copy(name, weights);
        let path = dir.path().join(weights);
        let whole = fs::read(&path).unwrap();
        for length in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_refused(&dir, &[weights, "is truncated or not of its format"]);
        }
    }
}

#[test]
fn another_size_than_the_configuration_says_is_refused() {
    let dir = copy("bert-small-qa", "model.safetensors");
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let wider = text.replace("\"intermediate_size\": 72", "\"intermediate_size\": 80");
    assert_ne!(text, wider);
    fs::write(&path, wider).unwrap();
    assert_refused(
        &dir,
        &[
            "model.safetensors: `bert.encoder.layer.0.intermediate.dense.",
            "has shape [72",
            "config.json asks for [80",
        ],
    );
    let deeper = text.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
    fs::write(&path, deeper).unwrap();
    assert_refused(
        &dir,
        &["lacks weights of the encoder", "bert.encoder.layer.3."],
    );
}

#[test]
fn missing_files_are_named() {
    let dir = copy("bert-small-qa", "model.safetensors");
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert_refused(
        &dir,
        &["holds no weights: expected model.safetensors or pytorch_model.bin"],
    );
    fs::remove_file(dir.path().join("config.json")).unwrap();
    assert_refused(&dir, &["cannot read", "config.json"]);
}
