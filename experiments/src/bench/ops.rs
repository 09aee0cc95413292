//! The fused operations, and the same work made of Burn's own.

use burn::{
    nn::loss::CrossEntropyLossConfig,
    prelude::*,
    tensor::{
        Distribution,
        activation::{self, gelu, gelu_approximate},
        module,
    },
};
use masformer_core::{
    Activation,
    ops::{
        ExpertOptions, ExpertWeights, FeedForwardOptions, FeedForwardWeights, Groups,
        bias_activation, cross_entropy, expert_feed_forward, feed_forward, layer_norm, linear,
        linear_cross_entropy_mean, softmax,
    },
};

use super::{Case, Pass, Plan, Work, held};

/// What is measured, with its shape.
const OPERATIONS: &[(Operation, Shape)] = &[
    (Operation::Gelu, Shape::rows(1024, 3072)),
    (Operation::GeluTanh, Shape::rows(1024, 3072)),
    (Operation::LayerNorm, Shape::rows(1024, 3072)),
    (Operation::LayerNorm, Shape::rows(4096, 768)),
    (Operation::LayerNorm, Shape::rows(8192, 128)),
    (Operation::Softmax, Shape::rows(1024, 3072)),
    (Operation::Softmax, Shape::rows(8192, 128)),
    (Operation::CrossEntropy, Shape::rows(1024, 30522)),
    (Operation::CrossEntropy, Shape::rows(8192, 257)),
    (Operation::LinearCrossEntropy, Shape::two(1024, 768, 50257)),
    (Operation::LinearCrossEntropy, Shape::two(8192, 128, 257)),
    (Operation::FeedForward(None), Shape::two(1024, 768, 3072)),
    (Operation::FeedForward(None), Shape::two(8192, 768, 3072)),
    (
        Operation::FeedForward(Some(1024)),
        Shape::two(8192, 768, 3072),
    ),
    (Operation::FeedForward(None), Shape::two(8192, 128, 512)),
    (
        Operation::FeedForward(Some(1024)),
        Shape::two(8192, 128, 512),
    ),
    (Operation::Embedding, Shape::two(1024, 768, 30522)),
    (Operation::Experts, Shape::two(128, 768, 768)),
    (Operation::Experts, Shape::two(1024, 768, 768)),
    (Operation::Experts, Shape::two(128, 64, 8)),
];

/// Added to the variance in layer normalisation.
const EPSILON: f64 = 1e-5;
/// Experts of a layer.
const EXPERTS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Gelu,
    GeluTanh,
    LayerNorm,
    Softmax,
    CrossEntropy,
    LinearCrossEntropy,
    /// With the tokens of a chunk.
    FeedForward(Option<usize>),
    /// Burn's own, which has nothing to gain.
    Embedding,
    Experts,
}

/// `rows` of `width` numbers, and the width of a second matrix, or 0.
#[derive(Clone, Copy, Debug)]
struct Shape {
    rows: usize,
    width: usize,
    second: usize,
}

impl Shape {
    const fn rows(rows: usize, width: usize) -> Self {
        Self::two(rows, width, 0)
    }

    const fn two(rows: usize, width: usize, second: usize) -> Self {
        Self {
            rows,
            width,
            second,
        }
    }
}

/// Whose operations do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    Kiln,
    Burn,
}

/// Every operation forward and in training; of Burn's too, if `with_burn`.
pub fn plan(with_burn: bool, device: &Device) -> Plan {
    let mut cases = Vec::new();
    let makers = [Maker::Kiln, Maker::Burn];
    for &(operation, shape) in OPERATIONS {
        for maker in makers.into_iter().take(1 + usize::from(with_burn)) {
            for training in [false, true] {
                let device = if training {
                    device.clone().autodiff()
                } else {
                    device.clone()
                };
                cases.push(Case {
                    name: name(operation, shape, maker, training),
                    size: shape.rows,
                    work: work(operation, shape, training),
                    prepare: Box::new(move || Ok(pass(operation, shape, maker, training, &device))),
                });
            }
        }
    }
    Plan {
        name: "ops",
        title: "Fused operations, by their rows",
        unit: "rows",
        cases,
    }
}

fn name(operation: Operation, shape: Shape, maker: Maker, training: bool) -> String {
    let (width, second) = (shape.width, shape.second);
    let operation = match operation {
        Operation::Gelu => format!("gelu {width}"),
        Operation::GeluTanh => format!("gelu tanh {width}"),
        Operation::LayerNorm => format!("layer norm {width}"),
        Operation::Softmax => format!("softmax {width}"),
        Operation::CrossEntropy => format!("cross entropy {width}"),
        Operation::LinearCrossEntropy => format!("linear cross entropy {width}x{second}"),
        Operation::FeedForward(None) => format!("feed-forward {width}x{second}"),
        Operation::FeedForward(Some(chunk)) => {
            format!("feed-forward {width}x{second} by {chunk}")
        }
        Operation::Embedding => format!("embedding {second}x{width}"),
        Operation::Experts => format!("{EXPERTS} experts {width}x{second}"),
    };
    let maker = match maker {
        Maker::Kiln => "",
        Maker::Burn => "Burn's ",
    };
    let pass = if training { "training" } else { "forward" };
    format!("{maker}{operation}, {pass}")
}

/// Products of matrices, of which there are two more backward for each forward. What is read or written
/// once: forward inputs, weights and outputs; backward what a gradient needs, the gradient of the output,
/// and the gradients of inputs and weights.
fn work(operation: Operation, shape: Shape, training: bool) -> Work {
    let [rows, width, second] = [shape.rows, shape.width, shape.second].map(|size| size as u64);
    let weights = width * second;
    let (products, forward, backward) = match operation {
        Operation::Gelu | Operation::GeluTanh | Operation::LayerNorm | Operation::Softmax => {
            (0, 2 * rows * width, 3 * rows * width)
        }
        Operation::CrossEntropy => (0, rows * width, 2 * rows * width),
        Operation::Embedding => (0, 2 * rows * width, rows * width + weights),
        Operation::LinearCrossEntropy => {
            let numbers = rows * width + weights;
            (rows * weights, numbers, 2 * numbers)
        }
        Operation::FeedForward(_) => (
            2 * rows * weights,
            2 * (rows * width + weights),
            3 * rows * width + 4 * weights,
        ),
        Operation::Experts => {
            let weights = EXPERTS as u64 * weights;
            (
                2 * rows * width * second,
                2 * (rows * width + weights),
                3 * rows * width + 4 * weights,
            )
        }
    };
    let (passes, numbers) = if training {
        (3, forward + backward)
    } else {
        (1, forward)
    };
    Work {
        multiply_adds: passes * products,
        bytes: 4 * numbers,
        tokens: 0,
    }
}

fn pass(operation: Operation, shape: Shape, maker: Maker, training: bool, device: &Device) -> Pass {
    let inputs = Inputs::new(operation, shape, device);
    // A backward pass starts with a product, as it does within a model.
    let end = Tensor::<2>::random([inputs.outputs, 1], Distribution::Default, device);
    let bias = Tensor::<1>::zeros([1], device);
    Box::new(move || {
        let output = match maker {
            Maker::Kiln => inputs.fused(),
            Maker::Burn => inputs.composed(),
        };
        if training {
            let end = match maker {
                Maker::Kiln => linear(output, end.clone(), bias.clone()),
                Maker::Burn => output.matmul(end.clone()),
            };
            Ok(held(end.sum().backward()))
        } else {
            Ok(held(output))
        }
    })
}

struct Inputs {
    tensors: Vec<Tensor<2>>,
    targets: Tensor<1, Int>,
    operation: Operation,
    /// Numbers of a row of the output.
    outputs: usize,
}

impl Inputs {
    fn new(operation: Operation, shape: Shape, device: &Device) -> Self {
        let Shape {
            rows,
            width,
            second,
        } = shape;
        let (shapes, outputs) = match operation {
            Operation::Gelu | Operation::GeluTanh => (vec![[rows, width], [1, width]], width),
            Operation::LayerNorm => (vec![[rows, width], [1, width], [1, width]], width),
            Operation::Softmax => (vec![[rows, width]], width),
            Operation::CrossEntropy => (vec![[rows, width]], 1),
            Operation::LinearCrossEntropy => (vec![[rows, width], [second, width]], 1),
            Operation::FeedForward(_) => {
                let weights = [[width, second], [1, second], [second, width], [1, width]];
                ([&[[rows, width]], weights.as_slice()].concat(), width)
            }
            Operation::Embedding => (vec![[second, width]], width),
            Operation::Experts => {
                let vectors = [[1, second], [1, width], [1, width], [1, width]];
                let expert = [&[[width, second], [second, width]], vectors.as_slice()].concat();
                let experts = expert.repeat(EXPERTS);
                ([&[[rows, width]], experts.as_slice()].concat(), width)
            }
        };
        let random = |(index, shape)| {
            let deviation = if index == 0 { 1.0 } else { 0.02 };
            let tensor = Tensor::random(shape, Distribution::Normal(0.0, deviation), device);
            if device.is_autodiff() {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        let classes = if second == 0 { width } else { second } as i64;
        let targets: Vec<i64> = (0..rows as i64).map(|row| row * 7919 % classes).collect();
        Self {
            tensors: shapes.into_iter().enumerate().map(random).collect(),
            targets: Tensor::from_data(targets.as_slice(), device),
            operation,
            outputs,
        }
    }

    fn matrix(&self, index: usize) -> Tensor<2> {
        self.tensors[index].clone()
    }

    fn vector(&self, index: usize) -> Tensor<1> {
        self.matrix(index).flatten(0, 1)
    }

    fn fused(&self) -> Tensor<2> {
        let input = self.matrix(0);
        let targets = self.targets.clone();
        match self.operation {
            Operation::Gelu => bias_activation(input, self.vector(1), Activation::Gelu),
            Operation::GeluTanh => bias_activation(input, self.vector(1), Activation::GeluTanh),
            Operation::LayerNorm => layer_norm(input, self.vector(1), self.vector(2), EPSILON),
            Operation::Softmax => softmax(input),
            Operation::CrossEntropy => cross_entropy(input, targets).unsqueeze_dim(1),
            Operation::LinearCrossEntropy => {
                linear_cross_entropy_mean(input, self.matrix(1), targets).unsqueeze()
            }
            Operation::FeedForward(chunk) => {
                let weights = FeedForwardWeights {
                    inner: self.matrix(1),
                    inner_bias: self.vector(2),
                    outer: self.matrix(3),
                    outer_bias: self.vector(4),
                };
                let activation = Activation::Gelu;
                feed_forward(input, weights, FeedForwardOptions { activation, chunk })
            }
            Operation::Embedding => self.composed(),
            Operation::Experts => expert_feed_forward(input, &self.experts(), &self.groups()),
        }
    }

    fn composed(&self) -> Tensor<2> {
        let input = self.matrix(0);
        let loss = |logits: Tensor<2>| {
            let loss = CrossEntropyLossConfig::new().init(&logits.device());
            loss.forward(logits, self.targets.clone()).unsqueeze()
        };
        match self.operation {
            Operation::Gelu => gelu(input + self.matrix(1)),
            Operation::GeluTanh => gelu_approximate(input + self.matrix(1)),
            Operation::LayerNorm => {
                module::layer_norm(input, self.vector(1), Some(self.vector(2)), EPSILON)
            }
            Operation::Softmax => activation::softmax(input, 1),
            Operation::CrossEntropy => loss(input),
            Operation::LinearCrossEntropy => loss(input.matmul(self.matrix(1).transpose())),
            Operation::FeedForward(_) => {
                let inner = module::linear(input, self.matrix(1), Some(self.vector(2)));
                module::linear(gelu(inner), self.matrix(3), Some(self.vector(4)))
            }
            Operation::Embedding => {
                let ids = self.targets.clone().unsqueeze::<2>();
                module::embedding(input, ids).squeeze_dim(0)
            }
            Operation::Experts => {
                let experts = self.experts();
                self.groups().map(input, |index, tokens| {
                    let expert = experts[index].clone();
                    let options = expert.options.feed_forward;
                    let output = feed_forward(tokens.clone(), expert.feed_forward, options);
                    layer_norm(output + tokens, expert.gamma, expert.beta, EPSILON)
                })
            }
        }
    }

    /// The tokens by their expert.
    fn groups(&self) -> Groups {
        let [tokens, _] = self.tensors[0].dims();
        let experts: Vec<i64> = (0..tokens)
            .map(|token| (token * 7919 / 13 % EXPERTS) as i64)
            .collect();
        let device = self.tensors[0].device();
        Groups::new(Tensor::from_data(experts.as_slice(), &device), EXPERTS)
    }

    fn experts(&self) -> Vec<ExpertWeights> {
        let experts = self.tensors[1..].chunks_exact(6).map(|tensors| {
            let vector = |index: usize| tensors[index].clone().flatten::<1>(0, 1);
            ExpertWeights {
                feed_forward: FeedForwardWeights {
                    inner: tensors[0].clone(),
                    inner_bias: vector(2),
                    outer: tensors[1].clone(),
                    outer_bias: vector(3),
                },
                gamma: vector(4),
                beta: vector(5),
                options: ExpertOptions {
                    feed_forward: FeedForwardOptions {
                        activation: Activation::Gelu,
                        chunk: None,
                    },
                    dropout: 0.0,
                    epsilon: EPSILON,
                    is_pre_norm: false,
                },
            }
        });
        experts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_makers_compute_the_same() {
        let device = Device::default().autodiff();
        for &(operation, shape) in OPERATIONS {
            let shape = Shape::two(6, 8, shape.second.min(10));
            let inputs = Inputs::new(operation, shape, &device);
            let [one, other] = [inputs.fused(), inputs.composed()].map(|output| {
                // Burn's loss is the mean of the rows.
                output.mean().into_scalar::<f32>()
            });
            assert!(
                (one - other).abs() < 1e-5,
                "{operation:?}: {one} and {other}"
            );
        }
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let cases = plan(true, &Device::default()).cases;
        let mut names: Vec<(&str, usize)> = cases
            .iter()
            .map(|case| (case.name.as_str(), case.size))
            .collect();
        assert!(names.contains(&("Burn's layer norm 768, training", 4096)));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), all), (all, 4 * OPERATIONS.len()));
    }

    #[test]
    fn a_pass_of_training_goes_backward() {
        let device = Device::default().autodiff();
        let shape = Shape::two(3, 4, 5);
        for maker in [Maker::Kiln, Maker::Burn] {
            pass(Operation::FeedForward(Some(2)), shape, maker, true, &device)().unwrap();
        }
    }
}
