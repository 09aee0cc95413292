//! The fused operations against `PyTorch`, on the tensors of `fixtures/ops_fixtures.py`.

use std::path::Path;

use burn::{prelude::*, tensor::Tolerance};
use masformer_core::{
    Activation,
    ops::{
        AdamStep, ExpertOptions, ExpertWeights, FeedForwardOptions, FeedForwardWeights, Groups,
        adam_step, bias_activation, cross_entropy, expert_feed_forward, feed_forward, layer_norm,
        linear_cross_entropy, linear_cross_entropy_mean, softmax,
    },
    tensor_file::TensorFile,
};

/// Of the largest number of a tensor, or of 1.
const TOLERANCE: f32 = 1e-5;

struct Fixture {
    file: TensorFile,
    device: Device,
}

impl Fixture {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ops.safetensors");
        Self {
            file: TensorFile::read(&path).unwrap(),
            device: Device::default().autodiff(),
        }
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (shape, values) = self.file.f32::<D>(name).unwrap();
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    fn targets(&self) -> Tensor<1, Int> {
        self.tensor::<1>("targets").int()
    }

    fn assert_close<const D: usize>(&self, name: &str, found: &Tensor<D>) {
        let expected = self.tensor::<D>(name);
        let size = expected.clone().abs().max().into_scalar::<f32>().max(1.0);
        let tolerance = Tolerance::<f32>::absolute(TOLERANCE * size);
        let found = found.to_data();
        found.assert_approx_eq(&expected.to_data(), tolerance);
    }

    /// Runs an operation on matrices and vectors of a case; the output and all gradients must be
    /// `PyTorch`'s.
    fn assert_same<const M: usize, const V: usize, const D: usize>(
        &self,
        case: &str,
        matrices: [&str; M],
        vectors: [&str; V],
        operation: impl Fn([Tensor<2>; M], [Tensor<1>; V]) -> Tensor<D>,
    ) {
        let read = |name: &str| self.tensor(&format!("{case}.{name}")).require_grad();
        let inputs = matrices.map(read);
        let read = |name: &str| self.tensor(&format!("{case}.{name}")).require_grad();
        let flat_inputs = vectors.map(read);
        let output = operation(inputs.clone(), flat_inputs.clone());
        self.assert_close(&format!("{case}.output"), &output);
        let weights = self.tensor::<D>(&format!("{case}.weights"));
        let gradients = (output * weights).sum().backward();
        for (name, input) in matrices.iter().zip(&inputs) {
            let gradient = input.grad(&gradients).unwrap();
            self.assert_close(&format!("{case}.gradient.{name}"), &gradient);
        }
        for (name, input) in vectors.iter().zip(&flat_inputs) {
            let gradient = input.grad(&gradients).unwrap();
            self.assert_close(&format!("{case}.gradient.{name}"), &gradient);
        }
    }
}

#[test]
fn activations_and_feed_forward_layers() {
    let fixture = Fixture::open();
    for (name, activation) in [
        ("gelu", Activation::Gelu),
        ("gelu-tanh", Activation::GeluTanh),
    ] {
        fixture.assert_same(name, ["input"], ["bias"], |[input], [bias]| {
            bias_activation(input, bias, activation)
        });
        for chunk in [None, Some(3)] {
            fixture.assert_same(
                &format!("feed-forward-{name}"),
                ["input", "inner", "outer"],
                ["inner_bias", "outer_bias"],
                |[input, inner, outer], [inner_bias, outer_bias]| {
                    let weights = FeedForwardWeights {
                        inner,
                        inner_bias,
                        outer,
                        outer_bias,
                    };
                    feed_forward(input, weights, FeedForwardOptions { activation, chunk })
                },
            );
        }
    }
}

/// The experts of the case from tensors with one of each along the first dimension.
fn experts(matrices: [Tensor<3>; 2], vectors: [Tensor<2>; 4]) -> Vec<ExpertWeights> {
    let [count, ..] = matrices[0].dims();
    let expert = |index: usize| {
        let [inner, outer] = matrices.clone().map(|all| {
            let one = all.slice_dim(0, index..=index);
            one.squeeze_dim(0)
        });
        let [inner_bias, outer_bias, gamma, beta] = vectors.clone().map(|all| {
            let one = all.slice_dim(0, index..=index);
            one.squeeze_dim(0)
        });
        ExpertWeights {
            feed_forward: FeedForwardWeights {
                inner,
                inner_bias,
                outer,
                outer_bias,
            },
            gamma,
            beta,
            options: ExpertOptions {
                feed_forward: FeedForwardOptions {
                    activation: Activation::Gelu,
                    chunk: None,
                },
                dropout: 0.0,
                epsilon: 1e-5,
                is_pre_norm: false,
            },
        }
    };
    (0..count).map(expert).collect()
}

#[test]
fn expert_layers() {
    let fixture = Fixture::open();
    let read = |name: &str| fixture.tensor(&format!("experts.{name}")).require_grad();
    let input: Tensor<2> = read("input");
    let read = |name: &str| fixture.tensor(&format!("experts.{name}")).require_grad();
    let matrices: [Tensor<3>; 2] = ["inner", "outer"].map(read);
    let read = |name: &str| fixture.tensor(&format!("experts.{name}")).require_grad();
    let names = ["inner_bias", "outer_bias", "gamma", "beta"];
    let vectors: [Tensor<2>; 4] = names.map(read);
    let assigned = fixture.tensor::<1>("experts.assigned").inner().int();
    let [count, _] = vectors[0].dims();
    let groups = Groups::new(assigned, count);

    let untracked = experts(
        matrices.clone().map(Tensor::inner),
        vectors.clone().map(Tensor::inner),
    );
    let output = expert_feed_forward(input.clone().inner(), &untracked, &groups);
    fixture.assert_close("experts.output", &output);

    let weights = experts(matrices.clone(), vectors.clone());
    let output = expert_feed_forward(input.clone(), &weights, &groups);
    fixture.assert_close("experts.output", &output);
    let end = fixture.tensor::<2>("experts.weights");
    let gradients = (output * end).sum().backward();
    let gradient = input.grad(&gradients).unwrap();
    fixture.assert_close("experts.gradient.input", &gradient);
    for (name, matrix) in ["inner", "outer"].iter().zip(&matrices) {
        let gradient = matrix.grad(&gradients).unwrap();
        fixture.assert_close(&format!("experts.gradient.{name}"), &gradient);
    }
    for (name, vector) in names.iter().zip(&vectors) {
        let gradient = vector.grad(&gradients).unwrap();
        fixture.assert_close(&format!("experts.gradient.{name}"), &gradient);
    }
}

#[test]
fn layer_norms() {
    let fixture = Fixture::open();
    fixture.assert_same(
        "layer-norm",
        ["input"],
        ["gamma", "beta"],
        |[input], [gamma, beta]| layer_norm(input, gamma, beta, 1e-5),
    );
}

#[test]
fn softmaxes() {
    let fixture = Fixture::open();
    fixture.assert_same("softmax", ["input"], [], |[input], []| softmax(input));
}

#[test]
fn cross_entropies() {
    let fixture = Fixture::open();
    let targets = fixture.targets();
    fixture.assert_same("cross-entropy", ["logits"], [], |[logits], []| {
        cross_entropy(logits, targets.clone())
    });
    fixture.assert_same(
        "linear-cross-entropy",
        ["hidden", "head"],
        [],
        |[hidden, head], []| linear_cross_entropy(hidden, head, targets.clone()),
    );
    fixture.assert_same(
        "linear-cross-entropy-mean",
        ["hidden", "head"],
        [],
        |[hidden, head], []| linear_cross_entropy_mean(hidden, head, targets.clone()),
    );
}

#[test]
fn adam_steps() {
    let fixture = Fixture::open();
    let mut parameter = fixture.tensor::<2>("adam.parameter").inner();
    let gradients = fixture.tensor::<3>("adam.gradients").inner();
    let mut moments = [(); 2].map(|()| parameter.zeros_like());
    for time in 1..=3_i32 {
        let step = AdamStep {
            rate: 0.1,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.2,
            time,
        };
        let place = time as usize - 1;
        let gradient = gradients.clone().slice_dim(0, place..=place).squeeze_dim(0);
        (parameter, moments) = adam_step(parameter, gradient, moments, step);
    }
    fixture.assert_close("adam.output", &parameter);
}
