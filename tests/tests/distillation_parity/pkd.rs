//! BERT-PKD's published functions.

use burn::nn::loss::CrossEntropyLossConfig;
use burn::prelude::*;
use distill::{
    Objective,
    objective::{Kd, Pkd},
};

use super::{Fixture, signals};

/// Hidden states whose first tokens, of layers 1 to `M - 1`, are `[B, M-1, D]`.
fn states(first: Tensor<3>) -> Vec<Tensor<3>> {
    let [batch, layers, hidden] = first.dims();
    let layer = |layer: usize| first.clone().slice([0..batch, layer..layer + 1, 0..hidden]);
    let zeros = || first.zeros_like().slice([0..batch, 0..1, 0..hidden]);
    let middle = (0..layers).map(layer);
    [zeros()]
        .into_iter()
        .chain(middle)
        .chain([zeros()])
        .collect()
}

#[test]
fn the_loss_and_its_gradients_are_those_of_the_published_code() {
    let fixture = Fixture::distillation("pkd");
    let (first, logits) = (
        fixture.tracked::<3>("student.patience"),
        fixture.tracked::<2>("student.logits"),
    );
    let [_, classes] = logits.dims();
    let student = signals(states(first.clone()), vec![logits.clone()], None);
    let teacher = signals(
        states(fixture.tensor("teacher.patience")),
        vec![fixture.tensor("teacher.logits")],
        None,
    );
    let (alpha, beta) = (fixture.number("alpha"), fixture.number("beta"));
    let term = |normalize, weight| {
        let pkd = Pkd {
            weight,
            normalize,
            ..Pkd::default()
        };
        let terms = pkd.terms(&[], &student, Some(&teacher)).unwrap();
        terms.added[0].clone()
    };
    fixture.assert_loss("patience_loss", &term(true, 1.0));
    fixture.assert_loss("patience_loss_unnormalised", &term(false, 1.0));
    let [_, layers, hidden] = first.dims();
    let sum = (layers * hidden) as f64;
    fixture.assert_loss("equation.patience_sum", &term(true, sum));

    let kd = Kd {
        weight: alpha / classes as f64,
        temperature: fixture.number("temperature"),
        ..Kd::default()
    };
    let kd = kd.terms(&[], &student, Some(&teacher)).unwrap();
    let (_, labels) = fixture.file.indices::<1>("labels").unwrap();
    let labels: Vec<i64> = labels.iter().map(|label| *label as i64).collect();
    let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &logits.device());
    let task = CrossEntropyLossConfig::new()
        .init(&logits.device())
        .forward(logits.clone(), labels);
    fixture.assert_loss("ce_loss", &task);
    let loss = task.mul_scalar(1.0 - alpha) + kd.added[0].clone() + term(true, beta);
    fixture.assert_loss("loss", &loss);
    let gradients = loss.backward();
    fixture.assert_gradient("student.patience", &first, &gradients);
    fixture.assert_gradient("student.logits", &logits, &gradients);
}

#[test]
fn layers_are_skipped_or_the_last() {
    use distill::objective::Patience;
    let pairs = |layers, student, teacher| {
        let pkd = Pkd {
            layers,
            ..Pkd::default()
        };
        pkd.pairs(student, teacher)
    };
    let skip = pairs(Patience::Skip, 6, 12).unwrap();
    assert_eq!(skip, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]);
    let last = pairs(Patience::Last, 6, 12).unwrap();
    assert_eq!(last, [(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]);
    assert!(pairs(Patience::Skip, 5, 12).is_err());
    assert!(pairs(Patience::Last, 6, 3).is_err());
    assert!(pairs(Patience::Last, 1, 3).is_err());
}
