//! The gradients of all parameters taken as one vector.

use std::marker::PhantomData;

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    prelude::*,
    tensor::FloatDType,
};

/// The squared Euclidean norm `[1]`, in float32, of the gradients of all parameters; `None` if none
/// has a gradient.
pub(crate) fn squared_norm<M: Module>(model: &M, gradients: &GradientsParams) -> Option<Tensor<1>> {
    let mut visitor = SquaredNorm {
        gradients,
        sum: None,
    };
    model.visit(&mut visitor);
    visitor.sum
}

/// Multiplies the gradients of all parameters by a factor.
pub(crate) fn scale<M: Module>(model: &M, gradients: &mut GradientsParams, factor: f64) {
    model.visit(&mut Scale {
        gradients,
        factor,
        model: PhantomData::<M>,
    });
}

/// The factor that brings a gradient of this norm down to `max_norm` (Pascanu, Mikolov and Bengio,
/// arXiv 1211.5063), or `None` if it is not above it.
pub(crate) fn clip_factor(norm: f64, max_norm: f64) -> Option<f64> {
    (norm > max_norm).then(|| max_norm / norm)
}

struct SquaredNorm<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.cast(FloatDType::F32).square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
}

struct Scale<'a, M> {
    gradients: &'a mut GradientsParams,
    factor: f64,
    model: PhantomData<M>,
}

impl<M> ModuleVisitor for Scale<'_, M> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients
                .register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;

    use super::*;
    use crate::toy::serial;

    #[test]
    fn clips_all_parameters_by_one_norm() {
        let _turn = serial();
        let device = Device::flex().autodiff();
        let model = LinearConfig::new(2, 1).init(&device);
        let bias = model.bias.as_ref().unwrap();
        let mut gradients = GradientsParams::new();
        let inner = device.clone().inner();
        gradients.register(
            model.weight.id,
            Tensor::<2>::from_data([[3.0], [6.0]], &inner),
        );
        gradients.register(bias.id, Tensor::<1>::from_data([-2.0], &inner));

        let norm = squared_norm(&model, &gradients).unwrap().sqrt();
        let norm = f64::from(norm.into_scalar::<f32>());
        assert!((norm - 7.0).abs() < 1e-6);
        assert_eq!(clip_factor(norm, 7.5), None);
        scale(&model, &mut gradients, clip_factor(norm, 0.7).unwrap());

        let weight = gradients.get::<2>(model.weight.id).unwrap();
        let bias = gradients.get::<1>(bias.id).unwrap();
        let expected = TensorData::from([[0.3_f32], [0.6]]);
        let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-6);
        weight.into_data().assert_approx_eq(&expected, tolerance);
        bias.into_data()
            .assert_approx_eq(&TensorData::from([-0.2_f32]), tolerance);
    }
}
