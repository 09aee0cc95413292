//! Low-rank adapters on frozen weights.

use std::collections::HashSet;

use burn::{
    module::{LoraAdapter, Module, Param, ParamId, Reparameterizer},
    prelude::*,
    tensor::Distribution,
};
use serde::{Deserialize, Serialize};

use super::{Surgery, check_plain};
use crate::{MethodError, Names};

/// The parts of a model that are trained whole where it has them: the head of a task and the routers of experts.
const WHOLE: [&str; 2] = ["head", "router"];

/// Freezes a model and gives linear layers a trained change of low rank, `x W + s (x A) B` (`LoRA`, Hu et al. 2021,
/// arXiv 2106.09685). The head of a task and the routers of experts are trained whole, so they get no adapter.
///
/// `A` begins uniform between `-1/sqrt(D)` and `1/sqrt(D)`, as in the PEFT library, and `B` at zero: the first step begins
/// with the model as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// The rank `r`.
    pub rank: usize,
    /// The scale is `alpha / r`, or `alpha / sqrt(r)`.
    pub alpha: f64,
    /// What `alpha` is divided by.
    pub scale: LoraScale,
    /// The parts of the model whose linear layers get an adapter.
    pub targets: Names,
    /// Further parts that are trained whole.
    pub train: Names,
}

/// What the scale of an adapter is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoraScale {
    /// The rank.
    #[default]
    Rank,
    /// Its square root (rsLoRA, arXiv 2312.03732).
    SqrtRank,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            scale: LoraScale::default(),
            targets: Names::new(["query", "value"]),
            train: Names::default(),
        }
    }
}

impl<M: Module> Surgery<M> for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn check(&self) -> Result<(), MethodError> {
        if self.rank == 0 {
            return Err("`rank` must be at least 1, not 0".into());
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(format!("`alpha` must be above 0, not {}", self.alpha).into());
        }
        if self.targets.is_empty() {
            return Err("`targets` must name at least one part, such as `query`".into());
        }
        Ok(())
    }

    fn apply(&self, model: M) -> Result<M, MethodError> {
        check_plain(&model)?;
        let mut whole: HashSet<ParamId> = self.train.ids(&model)?.into_iter().collect();
        for part in WHOLE {
            // A model may have no such part.
            whole.extend(Names::new([part]).ids(&model).unwrap_or_default());
        }
        let targets = self.adapted(&model, &whole)?;
        let rank = self.rank as f64;
        Ok(model.apply_reparameterization(Attach {
            rank: self.rank,
            scale: match self.scale {
                LoraScale::Rank => self.alpha / rank,
                LoraScale::SqrtRank => self.alpha / rank.sqrt(),
            },
            targets,
            whole,
        }))
    }
}

impl Lora {
    /// The weights that get an adapter: those of the targets that are not trained whole.
    fn adapted<M: Module>(
        &self,
        model: &M,
        whole: &HashSet<ParamId>,
    ) -> Result<HashSet<ParamId>, MethodError> {
        let mut adapted = HashSet::new();
        for name in self.targets.each() {
            let weights = name.linear_weights(model)?.into_iter();
            let weights: Vec<ParamId> = weights.filter(|id| !whole.contains(id)).collect();
            if weights.is_empty() {
                return Err(format!(
                    "the part `{name}` is trained whole and gets no adapter; leave it out of `targets`"
                )
                .into());
            }
            adapted.extend(weights);
        }
        Ok(adapted)
    }
}

/// Attaches the adapters and freezes the rest.
struct Attach {
    rank: usize,
    scale: f64,
    targets: HashSet<ParamId>,
    whole: HashSet<ParamId>,
}

impl Reparameterizer for Attach {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        _: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let adapter = self.targets.contains(&param.id).then(|| {
            let base = param.base();
            let [rows, columns] = [base.dims()[0], base.dims()[1]];
            let (device, bound) = (base.device(), 1.0 / (rows as f64).sqrt());
            let options = (&device, base.dtype());
            let uniform = Distribution::Uniform(-bound, bound);
            LoraAdapter {
                a: Param::from_tensor(Tensor::random([rows, self.rank], uniform, options)),
                b: Param::from_tensor(Tensor::zeros([self.rank, columns], options)),
                scale: self.scale,
            }
        });
        let trains = self.whole.contains(&param.id);
        (param.set_require_grad(trains), adapter)
    }
}

#[cfg(test)]
mod tests {
    use burn::train::metric::LossMetric;

    use super::*;
    use crate::{
        Stage, StageConfig, Ui,
        toy::{Toy, ToyLoader, serial},
    };

    fn lora() -> Lora {
        Lora {
            rank: 2,
            targets: Names::new(["inner"]),
            ..Lora::default()
        }
    }

    #[test]
    fn adapters_and_the_head_are_trained_and_nothing_else() {
        let _turn = serial();
        let toy = Toy::new(2, 3, 0.0);
        let before = toy.clone();
        let adapted = lora().apply(toy.clone()).unwrap();
        assert!(adapted.layers[1].inner.weight.adapter().is_some());
        assert!(adapted.layers[1].outer.weight.adapter().is_none());
        let batch = ToyLoader::new(4, 4).batch(&[0, 1, 2, 3]);
        let logits = |toy: &Toy| {
            use crate::Trainable;
            let step = toy.forward_step(batch.clone(), masformer_core::Keep::default());
            step.signals.logits[0].clone().inner().into_data()
        };
        logits(&adapted).assert_eq(&logits(&toy), true);

        let directory = tempfile::tempdir().unwrap();
        let config = StageConfig {
            ui: Ui::None,
            ..StageConfig::new(directory.path(), 3, 0.05)
        };
        let loader = || ToyLoader::new(12, 4).shared();
        let fitted = Stage::new(config, loader(), loader())
            .metrics((LossMetric::new(),))
            .surgery(lora())
            .fit(toy);
        let after = fitted.unwrap().model;
        let same = |one: &Param<Tensor<2>>, other: &Param<Tensor<2>>| {
            one.base().inner().into_data() == other.base().into_data()
        };
        let [before_layer, layer] = [&before.layers[0], &after.layers[0]];
        assert!(same(&before_layer.inner.weight, &layer.inner.weight));
        assert!(same(&before_layer.outer.weight, &layer.outer.weight));
        assert!(!same(&before.head.weight, &after.head.weight));
        let factor = layer.inner.weight.adapter().unwrap().b.val();
        assert!(factor.abs().max().into_scalar::<f32>() > 0.0);
        // The merged model is the same function.
        let merged = after.clone().materialize();
        let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-5);
        let logits = |toy: &Toy| {
            use crate::Trainable;
            let batch = crate::WithoutAutodiff::without_autodiff(&batch);
            let step = toy.forward_step(batch, masformer_core::Keep::default());
            step.signals.logits[0].clone().into_data()
        };
        logits(&merged).assert_approx_eq(&logits(&after), tolerance);
    }

    #[test]
    fn what_cannot_be_adapted_is_refused() {
        let _turn = serial();
        let error = |lora: Lora| lora.apply(Toy::new(1, 3, 0.0)).unwrap_err().to_string();
        let aimed = |targets: &[&str]| Lora {
            targets: Names::new(targets.iter().copied()),
            ..lora()
        };
        assert!(error(aimed(&["query"])).starts_with("no parameter is in `query`"));
        let head = error(aimed(&["inner", "head"]));
        assert!(
            head.starts_with("the part `head` is trained whole"),
            "{head}"
        );
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refused = |change: fn(&mut Lora), key: &str| {
            let mut lora = lora();
            change(&mut lora);
            let error = Surgery::<Toy>::check(&lora).unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        };
        refused(|lora| lora.rank = 0, "`rank` must be at least 1");
        refused(|lora| lora.alpha = 0.0, "`alpha` must be above 0");
        refused(|lora| lora.targets = Names::default(), "`targets` must");
        assert!(Surgery::<Toy>::check(&lora()).is_ok());
    }

    #[test]
    fn the_router_is_trained_whole() {
        /// A model with a router beside what is adapted.
        #[derive(Module, Debug)]
        struct Routed {
            router: burn::nn::Linear,
            inner: burn::nn::Linear,
        }
        let _turn = serial();
        let device = Device::flex().autodiff();
        let linear = || burn::nn::LinearConfig::new(4, 2).init(&device);
        let model = Routed {
            router: linear(),
            inner: linear(),
        };
        // A target that a router is a part of adapts the rest of it.
        let everything = Lora {
            targets: Names::new(["weight"]),
            ..lora()
        };
        let adapted = everything.apply(model).unwrap();
        assert!(adapted.router.weight.adapter().is_none());
        assert!(adapted.router.weight.is_require_grad());
        assert!(adapted.inner.weight.adapter().is_some());
        assert!(!adapted.inner.weight.is_require_grad());
    }
}
