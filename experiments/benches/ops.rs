//! The fused operations against the same work composed of Burn's, in milliseconds.
//!
//!     cargo bench --workspace --bench ops -- [CASE..]
//!
//! With `--serve` it reads the names of cases from its standard input and answers each with a line of
//! JSON, so that `peers/ops.py` can run the same work in `PyTorch` in turn; with `--memory` it prints
//! by how many MB a forward and backward pass raises the peak of the process.

use std::{
    fs, hint,
    io::{self, BufRead, Write},
    time::Instant,
};

use burn::{
    nn::loss::CrossEntropyLossConfig,
    prelude::*,
    tensor::{
        Distribution,
        activation::{gelu, gelu_approximate},
        module,
    },
};
use masformer_core::{
    Activation,
    ops::{
        ExpertOptions, ExpertWeights, FeedForwardOptions, FeedForwardWeights, bias_activation,
        cross_entropy, expert_feed_forward, feed_forward, layer_norm, linear_cross_entropy,
    },
};
use mimalloc::MiMalloc;
use moebert_core::dispatch::Assignment;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What is run of every case, and the shapes, `[N, ..]`.
const CASES: &[(&str, Operation, [usize; 3])] = &[
    ("gelu", Operation::Gelu, [1024, 3072, 0]),
    ("gelu-tanh", Operation::GeluTanh, [1024, 3072, 0]),
    ("layer-norm", Operation::LayerNorm, [1024, 3072, 0]),
    ("layer-norm-768", Operation::LayerNorm, [4096, 768, 0]),
    ("layer-norm-128", Operation::LayerNorm, [8192, 128, 0]),
    ("cross-entropy", Operation::CrossEntropy, [1024, 30522, 0]),
    (
        "cross-entropy-bytes",
        Operation::CrossEntropy,
        [8192, 257, 0],
    ),
    (
        "linear-cross-entropy",
        Operation::LinearCrossEntropy,
        [1024, 768, 50257],
    ),
    (
        "linear-cross-entropy-bytes",
        Operation::LinearCrossEntropy,
        [8192, 128, 257],
    ),
    (
        "feed-forward-768",
        Operation::FeedForward(None),
        [1024, 768, 3072],
    ),
    (
        "feed-forward-768-long",
        Operation::FeedForward(None),
        [8192, 768, 3072],
    ),
    (
        "feed-forward-768-chunks",
        Operation::FeedForward(Some(1024)),
        [8192, 768, 3072],
    ),
    (
        "feed-forward-128",
        Operation::FeedForward(None),
        [1024, 128, 512],
    ),
    (
        "feed-forward-128-long",
        Operation::FeedForward(None),
        [8192, 128, 512],
    ),
    (
        "feed-forward-128-chunks",
        Operation::FeedForward(Some(1024)),
        [8192, 128, 512],
    ),
    ("embedding", Operation::Embedding, [1024, 768, 30522]),
    ("experts-768", Operation::Experts, [128, 768, 768]),
    ("experts-768-long", Operation::Experts, [1024, 768, 768]),
    ("experts-64", Operation::Experts, [128, 64, 8]),
];

/// Added to the variance in layer normalisation.
const EPSILON: f64 = 1e-5;
/// Experts of the cases with experts.
const EXPERTS: usize = 4;

#[derive(Clone, Copy)]
enum Operation {
    Gelu,
    GeluTanh,
    LayerNorm,
    CrossEntropy,
    LinearCrossEntropy,
    FeedForward(Option<usize>),
    /// Burn's own: it has nothing to gain.
    Embedding,
    Experts,
}

/// The inputs of a case, and both ways to compute it.
struct Case {
    inputs: Vec<Tensor<2>>,
    targets: Tensor<1, Int>,
    operation: Operation,
    /// What the output is multiplied by before it is summed: a backward pass starts with a product, as
    /// it does within a model.
    end: Tensor<2>,
}

impl Case {
    fn new(operation: Operation, [rows, width, inner]: [usize; 3], device: &Device) -> Self {
        let random = |shape: [usize; 2], deviation| {
            Tensor::random(shape, Distribution::Normal(0.0, deviation), device).require_grad()
        };
        let (inputs, classes) = match operation {
            Operation::Gelu | Operation::GeluTanh => (vec![[rows, width], [1, width]], width),
            Operation::LayerNorm => (vec![[rows, width], [1, width], [1, width]], width),
            Operation::CrossEntropy => (vec![[rows, width]], 1),
            Operation::LinearCrossEntropy => (vec![[rows, width], [inner, width]], 1),
            Operation::FeedForward(_) => {
                let weights = [[width, inner], [1, inner], [inner, width], [1, width]];
                ([&[[rows, width]], weights.as_slice()].concat(), width)
            }
            Operation::Embedding => (vec![[inner, width]], width),
            Operation::Experts => {
                let vectors = [[1, inner], [1, width], [1, width], [1, width]];
                let expert = [&[[width, inner], [inner, width]], vectors.as_slice()].concat();
                (
                    [&[[rows, width]], expert.repeat(EXPERTS).as_slice()].concat(),
                    width,
                )
            }
        };
        let below = if inner == 0 { width } else { inner } as i64;
        let targets: Vec<i64> = (0..rows as i64).map(|row| row * 7919 % below).collect();
        let inputs = inputs.into_iter().enumerate();
        Self {
            inputs: inputs
                .map(|(index, shape)| random(shape, if index == 0 { 1.0 } else { 0.02 }))
                .collect(),
            targets: Tensor::from_data(targets.as_slice(), device),
            operation,
            end: Tensor::random([classes, 1], Distribution::Default, device),
        }
    }

    fn fused(&self, inputs: &[Tensor<2>]) -> Tensor<2> {
        let input = |index: usize| inputs[index].clone();
        let vector = |index| input(index).flatten::<1>(0, 1);
        match self.operation {
            Operation::Gelu => bias_activation(input(0), vector(1), Activation::Gelu),
            Operation::GeluTanh => bias_activation(input(0), vector(1), Activation::GeluTanh),
            Operation::LayerNorm => layer_norm(input(0), vector(1), vector(2), EPSILON),
            Operation::CrossEntropy => {
                cross_entropy(input(0), self.targets.clone()).unsqueeze_dim(1)
            }
            Operation::LinearCrossEntropy => {
                linear_cross_entropy(input(0), input(1), self.targets.clone()).unsqueeze_dim(1)
            }
            Operation::FeedForward(chunk) => {
                let weights = FeedForwardWeights {
                    inner: input(1),
                    inner_bias: vector(2),
                    outer: input(3),
                    outer_bias: vector(4),
                };
                let activation = Activation::Gelu;
                feed_forward(input(0), weights, FeedForwardOptions { activation, chunk })
            }
            Operation::Embedding => self.composed(inputs),
            Operation::Experts => {
                expert_feed_forward(input(0), &experts(&inputs[1..]), &self.assigned())
            }
        }
    }

    /// The expert of each token.
    fn assigned(&self) -> Vec<usize> {
        let tokens = self.inputs[0].dims()[0];
        (0..tokens)
            .map(|token| token * 7919 / 13 % EXPERTS)
            .collect()
    }

    fn composed(&self, inputs: &[Tensor<2>]) -> Tensor<2> {
        let input = |index: usize| inputs[index].clone();
        let vector = |index| input(index).flatten::<1>(0, 1);
        let loss = |logits: Tensor<2>| {
            let loss = CrossEntropyLossConfig::new().init(&logits.device());
            loss.forward(logits, self.targets.clone()).unsqueeze()
        };
        match self.operation {
            Operation::Gelu => gelu(input(0) + input(1)),
            Operation::GeluTanh => gelu_approximate(input(0) + input(1)),
            Operation::LayerNorm => {
                module::layer_norm(input(0), vector(1), Some(vector(2)), EPSILON)
            }
            Operation::CrossEntropy => loss(input(0)),
            Operation::LinearCrossEntropy => loss(input(0).matmul(input(1).transpose())),
            Operation::FeedForward(_) => {
                let activated = gelu(module::linear(input(0), input(1), Some(vector(2))));
                module::linear(activated, input(3), Some(vector(4)))
            }
            Operation::Embedding => {
                let ids = self.targets.clone().unsqueeze::<2>();
                module::embedding(input(0), ids).squeeze_dim(0)
            }
            Operation::Experts => {
                let experts = experts(&inputs[1..]);
                let device = input(0).device();
                let assignment = Assignment::new(&self.assigned(), EXPERTS, &device);
                assignment.apply(input(0), |index, tokens| {
                    let expert = experts[index].clone();
                    let options = expert.options.feed_forward;
                    let output = feed_forward(tokens.clone(), expert.feed_forward, options);
                    layer_norm(output + tokens, expert.gamma, expert.beta, EPSILON)
                })
            }
        }
    }

    fn forward(&self, run: impl Fn(&Self, &[Tensor<2>]) -> Tensor<2>) -> f64 {
        let inputs: Vec<_> = self.inputs.iter().cloned().map(Tensor::inner).collect();
        median(|| drop(hint::black_box(run(self, &inputs))))
    }

    fn both(&self, run: impl Fn(&Self, &[Tensor<2>]) -> Tensor<2>) -> f64 {
        median(|| self.backward(&run))
    }

    fn backward(&self, run: impl Fn(&Self, &[Tensor<2>]) -> Tensor<2>) {
        let loss = run(self, &self.inputs).matmul(self.end.clone()).sum();
        drop(hint::black_box(loss.backward()));
    }
}

fn experts(inputs: &[Tensor<2>]) -> Vec<ExpertWeights> {
    let experts = inputs.chunks_exact(6).map(|tensors| {
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
            },
        }
    });
    experts.collect()
}

/// The median of the times of some passes, in milliseconds: at least three, and half a second of them.
fn median(pass: impl Fn()) -> f64 {
    pass();
    let start = Instant::now();
    let mut times = vec![];
    while times.len() < 3 || start.elapsed().as_secs_f64() < 0.5 {
        let start = Instant::now();
        pass();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn find(name: &str, device: &Device) -> Option<Case> {
    let (_, operation, shape) = CASES.iter().find(|(case, ..)| *case == name)?;
    Some(Case::new(*operation, *shape, device))
}

/// A number of MB from the kernel's account of this process.
fn megabytes(key: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1024.0
}

fn main() -> io::Result<()> {
    let device = Device::default().autodiff();
    let mut flags = vec![];
    let mut names = vec![];
    for argument in std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
    {
        if argument.starts_with("--") {
            flags.push(argument);
        } else {
            names.push(argument);
        }
    }
    let mut out = io::stdout();
    if flags.iter().any(|flag| flag == "--serve") {
        for line in io::stdin().lock().lines() {
            let line = line?;
            let Some(case) = find(&line, &device) else {
                continue;
            };
            let (forward, both) = (case.forward(Case::fused), case.both(Case::fused));
            writeln!(out, "{{\"forward\": {forward}, \"both\": {both}}}")?;
            out.flush()?;
        }
        return Ok(());
    }
    if names.is_empty() {
        names.extend(CASES.iter().map(|(name, ..)| (*name).to_owned()));
    }
    for name in names {
        let Some(case) = find(&name, &device) else {
            writeln!(out, "{name}: no such case")?;
            continue;
        };
        if flags.iter().any(|flag| flag == "--memory") {
            let before = megabytes("VmRSS");
            if flags.iter().any(|flag| flag == "--composed") {
                case.backward(Case::composed);
            } else {
                case.backward(Case::fused);
            }
            writeln!(out, "{name}: {:.0} MB", megabytes("VmHWM") - before)?;
            continue;
        }
        let times = [
            case.forward(Case::fused),
            case.forward(Case::composed),
            case.both(Case::fused),
            case.both(Case::composed),
        ];
        let [forward, composed_forward, both, composed_both] = times;
        writeln!(
            out,
            "{name}: forward {forward:.2} (composed {composed_forward:.2}), with backward {both:.2} \
             (composed {composed_both:.2})"
        )?;
    }
    Ok(())
}
