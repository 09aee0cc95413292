//! Complex numbers as two tensors: Burn has none.

use std::ops::Range;

use burn::prelude::*;

#[derive(Clone, Debug)]
pub(super) struct Complex<const D: usize> {
    pub(super) re: Tensor<D>,
    pub(super) im: Tensor<D>,
}

impl<const D: usize> Complex<D> {
    pub(super) fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }

    pub(super) fn neg(self) -> Self {
        Self {
            re: self.re.neg(),
            im: self.im.neg(),
        }
    }

    /// The sum with a real number.
    pub(super) fn plus(self, real: f64) -> Self {
        Self {
            re: self.re + real,
            im: self.im,
        }
    }

    /// The product with real numbers.
    pub(super) fn scale(self, real: Tensor<D>) -> Self {
        Self {
            re: self.re * real.clone(),
            im: self.im * real,
        }
    }

    pub(super) fn times(self, other: &Self) -> Self {
        let re = self.re.clone() * other.re.clone() - self.im.clone() * other.im.clone();
        let im = self.re * other.im.clone() + self.im * other.re.clone();
        Self { re, im }
    }

    pub(super) fn over(self, other: &Self) -> Self {
        let square = other.re.clone() * other.re.clone() + other.im.clone() * other.im.clone();
        let conjugate = Self {
            re: other.re.clone(),
            im: other.im.clone().neg(),
        };
        self.times(&conjugate).scale(square.recip())
    }

    pub(super) fn exp(self) -> Self {
        let size = self.re.exp();
        Self {
            re: size.clone() * self.im.clone().cos(),
            im: size * self.im.sin(),
        }
    }

    pub(super) fn swap_dims(self, one: usize, other: usize) -> Self {
        Self {
            re: self.re.swap_dims(one, other),
            im: self.im.swap_dims(one, other),
        }
    }

    /// A range of the last dimension.
    pub(super) fn slice_last(&self, range: Range<usize>) -> Self {
        Self {
            re: self.re.clone().slice_dim(D - 1, range.clone()),
            im: self.im.clone().slice_dim(D - 1, range),
        }
    }
}

impl Complex<2> {
    /// `[D, N, 1]`
    pub(super) fn unsqueeze_last(self) -> Complex<3> {
        Complex {
            re: self.re.unsqueeze_dim(2),
            im: self.im.unsqueeze_dim(2),
        }
    }

    /// The powers from 0 to `count - 1`, `[D, N, count]`, with a number of products that grows by the logarithm.
    pub(super) fn powers(self, count: usize) -> Complex<3> {
        let mut step = self.unsqueeze_last();
        let mut powers = Complex {
            re: step.re.ones_like(),
            im: step.im.zeros_like(),
        };
        loop {
            let have = powers.re.dims()[2];
            if have >= count {
                return powers.slice_last(0..count);
            }
            let next = powers.clone().times(&step);
            powers = Complex {
                re: Tensor::cat(vec![powers.re, next.re], 2),
                im: Tensor::cat(vec![powers.im, next.im], 2),
            };
            step = step.clone().times(&step);
        }
    }
}
