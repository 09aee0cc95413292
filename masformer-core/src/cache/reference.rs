//! Reference numbers of eviction: attention, and which tokens survive it.

use std::path::Path;

use burn::prelude::*;
use safetensors::{Dtype, SafeTensors};

use super::{Eviction, LayerCache, Selection};
use crate::span::Span;

/// A file of `tests/fixtures/eviction`.
pub(super) struct Reference(Vec<u8>);

impl Reference {
    pub(super) fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/eviction");
        Self(std::fs::read(path.join(format!("{name}.safetensors"))).unwrap())
    }

    /// A tensor's numbers, and its shape.
    pub(super) fn numbers(&self, name: &str) -> (Vec<f64>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        let (bytes, _) = tensor.data().as_chunks::<4>();
        let numbers = bytes.iter().map(|bytes| match tensor.dtype() {
            Dtype::I32 => i32::from_le_bytes(*bytes).into(),
            _ => f32::from_le_bytes(*bytes).into(),
        });
        (numbers.collect(), tensor.shape().to_vec())
    }

    /// A single number.
    pub(super) fn number(&self, name: &str) -> usize {
        self.numbers(name).0[0] as usize
    }
}

/// A full layer's cache of tokens whose keys are their ids.
pub(super) struct Ids(pub(super) LayerCache);

impl Ids {
    pub(super) fn new(policy: &str, budget: usize) -> Self {
        let mut cache = LayerCache::new(Span::Full);
        cache.evict_by(&Eviction {
            policy: policy.parse().unwrap(),
            budget,
            instruction: 0,
        });
        Self(cache)
    }

    /// Takes tokens in; `received` is given the ids of all pairs and the number of judges.
    pub(super) fn read(&mut self, ids: &[usize], received: impl Fn(&[usize], usize) -> Vec<f64>) {
        let device = Device::default();
        let numbers: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
        let key = Tensor::<4>::from_data(TensorData::new(numbers, [1, 1, ids.len(), 1]), &device);
        let joined = self.0.join(key.clone(), key, None);
        let all: Vec<usize> = as_ids(joined.key);
        let received = (joined.judges > 0).then(|| {
            let received: Vec<f32> = received(&all, joined.judges)
                .into_iter()
                .map(|number| number as f32)
                .collect();
            Tensor::from_data(TensorData::new(received, [1, all.len()]), &device)
        });
        self.0.evict(ids.len(), received);
    }

    /// The ids that are kept to read with.
    pub(super) fn kept(&self) -> Vec<usize> {
        of_selection(&self.0.reading)
    }

    /// The ids that are kept to answer with.
    pub(super) fn to_answer(&self) -> Vec<usize> {
        of_selection(self.0.answering.as_ref().unwrap_or(&self.0.reading))
    }
}

fn of_selection(selection: &Selection) -> Vec<usize> {
    as_ids(selection.pairs.as_ref().unwrap().key())
}

fn as_ids(key: Tensor<4>) -> Vec<usize> {
    let numbers = key.into_data();
    numbers.iter::<f32>().map(|id| id as usize).collect()
}

/// Reads the tokens of `baselines` one by one, and compares what survives each with the tensor `name`.
pub(super) fn assert_baseline(name: &str, policy: &str) {
    let reference = Reference::open("baselines");
    let (logits, shape) = reference.numbers("logits");
    let [heads, length] = [shape[0], shape[1]];
    let budget = reference.number("budget");
    let (survivors, _) = reference.numbers(name);
    let mut cache = Ids::new(policy, budget);
    for (token, expected) in survivors.chunks(budget).enumerate() {
        cache.read(&[token], |all, judges| {
            assert_eq!(judges, 1);
            let mut received = vec![0.0; all.len()];
            for head in 0..heads {
                let row = (head * length + token) * length;
                let weights: Vec<f64> = all.iter().map(|key| logits[row + key].exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (received, weight) in received.iter_mut().zip(weights) {
                    *received += weight / sum / heads as f64;
                }
            }
            received
        });
        let expected = expected.iter().filter(|&&id| id >= 0.0);
        let expected: Vec<usize> = expected.map(|&id| id as usize).collect();
        assert_eq!(cache.kept(), expected, "{policy} after token {token}");
    }
}
