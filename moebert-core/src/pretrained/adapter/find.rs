//! Finds the adapters of a model.

use burn::{
    module::{LoraAdapter, Module, ModuleVisitor, Param, Reparameterization},
    nn::Linear,
    prelude::*,
};
use masformer_core::{Mixer, module_path::ModulePath};

use super::super::family::POOLER_WEIGHT;
use crate::heads::BertModel;

/// Whether some weight of a model has a low-rank adapter.
pub fn has_adapters<M: Module>(model: &M) -> bool {
    !adapted_weights(model).is_empty()
}

/// The names of the weights that have a low-rank adapter, wherever they are in a model.
pub(super) fn adapted_weights<M: Module>(model: &M) -> Vec<String> {
    let mut adapted = Adapted::default();
    model.visit(&mut adapted);
    adapted.weights
}

#[derive(Default)]
struct Adapted {
    path: ModulePath,
    weights: Vec<String>,
}

impl ModuleVisitor for Adapted {
    fn enter_module(&mut self, name: &str, container: &str) {
        if container == "Reparameterization" && name == LoraAdapter::NAME {
            self.weights.push(self.path.to_string());
        }
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {}
}

/// The linear layers of a model that Transformers' has, too, but for the head, each with the name of its weight.
pub(super) fn linear_layers(model: &BertModel) -> Vec<(String, &Linear)> {
    let mut layers: Vec<(String, &Linear)> = vec![];
    for (index, layer) in model.bert.stack.layers.iter().enumerate() {
        let layer_name = format!("bert.stack.layers.{index}");
        if let Mixer::Attention(attention) = &layer.mixer {
            let parts = [
                ("query", &attention.query),
                ("key", &attention.key),
                ("value", &attention.value),
                ("output", &attention.output),
            ];
            let named = |(name, part)| (format!("{layer_name}.mixer.{name}.weight"), part);
            layers.extend(parts.map(named));
        }
        if let Some(mlp) = layer.feed_forward.dense() {
            for (name, part) in [("inner", &mlp.inner), ("outer", &mlp.outer)] {
                layers.push((format!("{layer_name}.feed_forward.{name}.weight"), part));
            }
        }
    }
    let beside = [
        (
            "bert.embeddings.project.weight",
            &model.bert.embeddings.project,
        ),
        (POOLER_WEIGHT, &model.bert.pooler),
    ];
    for (name, layer) in beside {
        layers.extend(layer.iter().map(|layer| (name.to_owned(), layer)));
    }
    layers
}
