use burn::tensor::activation::log_softmax;
use proptest::prelude::*;

use super::*;
use crate::ops::agreement::{assert_same, multiplies_empty, random};

/// The definition, of logits.
fn composed(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
    let [rows, _] = logits.dims();
    let targets = targets.reshape([rows, 1]);
    let losses = log_softmax(logits, 1).gather(1, targets.clone().clamp_min(0));
    losses.neg().mask_fill(targets.lower_elem(0), 0.0)
}

fn in_column(losses: Tensor<1>) -> Tensor<2> {
    losses.unsqueeze_dim(1)
}

fn ids(targets: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(targets, device)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn all_forms_equal_the_definition(
        targets in prop::collection::vec(prop::option::of(0..64_i64), 0..40),
        vocabulary in 1..64_usize,
        width in 1..20_usize,
    ) {
        let device = Device::default().autodiff();
        let targets: Vec<i64> = targets
            .into_iter()
            .map(|target| target.map_or(-100, |target| target % vocabulary as i64))
            .collect();
        let rows = targets.len();
        prop_assume!(rows > 0 || multiplies_empty(&device));
        let targets = ids(&targets, &device);
        assert_same(
            &[random([rows, vocabulary], &device)],
            |[logits]| in_column(cross_entropy(logits, targets.clone())),
            |[logits]| composed(logits, targets.clone()),
        );
        // Each digit that a logit has before its point is one that its softmax has not, in either form.
        let small = |shape| random(shape, &device) * 0.5;
        assert_same(
            &[small([rows, width]), small([vocabulary, width])],
            |[hidden, head]| in_column(linear_cross_entropy(hidden, head, targets.clone())),
            |[hidden, head]| composed(hidden.matmul(head.transpose()), targets.clone()),
        );
        assert_same(
            &[small([rows, width]), small([vocabulary, width])],
            |[hidden, head]| {
                linear_cross_entropy_mean(hidden, head, targets.clone()).unsqueeze()
            },
            |[hidden, head]| {
                let losses = composed(hidden.matmul(head.transpose()), targets.clone());
                (losses.sum() / rows.max(1) as f64).unsqueeze()
            },
        );
    }
}

#[test]
fn chunks_of_tokens_add_up() {
    let device = Device::default().autodiff();
    let rows = 2 * FEWEST_TOKENS + 3;
    let vocabulary = LOGITS / FEWEST_TOKENS;
    let targets: Vec<i64> = (0..rows as i64)
        .map(|row| row * 31 % vocabulary as i64)
        .collect();
    let targets = ids(&targets, &device);
    let inputs = [random([rows, 2], &device), random([vocabulary, 2], &device)];
    let losses =
        |[hidden, head]: [Tensor<2>; 2]| composed(hidden.matmul(head.transpose()), targets.clone());
    assert_same(
        &inputs,
        |[hidden, head]| in_column(linear_cross_entropy(hidden, head, targets.clone())),
        losses,
    );
    assert_same(
        &inputs,
        |[hidden, head]| linear_cross_entropy_mean(hidden, head, targets.clone()).unsqueeze(),
        |inputs| losses(inputs).mean().unsqueeze(),
    );
}

#[test]
fn large_logits_do_not_overflow() {
    let device = Device::default();
    let logits = Tensor::<2>::from_data([[1000.0, 0.0], [-1000.0, -1000.0]], &device);
    let losses = cross_entropy(logits, ids(&[1, 0], &device));
    let expected = TensorData::from([1000.0_f32, std::f32::consts::LN_2]);
    let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-6);
    losses.into_data().assert_approx_eq(&expected, tolerance);
}
