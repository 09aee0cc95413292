use burn::{module::Param, nn::Initializer, tensor::Distribution};

use super::*;
use crate::{
    feed_forward::MlpConfig, flow::Tokens, layer::LayerConfig, mixer::MixerSpec, span::Direction,
    stack::Stack,
};

const LENGTH: usize = 24;

fn attention(span: &str) -> SpanAttentionConfig {
    SpanAttentionConfig::new(8, 2)
        .with_span(span.parse().unwrap())
        .with_direction(Direction::Causal)
        .with_initializer(Initializer::Normal {
            mean: 0.0,
            std: 0.5,
        })
}

fn spec(text: &str) -> SpadeSpec {
    match text.parse() {
        Ok(MixerSpec::Spade(spec)) => spec,
        other => panic!("{other:?}"),
    }
}

fn flow(hidden: Tensor<3>) -> Flow {
    let [batch, length, _] = hidden.dims();
    let ids = Tensor::zeros([batch, length], &hidden.device());
    Flow::new(hidden, Tokens::new(ids, None))
}

fn random(device: &Device) -> Tensor<3> {
    Tensor::random([2, LENGTH, 8], Distribution::Normal(0.0, 1.0), device)
}

fn largest(difference: Tensor<3>) -> f32 {
    difference.abs().max().into_scalar()
}

#[test]
fn text_names_the_keys_that_differ() {
    for (text, canonical) in [
        ("spade:combine=concat", "spade"),
        (
            "spade:states=4,train=false,combine=stack",
            "spade:combine=stack,states=4,train=false",
        ),
    ] {
        assert_eq!(text.parse::<MixerSpec>().unwrap().to_string(), canonical);
    }
    for (text, problem) in [
        (
            "spade:combine=sum",
            "the mixer `spade`: `combine` cannot be `sum`: unknown variant `sum`, expected one of `concat`, `add`",
        ),
        (
            "spade:states=3",
            "the mixer `spade`: `states` must be an even number",
        ),
        (
            "spade:combin=add",
            "the mixer `spade` has no key `combin`; did you mean `combine`?",
        ),
    ] {
        let error = text.parse::<MixerSpec>().unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}");
    }
}

#[test]
fn a_stacked_state_space_that_hands_on_its_input_is_local_attention() {
    let device = Device::default();
    let config = attention("window:5");
    let mut spade = spec("spade:states=4,combine=stack").init(&config, &device);
    let space = &mut spade.state_space;
    space.output_real = Param::from_tensor(space.output_real.val().zeros_like());
    space.output_imag = Param::from_tensor(space.output_imag.val().zeros_like());
    space.direct = Param::from_tensor(space.direct.val().ones_like());
    let input = random(&device);
    let expected = spade
        .attention
        .forward(input.clone(), None, &mut Trace::nothing());
    let output = Mix::forward(&spade, flow(input), None, &mut Trace::nothing());
    output.into_data().assert_eq(&expected.into_data(), true);
}

#[test]
fn a_window_as_long_as_the_sequence_is_full_attention() {
    let device = Device::default();
    for text in [
        "spade:states=4",
        "spade:states=4,combine=add",
        "spade:states=4,combine=stack",
    ] {
        let full = spec(text).init(&attention("full"), &device);
        let window = spec(text).init(&attention("window:24"), &device);
        let window = window.load_record(full.clone().into_record());
        let input = random(&device);
        let expected = Mix::forward(&full, flow(input.clone()), None, &mut Trace::nothing());
        let found = Mix::forward(&window, flow(input), None, &mut Trace::nothing());
        assert!(largest(found - expected) < 1e-5, "{text}");
    }
}

/// The positions that have a gradient from the last token's output of two layers of `window:3`.
fn reached(mixers: [&str; 2]) -> Vec<usize> {
    let device = Device::default().autodiff();
    let mlp = MlpConfig::new(8, 12);
    let layer = |mixer: &str| {
        LayerConfig::new(attention("window:3"))
            .with_mixer(mixer.parse().unwrap())
            .init(mlp.init(&device), &device)
    };
    let stack = Stack {
        layers: mixers.map(layer).into(),
    };
    let input = random(&device).require_grad();
    let output = stack.forward(flow(input.clone()), None, &mut Trace::nothing());
    let last = output.hidden.slice_dim(1, LENGTH - 1..LENGTH);
    // Normalised rows sum to a constant.
    let weight = Tensor::random(last.shape(), Distribution::Normal(0.0, 1.0), &device);
    let gradients = (last * weight).sum().backward();
    let gradient = input.grad(&gradients).unwrap().abs().sum_dim(2).sum_dim(0);
    let sizes: Vec<f32> = gradient.into_data().iter().collect();
    (0..LENGTH).filter(|&place| sizes[place] > 0.0).collect()
}

#[test]
fn every_token_before_is_heard_through_the_layer_with_the_state_space_alone() {
    let all: Vec<usize> = (0..LENGTH).collect();
    let near: Vec<usize> = (LENGTH - 5..LENGTH).collect();
    assert_eq!(reached(["attention", "attention"]), near);
    for text in [
        "spade:states=4",
        "spade:states=4,combine=add",
        "spade:states=4,combine=stack",
    ] {
        assert_eq!(reached([text, "attention"]), all, "{text}");
    }
}

#[test]
fn costs_are_those_of_both_parts() {
    let device = Device::default();
    let config = attention("window:5");
    for (text, join) in [
        ("spade:states=4", 2 * 8 * 8),
        ("spade:states=4,combine=add", 0),
    ] {
        let spade = spec(text).init(&config, &device);
        let parts = spade.state_space.cost(10) + spade.attention.cost(10);
        assert_eq!(spade.cost(10), parts + 10 * join);
        assert_eq!(spec(text).reach(config.span).span, Some(config.span));
    }
}
