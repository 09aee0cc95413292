//! Decoders with experts: the dense model again, steps, and folders.

use masformer_core::{
    Decoder, DecoderConfig, DecoderInput, Trace, pretrained::DecoderFolderConfig,
};

use super::*;
use crate::{
    adapt::adapt,
    expert_files::{ExpertSettings, FORMAT_VERSION},
    half,
    half::Half,
    partition::{ExpertLayout, NeuronOrder},
    router::{GateToken, HashRandom, Route, RouterConfig, RouterSpec, TopK},
};

const ROUTERS: [(RouterSpec, usize); 5] = [
    (RouterSpec::HashRandom(HashRandom {}), 1),
    (RouterSpec::GateToken(GateToken {}), 1),
    (RouterSpec::TopK(TopK {}), 1),
    (RouterSpec::TopK(TopK {}), 2),
    (RouterSpec::TopK(TopK {}), 3),
];

fn config() -> DecoderConfig {
    let spans = ["full", "window:2"].map(|span| span.parse().unwrap());
    DecoderConfig::new(11, 8, 8, 2, 12, spans.into()).with_initializer_range(0.5)
}

fn router((spec, k): &(RouterSpec, usize)) -> RouterConfig {
    RouterConfig {
        spec: spec.clone(),
        k: *k,
        seed: 3,
        ..RouterConfig::default()
    }
}

/// Three experts per layer with these neurons.
fn split(model: &Decoder<Half>, neurons: &[Vec<usize>], router: &RouterConfig) -> Decoder<Half> {
    let layout = ExpertLayout {
        neurons: vec![neurons.to_vec(); 2],
    };
    adapt(model.clone(), &layout, router, None).unwrap()
}

fn input(range: std::ops::Range<usize>, device: &Device) -> DecoderInput {
    let ids = Tensor::<2, Int>::from_data([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 1]], device);
    let padding = [[true, true, false, false, false, false], [false; 6]];
    let padding = Tensor::<2, Bool>::from_data(padding, device);
    DecoderInput {
        input_ids: ids.slice_dim(1, range.clone()),
        padding: (range.start == 0).then(|| padding.slice_dim(1, range)),
    }
}

fn logits(model: &Decoder<Half>, device: &Device) -> Tensor<3> {
    model
        .forward(&input(0..6, device), &mut Trace::nothing())
        .logits
}

#[test]
fn copies_of_the_whole_layer_are_the_dense_decoder_under_every_router() {
    let device = Device::default();
    let model = half::dense(config().init(&device));
    let expected = logits(&model, &device);
    let copies = vec![(0..12).rev().collect::<Vec<_>>(); 3];
    for kind in &ROUTERS {
        let found = logits(&split(&model, &copies, &router(kind)), &device);
        let difference = (found - expected.clone()).abs().max().into_scalar::<f32>();
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        assert!(
            difference < 1e-6 * largest.max(1.0),
            "{kind:?}: {difference}"
        );
    }
}

#[test]
fn steps_equal_the_whole_with_experts() {
    let device = Device::default();
    let model = half::dense(config().init(&device));
    let parts: Vec<Vec<usize>> = (0..3)
        .map(|expert| (expert * 4..expert * 4 + 4).collect())
        .collect();
    for kind in &ROUTERS {
        let model = split(&model, &parts, &router(kind));
        let whole = model.hidden(&input(0..6, &device), &mut Trace::nothing());
        let mut cache = model.cache();
        for range in [0..3, 3..4, 4..6] {
            let step = model.step(&input(range.clone(), &device), &mut cache);
            let expected = whole.clone().slice_dim(1, range.clone());
            let difference = step - expected;
            // The values at the padding of the first row are undefined.
            let difference = if range.start == 0 {
                difference.slice([1..2, 0..3])
            } else {
                difference
            };
            let difference = difference.abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{kind:?} {range:?} {difference}");
        }
    }
}

#[test]
fn a_decoder_with_experts_comes_back_from_its_folder() {
    let device = Device::default();
    let parts: Vec<Vec<usize>> = (0..3)
        .map(|expert| (expert * 4..expert * 4 + 4).collect())
        .collect();
    for model_type in ["gpt2", "gpt_neo"] {
        let config = DecoderConfig {
            attention_scale: (model_type == "gpt_neo").then_some(1.0),
            attention_bias: model_type == "gpt2",
            ..config()
        };
        let dense = half::dense(config.init(&device));
        for kind in &ROUTERS {
            let router = router(kind);
            let model = split(&dense, &parts, &router);
            let tables: Vec<_> = model
                .stack
                .layers
                .iter()
                .filter_map(|layer| {
                    let table = layer.feed_forward.experts()?.router.table()?.into_data();
                    Some(table.iter::<i64>().map(|expert| expert as usize).collect())
                })
                .collect();
            let files = ExpertFiles {
                settings: ExpertSettings {
                    format_version: FORMAT_VERSION,
                    experts: 3,
                    expert_width: 4,
                    shared: 0,
                    dense_width: 12,
                    order: NeuronOrder::Contiguous,
                    seed: 3,
                    router: router.spec.to_string(),
                    k: router.k,
                    gate_scale: router.spec.kind().is_gate.then(|| "unit".to_owned()),
                    layers: vec![0, 1],
                },
                layout: ExpertLayout {
                    neurons: vec![parts.clone(); 2],
                },
                tables: (!tables.is_empty()).then_some(tables),
                importance: None,
            };
            let dir = tempfile::tempdir().unwrap();
            let json = DecoderFolderConfig::new(model_type, config.clone()).unwrap();
            let lacks = save_decoder(dir.path(), &model, &json, None, None).unwrap_err();
            assert!(matches!(lacks, PretrainedError::ExpertFiles), "{lacks}");
            save_decoder(dir.path(), &model, &json, Some(&files), None).unwrap();
            let folder = PretrainedDecoder::open(&dir).unwrap();
            assert_eq!(folder.experts(), Some(&files));
            let (again, report) = folder.load(&device).unwrap();
            assert!(report.is_exact(), "{report}");
            let (found, expected) = (logits(&again, &device), logits(&model, &device));
            found.into_data().assert_eq(&expected.into_data(), true);
        }
    }
}
