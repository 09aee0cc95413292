//! `MiniLM` and `MiniLMv2`.

use burn::{prelude::*, tensor::Distribution};
use distill::{
    Objective, Signals,
    loss::{pairs::Pairs, relation::relation},
    objective::{MiniLm, RelationWeights},
};
use masformer_core::{Direction, HeadTrace, Keep, Layers, Span, Trace};

use super::{Fixture, signals};

fn layer([query, key, value]: [Tensor<3>; 3], direction: Direction) -> HeadTrace {
    HeadTrace {
        query,
        key,
        value,
        heads: 1,
        span: Span::Full,
        direction,
    }
}

fn with_layer(layer: HeadTrace, padding: Tensor<2, Bool>) -> Signals {
    let mut trace = Trace::new(Keep {
        heads: Layers::Last,
        ..Keep::default()
    });
    trace.start(1, &layer.query.zeros_like());
    trace.put_heads(layer);
    Signals {
        trace,
        ..signals(vec![], vec![], Some(padding))
    }
}

/// Compares the loss and all gradients of a file.
fn check(name: &str, method: &MiniLm, direction: Direction) {
    let fixture = Fixture::distillation(name);
    let padding = fixture.padding();
    let own =
        ["query", "key", "value"].map(|part| fixture.tracked::<3>(&format!("student.{part}")));
    let other =
        ["query", "key", "value"].map(|part| fixture.tensor::<3>(&format!("teacher.{part}")));
    let student = with_layer(layer(own.clone(), direction), padding.clone());
    let teacher = with_layer(layer(other, direction), padding);
    let terms = method.terms(&[], &student, Some(&teacher)).unwrap();
    fixture.assert_loss("loss", &terms.added[0]);
    let gradients = terms.added[0].backward();
    for (part, own) in ["query", "key", "value"].into_iter().zip(&own) {
        let expected = fixture.tensor::<3>(&format!("grad.student.{part}"));
        // A vector in no pair has no gradient, and zeros in the file.
        if expected.abs().max().into_scalar::<f32>() > 0.0 {
            fixture.assert_gradient(&format!("student.{part}"), own, &gradients);
        } else {
            assert!(own.grad(&gradients).is_none());
        }
    }
}

fn heads(name: &str, key: &str) -> usize {
    Fixture::distillation(name).number(key) as usize
}

#[test]
fn relations_of_version_2_are_those_of_the_public_code() {
    let name = "minilm_v2_qq_kk_vv";
    let method = MiniLm {
        heads: Some(heads(name, "relation_heads")),
        ..MiniLm::default()
    };
    check(name, &method, Direction::Bidirectional);

    let name = "minilm_v2_qk_vv_weighted";
    let fixture = Fixture::distillation(name);
    let weight = |pair: &str| f64::from(fixture.tensor::<1>(pair).into_scalar::<f32>());
    let method = MiniLm {
        pairs: RelationWeights {
            qk: weight("weight.query-key"),
            vv: weight("weight.value-value"),
            ..RelationWeights::default()
        },
        heads: Some(heads(name, "relation_heads")),
        ..MiniLm::default()
    };
    check(name, &method, Direction::Bidirectional);
}

#[test]
fn version_1_is_attention_and_the_relation_of_values() {
    for (name, direction) in [
        ("minilm_v1", Direction::Bidirectional),
        ("minilm_v1_causal", Direction::Causal),
    ] {
        let method = MiniLm {
            pairs: RelationWeights {
                qk: 1.0,
                vv: 1.0,
                ..RelationWeights::default()
            },
            heads: Some(heads(name, "heads")),
            ..MiniLm::default()
        };
        check(name, &method, direction);
    }
}

fn random(shape: [usize; 3]) -> Tensor<3> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::default())
}

fn value(loss: Tensor<1>) -> f32 {
    loss.into_scalar()
}

#[test]
fn a_window_as_long_as_the_text_is_full_attention_and_padding_does_not_count() {
    let device = Device::default();
    let loss =
        |span: &str, student: &Tensor<3>, teacher: &Tensor<3>, padding: Option<Tensor<2, Bool>>| {
            let [batch, length, _] = student.dims();
            let seen = (span.parse().unwrap(), Direction::Bidirectional);
            let pairs = Pairs::new(seen, [batch, length], padding.as_ref(), &device);
            let both = |vectors: &Tensor<3>| [vectors.clone(), vectors.clone()];
            value(relation(both(student), both(teacher), 2, &pairs))
        };
    let (student, teacher) = (random([2, 6, 4]), random([2, 6, 8]));
    let full = loss("full", &student, &teacher, None);
    assert!((loss("window:12", &student, &teacher, None) - full).abs() < 1e-6);
    assert!((loss("window:2", &student, &teacher, None) - full).abs() > 1e-3);
    assert!(loss("full", &student, &student, None).abs() < 1e-6);

    let longer = |vectors: &Tensor<3>| {
        let [batch, _, width] = vectors.dims();
        Tensor::cat(vec![vectors.clone(), random([batch, 3, width])], 1)
    };
    let padding = Tensor::<1, Int>::arange(0..9, &device)
        .unsqueeze::<2>()
        .repeat_dim(0, 2)
        .greater_equal_elem(6);
    let padded = loss("full", &longer(&student), &longer(&teacher), Some(padding));
    assert!((padded - full).abs() < 1e-5, "{padded} {full}");
    let nothing = Tensor::<2, Int>::zeros([2, 6], &device).equal_elem(0);
    assert!(loss("full", &student, &teacher, Some(nothing)).abs() < 1e-9);
}
