//! Weights as a product of low rank and a rest that is pruned.

mod compact;

use std::collections::HashSet;

use burn::{
    linalg::svd,
    module::{LoraAdapter, Module, Param, ParamId, Reparameterizer},
    prelude::*,
    tensor::FloatDType,
};
use serde::{Deserialize, Serialize};

use super::{Surgery, check_plain};
use crate::{Method, MethodError, Names, Trainable, callback::Pruning};

use compact::compact;

/// Sweeps of the singular value decomposition for each value, at most; few need more than three.
const SWEEPS: usize = 60;

/// Parts that stay whole where they are among the targets: the routers of experts.
const WHOLE: &str = "router";

/// Writes each weight as `W = A B + S` and prunes `S` while all three are trained (`LoSparse`, Li et al. 2023,
/// arXiv 2306.11222): what neurons share goes into the product of low rank, and what single neurons have beside it stays
/// as whole rows of `S`.
///
/// Ranks and rows are those of a matrix `[output, input]`, as in the paper and in files; a row is a neuron. Weights here
/// are stored `[input, output]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoSparse {
    /// The share of a weight's parameters in its factors.
    pub rank: f64,
    /// The parts of the model whose linear layers are split.
    pub targets: Names,
    /// How the weights are kept.
    pub form: Form,
    /// How the rest is pruned.
    #[serde(flatten)]
    pub pruning: Pruning,
}

/// How weights are kept after their training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As factors and the rows of `S` that are not zero, where those are fewer numbers than the matrix has.
    #[default]
    Compact,
    /// As plain matrices `A B + S`, which every tool reads.
    Dense,
}

impl Default for LoSparse {
    fn default() -> Self {
        Self {
            rank: 0.05,
            targets: Names::new(["stack"]),
            form: Form::Compact,
            pruning: Pruning::default(),
        }
    }
}

impl LoSparse {
    /// The surgery and the callback.
    pub fn methods<M: Trainable>(self) -> Vec<Method<M>> {
        let pruning = self.pruning.clone();
        vec![
            Method::Surgery(Box::new(self)),
            Method::Callback(Box::new(pruning.init())),
        ]
    }

    /// The rank of the factors of a weight with so many inputs and outputs: `ceil(rank * i * o / (i + o))`, at least 1
    /// and at most the smaller number.
    fn rank_of(&self, inputs: usize, outputs: usize) -> usize {
        let share = (inputs * outputs) as f64 / (inputs + outputs) as f64;
        let rank = (self.rank * share).ceil() as usize;
        rank.clamp(1, inputs.min(outputs))
    }
}

impl<M: Module> Surgery<M> for LoSparse {
    fn name(&self) -> &'static str {
        "losparse"
    }

    fn check(&self) -> Result<(), MethodError> {
        if !(self.rank > 0.0 && self.rank < 1.0) {
            return Err(format!("`rank` must be above 0 and below 1, not {}", self.rank).into());
        }
        if self.targets.is_empty() {
            return Err("`targets` must name at least one part, such as `stack`".into());
        }
        self.pruning.check()
    }

    fn apply(&self, model: M) -> Result<M, MethodError> {
        check_plain(&model)?;
        let whole = Names::new([WHOLE]).ids(&model).unwrap_or_default();
        let weights = self.targets.linear_weights(&model)?;
        let weights = weights.into_iter().filter(|id| !whole.contains(id));
        Ok(model.apply_reparameterization(Split {
            settings: self,
            weights: weights.collect(),
        }))
    }

    fn finish(&self, model: M) -> Result<M, MethodError> {
        Ok(match self.form {
            Form::Compact => compact(model),
            Form::Dense => model,
        })
    }
}

/// Splits weights.
struct Split<'a> {
    settings: &'a LoSparse,
    weights: HashSet<ParamId>,
}

impl Reparameterizer for Split<'_> {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        _: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        if !self.weights.contains(&param.id) {
            return (param, None);
        }
        let mut factors = None;
        let rest = param.map(|weight| {
            let (dims, dtype) = (weight.dims(), weight.dtype());
            // The decomposition has no gradient.
            let is_autodiff = weight.is_autodiff();
            let restored = |tensor: Tensor<2>| {
                let tensor = tensor.cast(dtype);
                if is_autodiff {
                    tensor.autodiff()
                } else {
                    tensor
                }
            };
            let weight = weight.without_autodiff().cast(FloatDType::F32);
            let weight: Tensor<2> = weight.reshape([dims[0], dims[1]]);
            let rank = self.settings.rank_of(dims[0], dims[1]);
            let (left, values, right) = svd::<2, 1>(weight.clone(), SWEEPS);
            let root = values.narrow(0, 0, rank).sqrt();
            let a = left.narrow(1, 0, rank) * root.clone().unsqueeze_dim(0);
            let b = right.narrow(0, 0, rank) * root.unsqueeze_dim(1);
            let rest = weight - a.clone().matmul(b.clone());
            factors = Some(LoraAdapter {
                a: Param::from_tensor(restored(a)),
                b: Param::from_tensor(restored(b)),
                scale: 1.0,
            });
            restored(rest).reshape(dims)
        });
        (rest.set_require_grad(true), factors)
    }
}

#[cfg(test)]
mod tests {
    use burn::{tensor::Tolerance, train::metric::LossMetric};
    use masformer_core::linear::forms;

    use super::*;
    use crate::{
        Callback, Context, Fitted, Stage, StageConfig, StageError, Ui,
        surgery::Lora,
        toy::{Toy, ToyLoader, serial},
    };

    fn settings(keep: f64) -> LoSparse {
        LoSparse {
            rank: 0.2,
            targets: Names::new(["layers"]),
            form: Form::Dense,
            pruning: Pruning {
                keep,
                every: 2,
                start: 0.1,
                settle: 0.3,
                ..Pruning::default()
            },
        }
    }

    fn toy() -> Toy {
        let toy = Toy::new(2, 3, 0.1);
        toy.bits();
        toy
    }

    /// Stops the training after a step.
    struct StopAfter(usize);

    impl Callback<Toy> for StopAfter {
        fn name(&self) -> &'static str {
            "stop"
        }

        fn after_optimizer(
            &mut self,
            context: &Context,
            _: &Toy,
        ) -> Result<Option<Toy>, MethodError> {
            if context.step == self.0 {
                context.interrupter.stop(Some("test"));
            }
            Ok(None)
        }
    }

    fn fit(
        directory: &std::path::Path,
        settings: LoSparse,
        stop: Option<usize>,
    ) -> Result<Fitted<Toy>, StageError> {
        let config = StageConfig {
            ui: Ui::None,
            ..StageConfig::new(directory, 3, 0.05)
        };
        let loader = || ToyLoader::new(20, 4).shared();
        let mut stage = Stage::new(config, loader(), loader())
            .metrics((LossMetric::new(),))
            .methods(settings.methods());
        if let Some(step) = stop {
            stage = stage.callback(StopAfter(step));
        }
        stage.fit(toy())
    }

    /// The share of rows, weighed by their numbers, that is not zero.
    fn left(toy: &Toy) -> f64 {
        let (mut left, mut all) = (0, 0);
        for layer in &toy.layers {
            for linear in [&layer.inner, &layer.outer] {
                let rest = linear.weight.base();
                let [inputs, outputs] = rest.dims();
                let rows = rest.abs().sum_dim(0).into_data();
                left += inputs * rows.iter::<f32>().filter(|sum| *sum > 0.0).count();
                all += inputs * outputs;
            }
        }
        left as f64 / all as f64
    }

    #[test]
    fn the_share_that_is_asked_for_is_left_and_the_rest_is_zero() {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let fit = |keep: f64| {
            let directory = directory.path().join(keep.to_string());
            fit(&directory, settings(keep), None).unwrap().model
        };
        // Whole rows have 3 or 4 of 48 numbers.
        let half = left(&fit(0.5));
        assert!((0.5..0.6).contains(&half), "{half}");
        assert!(left(&fit(1.0)) > 0.99);
        assert!(left(&fit(0.0)) < 0.1);
    }

    #[test]
    fn what_is_kept_is_what_was_trained() {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let fit = |form: Form, name: &str| {
            let settings = LoSparse {
                form,
                ..settings(0.0)
            };
            fit(&directory.path().join(name), settings, None)
                .unwrap()
                .model
        };
        let dense = fit(Form::Dense, "dense").materialize();
        let compact = fit(Form::Compact, "compact");
        let kept: Vec<String> = forms(&compact).into_iter().collect();
        assert_eq!(kept, ["losparse"]);
        assert!(compact.num_params() < dense.num_params());
        // A stage that has ended gives the same once more.
        let again = fit(Form::Compact, "compact");
        assert_eq!(again.bits(), compact.bits());
        for (kept, trained) in compact.layers.iter().zip(&dense.layers) {
            let [kept, trained] = [kept, trained].map(|layer| layer.inner.weight.val().into_data());
            kept.assert_approx_eq::<f32>(&trained, Tolerance::absolute(1e-5));
        }
    }

    #[test]
    fn a_weight_with_as_many_numbers_stays_whole() {
        let _turn = serial();
        let settings = LoSparse {
            form: Form::Compact,
            ..settings(1.0)
        };
        let model = settings.finish(settings.apply(toy()).unwrap()).unwrap();
        assert!(forms(&model).is_empty());
    }

    #[test]
    fn a_stop_changes_no_bit() {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let whole = fit(&directory.path().join("whole"), settings(0.4), None).unwrap();
        let parts = directory.path().join("parts");
        let stopped = fit(&parts, settings(0.4), Some(8));
        assert!(matches!(stopped, Err(StageError::Interrupted { .. })));
        let again = fit(&parts, settings(0.4), None).unwrap();
        assert_eq!(again.model.bits(), whole.model.bits());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let _turn = serial();
        let check = |settings: &LoSparse| Surgery::<Toy>::check(settings);
        let wrong = [
            LoSparse {
                rank: 1.0,
                ..settings(0.5)
            },
            settings(1.1),
            LoSparse {
                pruning: Pruning {
                    start: 0.5,
                    settle: 0.5,
                    ..Pruning::default()
                },
                ..settings(0.5)
            },
        ];
        assert!(check(&settings(0.5)).is_ok());
        assert!(wrong.iter().all(|settings| check(settings).is_err()));
        let lora = Lora {
            targets: Names::new(["inner"]),
            ..Lora::default()
        };
        let adapted = lora.apply(toy()).unwrap();
        assert!(settings(0.5).apply(adapted).is_err());
    }
}
