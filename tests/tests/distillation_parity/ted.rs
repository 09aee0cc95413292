//! TED's official code, both stages.

use burn::{
    module::Param,
    nn::{
        Linear,
        loss::{CrossEntropyLossConfig, MseLoss, Reduction},
    },
    prelude::*,
};
use distill::{
    Given, LeftParts, Objective, Shape, Signals, TaskLoss,
    loss::{LogitsForm, Padding, logits::logits_distance},
    objective::{HeadActivation, StudentFilters, Ted, TedFilters},
};
use moebert_core::heads::Head;

use super::{Fixture, signals, tolerance};

/// A linear layer whose weights are tracked; the file has them `[out, in]`.
fn linear(fixture: &Fixture, name: &str) -> Linear {
    let weight = fixture.tensor::<2>(&format!("{name}.weight")).transpose();
    Linear {
        weight: Param::from_tensor(weight.autodiff().require_grad()),
        bias: Some(Param::from_tensor(fixture.tracked(&format!("{name}.bias")))),
    }
}

fn hidden(fixture: &Fixture, prefix: &str, filters: usize) -> Vec<Tensor<3>> {
    let state = |index| fixture.tensor::<3>(&format!("{prefix}hidden.{index}"));
    // Hidden state 0 has no filter.
    let first = state(0).zeros_like();
    [first].into_iter().chain((0..filters).map(state)).collect()
}

fn assert_linear(
    fixture: &Fixture,
    name: &str,
    layer: &Linear,
    gradients: &burn::tensor::Gradients,
) {
    let found = layer.weight.val().grad(gradients).unwrap().transpose();
    fixture.assert_close(&format!("grad.{name}.weight"), found, tolerance());
    let bias = layer.bias.as_ref().unwrap().val();
    fixture.assert_gradient(&format!("{name}.bias"), &bias, gradients);
}

fn integers(fixture: &Fixture, name: &str) -> Tensor<1, Int> {
    let values: Vec<i64> = match fixture.file.indices::<1>(name) {
        Ok((_, values)) => values.iter().map(|value| *value as i64).collect(),
        Err(error) => panic!("{error}"),
    };
    Tensor::from_data(values.as_slice(), &Device::default().autodiff())
}

/// Trains on the tensors of stage I, and compares the loss and all gradients.
fn stage_1(name: &str, head: Head, task: TaskLoss) {
    let fixture = Fixture::distillation(name);
    let filters = fixture.number("filters") as usize;
    let method = TedFilters {
        activation: HeadActivation::Gelu,
        dropout: 0.0,
        ..TedFilters::default()
    };
    let kinds: &[&str] = match head {
        Head::SpanQa => &["filter", "head"],
        _ => &["filter", "pooler", "head"],
    };
    let names: Vec<String> = (0..filters)
        .flat_map(|index| kinds.iter().map(move |kind| format!("{kind}.{index}")))
        .collect();
    let parts: Vec<Linear> = names.iter().map(|name| linear(&fixture, name)).collect();
    let student = Signals {
        task: Some(task),
        ..signals(
            hidden(&fixture, "", filters),
            vec![],
            Some(fixture.padding()),
        )
    };
    let terms = method.terms(&parts, &student, None).unwrap();
    fixture.assert_loss("loss", &terms.added[0]);
    let gradients = terms.added[0].backward();
    for (name, layer) in names.iter().zip(&parts) {
        assert_linear(&fixture, name, layer, &gradients);
    }

    // The parts that the method makes itself have these shapes.
    let shape = Shape {
        layers: filters,
        hidden: parts[0].weight.dims()[0],
        heads: 1,
        key_value: 1,
        head,
        is_causal: false,
    };
    let wide = TedFilters {
        width: Some(parts[0].weight.dims()[1]),
        ..method
    };
    let nothing = LeftParts::default();
    let made = wide.parts(Given {
        student: &shape,
        teacher: None,
        of_student: &nothing,
        of_teacher: &nothing,
        device: &fixture.device,
    });
    let made = made.unwrap();
    assert_eq!(wide.leaves(&parts, &shape).len(), filters);
    let dims = |parts: &[Linear]| {
        parts
            .iter()
            .map(|part| part.weight.dims())
            .collect::<Vec<_>>()
    };
    assert_eq!(dims(&made), dims(&parts));
}

fn cross_entropy(logits: &Tensor<2>, classes: &Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new()
        .init(&logits.device())
        .forward(logits.clone(), classes.clone())
}

#[test]
fn filters_learn_as_in_stage_1() {
    let name = "ted_stage1_classification";
    let labels = integers(&Fixture::distillation(name), "labels");
    let task = TaskLoss::new(move |logits| cross_entropy(&logits[0], &labels));
    stage_1(name, Head::Classification { classes: 3 }, task);

    let name = "ted_stage1_regression";
    let labels = Fixture::distillation(name).tensor::<1>("labels").autodiff();
    let task = TaskLoss::new(move |logits| {
        let scores = logits[0].clone().squeeze_dim::<1>(1);
        MseLoss::new().forward(scores, labels.clone(), Reduction::Mean)
    });
    stage_1(name, Head::Regression, task);

    let name = "ted_stage1_qa";
    let fixture = Fixture::distillation(name);
    let [start, end] = ["start_positions", "end_positions"].map(|side| integers(&fixture, side));
    // A position outside the input counts nowhere.
    let task = TaskLoss::new(move |logits| {
        let side = |logits: &Tensor<2>, positions: &Tensor<1, Int>| {
            let [_, length] = logits.dims();
            let inside = positions
                .clone()
                .lower_elem(length as i64)
                .argwhere()
                .squeeze_dim::<1>(1);
            cross_entropy(
                &logits.clone().select(0, inside.clone()),
                &positions.clone().select(0, inside),
            )
        };
        (side(&logits[0], &start) + side(&logits[1], &end)).div_scalar(2.0)
    });
    stage_1(name, Head::SpanQa, task);
}

#[test]
fn a_student_follows_filtered_states_as_in_stage_2() {
    for (name, kind, filters) in [
        ("ted_stage2_classification", "classification", 2),
        ("ted_stage2_qa", "qa", 2),
    ] {
        let fixture = Fixture::distillation(name);
        let own: Vec<Linear> = (0..filters)
            .map(|index| linear(&fixture, &format!("student.filter.{index}")))
            .collect();
        let other: Vec<Linear> = (0..filters)
            .map(|index| linear(&fixture, &format!("teacher.filter.{index}")).valid())
            .collect();
        let states: Vec<Tensor<3>> = hidden(&fixture, "student.", filters)
            .into_iter()
            .map(|state| state.autodiff().require_grad())
            .collect();
        let padding = Some(fixture.padding());
        let student = signals(states.clone(), vec![], padding.clone());
        let teacher = signals(hidden(&fixture, "teacher.", filters), vec![], padding);
        let both: Vec<Linear> = own.iter().chain(&other).cloned().collect();
        let term = |padding, weight: f64, filters: StudentFilters| {
            let parts = match filters {
                StudentFilters::Trained => &both,
                StudentFilters::Random => &own,
            };
            let ted = Ted {
                weight,
                padding,
                filters,
                ..Ted::default()
            };
            let terms = ted.terms(parts, &student, Some(&teacher)).unwrap();
            terms.added[0].clone()
        };
        fixture.assert_loss(
            "mse_loss",
            &term(Padding::Include, 1.0, StudentFilters::Trained),
        );
        fixture.assert_loss(
            "mse_loss_without_padding",
            &term(Padding::Exclude, 1.0, StudentFilters::Trained),
        );
        fixture.assert_loss(
            "lwd_mse_loss",
            &term(Padding::Include, 1.0, StudentFilters::Random),
        );

        let sides = if kind == "qa" { 2 } else { 1 };
        let logits = |model: &str| -> Vec<Tensor<2>> {
            (0..sides)
                .map(|side| fixture.tensor(&format!("{model}.logits.{side}")))
                .collect()
        };
        let temperature = fixture.number("temperature");
        let kl = logits_distance(
            &logits("student"),
            &logits("teacher"),
            LogitsForm::Kl,
            temperature,
        );
        fixture.assert_loss("kl_loss", &kl.unwrap().unwrap().autodiff());

        let loss = term(
            Padding::Include,
            fixture.number("mse_alpha"),
            StudentFilters::Trained,
        );
        let gradients = loss.backward();
        for (index, (filter, state)) in own.iter().zip(&states[1..]).enumerate() {
            assert_linear(
                &fixture,
                &format!("student.filter.{index}"),
                filter,
                &gradients,
            );
            let found = state.grad(&gradients).unwrap();
            fixture.assert_close(
                &format!("grad_mse.student.hidden.{index}"),
                found,
                tolerance(),
            );
        }
    }
}
