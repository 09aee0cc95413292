//! GPT-2 and GPT-Neo against Transformers, on the checkpoints of `fixtures/decoder_fixtures.py`.

mod longer;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use burn::{
    prelude::*,
    store::{ModuleStore, SafetensorsStore, bridge},
};
use masformer_core::{
    Decoder, DecoderConfig, DecoderInput, Keep, Layers, PositionEncoding, Span, Trace,
    pretrained::{CONFIG_FILE, DecoderFolder, DecoderFolderConfig, save_decoder},
};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

const TOLERANCE: f32 = 1e-4;
const FIXTURES: [&str; 2] = ["gpt2-tiny", "gpt-neo-tiny"];
const WEIGHTS: &str = "model.safetensors";

fn device() -> Device {
    Device::default()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

fn open_fixture(name: &str) -> DecoderFolder {
    DecoderFolder::open(fixture(name)).unwrap()
}

fn load(folder: &DecoderFolder) -> Decoder {
    let (model, report) = folder.load(&device()).unwrap();
    assert!(report.is_exact(), "{report}");
    model
}

fn open(dir: &Path) -> Decoder {
    load(&DecoderFolder::open(dir).unwrap())
}

fn spans(texts: &[&str]) -> Vec<Span> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A tensor of a file.
fn tensor(path: &Path, name: &str) -> TensorData {
    let mut store = SafetensorsStore::from_file(path);
    let tensor = store.get_tensor(name).unwrap();
    bridge::to_data(tensor.unwrap_or_else(|| panic!("no tensor {name}"))).unwrap()
}

/// A fixture's batch, and the positions whose outputs it has.
struct Inputs {
    input: DecoderInput,
    mask: Vec<i64>,
    length: usize,
    positions: Vec<i64>,
}

impl Inputs {
    fn read(name: &str) -> Self {
        let path = fixture(name).join("inputs.safetensors");
        let mask = tensor(&path, "attention_mask");
        let padding = Tensor::<2, Int>::from_data(mask.clone(), &device()).equal_elem(0);
        Self {
            input: DecoderInput {
                input_ids: Tensor::from_data(tensor(&path, "input_ids"), &device()),
                padding: Some(padding),
            },
            length: mask.shape()[1],
            mask: mask.iter().collect(),
            positions: tensor(&path, "positions").iter().collect(),
        }
    }

    /// The largest difference between a model and the fixture in the outputs at real positions from
    /// `from` up to `to`.
    fn difference(&self, model: &Decoder, name: &str, (from, to): (i64, i64)) -> f32 {
        let mut trace = Trace::new(Keep {
            hidden: Layers::All,
            ..Keep::default()
        });
        let output = model.forward(&self.input, &mut trace);
        let states = trace.hidden.into_iter();
        let found = states
            .map(|(layer, state)| (format!("hidden_states.{layer}"), state))
            .chain([("logits".to_owned(), output.logits)]);
        let indices = Tensor::<1, Int>::from_data(self.positions.as_slice(), &device());
        let mut largest = 0.0_f32;
        for (output, found) in found {
            let expected = tensor(&fixture(name).join("expected.safetensors"), &output);
            let found = found.select(1, indices.clone()).into_data();
            assert_eq!(found.shape(), expected.shape(), "{name} {output}");
            let width = found.shape()[2];
            let pairs = found.iter::<f32>().zip(expected.iter::<f32>());
            for (place, (found, expected)) in pairs.enumerate() {
                let (row, kept) = (
                    place / width / self.positions.len(),
                    place / width % self.positions.len(),
                );
                let position = self.positions[kept];
                let is_real = self.mask[row * self.length + position as usize] == 1;
                if is_real && (from..to).contains(&position) {
                    largest = largest.max((found - expected).abs());
                }
            }
        }
        largest
    }
}

const EVERYWHERE: (i64, i64) = (0, i64::MAX);

#[test]
fn hidden_states_and_logits_are_those_of_transformers() {
    for name in FIXTURES {
        let difference = Inputs::read(name).difference(&open(&fixture(name)), name, EVERYWHERE);
        println!("{name}: the largest difference is {difference:e}");
        assert!(difference <= TOLERANCE, "{name} differs by {difference:e}");
    }
}

#[test]
fn windows_everywhere_are_another_model_where_they_end() {
    let name = "gpt-neo-tiny";
    let folder = open_fixture(name);
    let own = spans(&["full", "window:256", "full", "window:256"]);
    assert_eq!(folder.config().decoder.spans, own);
    let inputs = Inputs::read(name);
    let model = load(&folder.with_spans(spans(&["window:256"; 4])).unwrap());
    let before = inputs.difference(&model, name, (0, 256));
    assert!(before <= TOLERANCE, "differs by {before:e} before the end");
    let after = inputs.difference(&model, name, (256, i64::MAX));
    println!("before position 256 {before:e}, from there {after:e}");
    assert!(after > 0.01, "differs by only {after:e} after the end");
}

#[test]
fn spans_are_one_a_layer() {
    let folder = open_fixture("gpt2-tiny");
    let error = folder.with_spans(spans(&["full"; 4])).unwrap_err();
    assert!(error.to_string().contains("has 3 layers, and 4 spans"));
}

#[test]
fn chunks_of_feed_forward_layers_change_no_output() {
    let name = "gpt2-tiny";
    let folder = open_fixture(name).with_feed_forward_chunk(Some(5));
    let model = load(&folder);
    let layers = model.stack.layers.iter();
    let chunks = layers.map(|layer| layer.feed_forward.chunk);
    assert_eq!(chunks.collect::<Vec<_>>(), [Some(5); 3]);
    let difference = Inputs::read(name).difference(&model, name, EVERYWHERE);
    assert!(difference <= TOLERANCE, "differs by {difference:e}");
}

/// Saves a fixture under spans, its own if there are none.
fn save(name: &str, spans: Option<Vec<Span>>) -> (TempDir, Decoder) {
    let mut folder = open_fixture(name);
    if let Some(spans) = spans {
        folder = folder.with_spans(spans).unwrap();
    }
    save_folder(&folder)
}

/// Loads a folder and saves it as another.
fn save_folder(folder: &DecoderFolder) -> (TempDir, Decoder) {
    let model = load(folder);
    let dir = tempfile::tempdir().unwrap();
    save_decoder(dir.path(), &model, folder.config(), None).unwrap();
    (dir, model)
}

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join(CONFIG_FILE)).unwrap()).unwrap()
}

#[test]
fn a_saved_folder_is_its_source() {
    for name in FIXTURES {
        let (dir, model) = save(name, None);
        let read = |dir: &Path| fs::read(dir.join(WEIGHTS)).unwrap();
        let (before, after) = (read(&fixture(name)), read(dir.path()));
        let before = SafeTensors::deserialize(&before).unwrap();
        let after = SafeTensors::deserialize(&after).unwrap();
        assert_eq!(before.len(), after.len(), "{name}");
        for (tensor, before) in before.iter() {
            assert!(before == after.tensor(tensor).unwrap(), "{name} {tensor}");
        }
        assert_eq!(config(dir.path()), config(&fixture(name)), "{name}");

        let input = Inputs::read(name).input;
        let logits = |model: &Decoder| {
            let output = model.forward(&input, &mut Trace::nothing());
            output.logits.into_data()
        };
        logits(&open(dir.path())).assert_eq(&logits(&model), true);
    }
}

#[test]
fn spans_come_back_whether_or_not_the_architecture_has_them() {
    for (name, texts, model_type) in [
        ("gpt2-tiny", vec!["full"; 3], "gpt2"),
        (
            "gpt2-tiny",
            vec!["full", "block:64", "window:9+2"],
            "kiln-gpt2",
        ),
        (
            "gpt-neo-tiny",
            vec!["full", "full", "window:9", "full"],
            "gpt_neo",
        ),
        (
            "gpt-neo-tiny",
            vec!["full", "full", "window:9", "window:8"],
            "kiln-gpt_neo",
        ),
        (
            "gpt-neo-tiny",
            vec!["full", "full", "full", "window:9+1"],
            "kiln-gpt_neo",
        ),
        ("gpt-neo-tiny", vec!["block:9"; 4], "kiln-gpt_neo"),
    ] {
        let (dir, _) = save(name, Some(spans(&texts)));
        assert_eq!(open(dir.path()).spans(), spans(&texts), "{texts:?}");
        let json = config(dir.path());
        assert_eq!(json["model_type"], model_type, "{texts:?}");
        let is_kilns = model_type.starts_with("kiln");
        assert_eq!(json.get("kiln").is_some(), is_kilns, "{texts:?}");
        assert!(json.get("fixture_note").is_some());

        // And back to what the architecture has.
        let folder = DecoderFolder::open(&dir).unwrap();
        let own = open_fixture(name);
        let folder = folder.with_spans(own.config().decoder.spans.clone());
        let folder = folder.unwrap();
        save_decoder(dir.path(), &load(&folder), folder.config(), None).unwrap();
        let json = config(dir.path());
        assert!(json.get("kiln").is_none(), "{texts:?}");
        assert_eq!(open(dir.path()).spans(), own.config().decoder.spans);
    }
}

/// Whether Transformers reads a saved folder and computes what a fixture has.
fn transformers_agrees(folder: &Path, more: &[&str]) -> bool {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut command = Command::new(&python);
    command.arg(fixture("decoder_fixtures.py"));
    let status = command.arg("--check").arg(folder).args(more).status();
    status.unwrap().success()
}

/// `PYTHON=python3 cargo test --workspace --test decoder_parity -- --ignored --nocapture`
#[test]
#[ignore = "needs Python with Transformers"]
fn transformers_reads_what_is_saved() {
    for name in FIXTURES {
        let (dir, _) = save(name, None);
        assert!(transformers_agrees(dir.path(), &[]), "{name}");
    }
}

#[test]
fn a_model_that_was_made_here_is_saved_as_an_architecture_that_has_it() {
    let gpt2 = open_fixture("gpt2-tiny");
    let neo = open_fixture("gpt-neo-tiny");
    for folder in [&gpt2, &neo] {
        let decoder = folder.config().decoder.clone();
        let model_type = folder.config().model_type();
        let made = DecoderFolderConfig::new(model_type, decoder.clone()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        save_decoder(dir.path(), &load(folder), &made, None).unwrap();
        let again = DecoderFolder::open(&dir).unwrap();
        assert_eq!(again.config().decoder, decoder);
        assert_eq!(load(&again).spans(), decoder.spans);
    }
    let refused = |model_type, decoder, expected: &str| {
        let error = DecoderFolderConfig::new(model_type, decoder).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    let (gpt2, neo) = (&gpt2.config().decoder, &neo.config().decoder);
    refused(
        "gpt_neo",
        gpt2.clone(),
        "a `gpt_neo` cannot have the `attention_scale`",
    );
    refused(
        "gpt2",
        neo.clone(),
        "the `attention_bias` of this model: expected true",
    );
    for (heads, theta, expected) in [
        (
            8,
            1e4,
            "layer 0 cannot have the mixer `attention`: rotary positions need heads of an even width, not 3",
        ),
        (3, f32::NAN, "a finite `theta` above 0, not NaN"),
    ] {
        let decoder = DecoderConfig {
            heads,
            ..gpt2
                .clone()
                .with_position_encoding(PositionEncoding::Rotary { theta })
        };
        refused("gpt2", decoder, expected);
    }
    refused(
        "gpt3",
        gpt2.clone(),
        "unknown model type \"gpt3\": expected \"gpt2\" or",
    );
}

type Tensors = Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of a fixture's configuration and weights, changed.
fn changed(name: &str, change: impl FnOnce(&mut Tensors)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(
        fixture(name).join(CONFIG_FILE),
        dir.path().join(CONFIG_FILE),
    )
    .unwrap();
    let bytes = fs::read(fixture(name).join(WEIGHTS)).unwrap();
    let mut tensors: Tensors = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, view)| {
            let (shape, data) = (view.shape().to_vec(), view.data().to_vec());
            (name.to_owned(), view.dtype(), shape, data)
        })
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data);
        (name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(dir.path().join(WEIGHTS), bytes).unwrap();
    dir
}

#[test]
fn names_without_the_prefix_heads_and_constants_are_read() {
    for name in FIXTURES {
        let dir = changed(name, |tensors| {
            for (name, ..) in tensors.iter_mut() {
                *name = name.replace("transformer.", "");
            }
            let wte = tensors.iter().find(|tensor| tensor.0 == "wte.weight");
            let mut head = wte.unwrap().clone();
            head.0 = "lm_head.weight".to_owned();
            tensors.push(head);
            let mask = if name == "gpt2-tiny" {
                "h.0.attn.bias"
            } else {
                "h.0.attn.attention.bias"
            };
            let mask = (mask.to_owned(), safetensors::Dtype::U8, vec![1, 1], vec![1]);
            tensors.push(mask);
        });
        let difference = Inputs::read(name).difference(&open(dir.path()), name, EVERYWHERE);
        assert!(difference <= TOLERANCE, "{name} differs by {difference:e}");
    }
}

#[track_caller]
fn assert_refused(dir: &TempDir, expected: &[&str]) {
    let result = DecoderFolder::open(dir).and_then(|folder| folder.load(&device()));
    let message = result.expect_err("an error").to_string();
    for part in expected {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn damage_is_named() {
    let shared = "transformer.h.1.attn.c_attn.weight";
    let dir = changed("gpt2-tiny", |tensors| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.0 == shared);
        tensor.unwrap().2 = vec![72, 24];
    });
    assert_refused(&dir, &[shared, "has shape [72, 24]", "asks for [24, 72]"]);
    let dir = changed("gpt2-tiny", |tensors| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.0 == shared);
        tensor.unwrap().2 = vec![54, 32];
    });
    assert_refused(&dir, &[shared, "has shape [54, 32]", "asks for [24, 72]"]);
    let dir = changed("gpt2-tiny", |tensors| tensors.retain(|it| it.0 != shared));
    assert_refused(&dir, &["lacks weights of the decoder", shared]);

    let outer = "transformer.h.0.mlp.c_fc.weight";
    let dir = changed("gpt-neo-tiny", |tensors| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.0 == outer);
        tensor.unwrap().2 = vec![24, 40];
    });
    assert_refused(&dir, &[outer, "has shape [24, 40]", "asks for [40, 24]"]);

    let dir = changed("gpt-neo-tiny", |tensors| {
        let mut more = tensors[0].clone();
        more.0 = "score.weight".to_owned();
        tensors.push(more);
    });
    let (_, report) = DecoderFolder::open(&dir).unwrap().load(&device()).unwrap();
    assert_eq!(report.unexpected, ["score.weight"]);

    let path = dir.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    for length in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_refused(&dir, &[WEIGHTS, "is truncated or not of its format"]);
    }
    fs::remove_file(&path).unwrap();
    assert_refused(&dir, &["holds no weights: expected model.safetensors"]);
}

#[test]
fn what_config_json_says_wrongly_is_named() {
    for (name, key, value, expected) in [
        (
            "gpt2-tiny",
            "model_type",
            "bert".into(),
            "expected \"gpt2\" or \"gpt_neo\"",
        ),
        (
            "gpt2-tiny",
            "model_type",
            "kiln-gpt2".into(),
            "`kiln` is absent; expected {\"spans\"",
        ),
        (
            "gpt2-tiny",
            "n_head",
            5.into(),
            "a divisor of the hidden size, 24",
        ),
        (
            "gpt2-tiny",
            "n_layer",
            0.into(),
            "`n_layer` is 0; expected a whole number above 0",
        ),
        (
            "gpt2-tiny",
            "activation_function",
            "mish".into(),
            "`activation_function` is \"mish\"; expected one of gelu, ",
        ),
        (
            "gpt2-tiny",
            "tie_word_embeddings",
            false.into(),
            "expected true, which alone",
        ),
        (
            "gpt2-tiny",
            "kiln",
            serde_json::json!({"spans": ["full"]}),
            "each of 3 layers",
        ),
        (
            "gpt2-tiny",
            "kiln",
            serde_json::json!({"spans": ["x"]}),
            "unknown span `x`",
        ),
        (
            "gpt2-tiny",
            "kiln",
            serde_json::json!({"span": ["full"]}),
            "unknown field `span`",
        ),
        (
            "gpt2-tiny",
            "kiln",
            serde_json::json!({"position_encoding": {"rotary": {"theta": 0}}}),
            "expected a finite `theta` above 0, not 0",
        ),
        (
            "gpt-neo-tiny",
            "window_size",
            0.into(),
            "`window_size` is 0; expected a whole",
        ),
        (
            "gpt-neo-tiny",
            "num_layers",
            5.into(),
            "expected 5 names, \"global\" or \"local\"",
        ),
        (
            "gpt-neo-tiny",
            "attention_layers",
            serde_json::json!(["global"]),
            "what `attention_types`",
        ),
        (
            "gpt-neo-tiny",
            "attention_types",
            3.into(),
            "expected groups such as",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut json = config(&fixture(name));
        json[key] = value;
        fs::write(dir.path().join(CONFIG_FILE), json.to_string()).unwrap();
        let error = DecoderFolder::open(&dir).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
        assert!(error.contains(expected), "{key}: {error}");
    }
}
