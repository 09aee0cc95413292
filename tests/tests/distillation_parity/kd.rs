//! The predictions' term of BERT-PKD's published code.

use distill::{Objective, objective::Kd};

use super::{Fixture, signals};

#[test]
fn the_published_term_is_the_divergence_over_the_classes() {
    let fixture = Fixture::distillation("pkd");
    let logits = fixture.tracked::<2>("student.logits");
    let [_, classes] = logits.dims();
    let student = signals(vec![], vec![logits], None);
    let teacher = signals(vec![], vec![fixture.tensor("teacher.logits")], None);
    let kd = Kd {
        weight: 1.0 / classes as f64,
        temperature: fixture.number("temperature"),
        ..Kd::default()
    };
    let terms = kd.terms(&[], &student, Some(&teacher)).unwrap();
    fixture.assert_loss("kd_loss", &terms.added[0]);
}
