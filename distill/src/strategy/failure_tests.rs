use burn::{module::Module, nn::Linear, optim::GradientsParams, prelude::*};
use masformer_core::{Keep, Mlp};

use super::tests::{same, stage};
use crate::{
    Callback, Checkpoints, Context, MethodError, Objective, Position, Signals, StageError, Terms,
    toy::{Toy, ToyBatch, serial},
};

/// Does something to a run at one moment.
#[derive(Default)]
struct Meddle {
    input: Option<(usize, f32)>,
    gradient: Option<f32>,
    model: Option<fn(Toy) -> Toy>,
    fails_in: Option<usize>,
}

impl Callback<Toy> for Meddle {
    fn name(&self) -> &'static str {
        "meddle"
    }

    fn before_forward(
        &mut self,
        context: &Context,
        _: &Toy,
        batch: &mut ToyBatch,
    ) -> Result<(), MethodError> {
        if self.fails_in == Some(context.epoch) {
            return Err("out of ideas".into());
        }
        if let Some((epoch, value)) = self.input
            && context.epoch == epoch
        {
            batch.inputs = batch.inputs.clone().mul_scalar(value);
        }
        Ok(())
    }

    fn before_optimizer(
        &mut self,
        _: &Context,
        model: &Toy,
        gradients: &mut GradientsParams,
    ) -> Result<(), MethodError> {
        if let Some(factor) = self.gradient {
            let id = model.head.weight.id;
            let gradient = gradients.remove::<2>(id).ok_or("no gradient")?;
            gradients.register(id, gradient.mul_scalar(factor));
        }
        Ok(())
    }

    fn after_optimizer(&mut self, _: &Context, model: &Toy) -> Result<Option<Toy>, MethodError> {
        Ok(self.model.map(|change| change(model.clone())))
    }
}

/// Adds a constant to the loss, or an error.
struct Constant(Option<f32>);

impl Objective for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn keep(&self) -> Keep {
        Keep::default()
    }

    fn terms(
        &self,
        _: &[Linear],
        student: &Signals,
        _: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let value = self.0.ok_or("no constant")?;
        let term = Tensor::from_data([value], &student.logits[0].device());
        Ok(Terms {
            added: vec![term],
            ..Terms::default()
        })
    }
}

fn error_of(meddle: Meddle, model: Toy) -> (String, Option<usize>) {
    let directory = tempfile::tempdir().unwrap();
    let error = stage(directory.path(), 3, 4, same)
        .callback(meddle)
        .fit(model)
        .unwrap_err();
    let checkpoints = Checkpoints::new(directory.path().join("checkpoints"));
    let latest = checkpoints.latest().unwrap();
    (error.to_string(), latest.map(Position::epochs))
}

#[test]
fn the_first_place_that_is_not_finite_is_named() {
    let _turn = serial();
    let broken = |meddle, model, message: &str, checkpoint| {
        let (error, latest) = error_of(meddle, model);
        assert_eq!((error.as_str(), latest), (message, checkpoint));
    };
    let toy = || Toy::new(2, 3, 0.0);
    let input = Meddle {
        input: Some((2, f32::NAN)),
        ..Meddle::default()
    };
    broken(
        input,
        toy(),
        "the loss is not finite in epoch 2, step 3; first not finite: the embedding output",
        Some(1),
    );
    let mut overflowing = toy();
    let Mlp { inner, outer, .. } = &mut overflowing.layers[1];
    for linear in [inner, outer] {
        linear.weight = linear.weight.clone().map(|weight| weight.mul_scalar(1e30));
    }
    broken(
        Meddle::default(),
        overflowing,
        "the loss is not finite in epoch 1, step 1; first not finite: the output of layer 2",
        None,
    );
    let directory = tempfile::tempdir().unwrap();
    let infinite = stage(directory.path(), 1, 2, same).objective(Constant(Some(f32::INFINITY)));
    assert_eq!(
        infinite.fit(toy()).unwrap_err().to_string(),
        "the loss is not finite in epoch 1, step 1; first not finite: the loss itself"
    );
    let gradient = Meddle {
        gradient: Some(f32::NAN),
        ..Meddle::default()
    };
    broken(
        gradient,
        toy(),
        "the gradient is not finite in epoch 1, step 1; \
         first not finite: the gradient of `head.weight`",
        None,
    );
}

#[test]
fn a_broken_model_gets_no_checkpoint() {
    let _turn = serial();
    let meddle = Meddle {
        model: Some(|mut model| {
            model.head.bias = model.head.bias.map(|bias| bias.map(|value| value / 0.0));
            model
        }),
        ..Meddle::default()
    };
    let directory = tempfile::tempdir().unwrap();
    // One step an epoch, so that no loss is computed with the broken model.
    let error = stage(directory.path(), 3, 2, same)
        .callback(meddle)
        .fit(Toy::new(1, 3, 0.0));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the parameter `head.bias`"), "{error}");
    assert!(!directory.path().join("checkpoints").exists());
}

#[test]
fn a_replaced_model_is_trained_on() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let without_bias = Meddle {
        model: Some(|mut model| {
            model.head.bias = model
                .head
                .bias
                .map(|bias| bias.map(|value| value.zeros_like()));
            model
        }),
        ..Meddle::default()
    };
    let before = Toy::new(1, 3, 0.0);
    let fitted = stage(directory.path(), 2, 4, same)
        .callback(without_bias)
        .fit(before.clone());
    let model = fitted.unwrap().model;
    let bias = model.head.bias.as_ref().unwrap().val().into_data();
    assert!(bias.iter::<f32>().all(|value| value == 0.0));
    assert!(model.bits() != before.valid().bits());
}

#[test]
fn a_replacement_keeps_what_its_record_does_not_hold() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let swap = Meddle {
        model: Some(|mut model| {
            model.layers[0].dropout.prob = 0.25;
            model
        }),
        ..Meddle::default()
    };
    let fitted = stage(directory.path(), 1, 2, same)
        .callback(swap)
        .fit(Toy::new(1, 3, 0.0));
    let dropout = fitted.unwrap().model.layers[0].dropout.prob;
    assert!((dropout - 0.25).abs() < 1e-12);
}

#[test]
fn an_error_of_a_method_stops_the_training() {
    let _turn = serial();
    let meddle = Meddle {
        fails_in: Some(2),
        ..Meddle::default()
    };
    let (error, latest) = error_of(meddle, Toy::new(1, 3, 0.0));
    assert_eq!(error, "method `meddle`: out of ideas");
    assert_eq!(latest, Some(1));

    let directory = tempfile::tempdir().unwrap();
    let failing = stage(directory.path(), 1, 2, same).objective(Constant(None));
    let error = failing.fit(Toy::new(1, 3, 0.0)).unwrap_err();
    assert_eq!(error.to_string(), "method `constant`: no constant");
}

#[test]
fn a_model_without_trainable_parameters_is_refused() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let frozen = Toy::new(1, 3, 0.0).freeze();
    let error = stage(directory.path(), 1, 2, same).fit(frozen).unwrap_err();
    assert!(matches!(error, StageError::Untrainable), "{error}");
}
