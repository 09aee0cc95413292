//! A recurrence over tokens, chunk by chunk.

use burn::prelude::*;

use super::complex::Complex;

/// A recurrence over tokens, `x_t = A' x_{t-1} + B' u_t`, for chunks of `Q` tokens.
pub(super) struct Discretized {
    /// `A'^0` to `A'^Q`, `[D, N / 2, Q + 1]`.
    pub(super) powers: Complex<3>,
    /// `B'` `[D, N / 2]`.
    pub(super) input: Complex<2>,
}

impl Discretized {
    /// `Q`.
    fn chunk(&self) -> usize {
        self.powers.re.dims()[2] - 1
    }

    /// `K_0` to `K_{Q-1}` `[D, Q]` for `c` `[D, N / 2]`.
    pub(super) fn kernel(&self, output: &Complex<2>) -> Tensor<2> {
        let weights = output.clone().times(&self.input).unsqueeze_last();
        let powers = self.powers.slice_last(0..self.chunk());
        let terms = powers.times(&weights);
        (terms.re.sum_dim(1) * 2.0).squeeze_dim::<2>(1)
    }

    /// The outputs `[D, B, T]` for inputs `[D, B, T]` and the states `[D, B, N / 2]` after them, from those before.
    pub(super) fn scan(
        &self,
        output: &Complex<2>,
        input: Tensor<3>,
        before: Option<Complex<3>>,
    ) -> (Tensor<3>, Complex<3>) {
        let [_, batch, length] = input.dims();
        let [channels, half, _] = self.powers.re.dims();
        let chunk = self.chunk();
        let chunks = Chunks::new(self, output);
        let state = before.unwrap_or_else(|| {
            let zeros = Tensor::zeros([channels, batch, half], (&input.device(), input.dtype()));
            Complex {
                re: zeros.clone(),
                im: zeros,
            }
        });
        let whole = length / chunk * chunk;
        let (outputs, state) = chunks.read(input.clone().slice_dim(2, 0..whole), chunk, state);
        if whole == length {
            return (outputs, state);
        }
        // The rest is a chunk of fewer tokens.
        let rest = input.slice_dim(2, whole..length);
        let (last, state) = chunks.read(rest, length - whole, state);
        (Tensor::cat(vec![outputs, last], 2), state)
    }
}

/// What a chunk of `Q` tokens is multiplied with; of shorter ones, a corner of it.
struct Chunks<'a> {
    discretized: &'a Discretized,
    /// From inputs to outputs `[D, Q, Q]`: `K_{i-j}` in row `j` and column `i >= j`.
    toeplitz: Tensor<3>,
    /// From inputs to the state after the chunk `[D, Q, N]`: `A'^{Q-1-j} B'`, real parts first.
    gather: Tensor<3>,
    /// From the state before the chunk to outputs `[D, N, Q]`: `2 Re(c A'^{i+1})`, and minus its imaginary part.
    spread: Tensor<3>,
}

impl<'a> Chunks<'a> {
    fn new(discretized: &'a Discretized, output: &Complex<2>) -> Self {
        let chunk = discretized.chunk();
        let kernel = discretized.kernel(output);
        let [channels, _] = kernel.dims();
        let places = Tensor::<1, Int>::arange(0..chunk as i64, &kernel.device());
        let lags = places.clone().unsqueeze::<2>() - places.unsqueeze_dim::<2>(1);
        let is_later = lags.clone().lower_elem(0).unsqueeze::<3>();
        let toeplitz = kernel
            .select(1, lags.clamp_min(0).flatten(0, 1))
            .reshape([channels, chunk, chunk])
            .mask_fill(is_later, 0.0);
        let powers = &discretized.powers;
        let first = powers.slice_last(0..chunk);
        let gather = first.times(&discretized.input.clone().unsqueeze_last());
        let gather = Tensor::cat(vec![gather.re, gather.im], 1).flip([2]);
        let later = powers.slice_last(1..chunk + 1);
        let spread = later.times(&output.clone().unsqueeze_last());
        Self {
            discretized,
            toeplitz,
            gather: gather.swap_dims(1, 2),
            spread: Tensor::cat(vec![spread.re * 2.0, spread.im * -2.0], 1),
        }
    }

    /// The outputs for inputs `[D, B, C q]`, in chunks of `q` tokens, at most `Q`, and the state after them.
    fn read(&self, input: Tensor<3>, tokens: usize, before: Complex<3>) -> (Tensor<3>, Complex<3>) {
        let [channels, batch, length] = input.dims();
        let count = length / tokens;
        let chunk = self.discretized.chunk();
        let toeplitz = self.toeplitz.clone().slice_dim(1, 0..tokens);
        let toeplitz = toeplitz.slice_dim(2, 0..tokens);
        let gather = self.gather.clone().slice_dim(1, chunk - tokens..chunk);
        let spread = self.spread.clone().slice_dim(2, 0..tokens);
        let [_, _, states] = gather.dims();
        let rows = input.reshape([channels, batch * count, tokens]);
        let gathered = rows
            .clone()
            .matmul(gather)
            .reshape([channels, batch, count, states]);
        let decay = self.discretized.powers.slice_last(tokens..tokens + 1);
        let decay = decay.swap_dims(1, 2);
        let (mut state, mut befores) = (before, Vec::with_capacity(count));
        for index in 0..count {
            let both = Tensor::cat(vec![state.re.clone(), state.im.clone()], 2);
            befores.push(both.unsqueeze_dim::<4>(2));
            let new = gathered.clone().slice_dim(2, index..index + 1);
            let new = new.squeeze_dim::<3>(2);
            let new = Complex {
                re: new.clone().slice_dim(2, 0..states / 2),
                im: new.slice_dim(2, states / 2..states),
            };
            state = state.times(&decay).add(new);
        }
        let befores = Tensor::cat(befores, 2).reshape([channels, batch * count, states]);
        let outputs = rows.matmul(toeplitz) + befores.matmul(spread);
        (outputs.reshape([channels, batch, length]), state)
    }
}
