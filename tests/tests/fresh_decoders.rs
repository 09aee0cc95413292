//! Decoders that no family of Transformers has come back from their folders, dense or with experts.

use std::fs;

use burn::{
    module::{Module, ModuleMapper, Param},
    prelude::*,
    tensor::Distribution,
};
use masformer_core::{
    Decoder, DecoderConfig, DecoderInput, NormKind, NormPlacement, Trace,
    pretrained::{CONFIG_FILE, DecoderFolderConfig},
};
use moebert_core::{
    adapt::adapt,
    expert_files::{ExpertFiles, ExpertSettings, FORMAT_VERSION},
    half::{Half, dense},
    partition::{ExpertLayout, NeuronOrder},
    pretrained::{PretrainedDecoder, save_decoder},
    router::{RouterConfig, RouterSpec, TopK},
};
use serde_json::Value;

fn config() -> DecoderConfig {
    let spans = ["full", "window:3"].map(|span| span.parse().unwrap());
    DecoderConfig::new(13, 8, 8, 2, 16, spans.into()).with_initializer_range(0.3)
}

/// Gives every parameter, scales and offsets too, a value of its own.
struct Shake(Device);

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| {
            let noise = Tensor::random(value.dims(), Distribution::Normal(0.0, 0.2), &self.0);
            value + noise
        })
    }
}

fn logits(model: &Decoder<Half>, device: &Device) -> TensorData {
    let input = DecoderInput {
        input_ids: Tensor::from_data([[1, 2, 3, 4, 5, 6]], device),
        padding: None,
    };
    model
        .forward(&input, &mut Trace::nothing())
        .logits
        .into_data()
}

/// A top-2 gate over three experts of 8 neurons in each layer.
fn with_experts(model: Decoder<Half>) -> (Decoder<Half>, ExpertFiles) {
    let router = RouterConfig {
        spec: RouterSpec::TopK(TopK {}),
        k: 2,
        ..RouterConfig::default()
    };
    let neurons = [0..8, 4..12, 8..16].map(Iterator::collect);
    let layout = ExpertLayout {
        neurons: vec![neurons.into(); 2],
    };
    let files = ExpertFiles {
        settings: ExpertSettings {
            format_version: FORMAT_VERSION,
            experts: 3,
            expert_width: 8,
            shared: 0,
            dense_width: 16,
            order: NeuronOrder::Random,
            seed: 0,
            router: RouterSpec::TopK(TopK {}).to_string(),
            k: 2,
            gate_scale: Some("unit".to_owned()),
            layers: vec![0, 1],
        },
        layout: layout.clone(),
        tables: None,
        importance: None,
    };
    (adapt(model, &layout, &router, None).unwrap(), files)
}

/// Saves a model of this configuration, and loads it again; returns the key `kiln`.
fn assert_comes_back(model_type: &str, config: &DecoderConfig, has_experts: bool) -> Value {
    let device = Device::default();
    let model = dense(config.init(&device));
    let (model, files) = if has_experts {
        let (model, files) = with_experts(model);
        (model, Some(files))
    } else {
        (model, None)
    };
    let model = model.map(&mut Shake(device.clone()));
    let dir = tempfile::tempdir().unwrap();
    let folder = DecoderFolderConfig::new(model_type, config.clone()).unwrap();
    save_decoder(dir.path(), &model, &folder, files.as_ref(), None).unwrap();
    let folder = PretrainedDecoder::open(dir.path()).unwrap();
    assert_eq!(folder.config().decoder, *config);
    let (again, report) = folder.load(&device).unwrap();
    assert!(report.is_exact(), "{report}");
    logits(&again, &device).assert_eq(&logits(&model, &device), true);
    let json = fs::read(dir.path().join(CONFIG_FILE)).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    json["kiln"].clone()
}

/// A configuration with what GPT-Neo cannot leave out.
fn as_family(model_type: &str, config: DecoderConfig) -> DecoderConfig {
    match model_type {
        "gpt_neo" => config
            .with_attention_scale(Some(1.0))
            .with_attention_bias(false),
        _ => config,
    }
}

const MODEL_TYPES: [&str; 2] = ["gpt2", "gpt_neo"];

#[test]
fn norms_of_any_kind_and_place_come_back() {
    for (kind, kind_name) in [
        (NormKind::Layer, Value::Null),
        (NormKind::LayerWithoutOffset, "layer-without-offset".into()),
        (NormKind::Rms, "rms".into()),
    ] {
        for (placement, placement_name) in [
            (NormPlacement::Post, "post".into()),
            (NormPlacement::Pre, Value::Null),
            (NormPlacement::Both, "both".into()),
            (NormPlacement::Parallel, "parallel".into()),
        ] {
            let config = config().with_norm(kind).with_norm_placement(placement);
            for (model_type, has_experts) in [
                (MODEL_TYPES[0], false),
                (MODEL_TYPES[0], true),
                (MODEL_TYPES[1], true),
            ] {
                let config = as_family(model_type, config.clone());
                let kiln = assert_comes_back(model_type, &config, has_experts);
                assert_eq!(kiln["norm"], kind_name);
                assert_eq!(kiln["norm_placement"], placement_name);
            }
        }
    }
}

#[test]
fn gated_layers_come_back() {
    for model_type in MODEL_TYPES {
        let config = as_family(model_type, config().with_gated(true));
        for has_experts in [false, true] {
            let kiln = assert_comes_back(model_type, &config, has_experts);
            assert_eq!(kiln["gated"], true);
        }
    }
}
