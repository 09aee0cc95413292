//! Prepacked weights of the flex backend, found by the tensors that they were made of.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, Weak},
};

use burn::{
    backend::TensorMetadata,
    module::{ModuleVisitor, Param},
    prelude::*,
    tensor::Bytes,
};

use crate::ops::{
    flex::{FlexTensor, in_order, is_inference, primitive},
    simd::Rows,
    streamed::Panels,
};

/// All that is prepacked. Burn's tensors have no place for it.
static PACKED: RwLock<BTreeMap<Matrix, Weak<PackedWeight>>> = RwLock::new(BTreeMap::new());

/// Which numbers in memory a matrix has, and in which order. They are `f32`, for which callers have looked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Matrix {
    memory: usize,
    first: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Matrix {
    fn of(tensor: &FlexTensor) -> Self {
        let layout = tensor.layout();
        Self {
            memory: Arc::as_ptr(&tensor.data_arc()).addr(),
            first: layout.start_offset(),
            shape: layout.shape().to_vec(),
            strides: layout.strides().to_vec(),
        }
    }
}

/// A prepacked weight.
#[derive(Debug)]
pub(in crate::ops) struct PackedWeight {
    matrix: Matrix,
    panels: Panels,
    /// As long as it is here, no other numbers come to this place in memory, and these stay as they are: flex
    /// changes numbers in place by `Arc::get_mut` and `Arc::make_mut` alone, of which the one fails where there
    /// is a weak reference, and the other moves them.
    _memory: Weak<Bytes>,
}

impl PackedWeight {
    pub(in crate::ops) fn panels(&self) -> &Panels {
        &self.panels
    }
}

impl Drop for PackedWeight {
    fn drop(&mut self) {
        let mut all = PACKED.write().unwrap_or_else(PoisonError::into_inner);
        // Another may have come in its place already.
        let place = all.get(&self.matrix);
        if place.is_some_and(|packed| packed.strong_count() == 0) {
            all.remove(&self.matrix);
        }
    }
}

/// The weight of this tensor, if it is prepacked.
pub(in crate::ops) fn packed(weight: &FlexTensor) -> Option<Arc<PackedWeight>> {
    let all = PACKED.read().unwrap_or_else(PoisonError::into_inner);
    if all.is_empty() {
        return None;
    }
    all.get(&Matrix::of(weight))?.upgrade()
}

/// Prepacks the weights of all linear layers of a model.
pub(super) fn pack_linears<M: Module>(model: &M) -> Vec<Arc<PackedWeight>> {
    let mut linears = Linears::default();
    model.visit(&mut linears);
    linears.packed
}

/// Packs the weights of linear layers on its way through a model.
#[derive(Default)]
struct Linears {
    packed: Vec<Arc<PackedWeight>>,
    /// Whether each module that has been entered is the field of a linear layer.
    path: Vec<bool>,
}

impl ModuleVisitor for Linears {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.path.push(container_type == "Struct:Linear");
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D == 2 && self.path.last() == Some(&true) {
            self.packed.extend(pack(param.val()));
        }
    }
}

/// Prepacks a weight, if it is one for inference on this backend.
fn pack<const D: usize>(weight: Tensor<D>) -> Option<Arc<PackedWeight>> {
    if !is_inference(&weight) || weight.shape().num_elements() == 0 {
        return None;
    }
    let weight = primitive(weight);
    if let Some(packed) = packed(&weight) {
        return Some(packed);
    }
    let matrix = Matrix::of(&weight);
    let memory = Arc::downgrade(&weight.data_arc());
    let [rows, columns] = weight.shape().dims();
    let weight = in_order(weight);
    let numbers = Rows {
        data: weight.storage(),
        stride: columns,
    };
    let packed = Arc::new(PackedWeight {
        panels: Panels::new(numbers, [rows, columns]),
        matrix: matrix.clone(),
        _memory: memory,
    });
    let mut all = PACKED.write().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have been first. What is not needed is dropped after the lock, for which it asks.
    if let Some(other) = all.get(&matrix).and_then(Weak::upgrade) {
        return Some(other);
    }
    all.insert(matrix, Arc::downgrade(&packed));
    Some(packed)
}
