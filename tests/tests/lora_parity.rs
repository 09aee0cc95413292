//! Low-rank adapters against PEFT, on the files of `fixtures/lora`.

#[path = "fixture/attach.rs"]
mod attach;
mod fixture;

use std::path::Path;

use attach::Attach;
use burn::{
    module::{LoraAdapter, Module, Param, Reparameterizer},
    nn::Linear,
    prelude::*,
    tensor::Tolerance,
};
use fixture::Fixture;
use masformer_core::{
    Trace,
    linear::apply_linear,
    tensor_file::{self, TensorFile, Values},
};
use moebert_core::{
    adapt::adapt,
    bert::BertInput,
    heads::{BertModel, Logits},
    partition::ExpertLayout,
    pretrained::{
        ADAPTER_CONFIG, Pretrained, PretrainedConfig, PretrainedError, SaveOptions, has_adapters,
        load_adapter, save, save_adapter,
    },
    router::{GateScale, HashRandom, RouterConfig, RouterSpec},
};

#[test]
fn a_layer_and_its_gradients_are_those_of_peft() {
    for name in ["linear", "linear_rslora"] {
        let fixture = Fixture::open("lora", name);
        let tolerance = Tolerance::rel_abs(1e-4, 1e-5);
        // Files have transposed matrices.
        let tracked = |name: &str| {
            fixture
                .tensor::<2>(name)
                .transpose()
                .autodiff()
                .require_grad()
        };
        let (a, b) = (tracked("lora_A"), tracked("lora_B"));
        let scale = f64::from(fixture.tensor::<1>("scaling").into_scalar::<f32>());
        let adapter = LoraAdapter {
            a: Param::from_tensor(a.clone()),
            b: Param::from_tensor(b.clone()),
            scale,
        };
        let layer = Linear {
            weight: Param::from_tensor(fixture.tensor::<2>("weight").transpose().autodiff()),
            bias: Some(Param::from_tensor(fixture.tensor::<1>("bias").autodiff())),
        };
        let layer = layer.apply_reparameterization(Attach(adapter));
        let input = fixture.tensor::<3>("x").autodiff().require_grad();
        let shape = fixture.tensor::<3>("y").dims();
        let output = apply_linear(&layer, input.clone().flatten(0, 1)).reshape(shape);
        fixture.assert_close("y", output.clone().inner(), tolerance);
        let gradients = (output * fixture.tensor::<3>("upstream").autodiff())
            .sum()
            .backward();
        fixture.assert_close("grad_x", input.grad(&gradients).unwrap(), tolerance);
        let factor = |factor: &Tensor<2>| factor.grad(&gradients).unwrap().transpose();
        fixture.assert_close("grad_lora_A", factor(&a), tolerance);
        fixture.assert_close("grad_lora_B", factor(&b), tolerance);
        assert!(layer.weight.base().grad(&gradients).is_none());
        let merged = layer.weight.val().inner().transpose();
        fixture.assert_close("merged_weight", merged, tolerance);
    }
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/lora/bert")
        .join(name)
}

fn base_config() -> PretrainedConfig {
    Pretrained::open(folder("base")).unwrap().config().clone()
}

fn base() -> BertModel {
    let (model, _) = Pretrained::open(folder("base"))
        .unwrap()
        .load(None, &Device::default())
        .unwrap();
    model
}

fn logits(model: &BertModel) -> Tensor<2> {
    let fixture = Fixture::open("lora/bert", "io");
    let integers = |name: &str| {
        let (shape, values) = fixture.file.indices::<2>(name).unwrap();
        let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
        Tensor::<2, Int>::from_data(TensorData::new(values, shape), &fixture.device)
    };
    let input = BertInput {
        input_ids: integers("input_ids"),
        token_type_ids: integers("token_type_ids"),
        padding: Some(integers("attention_mask").equal_elem(0)),
    };
    logits_of(model, &input)
}

fn logits_of(model: &BertModel, input: &BertInput) -> Tensor<2> {
    match model.forward(input, &mut Trace::nothing()).logits {
        Some(Logits::Sequence(logits)) => logits,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_of_peft_gives_its_logits() {
    let fixture = Fixture::open("lora/bert", "io");
    let tolerance = Tolerance::absolute(1e-4);
    fixture.assert_close("logits_base", logits(&base()), tolerance);
    let adapted = load_adapter(&folder("adapter"), base(), &base_config()).unwrap();
    assert!(has_adapters(&adapted));
    fixture.assert_close("logits_adapter", logits(&adapted), tolerance);
    let merged = adapted.clone().materialize();
    assert!(!has_adapters(&merged));
    fixture.assert_close("logits_merged", logits(&merged), Tolerance::absolute(1e-3));

    // Saved again, with ranks and scales that differ between layers.
    let saved = tempfile::tempdir().unwrap();
    save_adapter(saved.path(), &adapted, &base_config(), None).unwrap();
    let again = load_adapter(saved.path(), base(), &base_config()).unwrap();
    let same = logits(&adapted).into_data();
    logits(&again)
        .into_data()
        .assert_approx_eq::<f32>(&same, Tolerance::absolute(1e-6));
    assert!(save_adapter(saved.path(), &base(), &base_config(), None).is_err());
}

#[test]
fn what_the_folder_asks_for_and_is_not_there_is_refused_by_its_key() {
    let copy = tempfile::tempdir().unwrap();
    let file = "adapter_model.safetensors";
    std::fs::copy(folder("adapter").join(file), copy.path().join(file)).unwrap();
    let config = std::fs::read_to_string(folder("adapter").join(ADAPTER_CONFIG)).unwrap();
    let refused = |from: &str, to: &str, message: &str| {
        assert!(config.contains(from), "{from}");
        std::fs::write(copy.path().join(ADAPTER_CONFIG), config.replace(from, to)).unwrap();
        let error = load_adapter(copy.path(), base(), &base_config())
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    };
    refused("\"LORA\"", "\"IA3\"", "`peft_type`");
    refused("\"bias\": \"none\"", "\"bias\": \"all\"", "`bias`");
    refused("\"use_dora\": false", "\"use_dora\": true", "`use_dora`");
    refused("\"lora_alpha\": 8,", "", "lora_alpha");
    refused(
        "\"intermediate.dense\": 6",
        "\"layer\\\\.[01]\\\\.\": 6",
        "`alpha_pattern.layer\\.[01]\\.`",
    );
    refused(
        "\"intermediate.dense\": 6",
        "\"intermediate.dense\": null",
        "`alpha_pattern.intermediate.dense`",
    );
}

#[test]
fn the_first_pattern_of_the_file_that_fits_is_taken() {
    let copy = tempfile::tempdir().unwrap();
    let file = "adapter_model.safetensors";
    std::fs::copy(folder("adapter").join(file), copy.path().join(file)).unwrap();
    let config = std::fs::read_to_string(folder("adapter").join(ADAPTER_CONFIG)).unwrap();
    // The rank of `intermediate.dense` is 2.
    for (patterns, scale) in [
        (r#""intermediate.dense": 6, "dense": 16"#, 3.0),
        (r#""dense": 16, "intermediate.dense": 6"#, 8.0),
    ] {
        let config = config.replace("\"intermediate.dense\": 6", patterns);
        std::fs::write(copy.path().join(ADAPTER_CONFIG), config).unwrap();
        let adapted = load_adapter(copy.path(), base(), &base_config()).unwrap();
        let half = adapted.bert.stack.layers[0].feed_forward.dense().unwrap();
        let found = half.inner.weight.adapter().unwrap().scale;
        assert!((found - scale).abs() < 1e-12, "{patterns}: {found}");
    }
}

/// The adapters of the folder with other tensors.
fn with_tensors(change: impl FnOnce(&mut Vec<(String, Vec<usize>, Values)>)) -> PretrainedError {
    let copy = tempfile::tempdir().unwrap();
    let path = "adapter_model.safetensors";
    let config = std::fs::read(folder("adapter").join(ADAPTER_CONFIG)).unwrap();
    std::fs::write(copy.path().join(ADAPTER_CONFIG), config).unwrap();
    let file = TensorFile::read(&folder("adapter").join(path)).unwrap();
    let names = file.names().into_iter();
    let mut tensors: Vec<(String, Vec<usize>, Values)> = names
        .map(|name| {
            let (shape, values) = if name.ends_with("bias") {
                let (shape, values) = file.f32::<1>(&name).unwrap();
                (shape.to_vec(), values)
            } else {
                let (shape, values) = file.f32::<2>(&name).unwrap();
                (shape.to_vec(), values)
            };
            (name, shape, Values::F32(values))
        })
        .collect();
    change(&mut tensors);
    tensor_file::write(&copy.path().join(path), &tensors, vec![]).unwrap();
    load_adapter(copy.path(), base(), &base_config()).unwrap_err()
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_their_name() {
    let a_of = |name: &str| name.ends_with("query.lora_A.weight");
    let lonely = with_tensors(|tensors| tensors.retain(|(name, ..)| !a_of(name)));
    let message = lonely.to_string();
    assert!(
        message.contains("query.lora_B.weight") && message.contains("its other factor is missing"),
        "{message}"
    );
    let short = with_tensors(|tensors| {
        let bias = tensors
            .iter_mut()
            .find(|(name, ..)| name.ends_with("classifier.bias"))
            .unwrap();
        (bias.1, bias.2) = (vec![1], Values::F32(vec![0.5]));
    });
    let message = short.to_string();
    assert!(
        message.contains("classifier.bias") && message.contains("it is [1]"),
        "{message}"
    );
    let head = with_tensors(|tensors| {
        for (name, ..) in tensors {
            *name = name.replace("bert.encoder.layer.0.attention.self.query", "classifier");
        }
    });
    let message = head.to_string();
    assert!(
        message.contains("classifier.lora_A.weight")
            && message.contains("the head is trained whole"),
        "{message}"
    );
}

/// Attaches a small adapter to the matrices of one part.
struct AttachTo(&'static str);

impl Reparameterizer for AttachTo {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let is_target = D == 2 && path.contains(self.0);
        let adapter = is_target.then(|| {
            let base = param.base();
            let (device, dims) = (base.device(), base.dims());
            LoraAdapter {
                a: Param::from_tensor(Tensor::full([dims[0], 1], 0.1, &device)),
                b: Param::from_tensor(Tensor::full([1, dims[1]], 0.2, &device)),
                scale: 2.0,
            }
        });
        (param, adapter)
    }
}

#[test]
fn adapters_anywhere_are_found_and_merged_where_a_model_is_saved() {
    let device = Device::default();
    let config = Pretrained::open(folder("base")).unwrap();
    let width = config.config().bert.intermediate_size;
    let layers = config.config().bert.num_hidden_layers;
    let layout = ExpertLayout {
        neurons: vec![vec![(0..width).collect(), (0..width).rev().collect()]; layers],
    };
    let router = RouterConfig {
        spec: RouterSpec::HashRandom(HashRandom {}),
        k: 1,
        gate_scale: GateScale::Unit,
        seed: 1,
    };
    let experts = adapt(base(), &layout, &router, None).unwrap();
    let named = [
        (experts, "inner", ".experts.0.inner.weight`"),
        (base(), "head", "`head.weight`"),
    ];
    for (model, part, weight) in named {
        let adapted = model.apply_reparameterization(AttachTo(part));
        assert!(has_adapters(&adapted), "{part}");
        let saved = tempfile::tempdir().unwrap();
        let error = save_adapter(saved.path(), &adapted, &base_config(), None).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(weight) && message.contains("PEFT"),
            "{message}"
        );
    }

    let adapted = base().apply_reparameterization(AttachTo("head"));
    let saved = tempfile::tempdir().unwrap();
    save(
        saved.path(),
        &adapted,
        config.config(),
        SaveOptions::default(),
    )
    .unwrap();
    let again = Pretrained::open(saved.path()).unwrap();
    let (again, report) = again.load(None, &device).unwrap();
    assert!(report.is_exact(), "{report}");
    let expected = logits(&adapted).into_data();
    let found = logits(&again).into_data();
    found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    assert!(found != logits(&base()).into_data());
}

/// Classifiers of other families with the name in files of a query, and a model of each with adapters of its queries.
fn of_other_families() -> impl Iterator<Item = (Pretrained, &'static str, BertModel)> {
    let queries = [
        ("electra", "electra.encoder.layer.0.attention.self.query"),
        ("roberta", "roberta.encoder.layer.0.attention.self.query"),
        (
            "distilbert",
            "distilbert.transformer.layer.0.attention.q_lin",
        ),
    ];
    queries.into_iter().map(|(family, query)| {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let folder = fixtures.join(format!("{family}-tiny-classification"));
        let folder = Pretrained::open(folder).unwrap();
        let (model, _) = folder.load(None, &Device::default()).unwrap();
        let adapted = model.apply_reparameterization(AttachTo("query"));
        (folder, query, adapted)
    })
}

/// The ids of [`few_tokens`].
const IDS: [[i64; 4]; 2] = [[5, 6, 7, 8], [12, 11, 10, 9]];

fn few_tokens() -> BertInput {
    let input_ids = Tensor::<2, Int>::from_data(IDS, &Device::default());
    BertInput {
        token_type_ids: input_ids.zeros_like(),
        input_ids,
        padding: None,
    }
}

#[test]
fn adapters_have_the_names_of_their_family() {
    for (folder, query, adapted) in of_other_families() {
        let saved = tempfile::tempdir().unwrap();
        save_adapter(saved.path(), &adapted, folder.config(), None).unwrap();
        let settings = std::fs::read(saved.path().join(ADAPTER_CONFIG)).unwrap();
        let settings: serde_json::Value = serde_json::from_slice(&settings).unwrap();
        assert_eq!(settings["target_modules"][0], query);
        assert_eq!(
            settings["modules_to_save"],
            serde_json::json!(["classifier"])
        );
        let (base, _) = folder.load(None, &Device::default()).unwrap();
        let before = logits_of(&base, &few_tokens()).into_data();
        let again = load_adapter(saved.path(), base, folder.config()).unwrap();
        let found = logits_of(&again, &few_tokens()).into_data();
        let expected = logits_of(&adapted, &few_tokens()).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
        assert_ne!(found, before, "{query}");
    }
}

/// Runs the check of what PEFT makes of adapters for a base.
fn assert_peft_reads(base: &Path, saved: &Path, expected: &Path) {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/check_adapter.py");
    let output = std::process::Command::new(python)
        .arg(script)
        .args([base, saved, expected])
        .output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs Python with PEFT; see fixtures/README.md"]
fn peft_reads_what_is_saved() {
    let adapted = load_adapter(&folder("adapter"), base(), &base_config()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    save_adapter(saved.path(), &adapted, &base_config(), None).unwrap();
    let io = folder("io.safetensors");
    assert_peft_reads(&folder("base"), saved.path(), &io);
    for (folder, _, adapted) in of_other_families() {
        let saved = tempfile::tempdir().unwrap();
        save_adapter(saved.path(), &adapted, folder.config(), None).unwrap();
        let logits = logits_of(&adapted, &few_tokens());
        let shape = logits.dims().into();
        let logits = Values::F32(logits.into_data().iter().collect());
        let tensors = [
            (
                "input_ids".to_owned(),
                vec![2, 4],
                Values::I64(IDS.concat()),
            ),
            ("logits_adapter".to_owned(), shape, logits),
        ];
        let io = saved.path().join("io.safetensors");
        tensor_file::write(&io, &tensors, vec![]).unwrap();
        assert_peft_reads(folder.dir(), saved.path(), &io);
    }
}
