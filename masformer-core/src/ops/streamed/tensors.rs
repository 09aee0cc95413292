//! The tensors of a layer.

use std::sync::Arc;

use burn::backend::TensorMetadata;

use super::layer::{Layer, Weight};
use crate::ops::{
    flex::{FlexTensor, in_order},
    prepack::{PackedWeight, packed},
    simd::Rows,
};

/// Fewest rows for which laying columns side by side on the way pays.
const FEWEST: usize = 4;

/// A weight `[k, n]` and a bias `[n]`, of 32 bits; the weight as it is, or as it has been prepacked.
pub(in crate::ops) struct LayerTensors {
    weight: FlexTensor,
    packed: Option<Arc<PackedWeight>>,
    bias: FlexTensor,
}

impl LayerTensors {
    pub(in crate::ops) fn new(weight: FlexTensor, bias: FlexTensor) -> Self {
        let packed = packed(&weight);
        Self {
            weight: if packed.is_some() {
                weight
            } else {
                in_order(weight)
            },
            packed,
            bias: in_order(bias),
        }
    }

    pub(in crate::ops) fn layer(&self) -> Layer<'_> {
        let [inner, width] = self.weight.shape().dims();
        let weight = match &self.packed {
            Some(packed) => Weight::Panels(packed.panels()),
            None => Weight::Rows(Rows {
                data: self.weight.storage(),
                stride: width,
            }),
        };
        Layer {
            weight,
            inner,
            bias: self.bias.storage(),
        }
    }
}

/// Whether streaming these weights pays for so many rows.
pub(in crate::ops) fn streams(rows: usize, weights: &[&FlexTensor]) -> bool {
    rows >= FEWEST || weights.iter().all(|weight| packed(weight).is_some())
}
