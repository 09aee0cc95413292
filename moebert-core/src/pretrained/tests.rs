//! Folders written, changed and read again.

use burn::tensor::Distribution;
use safetensors::{
    SafeTensors,
    tensor::{Dtype, TensorView},
};
use tempfile::TempDir;

use super::*;
use crate::{
    bert::{BertConfig, BertInput},
    expert_files::{ExpertSettings, FORMAT_VERSION},
    half::Half,
    partition::{ExpertLayout, NeuronOrder},
};
use masformer_core::{Activation, Trace};

const CLASSES: Head = Head::Classification { classes: 3 };

fn small() -> BertConfig {
    BertConfig::new()
        .with_vocab_size(11)
        .with_hidden_size(8)
        .with_num_hidden_layers(2)
        .with_num_attention_heads(2)
        .with_intermediate_size(12)
        .with_max_position_embeddings(6)
}

/// A saved model with a head for three classes.
fn saved() -> (TempDir, BertModel) {
    let dir = tempfile::tempdir().unwrap();
    let model = BertModelConfig::new(small(), CLASSES).init(&Device::default());
    let config = PretrainedConfig::new(small(), CLASSES);
    save(dir.path(), &model, &config, SaveOptions::default()).unwrap();
    (dir, model)
}

fn load(dir: &TempDir, head: Option<Head>) -> Result<(BertModel, LoadReport), PretrainedError> {
    Pretrained::open(dir)?.load(head, &Device::default())
}

#[track_caller]
fn assert_message<T>(result: Result<T, PretrainedError>, expected: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for part in expected {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

fn pooled(model: &BertModel) -> TensorData {
    let device = Device::default();
    let input_ids = Tensor::<2, Int>::from_data([[1, 2, 3], [4, 5, 10]], &device);
    let input = BertInput {
        token_type_ids: input_ids.zeros_like(),
        input_ids,
        padding: None,
    };
    let output = model.forward(&input, &mut Trace::nothing());
    output.pooled.unwrap().into_data()
}

#[test]
fn a_model_to_be_used_as_it_is_needs_its_head() {
    let (dir, _) = saved();
    let device = Device::default();
    let pretrained = Pretrained::open(&dir).unwrap();
    assert!(pretrained.load_whole(None, &device).unwrap().1.is_exact());
    rewrite(&dir, |tensors| {
        tensors.retain(|tensor| tensor.0 != "classifier.bias");
    });
    let found = pretrained.load_whole(None, &device);
    assert_message(
        found,
        &["lacks weights of the head: classifier.bias", "fine-tune"],
    );
    let other = pretrained.load_whole(Some(Head::Classification { classes: 2 }), &device);
    assert_message(other, &["classifier.weight"]);
}

type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites the weights of a folder.
fn rewrite(dir: &TempDir, change: impl FnOnce(&mut Tensors)) {
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
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
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_model_comes_back_as_it_was() {
    let (dir, model) = saved();
    let (again, report) = load(&dir, None).unwrap();
    assert!(report.is_exact(), "{report}");
    assert_eq!(again.head_kind(), CLASSES);
    pooled(&again).assert_eq(&pooled(&model), true);
}

#[test]
fn the_same_weights_load_under_any_spans() {
    let (dir, model) = saved();
    let spans: Vec<Span> = vec!["block:1".parse().unwrap(), Span::Full];
    let device = Device::default();
    let pretrained = Pretrained::open(&dir).unwrap();
    let local = pretrained.clone().with_spans(spans.clone()).unwrap();
    let (local_model, report) = local.load(None, &device).unwrap();
    assert!(report.is_exact(), "{report}");
    assert_eq!(local_model.bert.spans(), spans);
    assert_ne!(pooled(&local_model), pooled(&model));

    let to = tempfile::tempdir().unwrap();
    save(
        to.path(),
        &local_model,
        pretrained.config(),
        SaveOptions::default(),
    )
    .unwrap();
    let (again, _) = load(&to, None).unwrap();
    assert_eq!(again.bert.spans(), spans);
    pooled(&again).assert_eq(&pooled(&local_model), true);

    let full = Pretrained::open(&to)
        .unwrap()
        .with_spans(vec![Span::Full; 2]);
    let (full_model, _) = full.unwrap().load(None, &device).unwrap();
    pooled(&full_model).assert_eq(&pooled(&model), true);
    assert_message(
        pretrained.with_spans(vec![Span::Full; 3]),
        &["has 2 layers, and 3 spans were given"],
    );
}

/// Changes the keys of a folder's configuration.
fn configure(dir: &TempDir, change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) {
    let path = dir.path().join(CONFIG_FILE);
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(&path, serde_json::to_string(&json).unwrap()).unwrap();
}

#[test]
fn a_head_without_a_class_is_known_by_its_weights() {
    for class in [None, Some("MyBertClassifier")] {
        let (dir, model) = saved();
        configure(&dir, |json| {
            json.retain(|key, _| !["id2label", "label2id", "problem_type"].contains(&key.as_str()));
            match class {
                Some(class) => json["architectures"] = serde_json::json!([class]),
                None => drop(json.shift_remove("architectures")),
            }
        });
        let (found, report) = load(&dir, None).unwrap();
        assert!(report.is_exact(), "{report}");
        assert_eq!(found.head_kind(), CLASSES);
        pooled(&found).assert_eq(&pooled(&model), true);

        // What is saved says what it is.
        let to = tempfile::tempdir().unwrap();
        let pretrained = Pretrained::open(&dir).unwrap();
        let options = SaveOptions::default();
        save(to.path(), &found, pretrained.config(), options).unwrap();
        let again = Pretrained::open(&to).unwrap();
        assert!(again.config().names_head());
        assert_eq!(again.config().head(), CLASSES);

        configure(&dir, |json| {
            drop(json.insert("num_labels".to_owned(), 2.into()));
        });
        assert_message(
            load(&dir, None),
            &["`num_labels` is 2; expected 3, as many labels as the weights"],
        );
        configure(&dir, |json| {
            json.insert("num_labels".to_owned(), 3.into());
            json.insert("problem_type".to_owned(), "regression".into());
        });
        assert_message(load(&dir, None), &["`problem_type` is \"regression\""]);
    }
}

#[test]
fn every_head_is_known_by_its_weights() {
    for (head, found) in [
        (Head::Regression, Head::Regression),
        (Head::Classification { classes: 1 }, Head::Regression),
        (Head::SpanQa, Head::SpanQa),
        (Head::Encoder, Head::Encoder),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let model = BertModelConfig::new(small(), head).init(&Device::default());
        let config = PretrainedConfig::new(small(), head);
        save(dir.path(), &model, &config, SaveOptions::default()).unwrap();
        configure(&dir, |json| {
            json.retain(|key, _| key != "architectures" && key != "problem_type");
        });
        assert_eq!(Pretrained::open(&dir).unwrap().config().head(), found);
    }
    // A classifier of tokens has no pooler, and one of something else another width.
    let (dir, _) = saved();
    configure(&dir, |json| drop(json.shift_remove("architectures")));
    let whole = fs::read(dir.path().join("model.safetensors")).unwrap();
    rewrite(&dir, |tensors| {
        tensors.retain(|(name, ..)| !name.contains("pooler"));
    });
    assert_eq!(
        Pretrained::open(&dir).unwrap().config().head(),
        Head::Encoder
    );
    fs::write(dir.path().join("model.safetensors"), whole).unwrap();
    rewrite(&dir, |tensors| {
        let head = tensors
            .iter_mut()
            .find(|(name, ..)| name == "classifier.weight");
        head.unwrap().2 = vec![6, 4];
    });
    assert_eq!(
        Pretrained::open(&dir).unwrap().config().head(),
        Head::Encoder
    );
}

#[test]
fn names_in_wrappers_of_pytorch_are_read_without_them() {
    for (prefix, wrappers) in [
        ("module.", &["module."][..]),
        ("_orig_mod.", &["_orig_mod."]),
        ("module._orig_mod.", &["_orig_mod.", "module."]),
        ("_orig_mod.module.", &["_orig_mod.", "module."]),
    ] {
        let (dir, model) = saved();
        configure(&dir, |json| drop(json.shift_remove("architectures")));
        rewrite(&dir, |tensors| {
            for (name, ..) in tensors.iter_mut() {
                name.insert_str(0, prefix);
            }
        });
        let (again, report) = load(&dir, None).unwrap();
        assert_eq!(again.head_kind(), CLASSES);
        assert!(!report.is_exact());
        assert_eq!(report.wrappers, wrappers);
        assert_eq!((report.missing.len(), report.unexpected.len()), (0, 0));
        pooled(&again).assert_eq(&pooled(&model), true);
    }
    // A part that was compiled.
    let (dir, model) = saved();
    rewrite(&dir, |tensors| {
        for (name, ..) in tensors.iter_mut() {
            *name = name.replace("bert.", "bert._orig_mod.");
        }
        tensors.push(("module.weight".to_owned(), Dtype::F32, vec![1], vec![0; 4]));
    });
    let (again, report) = load(&dir, None).unwrap();
    assert_eq!(report.unexpected, ["module.weight"]);
    pooled(&again).assert_eq(&pooled(&model), true);
    // A message has the name in the file.
    rewrite(&dir, |tensors| {
        let word = tensors
            .iter_mut()
            .find(|(name, ..)| name.contains("word_embeddings"));
        word.unwrap().2 = vec![8, 11];
    });
    assert_message(
        load(&dir, None),
        &["`bert._orig_mod.embeddings.word_embeddings.weight` has shape [8, 11]"],
    );
}

#[test]
fn weights_that_are_not_finite_are_neither_read_nor_written() {
    for (value, told) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "an infinite value")] {
        let (dir, _) = saved();
        rewrite(&dir, |tensors| {
            let mut tensors = tensors.iter_mut();
            let last = tensors.find(|(name, ..)| name.ends_with("layer.1.output.dense.bias"));
            last.unwrap().3[4..8].copy_from_slice(&value.to_le_bytes());
        });
        let name = "`bert.encoder.layer.1.output.dense.bias`";
        let expected = format!("model.safetensors: {name} holds {told}; the model diverged");
        assert_message(load(&dir, None), &[&expected]);

        let (dir, mut model) = saved();
        let Half::Dense(mlp) = &mut model.bert.stack.layers[1].feed_forward else {
            panic!("layer 1 is dense");
        };
        mlp.outer.bias = mlp
            .outer
            .bias
            .take()
            .map(|bias| bias.map(|bias| bias * value));
        let config = PretrainedConfig::new(small(), CLASSES);
        let to = dir.path().join("diverged");
        let written = save(&to, &model, &config, SaveOptions::default());
        assert_message(written, &["cannot write", name, "the model has diverged"]);
        assert!(!to.join("model.safetensors").exists() && !to.join(CONFIG_FILE).exists());
    }
    // What is no weight may hold anything.
    let (dir, _) = saved();
    rewrite(&dir, |tensors| {
        let values = [f32::NAN, f32::INFINITY].map(f32::to_le_bytes).concat();
        for name in ["bert.embeddings.position_ids", "cls.predictions.bias"] {
            tensors.push((name.to_owned(), Dtype::F32, vec![2], values.clone()));
        }
    });
    assert_eq!(
        load(&dir, None).unwrap().1.unexpected,
        ["cls.predictions.bias"]
    );
}

#[test]
fn pointers_of_git_lfs_are_named_as_such() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
    ] {
        let (dir, _) = saved();
        fs::write(dir.path().join(name), pointer).unwrap();
        let expected = format!("{name} is a Git LFS pointer");
        assert_message(load(&dir, None), &[&expected, "`git lfs pull`"]);
    }
    let (dir, _) = saved();
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    fs::write(dir.path().join("pytorch_model.bin"), pointer).unwrap();
    assert_message(
        load(&dir, None),
        &["pytorch_model.bin is a Git LFS pointer"],
    );
}

#[test]
fn older_names_and_constants_are_read() {
    let (dir, model) = saved();
    rewrite(&dir, |tensors| {
        for (name, ..) in tensors.iter_mut() {
            *name = name
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
                .replace("bert.", "");
        }
        let positions = vec![0; 6 * 8];
        let name = "bert.embeddings.position_ids".to_owned();
        tensors.push((name, Dtype::I64, vec![1, 6], positions));
    });
    let (again, report) = load(&dir, None).unwrap();
    assert!(report.is_exact(), "{report}");
    pooled(&again).assert_eq(&pooled(&model), true);
}

#[test]
fn half_precision_weights_become_the_float_of_the_device() {
    let (dir, _) = saved();
    rewrite(&dir, |tensors| {
        let one = [0x00, 0x3c];
        for (_, dtype, shape, data) in tensors.iter_mut() {
            *dtype = Dtype::F16;
            *data = one.repeat(shape.iter().product());
        }
    });
    let (model, _) = load(&dir, None).unwrap();
    let weight = model.head.unwrap().weight.val().into_data();
    assert_eq!(weight, TensorData::from([[1.0_f32; 3]; 8]));
}

#[test]
fn a_head_for_another_task_starts_anew_and_is_reported() {
    let (dir, model) = saved();
    let (two, report) = load(&dir, Some(Head::Classification { classes: 2 })).unwrap();
    let names: Vec<_> = report
        .mismatched
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["classifier.weight", "classifier.bias"]);
    assert_eq!(report.mismatched[0].found, [3, 8]);
    assert_eq!(report.mismatched[0].expected, [2, 8]);
    let head = two.head.unwrap();
    // Loading draws no numbers: those of a run follow one another as its model uses them.
    assert!(!head.weight.is_initialized());
    assert_eq!(head.weight.dims(), [8, 2]);

    let (span, report) = load(&dir, Some(Head::SpanQa)).unwrap();
    assert_eq!(report.missing, ["qa_outputs.bias", "qa_outputs.weight"]);
    assert_eq!(report.unexpected, ["classifier.bias", "classifier.weight"]);
    pooled(&span).assert_eq(&pooled(&model), true);
}

#[test]
fn a_pooler_that_lacks_is_made_for_a_task_that_needs_it() {
    let (dir, _) = saved();
    rewrite(&dir, |tensors| {
        tensors.retain(|(name, ..)| !name.contains("pooler"));
    });
    let (encoder, _) = load(&dir, Some(Head::Encoder)).unwrap();
    assert!(encoder.bert.pooler.is_none());
    let (_, report) = load(&dir, None).unwrap();
    assert_eq!(
        report.missing,
        ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]
    );
}

#[test]
fn parts_of_a_checkpoint_are_read_together() {
    let (dir, model) = saved();
    let whole = dir.path().join("model.safetensors");
    let (first, second) = (
        dir.path().join("1.safetensors"),
        dir.path().join("2.safetensors"),
    );
    let is_first = |name: &str| name.contains("layer.0");
    fs::copy(&whole, &second).unwrap();
    rewrite(&dir, |tensors| tensors.retain(|(name, ..)| is_first(name)));
    fs::rename(&whole, &first).unwrap();
    fs::rename(&second, &whole).unwrap();
    let mut map = serde_json::Map::new();
    rewrite(&dir, |tensors| {
        for (name, ..) in tensors.iter() {
            let part = if is_first(name) { "1" } else { "2" };
            map.insert(name.clone(), format!("{part}.safetensors").into());
        }
        tensors.retain(|(name, ..)| !is_first(name));
    });
    fs::rename(&whole, &second).unwrap();
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    fs::write(
        dir.path().join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    let (again, report) = load(&dir, None).unwrap();
    assert!(report.is_exact(), "{report}");
    pooled(&again).assert_eq(&pooled(&model), true);

    fs::remove_file(first).unwrap();
    assert_message(load(&dir, None), &["cannot read", "1.safetensors"]);
}

#[test]
fn damage_is_named() {
    let (dir, _) = saved();
    rewrite(&dir, |tensors| {
        let query = tensors
            .iter_mut()
            .find(|(name, ..)| name.ends_with("layer.0.attention.self.query.weight"));
        query.unwrap().2 = vec![4, 16];
    });
    assert_message(
        load(&dir, None),
        &[
            "model.safetensors: `bert.encoder.layer.0.attention.self.query.weight`",
            "[4, 16]",
            "[8, 8]",
        ],
    );

    let (dir, _) = saved();
    rewrite(&dir, |tensors| {
        tensors.retain(|(name, ..)| !name.contains("layer.1.output"));
    });
    assert_message(
        load(&dir, None),
        &[
            "lacks weights of the encoder: bert.encoder.layer.1.output.",
            "LayerNorm.weight",
        ],
    );

    let (dir, _) = saved();
    rewrite(&dir, |tensors| tensors[0].1 = Dtype::I32);
    assert_message(
        load(&dir, None),
        &["model.safetensors: `", "it holds I32, not floats"],
    );

    // The head of the folder's own task has to be what the configuration says.
    let (dir, _) = saved();
    rewrite(&dir, |tensors| {
        let head = tensors
            .iter_mut()
            .find(|(name, ..)| name == "classifier.bias")
            .unwrap();
        (head.2, head.3) = (vec![2], vec![0; 8]);
    });
    assert_message(
        load(&dir, None),
        &["`classifier.bias` has shape [2]", "asks for [3]"],
    );

    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert_message(
        load(&dir, None),
        &["holds no weights: expected model.safetensors"],
    );
}

#[test]
fn tokenizer_files_are_carried_over_as_far_as_they_are_there() {
    let (from, model) = saved();
    fs::write(from.path().join("vocab.txt"), "[PAD]").unwrap();
    let to = tempfile::tempdir().unwrap();
    let options = SaveOptions {
        tokenizer: Some(from.path()),
        ..SaveOptions::default()
    };
    let config = PretrainedConfig::new(small(), CLASSES);
    save(to.path(), &model, &config, options).unwrap();
    let mut names: Vec<_> = fs::read_dir(to.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "vocab.txt"]);
}

/// Expert files of a model whose second layer has two experts.
fn expert_files(router: &str, gate_scale: Option<&str>) -> ExpertFiles {
    ExpertFiles {
        settings: ExpertSettings {
            format_version: FORMAT_VERSION,
            experts: 2,
            expert_width: 6,
            shared: 0,
            dense_width: 12,
            order: NeuronOrder::Contiguous,
            seed: 0,
            router: router.to_owned(),
            k: if router == "top-k" { 2 } else { 1 },
            gate_scale: gate_scale.map(str::to_owned),
            layers: vec![1],
        },
        layout: ExpertLayout {
            neurons: vec![vec![(0..6).collect(), (6..12).collect()]],
        },
        tables: gate_scale
            .is_none()
            .then(|| vec![vec![0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1]]),
        importance: None,
    }
}

/// Puts the experts that files describe into a model of this configuration.
fn install(
    config: &BertConfig,
    files: &ExpertFiles,
    model: &mut BertModel,
) -> Result<(), FileError> {
    let saved = SavedExperts {
        dir: Path::new("model"),
        dense: config.mlp(),
        vocabulary: config.vocab_size,
        files,
    };
    saved.check(config.num_hidden_layers)?;
    saved.install(&mut model.bert.stack, &Device::default())
}

#[test]
fn an_expert_model_comes_back_with_its_routers() {
    let device = Device::default();
    for (router, gate_scale) in [
        ("hash-random", None),
        ("gate-token", Some("probability")),
        ("gate-sentence", Some("unit")),
        ("top-k", Some("unit")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let files = expert_files(router, gate_scale);
        let spans: Vec<Span> = vec!["window:2".parse().unwrap(), Span::Full];
        let small = || small().with_hidden_act(Activation::Silu);
        let local = small().with_spans(spans.clone());
        let mut model = BertModelConfig::new(local, CLASSES).init(&device);
        install(&small(), &files, &mut model).unwrap();
        // Experts that start equal in scale but far apart in value.
        let Half::Experts(layer) = &mut model.bert.stack.layers[1].feed_forward else {
            panic!("layer 1 has experts");
        };
        for expert in &mut layer.experts {
            let noise = Tensor::random([6, 8], Distribution::Normal(0.0, 1.0), &device);
            expert.outer.weight = burn::module::Param::from_tensor(noise);
        }
        let config = PretrainedConfig::new(small(), CLASSES);
        assert_message(
            save(dir.path(), &model, &config, SaveOptions::default()),
            &["is saved with its expert files"],
        );
        let options = SaveOptions {
            experts: Some(&files),
            ..SaveOptions::default()
        };
        save(dir.path(), &model, &config, options).unwrap();

        let folder = Pretrained::open(&dir).unwrap();
        assert_eq!(folder.experts(), Some(&files));
        let (again, report) = folder.load(None, &device).unwrap();
        assert!(report.is_exact(), "{report}");
        assert_eq!(again.bert.spans(), spans);
        pooled(&again).assert_eq(&pooled(&model), true);
    }
}

#[test]
fn expert_files_that_do_not_fit_the_model_are_refused() {
    let refused = |change: fn(&mut ExpertFiles), expected: &str| {
        let mut files = expert_files("hash-balance", None);
        change(&mut files);
        let mut model = BertModelConfig::new(small(), CLASSES).init(&Device::default());
        let error = install(&small(), &files, &mut model).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(
        |files| files.settings.dense_width = 13,
        "experts.json: `dense_width` is 13; config.json says 12",
    );
    refused(
        |files| files.settings.layers = vec![2],
        "`layers` names layer 2 of 2",
    );
    refused(
        |files| files.settings.router = "hush".to_owned(),
        "unknown router `hush`",
    );
    refused(
        |files| files.tables = Some(vec![vec![0; 7]]),
        "experts.safetensors: `layer.1.table` has 7 tokens; the vocabulary has 11",
    );
    refused(|files| files.tables = None, "has 0 tokens");
    refused(
        |files| files.settings.k = 2,
        "experts.json: `k` is wrong: the router `hash-balance` sends a token to one expert, not 2",
    );
    refused(
        |files| {
            files.settings.router = "top-k".to_owned();
            files.settings.k = 3;
        },
        "experts.json: `k` is wrong: a token cannot pass 3 of 2 experts",
    );
    refused(
        |files| files.settings.gate_scale = Some("half".to_owned()),
        "`gate_scale` is wrong",
    );
}
