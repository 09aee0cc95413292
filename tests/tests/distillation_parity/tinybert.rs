//! `TinyBERT`'s published loop.

use burn::{module::Param, nn::Linear, prelude::*};
use distill::{
    Objective,
    loss::{
        LogitsForm, Padding,
        logits::kl,
        pairs::Pairs,
        scores::{attention_scores, scores},
    },
    objective::TinyBert,
};
use masformer_core::{Direction, HeadTrace, Span};

use super::{Fixture, signals};

const LAYERS: usize = 2;

#[test]
fn the_losses_and_their_gradients_are_those_of_the_published_loop() {
    let fixture = Fixture::distillation("tinybert");
    let padding = fixture.padding();
    let full = (Span::Full, Direction::Bidirectional);
    let pairs = Pairs::new(full, padding.dims(), Some(&padding), &fixture.device);
    let score = |model: &str, layer: usize| format!("{model}.scores.{layer}");
    let own: Vec<Tensor<4>> = (0..LAYERS)
        .map(|layer| fixture.tracked(&score("student", layer)))
        .collect();
    let attention = |padded| {
        let layers = own.iter().enumerate().map(|(layer, own)| {
            let other = fixture.tensor::<4>(&score("teacher", layer));
            scores(own.clone(), other, &pairs, padded)
        });
        layers.reduce(|sum, loss| sum + loss).unwrap()
    };
    let published = attention(Padding::Include);
    fixture.assert_loss("attention_loss", &published);
    fixture.assert_loss("attention_loss_real_pairs", &attention(Padding::Exclude));

    // `[out, in]` in the file.
    let weight = fixture
        .tensor::<2>("projection.weight")
        .transpose()
        .autodiff()
        .require_grad();
    let bias = fixture.tracked::<1>("projection.bias");
    let projection = Linear {
        weight: Param::from_tensor(weight.clone()),
        bias: Some(Param::from_tensor(bias.clone())),
    };
    let state = |model: &str, layer: usize| format!("{model}.hidden.{layer}");
    let hidden: Vec<Tensor<3>> = (0..=LAYERS)
        .map(|layer| fixture.tracked(&state("student", layer)))
        .collect();
    let targets = (0..=LAYERS)
        .map(|layer| fixture.tensor(&state("teacher", layer)))
        .collect();
    let student = signals(hidden.clone(), vec![], Some(padding.clone()));
    let teacher = signals(targets, vec![], Some(padding.clone()));
    let term = |padding| {
        let method = TinyBert {
            attention: 0.0,
            padding,
            ..TinyBert::default()
        };
        let parts = [projection.clone()];
        let terms = method.terms(&parts, &student, Some(&teacher)).unwrap();
        terms.added[0].clone()
    };
    let projected = term(Padding::Include);
    fixture.assert_loss("hidden_loss", &projected);
    fixture.assert_loss("hidden_loss_without_padding", &term(Padding::Exclude));

    let gradients = (published + projected).backward();
    for (layer, own) in own.iter().enumerate() {
        fixture.assert_gradient(&score("student", layer), own, &gradients);
    }
    for (layer, hidden) in hidden.iter().enumerate() {
        fixture.assert_gradient(&state("student", layer), hidden, &gradients);
    }
    let found = weight.grad(&gradients).unwrap().transpose();
    fixture.assert_close("grad.projection.weight", found, super::tolerance());
    fixture.assert_gradient("projection.bias", &bias, &gradients);
}

#[test]
fn the_prediction_loss_is_a_soft_cross_entropy_over_the_classes() {
    let fixture = Fixture::distillation("tinybert");
    let (student, teacher) = (
        fixture.tensor::<2>("student.logits"),
        fixture.tensor::<2>("teacher.logits"),
    );
    let [_, classes] = student.dims();
    // The divergence and the teacher's own entropy make the cross entropy.
    let even = teacher.zeros_like();
    let entropy =
        (classes as f64).ln() - f64::from(kl(even, teacher.clone(), 1.0).into_scalar::<f32>());
    let divergence = LogitsForm::Kl.loss(student, teacher, 1.0).unwrap();
    let found = (divergence + entropy).div_scalar(classes as f64);
    fixture.assert_loss("prediction_loss", &found.autodiff());
}

#[test]
fn scores_are_products_of_queries_and_keys() {
    let device = Device::default();
    let tensor = |values: [[f32; 4]; 2]| Tensor::<2>::from_data(values, &device).unsqueeze::<3>();
    let layer = HeadTrace {
        query: tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 4.0]]),
        key: Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &device).unsqueeze(),
        value: Tensor::<2>::from_data([[0.0, 0.0], [0.0, 0.0]], &device).unsqueeze(),
        heads: 2,
        span: Span::Full,
        direction: Direction::Bidirectional,
    };
    // One key head of width 2 for two query heads.
    let root = 2.0_f32.sqrt();
    let expected = [[[[1.0, 3.0], [2.0, 4.0]], [[2.0, 6.0], [8.0, 16.0]]]];
    let expected = Tensor::<4>::from_data(expected, &device) / root;
    let difference: f32 = (attention_scores(&layer) - expected)
        .abs()
        .max()
        .into_scalar();
    assert!(difference < 1e-6);
}
