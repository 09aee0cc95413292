//! An average of the parameters over the training.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    prelude::*,
    tensor::FloatDType,
};
use serde::{Deserialize, Serialize};

use super::{Callback, CallbackState, Context};
use crate::{MethodError, Trainable};

/// Validates and keeps the exponential moving average of the parameters, not those of the last step (Polyak and Juditsky,
/// 1992; with exponential weights as in Mean Teacher, arXiv 1703.01780).
///
/// After step `t`, counted from 1, the average of each trained parameter `w` becomes `d a + (1 - d) w` with
/// `d = min(decay, (1 + t) / (10 + t))`: without the second term, the average of a short training is still near the model
/// that it began with. The model in training is not changed. Frozen parameters have no average.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ema {
    /// The share of the average that a step leaves, from 0 to below 1. Default 0.999.
    pub decay: f64,
    /// The averages of parameters by their ids, flat.
    #[serde(skip)]
    averages: BTreeMap<String, Tensor<1>>,
}

impl Default for Ema {
    fn default() -> Self {
        Self {
            decay: 0.999,
            averages: BTreeMap::new(),
        }
    }
}

impl<M: Trainable> Callback<M> for Ema {
    fn name(&self) -> &'static str {
        "ema"
    }

    fn check(&self) -> Result<(), MethodError> {
        if (0.0..1.0).contains(&self.decay) {
            return Ok(());
        }
        Err(format!("`decay` is {}; expected 0 or more and below 1", self.decay).into())
    }

    fn begin(&mut self, model: &M) -> Result<(), MethodError> {
        self.take(model, 0.0);
        Ok(())
    }

    fn after_optimizer(&mut self, context: &Context, model: &M) -> Result<Option<M>, MethodError> {
        let steps = context.step as f64;
        self.take(model, self.decay.min((1.0 + steps) / (10.0 + steps)));
        Ok(None)
    }

    fn for_evaluation(&self, model: M) -> Result<M, MethodError> {
        Ok(model.map(&mut Replace(&self.averages)))
    }

    fn state(&self) -> CallbackState {
        CallbackState {
            tensors: self.averages.clone(),
            ..CallbackState::default()
        }
    }

    fn load_state(&mut self, state: CallbackState) -> Result<(), MethodError> {
        if state.tensors.keys().ne(self.averages.keys()) {
            return Err("the checkpoint has averages of other parameters".into());
        }
        self.averages = state.tensors;
        Ok(())
    }
}

impl Ema {
    /// Lets a share `decay` of the averages stay, and takes the rest from a model.
    fn take<M: Module>(&mut self, model: &M, decay: f64) {
        model.visit(&mut Take { ema: self, decay });
    }
}

struct Take<'a> {
    ema: &'a mut Ema,
    decay: f64,
}

impl ModuleVisitor for Take<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = param.val().without_autodiff().cast(FloatDType::F32);
        let value = value.flatten::<1>(0, D - 1);
        let averages = &mut self.ema.averages;
        let average = match averages.remove(&key(param.id)) {
            Some(average) => average * self.decay + value * (1.0 - self.decay),
            None => value,
        };
        averages.insert(key(param.id), average);
    }
}

/// Puts averages in the place of the parameters.
struct Replace<'a>(&'a BTreeMap<String, Tensor<1>>);

impl ModuleMapper for Replace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(average) = self.0.get(&key(param.id)) else {
            return param;
        };
        param.map(|value| average.clone().cast(value.dtype()).reshape(value.shape()))
    }
}

fn key(id: ParamId) -> String {
    id.to_string()
}

#[cfg(test)]
mod tests {
    use burn::train::metric::{AccuracyMetric, LossMetric, store::Direction};

    use super::*;
    use crate::{
        Fitted, Schedule, Stage, StageConfig, StageError, Ui,
        toy::{Toy, ToyLoader, serial},
    };

    const STEPS: usize = 8;

    fn stage(directory: &std::path::Path) -> Stage<Toy> {
        let config = StageConfig {
            ui: Ui::None,
            ..StageConfig::new(directory, STEPS / 2, 0.05)
        };
        let loader = || ToyLoader::new(8, 4).shared();
        Stage::new(config, loader(), loader()).metrics((LossMetric::new(), AccuracyMetric::new()))
    }

    fn toy() -> Toy {
        let toy = Toy::new(1, 3, 0.1);
        toy.bits();
        toy
    }

    /// Keeps the model after each step.
    #[derive(Clone, Default)]
    struct Steps(std::sync::Arc<std::sync::Mutex<Vec<Toy>>>);

    impl Callback<Toy> for Steps {
        fn name(&self) -> &'static str {
            "steps"
        }

        fn after_optimizer(
            &mut self,
            _: &Context,
            model: &Toy,
        ) -> Result<Option<Toy>, MethodError> {
            self.0.lock().unwrap().push(model.valid());
            Ok(None)
        }
    }

    fn first_weights(toy: &Toy) -> Vec<f64> {
        toy.layers[0]
            .inner
            .weight
            .val()
            .into_data()
            .iter()
            .collect()
    }

    #[test]
    fn the_model_that_is_kept_is_the_average_of_the_steps() {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let (begin, steps) = (toy(), Steps::default());
        let ema = Ema {
            decay: 0.4,
            ..Ema::default()
        };
        let fitted = stage(directory.path())
            .callback(steps.clone())
            .callback(ema);
        let fitted = fitted.fit(begin.clone()).unwrap();
        let steps = steps.0.lock().unwrap();
        assert_eq!(steps.len(), STEPS);
        let mut expected = first_weights(&begin.valid());
        for (model, step) in steps.iter().zip(1..) {
            let decay = 0.4_f64.min((1.0 + f64::from(step)) / (10.0 + f64::from(step)));
            for (average, weight) in expected.iter_mut().zip(first_weights(model)) {
                *average = decay * *average + (1.0 - decay) * weight;
            }
        }
        let last = first_weights(&steps[STEPS - 1]);
        let found = first_weights(&fitted.model);
        assert_ne!(found, last);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn averages_are_of_what_is_trained_also_where_a_model_comes_without_autodiff() {
        let _turn = serial();
        let fit = |toy: Toy| {
            let directory = tempfile::tempdir().unwrap();
            let stage = stage(directory.path()).callback(Ema::default());
            stage.fit(toy).unwrap().model.bits()
        };
        assert_eq!(fit(toy().valid()), fit(toy()));
    }

    #[test]
    fn without_decay_it_is_the_last_step() {
        let _turn = serial();
        let fit = |ema: Option<Ema>| {
            let directory = tempfile::tempdir().unwrap();
            let mut stage = stage(directory.path());
            if let Some(ema) = ema {
                stage = stage.callback(ema);
            }
            stage.fit(toy()).unwrap().model.bits()
        };
        let none = Ema {
            decay: 0.0,
            ..Ema::default()
        };
        assert_eq!(fit(Some(none)), fit(None));
    }

    /// The best epoch may be an earlier one, whose averages are those of its checkpoint.
    #[test]
    fn a_stop_changes_no_bit() {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let fit = |directory: &std::path::Path, epochs: usize, best: bool| -> Fitted<Toy> {
            let config = StageConfig {
                ui: Ui::None,
                schedule: Schedule::Constant,
                ..StageConfig::new(directory, epochs, 0.05)
            };
            let loader = || ToyLoader::new(8, 4).shared();
            let mut stage = Stage::new(config, loader(), loader())
                .metrics((LossMetric::new(), AccuracyMetric::new()))
                .callback(Ema::default());
            if best {
                // The loss falls, so that the first epoch is the one with the highest.
                stage = stage.keep_best(&LossMetric::new(), Direction::Highest);
            }
            stage.fit(toy()).unwrap()
        };
        let whole = fit(&directory.path().join("whole"), 4, false).model.bits();
        let parts = directory.path().join("parts");
        let first = fit(&parts, 1, false).model.bits();
        assert_eq!(fit(&parts, 4, false).model.bits(), whole);
        assert_ne!(first, whole);
        let again = fit(&parts, 4, false);
        assert_eq!(again.model.bits(), whole);
        let best = fit(&directory.path().join("best"), 4, true);
        assert_eq!((best.kept, best.model.bits()), (1, first));
    }

    #[test]
    fn a_decay_that_cannot_work_is_refused() {
        let _turn = serial();
        for decay in [1.0, -0.1, f64::NAN] {
            let directory = tempfile::tempdir().unwrap();
            let ema = Ema {
                decay,
                ..Ema::default()
            };
            let error = stage(directory.path())
                .callback(ema)
                .fit(toy())
                .unwrap_err();
            let StageError::Method { source, .. } = &error else {
                panic!("{error}");
            };
            assert!(source.to_string().starts_with("`decay` is"), "{source}");
        }
    }
}
