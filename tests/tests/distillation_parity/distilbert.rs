//! `DistilBERT`'s published loop.

use burn::prelude::*;
use distill::{Objective, loss::logits::kl, objective::DistilBert};

use super::{Fixture, signals};

#[test]
fn the_terms_and_their_gradients_are_those_of_the_published_loop() {
    let fixture = Fixture::distillation("distilbert");
    let padding = fixture.padding();
    let hidden = fixture.tracked::<3>("student.hidden");
    let student = signals(vec![hidden.clone()], vec![], Some(padding.clone()));
    let teacher = signals(
        vec![fixture.tensor("teacher.hidden")],
        vec![],
        Some(padding.clone()),
    );
    let terms = DistilBert::default().terms(&[], &student, Some(&teacher));
    let cosine = terms.unwrap().added[0].clone();
    fixture.assert_loss("cosine_loss", &cosine);

    // The predictions of real tokens, as a language model's are compared.
    let logits = fixture.tracked::<3>("student.logits");
    let (_, mask) = fixture.file.indices::<2>("attention_mask").unwrap();
    let real: Vec<i64> = mask
        .iter()
        .zip(0..)
        .filter(|(real, _)| **real == 1)
        .map(|(_, place)| place)
        .collect();
    let real = |logits: Tensor<3>| {
        let places = Tensor::<1, Int>::from_data(real.as_slice(), &logits.device());
        logits.flatten::<2>(0, 1).select(0, places)
    };
    let other = real(fixture.tensor("teacher.logits"));
    let ce = kl(real(logits), other, fixture.number("temperature"));
    fixture.assert_loss("ce_loss", &ce);

    let weight = fixture.number("alpha_cos");
    let gradients = cosine.mul_scalar(weight).backward();
    fixture.assert_gradient("student.hidden", &hidden, &gradients);
}
