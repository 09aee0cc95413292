//! A step of Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2) in one pass.

#[cfg(feature = "flex")]
mod flex;

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    prelude::*,
};

use super::primitive::Float;

/// The numbers of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// The learning rate.
    pub rate: f64,
    /// Decay of the running mean of gradients.
    pub beta_1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta_2: f64,
    /// Added to the root of the squared gradients.
    pub epsilon: f64,
    /// Weight decay, in units of the learning rate.
    pub weight_decay: f64,
    /// Which step of this parameter it is, from 1.
    pub time: i32,
}

impl AdamStep {
    /// What both running means are divided by, because they started at zero.
    fn corrections(self) -> [f64; 2] {
        [self.beta_1, self.beta_2].map(|beta| 1.0 - beta.powi(self.time))
    }

    /// What is left of a parameter.
    fn kept(self) -> f64 {
        1.0 - self.rate * self.weight_decay
    }
}

/// A parameter after a step, and the running means of its gradient and of its square.
///
/// All have the same shape, and none is tracked.
pub fn adam_step<const N: usize>(
    parameter: Tensor<N>,
    gradient: Tensor<N>,
    moments: [Tensor<N>; 2],
    step: AdamStep,
) -> (Tensor<N>, [Tensor<N>; 2]) {
    let [first, second] = moments;
    let (parameter, first, second) = <Dispatch as AdamOps>::adam_step(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        step,
    );
    let moments = [first, second].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(parameter), moments)
}

/// Adam on one backend; the default body works on all of them.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait AdamOps: Backend {
    /// The parameter and its moments after a step.
    #[fusion(default)]
    fn adam_step(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        plain::<Self>(parameter, gradient, first, second, step)
    }
}

#[cfg(feature = "ndarray")]
impl AdamOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl AdamOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl AdamOps for burn::backend::Remote {}

/// The default body.
fn plain<B: Backend>(
    parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    step: AdamStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (parameter, gradient) = (Float::<B>(parameter), Float::<B>(gradient));
    let mean = |mean: Float<B>, new: Float<B>, beta: f64| mean.scale(beta) + new.scale(1.0 - beta);
    let first = mean(Float(first), gradient.clone(), step.beta_1);
    let second = mean(Float(second), gradient.clone() * gradient, step.beta_2);
    let [correction_1, correction_2] = step.corrections();
    let deviation = second.clone().scale(1.0 / correction_2).sqrt();
    let direction = first.clone() / deviation.plus(step.epsilon);
    let parameter = parameter.scale(step.kept()) - direction.scale(step.rate / correction_1);
    (parameter.0, first.0, second.0)
}

#[cfg(test)]
mod tests {
    use burn::optim::{AdamWConfig, Optimizer};
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::{assert_close, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn steps_are_those_of_burns_optimizer(
            rows in 1..40_usize,
            width in 1..2000_usize,
            weight_decay in prop_oneof![Just(0.0), 0.0..0.5_f64],
        ) {
            let device = Device::default();
            let adam = AdamWConfig::new()
                .with_epsilon(1e-8)
                .with_weight_decay(weight_decay as f32)
                .build();
            let start = random([rows, width], &device);
            let (mut expected, mut state) = (start.clone(), None);
            let (mut found, mut moments) = (start.clone(), [(); 2].map(|()| start.zeros_like()));
            for time in 1..=3 {
                let gradient = random([rows, width], &device);
                (expected, state) = adam.step(0.1, expected, gradient.clone(), state);
                let step = AdamStep {
                    rate: 0.1,
                    beta_1: 0.9,
                    beta_2: 0.999,
                    epsilon: 1e-8,
                    weight_decay,
                    time,
                };
                (found, moments) = adam_step(found, gradient, moments, step);
            }
            let momentum = state.unwrap().momentum;
            let [first, second] = moments;
            assert_close(
                &[found, first, second].map(Tensor::into_data),
                &[expected, momentum.moment_1, momentum.moment_2].map(Tensor::into_data),
                1e-5,
            );
        }
    }
}
