//! What a forward pass keeps, layer by layer, in encoders and decoders.

use std::convert::Infallible;

use burn::prelude::*;
use masformer_core::{
    DecoderConfig, DecoderInput, Keep, Layers, Mixer, Mlp, Norm, SpanAttention, Stack, Trace,
    linear::apply_linear,
};
use moebert_core::{
    bert::{Bert, BertConfig, BertInput},
    expert::ExpertLayer,
    half::Half,
    router::{HashRouter, Router},
};

const LAYERS: usize = 3;
const HIDDEN: usize = 8;
const VOCABULARY: usize = 11;

/// A model: its layers, and its forward pass.
struct Model {
    stack: Stack<Half>,
    is_pre_norm: bool,
    pass: Box<dyn Fn(&mut Trace)>,
}

impl Model {
    fn trace(&self, keep: Keep) -> Trace {
        let mut trace = Trace::new(keep);
        (self.pass)(&mut trace);
        trace
    }
}

/// Probes are leaves of a graph, so they need autodiff.
fn device() -> Device {
    Device::default().autodiff()
}

fn ids() -> Tensor<2, Int> {
    Tensor::from_data([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], &device())
}

/// An encoder and a decoder with these feed-forward halves.
fn models(half: fn(Mlp) -> Half) -> [Model; 2] {
    let device = device();
    let bert = BertConfig::new()
        .with_vocab_size(VOCABULARY)
        .with_hidden_size(HIDDEN)
        .with_num_hidden_layers(LAYERS)
        .with_num_attention_heads(2)
        .with_intermediate_size(12)
        .with_max_position_embeddings(5)
        .with_hidden_dropout_prob(0.0)
        .with_attention_probs_dropout_prob(0.0)
        .with_initializer_range(0.5)
        .init(&device);
    let of_dense = |_, old: Half| match old {
        Half::Dense(mlp) => Ok::<_, Infallible>(half(mlp)),
        experts @ Half::Experts(_) => Ok(experts),
    };
    let bert = Bert {
        stack: bert.stack.with_halves(of_dense).unwrap(),
        ..bert
    };
    let encoder = Model {
        stack: bert.stack.clone(),
        is_pre_norm: false,
        pass: Box::new(move |trace| {
            let input = BertInput {
                input_ids: ids(),
                token_type_ids: ids().zeros_like(),
                padding: None,
            };
            bert.forward(&input, trace);
        }),
    };

    let spans = ["full", "window:2", "full"].map(|span| span.parse().unwrap());
    let decoder = DecoderConfig::new(VOCABULARY, 5, HIDDEN, 2, 12, spans.into())
        .with_embedding_dropout(0.0)
        .with_attention_dropout(0.0)
        .with_residual_dropout(0.0)
        .with_initializer_range(0.5)
        .init(&device)
        .with_halves(|_, mlp| Ok::<_, Infallible>(half(mlp)))
        .unwrap();
    let decoder = Model {
        stack: decoder.stack.clone(),
        is_pre_norm: true,
        pass: Box::new(move |trace| {
            let input = DecoderInput {
                input_ids: ids(),
                padding: None,
            };
            decoder.forward(&input, trace);
        }),
    };
    [encoder, decoder]
}

fn experts(mlp: Mlp) -> Half {
    let routing = [0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1];
    Half::Experts(ExpertLayer {
        experts: vec![mlp.clone(), mlp],
        router: Router::HashRandom(HashRouter::new(&routing, &device())),
    })
}

/// Each choice, and the layers and hidden states that it means for three layers.
fn choices() -> [(Layers, Vec<usize>, Vec<usize>); 6] {
    [
        (Layers::None, vec![], vec![]),
        (Layers::All, vec![0, 1, 2], vec![0, 1, 2, 3]),
        (Layers::Last, vec![2], vec![3]),
        (Layers::Only([1].into()), vec![1], vec![1]),
        (Layers::Only([0, 2, 7].into()), vec![0, 2], vec![0, 2]),
        (Layers::OnlyAndLast([0].into()), vec![0, 2], vec![0, 3]),
    ]
}

/// The indices of what a trace has kept: hidden states, heads, routes and probes.
fn kept(trace: &Trace) -> [Vec<usize>; 4] {
    [
        trace.hidden.keys().copied().collect(),
        trace.heads.keys().copied().collect(),
        trace.routes.keys().copied().collect(),
        trace.probes.keys().copied().collect(),
    ]
}

#[test]
fn each_wish_keeps_its_layers_and_nothing_else() {
    let none = Vec::new;
    let [dense, sparse] = [models(Half::Dense), models(experts)];
    for (layers, indices, states) in choices() {
        let wish = |set: fn(&mut Keep, Layers)| {
            let mut keep = Keep::default();
            set(&mut keep, layers.clone());
            keep
        };
        for model in dense.iter().chain(&sparse) {
            let hidden = model.trace(wish(|keep, layers| keep.hidden = layers));
            assert_eq!(hidden.layers(), LAYERS);
            assert_eq!(kept(&hidden), [states.clone(), none(), none(), none()]);
            let heads = model.trace(wish(|keep, layers| keep.heads = layers));
            assert_eq!(kept(&heads), [none(), indices.clone(), none(), none()]);
        }
        for model in &sparse {
            let routes = model.trace(wish(|keep, layers| keep.routes = layers));
            assert_eq!(kept(&routes), [none(), none(), indices.clone(), none()]);
        }
        for model in &dense {
            let probes = model.trace(wish(|keep, layers| keep.probes = layers));
            assert_eq!(kept(&probes), [none(), none(), none(), indices.clone()]);
        }
    }
}

#[test]
fn a_hidden_state_is_the_same_whatever_else_is_kept() {
    for model in models(experts) {
        let everything = model.trace(Keep {
            hidden: Layers::All,
            heads: Layers::All,
            routes: Layers::All,
            probes: Layers::All,
            logits: false,
        });
        let alone = model.trace(Keep {
            hidden: Layers::OnlyAndLast([1].into()),
            ..Keep::default()
        });
        assert_eq!(kept(&alone)[0], [1, 3]);
        for (index, state) in alone.hidden {
            let expected = everything.hidden[&index].to_data();
            state.into_data().assert_eq(&expected, true);
        }
    }
}

/// What the mixer of a layer reads when the layer's input is `hidden`.
fn mixer_input(norm: &Norm, is_pre_norm: bool, hidden: Tensor<3>) -> Tensor<3> {
    if is_pre_norm {
        norm.forward(hidden)
    } else {
        hidden
    }
}

fn attention(mixer: &Mixer) -> &SpanAttention {
    match mixer {
        Mixer::Attention(attention) => attention,
        other => panic!("expected attention, got {other:?}"),
    }
}

#[test]
fn heads_are_the_projections_of_what_the_mixer_reads() {
    for model in models(Half::Dense) {
        let trace = model.trace(Keep {
            hidden: Layers::All,
            heads: Layers::All,
            ..Keep::default()
        });
        for (index, heads) in trace.heads {
            let layer = &model.stack.layers[index];
            let hidden = trace.hidden[&index].clone();
            let input = mixer_input(&layer.mixer_norm, model.is_pre_norm, hidden);
            let attention = attention(&layer.mixer);
            for (found, projection) in [
                (heads.query, &attention.query),
                (heads.key, &attention.key),
                (heads.value, &attention.value),
            ] {
                let expected = apply_linear(projection, input.clone().flatten(0, 1));
                let expected = expected.reshape([2, 5, HIDDEN]).into_data();
                found.into_data().assert_eq(&expected, true);
            }
        }
    }
}
