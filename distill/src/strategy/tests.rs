use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use burn::{optim::GradientsParams, prelude::*, train::metric::LossMetric};

use crate::{
    Callback, Context, MethodError, Stage, StageConfig, StageError, Ui,
    toy::{Toy, ToyBatch, ToyLoader, serial},
};

/// A stage over batches of two samples.
pub(super) fn stage(
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

/// Leaves the settings as they are.
pub(super) fn same(_: &mut StageConfig) {}

/// Writes down what it is called for.
struct Diary {
    name: &'static str,
    entries: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    fn note(&self, what: &str, context: &Context) {
        let Context {
            epoch,
            iteration,
            step,
            ..
        } = context;
        let entry = format!("{} {what} {epoch}.{iteration}.{step}", self.name);
        self.entries.lock().unwrap().push(entry);
    }
}

impl Callback<Toy> for Diary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn before_forward(
        &mut self,
        context: &Context,
        _: &Toy,
        _: &mut ToyBatch,
    ) -> Result<(), MethodError> {
        self.note("forward", context);
        Ok(())
    }

    fn before_optimizer(
        &mut self,
        context: &Context,
        _: &Toy,
        _: &mut GradientsParams,
    ) -> Result<(), MethodError> {
        self.note("optimizer", context);
        Ok(())
    }

    fn after_optimizer(&mut self, context: &Context, _: &Toy) -> Result<Option<Toy>, MethodError> {
        self.note("optimized", context);
        Ok(None)
    }
}

#[test]
fn callbacks_are_called_in_the_order_in_which_they_were_added() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let entries = Arc::new(Mutex::new(Vec::new()));
    let diary = |name| Diary {
        name,
        entries: entries.clone(),
    };
    stage(directory.path(), 1, 4, |config| config.accumulation = 2)
        .callback(diary("b"))
        .callback(diary("a"))
        .fit(Toy::new(1, 3, 0.0))
        .unwrap();
    let events = [
        "forward 1.1.0",
        "forward 1.2.0",
        "optimizer 1.2.0",
        "optimized 1.2.1",
    ];
    let expected: Vec<String> = events
        .iter()
        .flat_map(|event| ["b", "a"].map(|name| format!("{name} {event}")))
        .collect();
    assert_eq!(*entries.lock().unwrap(), expected);

    let twice = stage(directory.path(), 1, 2, same)
        .callback(diary("a"))
        .callback(diary("a"))
        .fit(Toy::new(1, 3, 0.0));
    assert!(matches!(twice, Err(StageError::DuplicateMethod(name)) if name == "a"));
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
    ) -> Result<(), MethodError> {
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
