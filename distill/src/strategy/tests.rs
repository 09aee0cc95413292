use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use masformer_core::Mlp;

use burn::{tensor::Gradients, train::metric::LossMetric};

use crate::{
    Callback, CallbackError, Checkpoints, Context, Stage, StageConfig, StageError, Step, Ui,
    toy::{Toy, ToyBatch, ToyLoader, serial},
};

use super::*;

type ToyStep = Step<Output<Toy>>;

fn stage(
    directory: &Path,
    epochs: usize,
    samples: usize,
    change: fn(&mut StageConfig),
) -> Stage<Toy> {
    let mut config = StageConfig {
        ui: Ui::None,
        ..StageConfig::new(directory, epochs, 0.01)
    };
    change(&mut config);
    Stage::new(
        config,
        ToyLoader::new(samples, 2).shared(),
        ToyLoader::new(4, 2).shared(),
    )
    .metrics((LossMetric::new(),))
}

fn same(_: &mut StageConfig) {}

/// Writes down what it is called for.
struct Diary {
    name: &'static str,
    order: i32,
    entries: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    fn note(&self, what: &str, context: &Context) -> Result<(), CallbackError> {
        let Context {
            epoch,
            iteration,
            step,
            ..
        } = context;
        let entry = format!("{} {what} {epoch}.{iteration}.{step}", self.name);
        self.entries.lock().unwrap().push(entry);
        Ok(())
    }
}

impl Callback<Toy> for Diary {
    fn name(&self) -> &str {
        self.name
    }

    fn order(&self) -> i32 {
        self.order
    }

    fn before_fit(&mut self, model: Toy) -> Result<Toy, CallbackError> {
        self.entries
            .lock()
            .unwrap()
            .push(format!("{} fit", self.name));
        Ok(model)
    }

    fn on_epoch_start(&mut self, context: &Context, _: &Toy) -> Result<(), CallbackError> {
        self.note("epoch", context)
    }

    fn before_forward(
        &mut self,
        context: &Context,
        _: &Toy,
        _: &mut ToyBatch,
    ) -> Result<(), CallbackError> {
        self.note("forward", context)
    }

    fn after_forward(
        &mut self,
        context: &Context,
        _: &Toy,
        _: &ToyBatch,
        _: &mut ToyStep,
    ) -> Result<(), CallbackError> {
        self.note("loss", context)
    }

    fn after_backward(
        &mut self,
        context: &Context,
        _: &Toy,
        _: &mut Gradients,
    ) -> Result<(), CallbackError> {
        self.note("backward", context)
    }

    fn before_optimizer(
        &mut self,
        context: &Context,
        _: &Toy,
        _: &mut GradientsParams,
    ) -> Result<(), CallbackError> {
        self.note("optimizer", context)
    }

    fn after_optimizer(
        &mut self,
        context: &Context,
        _: &Toy,
    ) -> Result<Option<Toy>, CallbackError> {
        self.note("optimized", context)?;
        Ok(None)
    }

    fn on_epoch_end(&mut self, context: &Context, _: &Toy) -> Result<(), CallbackError> {
        self.note("end", context)
    }

    fn on_validation_end(&mut self, context: &Context, model: &Toy) -> Result<(), CallbackError> {
        assert!(!model.head.weight.val().is_autodiff());
        let loss = context
            .store
            .find_metric("Loss", context.epoch, Aggregate::Mean, &Split::Valid);
        assert!(loss.is_some_and(|loss| loss > 0.0));
        self.note("valid", context)
    }

    fn after_fit(&mut self, model: Toy) -> Result<Toy, CallbackError> {
        self.entries
            .lock()
            .unwrap()
            .push(format!("{} fitted", self.name));
        Ok(model)
    }
}

#[test]
fn callbacks_fire_in_their_order() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let entries = Arc::new(Mutex::new(Vec::new()));
    let diary = |name, order| Diary {
        name,
        order,
        entries: entries.clone(),
    };
    stage(directory.path(), 1, 2, same)
        .callback(diary("b", 0))
        .callback(diary("c", 0))
        .callback(diary("a", -1))
        .fit(Toy::new(1, 3, 0.0))
        .unwrap();
    let events = [
        "fit",
        "epoch 1.0.0",
        "forward 1.1.0",
        "loss 1.1.0",
        "backward 1.1.0",
        "optimizer 1.1.0",
        "optimized 1.1.1",
        "end 1.1.1",
        "valid 1.1.1",
        "fitted",
    ];
    let expected: Vec<String> = events
        .iter()
        .flat_map(|event| ["a", "b", "c"].map(|name| format!("{name} {event}")))
        .collect();
    assert_eq!(*entries.lock().unwrap(), expected);

    let twice = stage(directory.path(), 1, 2, same)
        .callback(diary("a", 0))
        .callback(diary("a", 1))
        .fit(Toy::new(1, 3, 0.0));
    assert!(matches!(twice, Err(StageError::DuplicateCallback(name)) if name == "a"));
}

/// Keeps the gradients of the head before each optimiser step.
struct HeadGradients(Arc<Mutex<Vec<Vec<f64>>>>);

impl Callback<Toy> for HeadGradients {
    fn name(&self) -> &'static str {
        "head-gradients"
    }

    fn before_optimizer(
        &mut self,
        _: &Context,
        model: &Toy,
        gradients: &mut GradientsParams,
    ) -> Result<(), CallbackError> {
        let gradient = gradients
            .get::<2>(model.head.weight.id)
            .ok_or("no gradient")?;
        self.0
            .lock()
            .unwrap()
            .push(gradient.into_data().iter::<f64>().collect());
        Ok(())
    }
}

#[test]
fn accumulation_averages_the_batches_of_a_group() {
    let _turn = serial();
    // A rate too small to change a parameter keeps the gradients comparable.
    let gradients = |change: fn(&mut StageConfig)| {
        let directory = tempfile::tempdir().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        stage(directory.path(), 1, 10, change)
            .callback(HeadGradients(seen.clone()))
            .fit(Toy::new(1, 3, 0.0))
            .unwrap();
        Arc::into_inner(seen).unwrap().into_inner().unwrap()
    };
    let single = gradients(|config| config.learning_rate = 1e-30);
    let groups = gradients(|config| {
        config.learning_rate = 1e-30;
        config.accumulation = 3;
    });
    assert_eq!((single.len(), groups.len()), (5, 2));
    for (group, batches) in groups.iter().zip([&single[..3], &single[3..]]) {
        for (index, found) in group.iter().enumerate() {
            let mean = batches.iter().map(|batch| batch[index]).sum::<f64>() / batches.len() as f64;
            assert!((found - mean).abs() < 1e-7, "{found} {mean}");
        }
    }
}

#[test]
fn clipping_shortens_the_step_by_the_global_norm() {
    let _turn = serial();
    // With a large epsilon Adam's first step is proportional to the gradient.
    let moved = |change: fn(&mut StageConfig)| {
        let directory = tempfile::tempdir().unwrap();
        let before = Toy::new(1, 3, 0.0);
        let after = stage(directory.path(), 1, 2, change)
            .fit(before.clone())
            .unwrap()
            .model;
        let distance = |a: Tensor<2>, b: Tensor<2>| {
            f64::from((a.inner() - b).square().sum().into_scalar::<f32>())
        };
        let head = distance(before.head.weight.val(), after.head.weight.val());
        let inner = distance(
            before.layers[0].inner.weight.val(),
            after.layers[0].inner.weight.val(),
        );
        (head.sqrt(), inner.sqrt())
    };
    let free = moved(|config| {
        (config.adam.epsilon, config.learning_rate, config.clip_norm) = (1e3, 1e3, None);
    });
    let clipped = moved(|config| {
        (config.adam.epsilon, config.learning_rate, config.clip_norm) = (1e3, 1e3, Some(0.01));
    });
    let ratio = free.0 / clipped.0;
    assert!(ratio > 2.0, "{ratio}");
    assert!(
        (free.1 / clipped.1 / ratio - 1.0).abs() < 0.02,
        "{}",
        free.1 / clipped.1
    );
}

/// Does something to a run at one moment.
#[derive(Default)]
struct Meddle {
    input: Option<(usize, f32)>,
    loss: Option<f32>,
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
    ) -> Result<(), CallbackError> {
        if let Some((epoch, value)) = self.input
            && context.epoch == epoch
        {
            batch.inputs = batch.inputs.clone().mul_scalar(value);
        }
        Ok(())
    }

    fn after_forward(
        &mut self,
        context: &Context,
        _: &Toy,
        _: &ToyBatch,
        step: &mut ToyStep,
    ) -> Result<(), CallbackError> {
        if self.fails_in == Some(context.epoch) {
            return Err("out of ideas".into());
        }
        if let Some(factor) = self.loss {
            step.loss = step.loss.clone().mul_scalar(factor);
        }
        Ok(())
    }

    fn after_backward(
        &mut self,
        _: &Context,
        model: &Toy,
        gradients: &mut Gradients,
    ) -> Result<(), CallbackError> {
        if let Some(factor) = self.gradient {
            let weight = model.head.weight.val();
            let gradient = weight.grad(gradients).ok_or("no gradient")?;
            weight.grad_replace(gradients, gradient.mul_scalar(factor));
        }
        Ok(())
    }

    fn after_optimizer(&mut self, _: &Context, model: &Toy) -> Result<Option<Toy>, CallbackError> {
        Ok(self.model.map(|change| change(model.clone())))
    }
}

fn error_of(meddle: Meddle, model: Toy) -> (String, Option<usize>) {
    let directory = tempfile::tempdir().unwrap();
    let error = stage(directory.path(), 3, 4, same)
        .callback(meddle)
        .fit(model)
        .unwrap_err();
    let checkpoints = Checkpoints::new(directory.path().join("checkpoints"), 1);
    (error.to_string(), checkpoints.latest().unwrap())
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
    let loss = Meddle {
        loss: Some(f32::INFINITY),
        ..Meddle::default()
    };
    broken(
        loss,
        toy(),
        "the loss is not finite in epoch 1, step 1; first not finite: the loss itself",
        None,
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

    let (error, _) = error_of(
        Meddle {
            model: Some(|_| Toy::new(1, 5, 0.0)),
            ..Meddle::default()
        },
        Toy::new(1, 3, 0.0),
    );
    assert!(error.contains("different structure"), "{error}");
}

#[test]
fn an_error_of_a_callback_stops_the_training() {
    let _turn = serial();
    let meddle = Meddle {
        fails_in: Some(2),
        ..Meddle::default()
    };
    let (error, latest) = error_of(meddle, Toy::new(1, 3, 0.0));
    assert_eq!(error, "callback `meddle`: out of ideas");
    assert_eq!(latest, Some(1));
}

#[test]
fn a_model_without_trainable_parameters_is_refused() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let frozen = Toy::new(1, 3, 0.0).freeze();
    let error = stage(directory.path(), 1, 2, same).fit(frozen).unwrap_err();
    assert!(matches!(error, StageError::Untrainable), "{error}");
}
