//! Finding the first number of a module that is infinite or undefined.

use std::fmt;

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    prelude::*,
};

use crate::module_path::ModulePath;

/// A number that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFinite {
    /// One that is undefined.
    Nan,
    /// One that is infinite.
    Infinite,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nan => "NaN",
            Self::Infinite => "an infinite value",
        })
    }
}

/// The path of the first parameter with a number that is not finite, and what that number is; of
/// gradients, if there are any, those are looked at instead. Weights that were not drawn yet are finite.
///
/// Variants of enums are no part of a path, as they are none of a weight's name.
pub fn first_not_finite<M: Module>(
    model: &M,
    gradients: Option<&GradientsParams>,
) -> Option<(String, NotFinite)> {
    let mut visitor = First {
        gradients,
        path: ModulePath::default(),
        found: None,
    };
    model.visit(&mut visitor);
    visitor.found
}

/// What a tensor holds that is not finite; NaN, if it holds both.
#[expect(
    clippy::disallowed_methods,
    reason = "looks at weights that are loaded or saved, and at a training that has failed"
)]
pub fn not_finite<const D: usize>(tensor: Tensor<D>) -> Option<NotFinite> {
    let tensor = tensor.without_autodiff();
    // A sixth of the time of looking at each number; a sum of finite ones rarely overflows.
    if tensor.clone().sum().into_scalar::<f32>().is_finite() {
        return None;
    }
    let is_any = |flags: Tensor<D, Bool>| flags.any().into_scalar::<bool>();
    if is_any(tensor.clone().is_nan()) {
        Some(NotFinite::Nan)
    } else {
        is_any(tensor.is_inf()).then_some(NotFinite::Infinite)
    }
}

struct First<'a> {
    gradients: Option<&'a GradientsParams>,
    path: ModulePath,
    found: Option<(String, NotFinite)>,
}

impl ModuleVisitor for First<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.found.is_some() {
            return;
        }
        let value = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            // Fresh weights are drawn when they are first used, and looking at them would draw them earlier.
            None => param.is_initialized().then(|| param.val()),
        };
        let found = value.and_then(not_finite);
        self.found = found.map(|found| (self.path.to_string(), found));
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};

    use super::*;

    /// A part of a model.
    #[derive(Module, Debug)]
    enum Part {
        Linear(Linear),
    }

    #[test]
    fn the_first_number_is_named_and_told() {
        let device = Device::default();
        let part = || LinearConfig::new(2, 2).init(&device);
        let mut parts = vec![Part::Linear(part()), Part::Linear(part())];
        assert_eq!(first_not_finite(&parts, None), None);
        let mut spoil = |index: usize, value: f32| {
            let Part::Linear(linear) = &mut parts[index];
            let bias = Tensor::from_data([0.0, value], &device);
            linear.bias = Some(Param::from_tensor(bias));
            first_not_finite(&parts, None)
        };
        let path = |index: usize| format!("{index}.bias");
        let infinite = spoil(1, f32::NEG_INFINITY);
        assert_eq!(infinite, Some((path(1), NotFinite::Infinite)));
        assert_eq!(spoil(1, f32::NAN), Some((path(1), NotFinite::Nan)));
        let first = spoil(0, f32::INFINITY);
        assert_eq!(first, Some((path(0), NotFinite::Infinite)));
    }

    #[test]
    fn weights_that_were_not_drawn_yet_stay_so() {
        let linear = LinearConfig::new(2, 2).init(&Device::default());
        assert_eq!(first_not_finite(&linear, None), None);
        assert!(!linear.weight.is_initialized());
    }

    #[test]
    fn large_numbers_are_finite() {
        let device = Device::default();
        let tensor = |values: [f32; 3]| Tensor::<1>::from_data(values, &device);
        assert_eq!(not_finite(tensor([f32::MAX; 3])), None);
        let opposite = tensor([f32::INFINITY, f32::NEG_INFINITY, 0.0]);
        assert_eq!(not_finite(opposite), Some(NotFinite::Infinite));
        let both = tensor([f32::INFINITY, f32::NAN, 0.0]);
        assert_eq!(not_finite(both), Some(NotFinite::Nan));
        assert_eq!(not_finite(Tensor::<2>::zeros([0, 3], &device)), None);
    }
}
