//! A dense model becomes an expert model.

use burn::{module::Param, nn::Linear, prelude::*};
use masformer_core::{Mlp, Norm};

use crate::{
    expert::ExpertLayer,
    half::Half,
    layered::Layered,
    partition::ExpertLayout,
    router::{RouterConfig, RouterError, RouterKind, RouterShape},
};

/// A model that cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdaptError {
    /// The layout was made for another number of layers.
    #[error("the expert layout has {layout} layers, the model {model}")]
    Layers {
        /// Layers of the layout.
        layout: usize,
        /// Layers of the model.
        model: usize,
    },
    /// A layer of the model is split already.
    #[error("layer {0} has experts already; adapt a dense model")]
    NotDense(usize),
    /// The layout names a neuron that the layer does not have.
    #[error("the expert layout of layer {layer} names neuron {neuron} of {width}")]
    Neuron {
        /// The layer.
        layer: usize,
        /// The neuron.
        neuron: usize,
        /// Neurons of the layer.
        width: usize,
    },
    /// A token's expert would depend on the tokens after it.
    #[error(
        "the router `{0}` looks at a whole sequence, and a decoder's tokens may not depend on later ones: \
         expected {causal}",
        causal = RouterKind::names(|kind| kind.is_causal)
    )]
    NotCausal(&'static str),
    /// The router cannot be made.
    #[error(transparent)]
    Router(#[from] RouterError),
}

/// Splits every feed-forward layer of a dense model by a layout.
///
/// Each expert gets copies of its neurons (rows of `W1` and of the gate, entries of their biases, columns of `W2`) and
/// of the whole of `b2` and of the normalisations (`MoEBERT`, section 3.3). Attention, embeddings and
/// head stay as they are.
///
/// # Errors
///
/// If the model is not dense, the layout does not fit it, the router cannot be made, or it looks at later
/// tokens and the model is a decoder.
pub fn adapt<M: Layered>(
    mut model: M,
    layout: &ExpertLayout,
    router: &RouterConfig,
    token_counts: Option<&[u64]>,
) -> Result<M, AdaptError> {
    if model.is_causal() {
        check_causal(router.spec.kind())?;
    }
    let vocabulary = model.vocabulary();
    let layers = &mut model.stack_mut().layers;
    if layout.neurons.len() != layers.len() {
        return Err(AdaptError::Layers {
            layout: layout.neurons.len(),
            model: layers.len(),
        });
    }
    for (index, (layer, experts)) in layers.iter_mut().zip(&layout.neurons).enumerate() {
        let Half::Dense(dense) = &layer.feed_forward else {
            return Err(AdaptError::NotDense(index));
        };
        let [hidden, _] = dense.inner.weight.dims();
        let width = dense.width();
        if let Some(&neuron) = experts.iter().flatten().find(|neuron| **neuron >= width) {
            return Err(AdaptError::Neuron {
                layer: index,
                neuron,
                width,
            });
        }
        let shape = RouterShape {
            experts: experts.len(),
            hidden,
            vocabulary,
            layer: index,
            token_counts,
        };
        let device = dense.inner.weight.val().device();
        let experts = experts.iter().map(|neurons| expert(dense, neurons));
        layer.feed_forward = Half::Experts(ExpertLayer {
            experts: experts.collect(),
            router: router.init(shape, &device)?,
        });
    }
    Ok(model)
}

/// Checks that a decoder can have a router.
///
/// # Errors
///
/// If a token's expert would depend on the tokens after it.
pub fn check_causal(router: &RouterKind) -> Result<(), AdaptError> {
    if router.is_causal {
        Ok(())
    } else {
        Err(AdaptError::NotCausal(router.name))
    }
}

/// The narrower layer that some neurons of a dense layer make.
fn expert(dense: &Mlp, neurons: &[usize]) -> Mlp {
    let device = dense.inner.weight.val().device();
    let neurons: Vec<i64> = neurons.iter().map(|&neuron| neuron as i64).collect();
    let neurons = Tensor::<1, Int>::from_data(neurons.as_slice(), &device);
    let into_neurons = |linear: &Linear| Linear {
        weight: fresh(linear.weight.val().select(1, neurons.clone())),
        bias: linear
            .bias
            .as_ref()
            .map(|bias| fresh(bias.val().select(0, neurons.clone()))),
    };
    Mlp {
        inner: into_neurons(&dense.inner),
        gate: dense.gate.as_ref().map(into_neurons),
        outer: Linear {
            weight: fresh(dense.outer.weight.val().select(0, neurons.clone())),
            bias: dense.outer.bias.as_ref().map(|bias| fresh(bias.val())),
        },
        norm: fresh_norm(&dense.norm),
        output_norm: dense.output_norm.as_ref().map(fresh_norm),
        dropout: dense.dropout.clone(),
        norm_placement: dense.norm_placement,
        activation: dense.activation,
        chunk: dense.chunk,
    }
}

fn fresh_norm(norm: &Norm) -> Norm {
    let mut copy = norm.clone();
    copy.gamma = fresh(norm.gamma.val());
    copy.beta = norm.beta.as_ref().map(|beta| fresh(beta.val()));
    copy
}

/// A parameter of its own with a copied value: the experts part ways in training.
fn fresh<const D: usize>(value: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(value.detach())
}

#[cfg(test)]
mod tests {
    use masformer_core::{Decoder, DecoderConfig, DecoderInput, Keep, Span, Trace};

    use super::*;
    use crate::{
        bert::{BertConfig, BertInput},
        half,
        heads::{BertModel, BertModelConfig, Head},
        router::{GateScale, GateSentence, GateToken, HashBalance, HashRandom, RouterSpec},
    };

    fn dense(device: &Device) -> BertModel {
        let bert = BertConfig::new()
            .with_vocab_size(11)
            .with_hidden_size(8)
            .with_num_hidden_layers(2)
            .with_num_attention_heads(2)
            .with_intermediate_size(12)
            .with_max_position_embeddings(6)
            .with_initializer_range(0.5);
        BertModelConfig::new(bert, Head::Classification { classes: 3 }).init(device)
    }

    fn logits(model: &BertModel, device: &Device) -> Tensor<2> {
        let input_ids = Tensor::<2, Int>::from_data([[1, 2, 3, 4], [5, 6, 7, 8]], device);
        let input = BertInput {
            token_type_ids: input_ids.zeros_like(),
            input_ids,
            padding: None,
        };
        let output = model.forward(&input, &mut Trace::new(Keep::default()));
        match output.logits {
            Some(crate::heads::Logits::Sequence(logits)) => logits,
            other => panic!("expected sequence logits, got {other:?}"),
        }
    }

    fn router(spec: RouterSpec, gate_scale: GateScale) -> RouterConfig {
        RouterConfig {
            spec,
            gate_scale,
            seed: 3,
            ..RouterConfig::default()
        }
    }

    /// Every expert holds every neuron, so the split model is the dense one.
    fn whole(layers: usize) -> ExpertLayout {
        ExpertLayout {
            neurons: vec![vec![(0..12).rev().collect(); 2]; layers],
        }
    }

    #[test]
    fn experts_that_hold_every_neuron_change_nothing() {
        let device = Device::default();
        let model = dense(&device);
        let before = logits(&model, &device);
        for spec in [
            RouterSpec::HashRandom(HashRandom {}),
            RouterSpec::GateToken(GateToken {}),
            RouterSpec::GateSentence(GateSentence {}),
        ] {
            let split = adapt(
                model.clone(),
                &whole(2),
                &router(spec.clone(), GateScale::Unit),
                None,
            );
            let after = logits(&split.unwrap(), &device);
            let difference = (before.clone() - after).abs().max();
            assert!(difference.into_scalar::<f32>() < 1e-5, "{spec}");
        }
    }

    #[test]
    fn gated_experts_that_hold_every_neuron_change_nothing() {
        let device = Device::default();
        let config = DecoderConfig::new(11, 6, 8, 2, 12, vec![Span::Full; 2])
            .with_gated(true)
            .with_initializer_range(0.5);
        let model = half::dense(config.init(&device));
        let input = DecoderInput {
            input_ids: Tensor::from_data([[1, 2, 3, 4], [5, 6, 7, 8]], &device),
            padding: None,
        };
        let hidden = |model: &Decoder<Half>| model.hidden(&input, &mut Trace::nothing());
        let before = hidden(&model);
        let router = router(RouterSpec::HashRandom(HashRandom {}), GateScale::Unit);
        let split = adapt(model, &whole(2), &router, None).unwrap();
        let difference = (before - hidden(&split)).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn the_published_gate_does_change_the_starting_point() {
        let device = Device::default();
        let model = dense(&device);
        let before = logits(&model, &device);
        let router = router(RouterSpec::GateToken(GateToken {}), GateScale::Probability);
        let after = logits(&adapt(model, &whole(2), &router, None).unwrap(), &device);
        assert!((before - after).abs().max().into_scalar::<f32>() > 1e-3);
    }

    #[test]
    fn experts_hold_the_rows_and_columns_of_their_neurons() {
        let device = Device::default();
        let model = dense(&device);
        let Half::Dense(mlp) = model.bert.stack.layers[1].feed_forward.clone() else {
            panic!("a fresh model is dense");
        };
        let layout = ExpertLayout {
            neurons: vec![vec![vec![3, 0], vec![3, 7]]; 2],
        };
        let router = router(RouterSpec::HashRandom(HashRandom {}), GateScale::Unit);
        let model = adapt(model, &layout, &router, None).unwrap();
        let Half::Experts(split) = &model.bert.stack.layers[1].feed_forward else {
            panic!("every layer is split");
        };
        let second = &split.experts[1];
        let column =
            |tensor: Tensor<2>, index: usize| tensor.slice_dim(1, index..=index).into_data();
        let row = |tensor: Tensor<2>, index: usize| tensor.slice_dim(0, index..=index).into_data();
        column(second.inner.weight.val(), 1).assert_eq(&column(mlp.inner.weight.val(), 7), true);
        row(second.outer.weight.val(), 0).assert_eq(&row(mlp.outer.weight.val(), 3), true);
        assert_ne!(second.norm.gamma.id, split.experts[0].norm.gamma.id);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let device = Device::default();
        let hash = router(RouterSpec::HashRandom(HashRandom {}), GateScale::Unit);
        let refused = |layout: &ExpertLayout| {
            adapt(dense(&device), layout, &hash, None)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&whole(3)).contains("3 layers, the model 2"));
        let layout = ExpertLayout {
            neurons: vec![vec![vec![12]]; 2],
        };
        assert!(refused(&layout).contains("neuron 12 of 12"));
        let split = adapt(dense(&device), &whole(2), &hash, None).unwrap();
        let error = adapt(split, &whole(2), &hash, None).unwrap_err();
        assert_eq!(error, AdaptError::NotDense(0));
        let balance = router(RouterSpec::HashBalance(HashBalance {}), GateScale::Unit);
        let error = adapt(dense(&device), &whole(2), &balance, None).unwrap_err();
        assert_eq!(
            error,
            AdaptError::Router(RouterError::NoTokenCounts("hash-balance"))
        );
    }
}
