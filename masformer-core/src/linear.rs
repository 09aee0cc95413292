//! Linear layers, and the forms that their weights may have.
//!
//! A form is a reparameterization of Burn's: the parameter stores a base and the form's own numbers, `val()` is the matrix
//! that they stand for, and a layer multiplies by its parts where it can. It is one file and one line here.

mod lora;
mod low_rank_rows;

use std::collections::BTreeSet;

use burn::{
    module::{LoraAdapter, Module, ModuleVisitor, Param, Reparameterization},
    nn::Linear,
    prelude::*,
};

use crate::ops;

pub use low_rank_rows::LowRankRows;

/// How a linear layer applies a weight that is no plain matrix.
pub trait WeightForm {
    /// `x W + b` `[N, F]` of the tokens `[N, D]`, with the stored base of the weight.
    fn apply(&self, input: Tensor<2>, base: Tensor<2>, bias: Tensor<1>) -> Tensor<2>;

    /// The width `F` of the output, with a base of this shape.
    fn outputs(&self, base: [usize; 2]) -> usize;

    /// Multiply-adds for a token, with a base of this shape, in a model that is used and not trained any more.
    fn multiply_adds(&self, base: [usize; 2]) -> usize;
}

/// The names of the forms that weights of a model have, wherever they are in it.
pub fn forms<M: Module>(model: &M) -> BTreeSet<String> {
    let mut forms = Forms::default();
    model.visit(&mut forms);
    forms.0
}

#[derive(Default)]
struct Forms(BTreeSet<String>);

impl ModuleVisitor for Forms {
    fn enter_module(&mut self, name: &str, container: &str) {
        if container == "Reparameterization" {
            self.0.insert(name.to_owned());
        }
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {}
}

/// Finds a form of one kind.
type Find = fn(&Param<Tensor<2>>) -> Option<&dyn WeightForm>;

/// The forms.
const FORMS: [Find; 2] = [find::<LoraAdapter>, find::<LowRankRows>];

fn find<F: WeightForm + Reparameterization>(weight: &Param<Tensor<2>>) -> Option<&dyn WeightForm> {
    let form = weight.reparameterization::<F>()?;
    Some(form)
}

/// The form of a weight; `None` for a plain matrix.
fn form(weight: &Param<Tensor<2>>) -> Option<&dyn WeightForm> {
    FORMS.iter().find_map(|find| find(weight))
}

/// BERT and GPT start every bias at zero; Burn would draw it like the weight.
pub fn zero_bias(mut linear: Linear) -> Linear {
    linear.bias = linear.bias.map(|bias| bias.map(|value| value.zeros_like()));
    linear
}

/// Burn's layer on a flat list of tokens, by [`ops::linear`](crate::ops::linear()) or as the form of its weight does it.
///
/// # Shapes
///
/// - input: `[N, D]`
/// - output: `[N, F]`
pub fn apply_linear(layer: &Linear, input: Tensor<2>) -> Tensor<2> {
    match form(&layer.weight) {
        Some(form) => form.apply(input, layer.weight.base(), bias(layer)),
        None => ops::linear(input, layer.weight.val(), bias(layer)),
    }
}

/// Whether the weight of a layer is a plain matrix, on which operations other than [`apply_linear`] may work.
pub fn is_plain(layer: &Linear) -> bool {
    form(&layer.weight).is_none()
}

/// The width `F` of a layer's output.
pub fn outputs(layer: &Linear) -> usize {
    let base = layer.weight.dims();
    form(&layer.weight).map_or(base[1], |form| form.outputs(base))
}

/// Multiply-adds of a layer for a token.
pub fn multiply_adds(layer: &Linear) -> usize {
    let base = layer.weight.dims();
    form(&layer.weight).map_or(base[0] * base[1], |form| form.multiply_adds(base))
}

/// The bias of a layer, or zeros.
pub(crate) fn bias(layer: &Linear) -> Tensor<1> {
    let none = || {
        let options = (&layer.weight.device(), layer.weight.dtype());
        Tensor::zeros([outputs(layer)], options)
    };
    layer.bias.as_ref().map_or_else(none, Param::val)
}
