//! Models whose weights are no plain matrices, in folders.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use burn::{
    module::{Module, Param, ParamId, Reparameterizer},
    prelude::*,
    tensor::{Distribution, Shape, Tolerance},
};
use distill::{
    names::Names,
    surgery::{LoSparse, Lora, Surgery},
};
use masformer_core::{
    Decoder, DecoderConfig, DecoderInput, Trace,
    linear::{LowRankRows, forms, outputs},
    ops::prepack,
    pretrained::{CONFIG_FILE, DecoderFolder, DecoderFolderConfig, save_decoder},
    tensor_file::TensorFile,
};
use moebert_core::{
    adapt::adapt,
    bert::{BertConfig, BertInput},
    cost::Cost,
    half::Half,
    heads::{BertModel, BertModelConfig, Head, Logits},
    partition::ExpertLayout,
    pretrained::{Pretrained, PretrainedConfig, SaveOptions, load_adapter, save, save_adapter},
    router::{GateScale, HashRandom, RouterConfig, RouterSpec},
};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";

/// Leaves every third row of weights beside a product of rank 2.
struct Thin(HashSet<ParamId>);

impl Reparameterizer for Thin {
    type Reparam = LowRankRows;

    fn reparameterize<const D: usize>(
        &mut self,
        _: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LowRankRows>) {
        if !self.0.contains(&param.id) {
            return (param, None);
        }
        let mut form = None;
        let base = param.map(|weight| {
            let [inputs, outputs] = [weight.dims()[0], weight.dims()[1]];
            let device = weight.device();
            let rows: Vec<i64> = (0..outputs as i64).step_by(3).collect();
            let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &device);
            let normal = Distribution::Normal(0.0, 0.3);
            form = Some(LowRankRows::new(
                Tensor::random([inputs, 2], normal, &device),
                Tensor::random([2, outputs], normal, &device),
                rows.clone(),
            ));
            let base = weight.reshape([inputs, outputs]).select(1, rows);
            let shape: Shape = base.dims().to_vec().into();
            base.reshape(shape)
        });
        (base, form)
    }
}

fn thin<M: Module>(model: M) -> M {
    thin_parts(model, &["stack"])
}

fn thin_parts<M: Module>(model: M, parts: &[&str]) -> M {
    let weights = Names::new(parts.iter().copied())
        .linear_weights(&model)
        .unwrap();
    model.apply_reparameterization(Thin(weights.into_iter().collect()))
}

fn bert_config() -> BertConfig {
    BertConfig::new()
        .with_vocab_size(30)
        .with_hidden_size(24)
        .with_num_hidden_layers(2)
        .with_num_attention_heads(4)
        .with_intermediate_size(36)
        .with_max_position_embeddings(8)
}

fn bert() -> BertModel {
    let head = Head::Classification { classes: 3 };
    BertModelConfig::new(bert_config(), head).init(&Device::default())
}

fn bert_logits(model: &BertModel) -> TensorData {
    let ids = Tensor::<2, Int>::from_data([[1, 5, 9, 2], [3, 4, 8, 20]], &Device::default());
    let input = BertInput {
        token_type_ids: ids.zeros_like(),
        input_ids: ids,
        padding: None,
    };
    match model.forward(&input, &mut Trace::nothing()).logits {
        Some(Logits::Sequence(logits)) => logits.into_data(),
        _ => panic!("a head for sequences"),
    }
}

fn bert_folder(dir: &Path, model: &BertModel) {
    let config = PretrainedConfig::new(bert_config(), model.head_kind());
    save(dir, model, &config, SaveOptions::default()).unwrap();
}

fn close(found: &TensorData, expected: &TensorData) {
    found.assert_approx_eq::<f32>(expected, Tolerance::absolute(1e-4));
}

fn config_json(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join(CONFIG_FILE)).unwrap()).unwrap()
}

#[test]
fn an_encoder_keeps_its_forms_and_costs_less() {
    let whole = bert();
    let model = thin(whole.clone());
    let expected = bert_logits(&model);
    // The same function as with whole matrices.
    close(&expected, &bert_logits(&model.clone().materialize()));
    let [before, after] = [&whole, &model].map(|model| Cost::of(model, 8));
    // Of 24 x 24, 24 x 36 and 36 x 24 matrices.
    let saved = 4 * (24 * 24 - 48 * 2 - 24 * 8) + 2 * 24 * 36 - 2 * 60 * 2 - 24 * 12 - 36 * 8;
    assert_eq!(
        before.multiply_adds_per_token - after.multiply_adds_per_token,
        2 * saved
    );
    assert!(after.parameters < before.parameters);

    let dir = tempfile::tempdir().unwrap();
    bert_folder(dir.path(), &model);
    let json = config_json(dir.path());
    assert_eq!(json["model_type"], "kiln-bert");
    assert_eq!(json["kiln"]["weights"], json!(["losparse"]));
    let file = TensorFile::read(&dir.path().join(WEIGHTS)).unwrap();
    let query = "bert.encoder.layer.1.attention.self.query";
    for (name, shape) in [
        ("right.weight", vec![2, 24]),
        ("left.weight", vec![24, 2]),
        ("sparse.weight", vec![8, 24]),
        ("bias", vec![24]),
    ] {
        let name = format!("{query}.{name}");
        let found = match shape.len() {
            1 => file.f32::<1>(&name).unwrap().0.to_vec(),
            _ => file.f32::<2>(&name).unwrap().0.to_vec(),
        };
        assert_eq!(found, shape, "{name}");
    }
    let bytes = fs::read(dir.path().join(WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let rows = file.tensor(&format!("{query}.sparse.rows")).unwrap();
    let (rows, _) = rows.data().as_chunks();
    let rows: Vec<i32> = rows.iter().map(|row| i32::from_le_bytes(*row)).collect();
    assert_eq!(rows, [0, 3, 6, 9, 12, 15, 18, 21]);

    let folder = Pretrained::open(dir.path()).unwrap();
    let (again, report) = folder.load_whole(None, &Device::default()).unwrap();
    assert!(report.is_exact(), "{report}");
    bert_logits(&again).assert_eq(&expected, true);
    let prepacked = prepack(&again);
    close(&bert_logits(&again), &expected);
    drop(prepacked);

    // A weight has one form alone.
    let refused = [
        Lora::default().apply(again.clone()),
        LoSparse::default().apply(again.clone()),
    ];
    for error in refused.map(|result| result.unwrap_err().to_string()) {
        assert!(
            error.contains("have the form `losparse` already"),
            "{error}"
        );
    }
    let adapted = Lora::default().apply(whole).unwrap();
    let adapter = dir.path().join("adapter");
    save_adapter(&adapter, &adapted, folder.config(), None).unwrap();
    let error = load_adapter(&adapter, again, folder.config()).unwrap_err();
    assert!(error.to_string().contains("no plain matrices"), "{error}");
}

#[test]
fn a_decoder_whose_files_share_tensors_keeps_its_forms() {
    // Some of the layers that share a tensor may be plain.
    for (model_type, parts) in [
        ("gpt2", &["stack"][..]),
        ("gpt2", &["value"]),
        ("gpt2", &["0.mixer.query", "key", "inner"]),
        ("gpt_neo", &["stack"]),
    ] {
        let spans = ["full", "window:256"].map(|span| span.parse().unwrap());
        let config = DecoderConfig::new(20, 9, 12, 3, 24, spans.into());
        let config = match model_type {
            "gpt2" => config,
            _ => config
                .with_attention_scale(Some(1.0))
                .with_attention_bias(false),
        };
        let folder = DecoderFolderConfig::new(model_type, config.clone()).unwrap();
        let model = thin_parts(config.init(&Device::default()), parts);
        let logits = |model: &Decoder| {
            let ids = Tensor::<2, Int>::from_data([[1, 5, 9, 2, 7]], &Device::default());
            let input = DecoderInput {
                input_ids: ids,
                padding: None,
            };
            model
                .forward(&input, &mut Trace::nothing())
                .logits
                .into_data()
        };
        let expected = logits(&model);
        let dir = tempfile::tempdir().unwrap();
        save_decoder(dir.path(), &model, &folder, None).unwrap();
        let json = config_json(dir.path());
        assert_eq!(json["model_type"], format!("kiln-{model_type}"));
        assert_eq!(json["kiln"]["weights"], json!(["losparse"]));
        let folder = DecoderFolder::open(dir.path()).unwrap();
        let (again, report) = folder.load(&Device::default()).unwrap();
        assert!(report.is_exact(), "{report}");
        assert_eq!(forms(&again).into_iter().collect::<Vec<_>>(), ["losparse"]);
        logits(&again).assert_eq(&expected, true);
        // Saved again, it is the same.
        let copy = tempfile::tempdir().unwrap();
        save_decoder(copy.path(), &again, folder.config(), None).unwrap();
        for file in [CONFIG_FILE, WEIGHTS] {
            let [one, other] = [&dir, &copy].map(|dir| fs::read(dir.path().join(file)).unwrap());
            assert_eq!(one, other, "{model_type} {file}");
        }
    }
}

/// Shape and numbers of a tensor.
type Stored = (Vec<usize>, Vec<u8>);

/// Writes a file of weights with another tensor of this name, or without it.
fn write_with(path: &Path, file: &[u8], name: &str, tensor: Option<Stored>) {
    let file = SafeTensors::deserialize(file).unwrap();
    let dtype = file.tensor(name).unwrap().dtype();
    let mut tensors: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    tensors.remove(name);
    if let Some((shape, numbers)) = &tensor {
        let view = TensorView::new(dtype, shape.clone(), numbers).unwrap();
        tensors.insert(name.to_owned(), view);
    }
    fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn experts_and_other_heads_begin_with_the_whole_matrices() {
    let dense = thin(bert());
    let layout = ExpertLayout {
        neurons: vec![vec![(0..20).collect(), (16..36).collect()]; 2],
    };
    let router = RouterConfig {
        spec: RouterSpec::HashRandom(HashRandom {}),
        k: 1,
        gate_scale: GateScale::Unit,
        seed: 1,
    };
    let split = adapt(dense.clone(), &layout, &router, None).unwrap();
    let Half::Experts(experts) = &split.bert.stack.layers[0].feed_forward else {
        panic!("experts");
    };
    let whole = dense.bert.stack.layers[0].feed_forward.dense().unwrap();
    let expected = whole.inner.weight.val().slice_dim(1, 16..36).into_data();
    experts.experts[1]
        .inner
        .weight
        .val()
        .into_data()
        .assert_eq(&expected, true);

    // A head of other classes is newly initialised, whatever form that of the folder has.
    let dir = tempfile::tempdir().unwrap();
    bert_folder(dir.path(), &thin_parts(bert(), &["stack", "head"]));
    let folder = Pretrained::open(dir.path()).unwrap();
    let head = Head::Classification { classes: 2 };
    let (other, report) = folder.load(Some(head), &Device::default()).unwrap();
    assert_eq!(other.head.as_ref().unwrap().weight.dims(), [24, 2]);
    assert!(
        report.anew().contains(&"classifier.weight".to_owned()),
        "{report}"
    );
    let (same, report) = folder.load(None, &Device::default()).unwrap();
    assert!(report.is_exact(), "{report}");
    assert_eq!(outputs(same.head.as_ref().unwrap()), 3);
}

#[test]
fn what_cannot_be_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    bert_folder(dir.path(), &thin(bert()));
    let load = || -> Result<(), String> {
        let folder = Pretrained::open(dir.path()).map_err(|error| error.to_string())?;
        let loaded = folder.load_whole(None, &Device::default());
        loaded.map(drop).map_err(|error| error.to_string())
    };
    load().unwrap();
    let path = dir.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    let layer = "bert.encoder.layer.0.output.dense";
    let numbers = |rows: [i32; 8]| rows.into_iter().flat_map(i32::to_le_bytes).collect();
    let cases: [(&str, Option<Stored>, &str); 4] = [
        (
            "sparse.rows",
            Some((vec![8], numbers([5; 8]))),
            "its rows must rise and be below the layer's 24 outputs",
        ),
        (
            "sparse.rows",
            Some((vec![8], numbers([0, 1, 2, 3, 4, 5, 6, 24]))),
            "its rows must rise and be below the layer's 24 outputs",
        ),
        ("left.weight", None, "lacks weights of the"),
        (
            "sparse.weight",
            Some((vec![7, 36], vec![0; 7 * 36 * 4])),
            "has shape [7, 36]",
        ),
    ];
    for (name, tensor, problem) in cases {
        let name = format!("{layer}.{name}");
        write_with(&path, &whole, &name, tensor);
        let error = load().unwrap_err();
        assert!(error.contains(&name) && error.contains(problem), "{error}");
        fs::write(&path, &whole).unwrap();
    }
    let mut json = config_json(dir.path());
    json["kiln"]["weights"] = json!(["losparce"]);
    fs::write(dir.path().join(CONFIG_FILE), json.to_string()).unwrap();
    let error = load().unwrap_err();
    let problem = "`weights` of losparse, not `losparce`";
    assert!(
        error.contains("config.json") && error.contains(problem),
        "{error}"
    );
}
