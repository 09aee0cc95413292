//! What holds for every mixer, in decoders and encoders: the texts below are all that names them.

use std::{fs, ops::ControlFlow, path::Path};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    prelude::*,
};
use distill::Adam;
use masformer_core::{
    BeamConfig, Decoder, DecoderConfig, DecoderInput, Direction, Flow, GenerateConfig, Generator,
    Mix, MixSpec, MixerSchedule, Span, SpanAttentionConfig, Strategy, Tokens, Trace,
    mixer::S4dSpec,
    ops::cross_entropy,
    pretrained::{CONFIG_FILE, DecoderFolder, DecoderFolderConfig, save_decoder},
};
use moebert_core::{
    bert::{BertConfig, BertInput},
    heads::{BertModelConfig, Head},
    pretrained::{Pretrained, PretrainedConfig, SaveOptions, save},
};
use serde_json::Value;

/// Schedules for three layers, of every mixer that decodes.
const SCHEDULES: [&str; 6] = [
    "s4d:states=8",
    "bottom:1 s4d:states=4,rule=zoh",
    "layers:1 s4d:states=6,dt_max=0.5,train=false",
    "layers:1,2 spade:states=4",
    "spade:states=4,combine=add,rule=zoh",
    "bottom:1 spade:states=4,combine=stack,train=false; top:1 s4d:states=2,train=false",
];

/// Schedules of mixers that only encoders have.
const ENCODER_SCHEDULES: [&str; 3] = [
    "disentangled",
    "disentangled:p2c=false,shared=false",
    "bottom:1 disentangled; top:1 s4d:states=4",
];

const VOCABULARY: usize = 13;
const LAYERS: usize = 3;
const LENGTH: usize = 90;

fn device() -> Device {
    Device::default()
}

fn config(schedule: &str) -> DecoderConfig {
    let schedule: MixerSchedule = schedule.parse().unwrap();
    let spans = ["full", "window:8", "window:5"].map(|span| span.parse::<Span>().unwrap());
    DecoderConfig::new(VOCABULARY, LENGTH, 8, 2, 16, spans.into())
        .with_mixers(schedule.mixers(LAYERS).unwrap())
        .with_initializer_range(0.3)
}

fn input(rows: usize, length: usize, padded: usize) -> DecoderInput {
    let ids: Vec<i32> = (0..rows * length)
        .map(|place| (place * 7 % VOCABULARY) as i32)
        .collect();
    let padding: Vec<bool> = (0..rows * length).map(|place| place < padded).collect();
    DecoderInput {
        input_ids: Tensor::from_data(TensorData::new(ids, [rows, length]), &device()),
        padding: (padded > 0)
            .then(|| Tensor::from_data(TensorData::new(padding, [rows, length]), &device())),
    }
}

fn part(input: &DecoderInput, range: std::ops::Range<usize>) -> DecoderInput {
    let padding = input.padding.clone();
    DecoderInput {
        input_ids: input.input_ids.clone().slice_dim(1, range.clone()),
        padding: padding.map(|padding| padding.slice_dim(1, range)),
    }
}

fn hidden(model: &Decoder, input: &DecoderInput) -> Tensor<3> {
    model.hidden(input, &mut Trace::nothing())
}

fn largest(difference: Tensor<3>) -> f32 {
    difference.abs().max().into_scalar()
}

#[test]
fn steps_are_the_whole_behind_padding_and_in_any_order_of_rows() {
    for schedule in SCHEDULES {
        let model = config(schedule).init(&device());
        let padded = 9;
        let all = input(2, LENGTH, padded);
        let whole = hidden(&model, &all);
        // Without the padding, the first row is the same.
        let alone = hidden(&model, &part(&input(1, LENGTH, 0), padded..LENGTH));
        let row = whole.clone().slice([0..1, padded..LENGTH]);
        assert!(largest(row - alone) < 2e-5, "{schedule}");
        let mut cache = model.cache();
        let mut ranges = vec![0..70, 70..73];
        ranges.extend((73..LENGTH).map(|start| start..start + 1));
        let swap = Tensor::from_data([1, 0], &device());
        for range in ranges {
            cache.select(&swap);
            cache.select(&swap);
            let step = model.step(&part(&all, range.clone()), &mut cache);
            let expected = whole.clone().slice_dim(1, range.clone());
            // What stands on padding is nobody's.
            let rows = if range.start == 0 { 1..2 } else { 0..2 };
            let difference = largest((step - expected).slice_dim(0, rows));
            assert!(difference < 2e-5, "{schedule} {range:?} {difference}");
        }
    }
}

#[test]
fn selected_rows_go_on_by_themselves() {
    for schedule in SCHEDULES {
        let model = config(schedule).init(&device());
        let two = input(2, 6, 0);
        let next = |ids: &[i32]| DecoderInput {
            input_ids: Tensor::from_data(TensorData::new(ids.to_vec(), [ids.len(), 1]), &device()),
            padding: None,
        };
        let mut both = model.cache();
        model.step(&two, &mut both);
        both.select(&Tensor::from_data([1, 1, 0], &device()));
        let together = model.step(&next(&[3, 4, 5]), &mut both);
        for (row, (from, id)) in [(1, 3), (1, 4), (0, 5)].into_iter().enumerate() {
            let mut cache = model.cache();
            let ids = two.input_ids.clone().slice_dim(0, from..from + 1);
            let alone = DecoderInput {
                input_ids: ids,
                padding: None,
            };
            model.step(&alone, &mut cache);
            let expected = model.step(&next(&[id]), &mut cache);
            let found = together.clone().slice_dim(0, row..row + 1);
            assert!(largest(found - expected) < 1e-5, "{schedule}");
        }
    }
}

#[test]
fn generation_with_a_cache_is_that_without() {
    let prompts = vec![vec![3, 1, 4, 1, 5], vec![9], vec![2, 6, 5, 3, 5, 8, 9, 7]];
    let beam = Strategy::Beam(BeamConfig::new().with_beams(3));
    for schedule in SCHEDULES {
        let model = config(schedule).init(&device());
        for strategy in [Strategy::Greedy, beam.clone()] {
            let continuations = |cache, prompts: &[Vec<u32>]| {
                let config = GenerateConfig::new()
                    .with_max_new_tokens(12)
                    .with_strategy(strategy.clone())
                    .with_cache(cache);
                let generator = Generator::new(&model, &config);
                generator
                    .generate(prompts, |_| ControlFlow::Continue(()))
                    .unwrap()
            };
            let together = continuations(true, &prompts);
            assert_eq!(together, continuations(false, &prompts), "{schedule}");
            let alone = prompts
                .iter()
                .flat_map(|prompt| continuations(true, std::slice::from_ref(prompt)));
            assert_eq!(together, alone.collect::<Vec<_>>(), "{schedule}");
        }
    }
}

#[test]
fn a_decoder_trains_and_comes_back_from_its_folder() {
    for schedule in SCHEDULES {
        let autodiff = device().autodiff();
        autodiff.seed(3);
        let config = config(schedule);
        let start = config.init(&autodiff).valid().train();
        let frozen = schedule.contains("train=false");
        let all = input(4, 30, 0);
        let ids = Tensor::<2, Int>::from_data(all.input_ids.into_data(), &autodiff);
        let given = DecoderInput {
            input_ids: ids.clone().slice_dim(1, 0..29),
            padding: None,
        };
        let targets = ids.slice_dim(1, 1..30).flatten::<1>(0, 1);
        let mut model = start.clone();
        let mut optimizer = Adam::default().init(&model);
        let mut losses = vec![];
        for _ in 0..40 {
            let logits = model.logits(hidden(&model, &given));
            let loss = cross_entropy(logits.flatten::<2>(0, 1), targets.clone()).mean();
            losses.push(loss.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(0.02, model, gradients);
        }
        assert!(losses[39] < 0.8 * losses[0], "{schedule}: {losses:?}");
        let model = model.valid();

        let dir = tempfile::tempdir().unwrap();
        let config = DecoderFolderConfig::new("gpt2", config).unwrap();
        save_decoder(dir.path(), &model, &config, None).unwrap();
        assert_names(dir.path(), schedule, "kiln-gpt2");
        let folder = DecoderFolder::open(dir.path()).unwrap();
        assert_eq!(folder.config().decoder.mixers, model.stack.mixers());
        let (again, report) = folder.load(&device()).unwrap();
        assert!(report.is_exact(), "{report}");
        let given = input(2, 20, 0);
        let logits = |model: &Decoder| model.forward(&given, &mut Trace::nothing()).logits;
        logits(&again)
            .into_data()
            .assert_eq(&logits(&model).into_data(), true);
        if frozen {
            assert_state_spaces_stayed(&start.valid(), &again);
        }
    }
}

/// The parameters of state spaces, by their order.
#[derive(Default)]
struct StateSpaces {
    inside: bool,
    values: Vec<TensorData>,
}

impl ModuleVisitor for StateSpaces {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.inside |= name == "state_space";
    }

    fn exit_module(&mut self, name: &str, _: &str) {
        self.inside &= name != "state_space";
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.inside {
            self.values.push(param.val().into_data());
        }
    }
}

fn assert_state_spaces_stayed(before: &Decoder, after: &Decoder) {
    let of = |model: &Decoder| {
        let mut visitor = StateSpaces::default();
        model.visit(&mut visitor);
        visitor.values
    };
    let (before, after) = (of(before), of(after));
    assert!(!before.is_empty());
    for (before, after) in before.iter().zip(&after) {
        after.assert_eq(before, true);
    }
}

fn assert_names(dir: &Path, schedule: &str, model_type: &str) {
    let text = fs::read(dir.join(CONFIG_FILE)).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(json["model_type"], model_type, "{schedule}");
    let mixers = json["kiln"]["mixers"].as_array().unwrap();
    assert_eq!(mixers.len(), LAYERS);
}

#[test]
fn another_mixer_starts_anew_only_where_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let dense = config("attention").with_mixers(vec![]);
    let model = dense.init(&device());
    let folder_config = DecoderFolderConfig::new("gpt2", dense).unwrap();
    save_decoder(dir.path(), &model, &folder_config, None).unwrap();
    for schedule in SCHEDULES {
        let mixers = config(schedule).mixers;
        let open = |may_start| {
            let folder = DecoderFolder::open(dir.path()).unwrap();
            folder.with_mixers(mixers.clone(), may_start).unwrap()
        };
        let error = open(false).load(&device()).unwrap_err().to_string();
        assert!(error.contains("lacks weights of the mixers: "), "{error}");
        let (_, report) = open(true).load(&device()).unwrap();
        let is_of_mixer = |name: &String| name.contains(".mixer.");
        assert!(!report.missing.is_empty(), "{schedule}");
        assert!(report.missing.iter().all(is_of_mixer), "{report}");
    }
}

#[test]
fn an_encoder_sees_both_sides_and_comes_back_from_its_folder() {
    for schedule in SCHEDULES.into_iter().chain(ENCODER_SCHEDULES) {
        let mixers: MixerSchedule = schedule.parse().unwrap();
        let bert = BertConfig::new()
            .with_vocab_size(VOCABULARY)
            .with_hidden_size(8)
            .with_num_hidden_layers(LAYERS)
            .with_num_attention_heads(2)
            .with_intermediate_size(16)
            .with_max_position_embeddings(LENGTH)
            .with_initializer_range(0.3)
            .with_mixers(mixers.mixers(LAYERS).unwrap());
        let model = BertModelConfig::new(bert.clone(), Head::Encoder).init(&device());
        let given = |rows, length, padding| {
            let DecoderInput { input_ids, .. } = input(rows, length, 0);
            BertInput {
                token_type_ids: input_ids.zeros_like(),
                input_ids,
                padding,
            }
        };
        let hidden = model
            .forward(&given(1, 80, None), &mut Trace::nothing())
            .hidden;
        let padding: Vec<bool> = (0..LENGTH).map(|place| place >= 80).collect();
        let padding = Tensor::from_data(TensorData::new(padding, [1, LENGTH]), &device());
        let padded = given(1, LENGTH, Some(padding));
        let padded = model.forward(&padded, &mut Trace::nothing()).hidden;
        assert!(largest(hidden.clone() - padded.slice_dim(1, 0..80)) < 5e-5);

        // The first token hears of the last.
        let last = given(1, 80, None);
        let other = BertInput {
            input_ids: last
                .input_ids
                .clone()
                .slice_assign([0..1, 79..80], Tensor::from_data([[5]], &device())),
            ..last
        };
        let other = model.forward(&other, &mut Trace::nothing()).hidden;
        assert!(largest((hidden.clone() - other).slice_dim(1, 0..1)) > 0.0);

        let dir = tempfile::tempdir().unwrap();
        let config = PretrainedConfig::new(bert, Head::Encoder);
        save(dir.path(), &model, &config, SaveOptions::default()).unwrap();
        assert_names(dir.path(), schedule, "kiln-bert");
        let (again, report) = Pretrained::open(dir.path())
            .unwrap()
            .load_whole(None, &device())
            .unwrap();
        assert!(report.is_exact(), "{report}");
        let found = again.forward(&given(1, 80, None), &mut Trace::nothing());
        found
            .hidden
            .into_data()
            .assert_eq(&hidden.into_data(), true);
    }
}

#[test]
fn weight_decay_leaves_state_spaces_alone() {
    let device = device().autodiff();
    let attention = SpanAttentionConfig::new(4, 1).with_direction(Direction::Causal);
    let before = S4dSpec::default().init(&attention, &device).valid().train();
    let flow = Flow::new(
        Tensor::ones([1, 3, 4], &device),
        Tokens::new(Tensor::zeros([1, 3], &device), None),
    );
    // No gradient moves a weight.
    let loss = (Mix::forward(&before, flow, None, &mut Trace::nothing()) * 0.0).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &before);
    let adam = Adam {
        weight_decay: 0.5,
        ..Adam::default()
    };
    let after = adam.init(&before).step(0.1, before.clone(), gradients);
    let [of_before, of_after] = [&before, &after].map(|mixer| &mixer.state_space);
    let stayed = of_after.output_real.val().into_data();
    stayed.assert_eq(&of_before.output_real.val().into_data(), true);
    let shrunk = (before.project.weight.val() * 0.95 - after.project.weight.val()).abs();
    assert!(shrunk.max().into_scalar::<f32>() < 1e-6);
}
