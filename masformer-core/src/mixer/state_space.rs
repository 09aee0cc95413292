//! Diagonal state spaces: a linear recurrence for each channel, exact and linear in the length.

mod complex;
mod scan;
#[cfg(test)]
mod tests;

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use burn::{
    module::{Module, Param},
    prelude::*,
    tensor::{Distribution, assert_shape},
};
use serde::{Deserialize, Serialize};

use self::{complex::Complex, scan::Discretized};
use crate::span::Direction;

/// Tokens of a chunk: inside one all pairs are multiplied, between two the states are handed on. A token costs
/// a channel this and twice the states, so it is near those.
const CHUNK: usize = 64;

/// How the continuous recurrence becomes one over tokens (S4D, arXiv 2206.11893, equation 3, and S4, arXiv
/// 2111.00396, equation 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discretization {
    /// `A' = (1 + dt a / 2) / (1 - dt a / 2)`, `B' = dt b / (1 - dt a / 2)`.
    #[default]
    Bilinear,
    /// Zero-order hold: `A' = exp(dt a)`, `B' = b (A' - 1) / a`.
    Zoh,
}

/// The settings of a [`StateSpace`], which are keys of the mixers that have one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateSpaceConfig {
    /// States `N` of a channel, which are `N / 2` complex numbers with their conjugates; an even number. Default 64.
    pub states: usize,
    /// How the recurrence is discretised: `bilinear` or `zoh`. Default `bilinear`.
    pub rule: Discretization,
    /// The shortest time step at the start; steps are drawn log-uniformly. Default 0.001.
    pub dt_min: f64,
    /// The longest. Default 0.1.
    pub dt_max: f64,
    /// Whether the state space is trained; otherwise it stays as it was drawn or loaded. Default true.
    pub train: bool,
}

/// A diagonal state space for each channel (S4D, arXiv 2206.11893, equation 2): with complex `a`, `b` and `c`, a real
/// `d` and a time step `dt`,
///
/// ```text
/// x_t = A' x_{t-1} + B' u_t,   y_t = 2 Re(sum_n c_n x_t,n) + d u_t
/// ```
///
/// where `A'` and `B'` are those of the [`Discretization`]. Burn has no complex numbers: real and imaginary parts
/// are apart.
///
/// A whole sequence is read in chunks of 64 tokens: inside a chunk `y` is a product with the Toeplitz matrix of
/// the kernel `K_t = 2 Re(sum_n c_n B'_n A'_n^t)`, and what came before it enters through the state. A step of
/// decoding is a chunk of one token.
#[derive(Module, Debug)]
pub struct StateSpace {
    /// `ln dt` `[D]`.
    pub log_dt: Param<Tensor<1>>,
    /// `ln(-Re a)` `[D, N / 2]`, so that every state decays.
    pub log_decay: Param<Tensor<2>>,
    /// `Im a` `[D, N / 2]`.
    pub frequency: Param<Tensor<2>>,
    /// `Re b` `[D, N / 2]`.
    pub input_real: Param<Tensor<2>>,
    /// `Im b` `[D, N / 2]`.
    pub input_imag: Param<Tensor<2>>,
    /// `Re c` `[D, N / 2]`.
    pub output_real: Param<Tensor<2>>,
    /// `Im c` `[D, N / 2]`.
    pub output_imag: Param<Tensor<2>>,
    /// `Re c` of the pass from the right, in an encoder.
    pub reverse_real: Option<Param<Tensor<2>>>,
    /// `Im c` of the pass from the right, in an encoder.
    pub reverse_imag: Option<Param<Tensor<2>>>,
    /// `d` `[D]`.
    pub direct: Param<Tensor<1>>,
    #[module(skip)]
    rule: Discretization,
}

/// The states after the tokens so far.
#[derive(Clone, Debug, Default)]
pub struct StateSpaceCache {
    /// Real and imaginary parts `[D, B, N / 2]`; `None` before the first token, for zeros.
    pub states: Option<[Tensor<3>; 2]>,
}

impl Default for StateSpaceConfig {
    fn default() -> Self {
        Self {
            states: 64,
            rule: Discretization::default(),
            dt_min: 0.001,
            dt_max: 0.1,
            train: true,
        }
    }
}

impl StateSpaceConfig {
    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// If they make no sense: what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let (states, shortest, longest) = (self.states, self.dt_min, self.dt_max);
        if states == 0 || !states.is_multiple_of(2) {
            Err(format!(
                "`states` must be an even number above 0, not {states}"
            ))
        } else if !(shortest > 0.0 && longest.is_finite()) {
            Err(format!(
                "`dt_min` and `dt_max` must be finite numbers above 0, not {shortest} and {longest}"
            ))
        } else if shortest >= longest {
            Err(format!(
                "`dt_min` must be below `dt_max`, {longest}, not {shortest}"
            ))
        } else {
            Ok(())
        }
    }

    /// Makes the state spaces of `D` channels on a device. `a_n = -1/2 + i pi n` (S4D-Lin, equation 9), `b = 1`,
    /// `ln dt` is uniform, `c` complex normal and `d` normal.
    ///
    /// # Panics
    ///
    /// If [`Self::check`] refuses the settings.
    pub fn init(&self, channels: usize, direction: Direction, device: &Device) -> StateSpace {
        if let Err(problem) = self.check() {
            panic!("{problem}");
        }
        let half = self.states / 2;
        let shape = [channels, half];
        let drawn = |std| Tensor::random(shape, Distribution::Normal(0.0, std), device);
        let filled = |value: f64| Tensor::<2>::full(shape, value, device);
        let complex = || [FRAC_1_SQRT_2; 2].map(|std| Param::from_tensor(drawn(std)));
        let steps = Distribution::Uniform(self.dt_min.ln(), self.dt_max.ln());
        let frequency = Tensor::<1, Int>::arange(0..half as i64, device).float() * PI;
        let [output_real, output_imag] = complex();
        let (reverse_real, reverse_imag) = match direction {
            Direction::Causal => (None, None),
            Direction::Bidirectional => {
                let [real, imag] = complex();
                (Some(real), Some(imag))
            }
        };
        let direct = Tensor::random([channels], Distribution::Normal(0.0, 1.0), device);
        let state_space = StateSpace {
            log_dt: Param::from_tensor(Tensor::random([channels], steps, device)),
            log_decay: Param::from_tensor(filled(0.5_f64.ln())),
            frequency: Param::from_tensor(frequency.unsqueeze::<2>().repeat_dim(0, channels)),
            input_real: Param::from_tensor(filled(1.0)),
            input_imag: Param::from_tensor(filled(0.0)),
            output_real,
            output_imag,
            reverse_real,
            reverse_imag,
            direct: Param::from_tensor(direct),
            rule: self.rule,
        };
        if self.train {
            state_space
        } else {
            state_space.no_grad()
        }
    }

    /// How many numbers the states of one sequence are.
    pub fn state(&self, channels: usize) -> usize {
        channels * self.states
    }
}

impl StateSpaceCache {
    /// Takes the sequences `rows` `[R]` of the batch, in that order and as often as they are named.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        let states = self.states.take();
        self.states = states.map(|parts| parts.map(|part| part.select(1, rows.clone())));
    }
}

impl StateSpace {
    /// The kernel `K_t` of the first `length` tokens, without `d`.
    ///
    /// # Shapes
    ///
    /// - output: `[D, T]`
    pub fn kernel(&self, length: usize) -> Tensor<2> {
        self.discretized(length).kernel(&self.output())
    }

    /// Reads whole sequences or, with a cache, the tokens that follow those in the cache, which takes them in.
    /// Padding is as if it were zeros; before a sequence, it changes nothing.
    ///
    /// In an encoder, what comes after a token reaches it through a second pass from the right, with the same
    /// recurrence and another `c`.
    ///
    /// # Shapes
    ///
    /// - input and output: `[B, T, D]`
    /// - padding: `[B, T]`, true where a position is padding
    ///
    /// # Panics
    ///
    /// If the padding is not `[B, T]`, or there is a cache in an encoder.
    pub fn forward(
        &self,
        input: Tensor<3>,
        padding: Option<&Tensor<2, Bool>>,
        cache: Option<&mut StateSpaceCache>,
    ) -> Tensor<3> {
        let [batch, length, channels] = input.dims();
        let input = match padding {
            Some(padding) => {
                assert_shape!(padding, [batch, length]);
                input.mask_fill(padding.clone().unsqueeze_dim::<3>(2), 0.0)
            }
            None => input,
        };
        let discretized = self.discretized(length.min(CHUNK));
        let direct = input.clone() * self.direct.val().reshape([1, 1, channels]);
        let input = input.permute([2, 0, 1]);
        let before = cache.as_ref().and_then(|cache| cache.states.clone());
        let before = before.map(|[re, im]| Complex { re, im });
        let (mut output, after) = discretized.scan(&self.output(), input.clone(), before);
        assert!(
            cache.is_none() || self.reverse_real.is_none(),
            "an encoder's positions see later ones: only causal layers can have a cache"
        );
        if let Some(reverse) = self.reverse().filter(|_| length > 1) {
            let (reversed, _) = discretized.scan(&reverse, input.flip([2]), None);
            // A token sees itself in the pass from the left.
            let after = reversed.flip([2]).slice_dim(2, 1..length);
            let none = Tensor::zeros([channels, batch, 1], (&after.device(), after.dtype()));
            output = output + Tensor::cat(vec![after, none], 2);
        }
        if let Some(cache) = cache {
            cache.states = Some([after.re, after.im]);
        }
        output.permute([1, 2, 0]) + direct
    }

    /// Multiply-adds for one sequence, without those of the kernel, which all sequences of a batch share.
    pub fn cost(&self, length: usize) -> usize {
        let [channels, half] = self.frequency.shape().dims();
        let passes = if self.reverse_real.is_some() { 2 } else { 1 };
        passes * channels * length * (length.min(CHUNK) + 4 * half)
    }

    fn output(&self) -> Complex<2> {
        Complex {
            re: self.output_real.val(),
            im: self.output_imag.val(),
        }
    }

    fn reverse(&self) -> Option<Complex<2>> {
        let (re, im) = (self.reverse_real.as_ref()?, self.reverse_imag.as_ref()?);
        Some(Complex {
            re: re.val(),
            im: im.val(),
        })
    }

    /// The recurrence over tokens, for chunks of `length`.
    fn discretized(&self, length: usize) -> Discretized {
        let dt = self.log_dt.val().exp().unsqueeze_dim::<2>(1);
        let a = Complex {
            re: self.log_decay.val().exp().neg(),
            im: self.frequency.val(),
        };
        let b = Complex {
            re: self.input_real.val(),
            im: self.input_imag.val(),
        };
        let (decay, input) = match self.rule {
            Discretization::Bilinear => {
                let half = a.scale(dt.clone() * 0.5);
                let below = half.clone().neg().plus(1.0);
                (half.plus(1.0).over(&below), b.scale(dt).over(&below))
            }
            Discretization::Zoh => {
                let decay = a.clone().scale(dt).exp();
                let held = decay.clone().plus(-1.0).over(&a);
                (decay, held.times(&b))
            }
        };
        Discretized {
            powers: decay.powers(length + 1),
            input,
        }
    }
}
