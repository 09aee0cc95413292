//! A small model that is no BERT, and data for it: what the tests train.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    module::{Module, Param},
    nn::{Linear, LinearConfig, loss::CrossEntropyLossConfig},
    prelude::*,
    tensor::activation::softmax,
    train::ClassificationOutput,
};
use masformer_core::{FeedForward, Flow, Keep, Layers, Mlp, MlpConfig, RouteTrace, Tokens, Trace};
use moebert_core::heads::Head;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    Epoch, MethodError, Shape, Signals, Step, TaskLoss, Trainable, WithoutAutodiff,
    surgery::PartitionIntoExperts,
};

pub const TOKENS: usize = 3;
pub const HIDDEN: usize = 4;
pub const CLASSES: usize = 2;

static TURN: Mutex<()> = Mutex::new(());

/// A device's random state is global, so tests that draw from it take turns.
pub fn serial() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Feed-forward layers, a head on the mean of the tokens, and a gate that routes nothing but has a
/// balance loss.
#[derive(Module, Debug)]
pub struct Toy {
    pub layers: Vec<Mlp>,
    pub gate: Option<Linear>,
    pub head: Linear,
}

#[derive(Clone, Debug)]
pub struct ToyBatch {
    pub inputs: Tensor<3>,
    pub labels: Tensor<1, Int>,
    pub padding: Option<Tensor<2, Bool>>,
}

impl WithoutAutodiff for ToyBatch {
    fn without_autodiff(&self) -> Self {
        Self {
            inputs: self.inputs.clone().without_autodiff(),
            labels: self.labels.clone().without_autodiff(),
            padding: self.padding.clone().map(Tensor::without_autodiff),
        }
    }
}

impl Toy {
    /// The same weights at each call, on an autodiff device, in a test whose turn it is.
    pub fn new(layers: usize, width: usize, dropout: f64) -> Self {
        assert!(TURN.try_lock().is_err(), "hold `serial()` during the test");
        let device = Device::flex().autodiff();
        device.seed(7);
        let config = MlpConfig::new(HIDDEN, width)
            .with_dropout(dropout)
            .with_initializer(burn::nn::Initializer::Normal {
                mean: 0.0,
                std: 0.5,
            });
        Self {
            layers: (0..layers).map(|_| config.init(&device)).collect(),
            gate: None,
            head: LinearConfig::new(HIDDEN, CLASSES).init(&device),
        }
    }

    pub fn with_gate(mut self, experts: usize) -> Self {
        let device = Device::flex().autodiff();
        self.gate = Some(
            LinearConfig::new(HIDDEN, experts)
                .with_bias(false)
                .init(&device),
        );
        self
    }

    /// Every parameter, bit for bit.
    pub fn bits(&self) -> Vec<Vec<u32>> {
        let mut bits = Bits(Vec::new());
        self.visit(&mut bits);
        bits.0
    }
}

struct Bits(Vec<Vec<u32>>);

impl burn::module::ModuleVisitor for Bits {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().into_data();
        self.0.push(data.iter::<f32>().map(f32::to_bits).collect());
    }
}

impl Trainable for Toy {
    type Batch = ToyBatch;
    type Output = ClassificationOutput;

    fn shape(&self) -> Shape {
        Shape {
            layers: self.layers.len(),
            hidden: HIDDEN,
            heads: 1,
            key_value: HIDDEN,
            head: Head::Classification { classes: CLASSES },
            is_causal: false,
        }
    }

    fn forward_step(&self, batch: ToyBatch, keep: Keep) -> Step<ClassificationOutput> {
        let mut trace = Trace::new(keep);
        let [samples, tokens, hidden] = batch.inputs.dims();
        let tokens = Tokens::new(
            Tensor::zeros([samples, tokens], &batch.inputs.device()),
            batch.padding.clone(),
        );
        let mut flow = Flow::new(batch.inputs, tokens);
        trace.start(self.layers.len(), &flow.hidden);
        for layer in &self.layers {
            flow.hidden = layer.forward(&flow, &mut trace);
            trace.finish_layer(|| flow.hidden.clone());
        }
        let state = flow.hidden;
        if let Some(gate) = &self.gate
            && trace.keep().routes != Layers::None
        {
            let probability = softmax(gate.forward(state.clone()), 2).mean_dims(&[0, 1]);
            let route = RouteTrace {
                experts: Tensor::zeros([samples * TOKENS, 1], &probability.device()),
                tokens: flow.tokens.clone(),
                load: Tensor::from_data([3.0, 1.0], &probability.device()),
                entropy: Some(probability.clone().max()),
                losses: vec![("balance", probability.square().sum())],
            };
            trace.routes.insert(0, route);
        }
        let logits = self
            .head
            .forward(state.mean_dim(1).reshape([samples, hidden]));
        let labels = batch.labels.clone();
        let task = TaskLoss::new(move |logits| {
            CrossEntropyLossConfig::new()
                .init(&labels.device())
                .forward(logits[0].clone(), labels.clone())
        });
        let loss = task.of(std::slice::from_ref(&logits));
        Step {
            loss: loss.clone(),
            output: ClassificationOutput::new(loss, logits.clone(), batch.labels),
            signals: Signals {
                trace,
                logits: vec![logits],
                task: Some(task),
                padding: batch.padding,
                losses: samples,
            },
        }
    }
}

impl PartitionIntoExperts for Toy {
    /// The neurons that each layer keeps: one expert a layer.
    type Layout = Vec<Vec<usize>>;

    fn partition(mut self, layout: &Self::Layout) -> Result<Self, MethodError> {
        for (layer, neurons) in self.layers.iter_mut().zip(layout) {
            let device = layer.inner.weight.device();
            let neurons: Vec<i32> = neurons.iter().map(|neuron| *neuron as i32).collect();
            let count = neurons.len();
            let index = Tensor::<1, Int>::from_data(TensorData::new(neurons, [count]), &device);
            let pick = |weight: &Param<Tensor<2>>, dim| {
                Param::from_tensor(weight.val().select(dim, index.clone()).detach())
            };
            layer.inner.weight = pick(&layer.inner.weight, 1);
            layer.outer.weight = pick(&layer.outer.weight, 0);
            layer.inner.bias = layer
                .inner
                .bias
                .take()
                .map(|bias| Param::from_tensor(bias.val().select(0, index).detach()));
        }
        Ok(self)
    }
}

/// Batches of fixed data, in an order that follows from the seed and the epoch.
#[derive(Clone)]
pub struct ToyLoader {
    samples: Arc<Vec<[f32; TOKENS * HIDDEN]>>,
    batch: usize,
    order: Option<Epoch>,
    device: Device,
}

impl ToyLoader {
    pub fn new(samples: usize, batch: usize) -> Self {
        let samples = (0..samples)
            .map(|sample| {
                std::array::from_fn(|index| ((sample * 31 + index * 17) as f32 * 0.7).sin())
            })
            .collect();
        Self {
            samples: Arc::new(samples),
            batch,
            order: None,
            device: Device::flex(),
        }
    }

    pub fn shuffled(mut self, epoch: &Epoch) -> Self {
        self.order = Some(epoch.clone());
        self
    }

    pub fn shared(self) -> Arc<dyn DataLoader<ToyBatch>> {
        Arc::new(self)
    }

    pub fn batch(&self, rows: &[usize]) -> ToyBatch {
        let rows = rows.iter().map(|row| self.samples[*row]);
        // The label follows from the first two inputs, so there is something to learn.
        let labels: Vec<i32> = rows.clone().map(|row| i32::from(row[0] > row[1])).collect();
        let count = labels.len();
        let values: Vec<f32> = rows.flatten().collect();
        let values = TensorData::new(values, [count, TOKENS, HIDDEN]);
        ToyBatch {
            inputs: Tensor::from_data(values, &self.device),
            labels: Tensor::from_data(TensorData::new(labels, [count]), &self.device),
            padding: None,
        }
    }
}

impl DataLoader<ToyBatch> for ToyLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<ToyBatch> + 'a> {
        let mut rows: Vec<usize> = (0..self.samples.len()).collect();
        if let Some(epoch) = &self.order {
            rows.shuffle(&mut StdRng::seed_from_u64(epoch.seed(3)));
        }
        Box::new(ToyBatches {
            loader: self,
            rows,
            done: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.samples.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<ToyBatch>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<ToyBatch>> {
        Arc::new(Self {
            samples: Arc::new(self.samples[start..end].to_vec()),
            ..self.clone()
        })
    }
}

struct ToyBatches<'a> {
    loader: &'a ToyLoader,
    rows: Vec<usize>,
    done: usize,
}

impl Iterator for ToyBatches<'_> {
    type Item = Result<ToyBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = (self.done + self.loader.batch).min(self.rows.len());
        let rows = &self.rows[self.done..end];
        self.done = end;
        (!rows.is_empty()).then(|| Ok(self.loader.batch(rows)))
    }
}

impl DataLoaderIterator<ToyBatch> for ToyBatches<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.rows.len(), None)
    }
}
