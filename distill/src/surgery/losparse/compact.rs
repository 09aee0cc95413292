//! What is left of pruned weights.

use std::collections::HashMap;

use burn::{
    module::{
        LoraAdapter, Module, ModuleVisitor, Param, ParamId, Reparameterization, Reparameterizer,
    },
    prelude::*,
    tensor::Shape,
};
use masformer_core::linear::LowRankRows;

/// A model with split weights, as it is kept: with the rows of each rest that are not zero, or plain where those and the
/// factors are no fewer numbers than the weight.
pub(super) fn compact<M: Module>(model: M) -> M {
    let mut splits = Splits::default();
    model.visit(&mut splits);
    let split = splits.found.into_iter();
    let compact = split.filter_map(|(id, split)| Some((id, split.compact()?)));
    let compact = Compact(compact.collect());
    model.materialize().apply_reparameterization(compact)
}

/// A weight in its parts: what is left `[D, F]`, and the factors `[D, r]` and `[r, F]`.
struct Parts {
    rest: Tensor<2>,
    factors: Vec<Tensor<2>>,
}

impl Parts {
    /// The columns of the rest that are left, and the form; `None` where the whole has no more numbers.
    fn compact(self) -> Option<(Tensor<2>, LowRankRows)> {
        let [a, b] = <[_; 2]>::try_from(self.factors).ok()?;
        let (shape, [_, rank]) = (self.rest.dims(), a.dims());
        let largest = self.rest.clone().abs().max_dim(0);
        #[expect(
            clippy::disallowed_methods,
            reason = "the shape of the result depends on what is zero; once, after the training"
        )]
        let largest = largest.into_data();
        let columns = largest.iter::<f32>().enumerate();
        let left = columns.filter(|(_, largest)| *largest > 0.0);
        let mut rows: Vec<i64> = left.map(|(row, _)| row as i64).collect();
        if rows.is_empty() {
            // A row of zeros, rather than a tensor without numbers.
            rows.push(0);
        }
        let [inputs, outputs] = shape;
        if LowRankRows::numbers(shape, rank, rows.len()) >= inputs * outputs {
            return None;
        }
        let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &self.rest.device());
        let base = self.rest.select(1, rows.clone());
        Some((base, LowRankRows::new(a, b, rows)))
    }
}

/// Finds the parts of split weights.
#[derive(Default)]
struct Splits {
    last: Option<(ParamId, Tensor<2>)>,
    current: Option<ParamId>,
    found: HashMap<ParamId, Parts>,
}

impl ModuleVisitor for Splits {
    fn enter_module(&mut self, name: &str, container: &str) {
        if container == "Reparameterization"
            && name == LoraAdapter::NAME
            && let Some((id, rest)) = self.last.take()
        {
            let factors = vec![];
            self.found.insert(id, Parts { rest, factors });
            self.current = Some(id);
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if container == "Reparameterization" {
            self.current = None;
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D != 2 {
            return;
        }
        let value = param.base().without_autodiff();
        let shape = value.dims();
        let value = value.reshape([shape[0], shape[1]]);
        let current = self.current.and_then(|id| self.found.get_mut(&id));
        match current {
            Some(parts) => parts.factors.push(value),
            None => self.last = Some((param.id, value)),
        }
    }
}

/// Gives weights their form.
struct Compact(HashMap<ParamId, (Tensor<2>, LowRankRows)>);

impl Reparameterizer for Compact {
    type Reparam = LowRankRows;

    fn reparameterize<const D: usize>(
        &mut self,
        _: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LowRankRows>) {
        let Some((base, form)) = self.0.remove(&param.id) else {
            return (param, None);
        };
        let shape: Shape = base.dims().to_vec().into();
        (param.map(|_| base.reshape(shape)), Some(form))
    }
}
