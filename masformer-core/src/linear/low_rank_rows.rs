//! A product of low rank and a few rows beside it (`LoSparse`, arXiv 2306.11222).

use burn::{
    module::{Module, Param, ParamId, Reparameterization},
    nn::Linear,
    prelude::*,
    tensor::{IndexingUpdateOp, Shape},
};

use super::WeightForm;
use crate::ops;

/// The weight `W = A B + S` `[D, F]`, of whose `S` only some columns are there, those of the outputs `rows`; the others are
/// zero.
///
/// The base of the parameter is what is there of `S`, `[D, K]`. In a matrix `[F, D]`, as in the paper and in files, its columns
/// are rows.
#[derive(Module, Debug)]
pub struct LowRankRows {
    /// `A`, stored `[D, r]`.
    pub right: Linear,
    /// `B`, stored `[r, F]`.
    pub left: Linear,
    /// The outputs that have a row of their own, `[K]`, ascending.
    pub rows: Param<Tensor<1, Int>>,
}

impl LowRankRows {
    /// A product `A B` of matrices `[D, r]` and `[r, F]`, beside rows for these outputs.
    pub fn new(a: Tensor<2>, b: Tensor<2>, rows: Tensor<1, Int>) -> Self {
        let factor = |weight| Linear {
            weight: Param::from_tensor(weight),
            bias: None,
        };
        Self {
            right: factor(a),
            left: factor(b),
            rows: Param::initialized(ParamId::new(), rows),
        }
    }

    /// Numbers of a weight of `inputs` and `outputs` in this form.
    pub fn numbers([inputs, outputs]: [usize; 2], rank: usize, rows: usize) -> usize {
        (inputs + outputs) * rank + inputs * rows
    }

    fn rank(&self) -> usize {
        self.right.weight.dims()[1]
    }

    /// Adds what the rows give `[N, K]` to all outputs `[N, F]`.
    fn add_rows(&self, outputs: Tensor<2>, of_rows: Tensor<2>) -> Tensor<2> {
        outputs.select_assign(1, self.rows.val(), of_rows, IndexingUpdateOp::Add)
    }
}

impl Reparameterization for LowRankRows {
    const NAME: &'static str = "losparse";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let dims = base.dims();
        let base = base.reshape([dims[0], dims[1]]);
        let product = self.right.weight.val().matmul(self.left.weight.val());
        let whole = self.add_rows(product, base);
        let shape: Shape = whole.dims().to_vec().into();
        whole.reshape(shape)
    }
}

impl WeightForm for LowRankRows {
    /// `(x A) B + x S + b`: neither `W` nor the whole of `S` is built.
    fn apply(&self, input: Tensor<2>, base: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
        let without = |width| Tensor::zeros([width], (&base.device(), base.dtype()));
        let narrow = ops::linear(input.clone(), self.right.weight.val(), without(self.rank()));
        let [_, rows] = base.dims();
        let of_rows = ops::linear(input, base.clone(), without(rows));
        self.add_rows(ops::linear(narrow, self.left.weight.val(), bias), of_rows)
    }

    fn outputs(&self, _: [usize; 2]) -> usize {
        self.left.weight.dims()[1]
    }

    fn multiply_adds(&self, base: [usize; 2]) -> usize {
        let [inputs, rows] = base;
        Self::numbers([inputs, self.outputs(base)], self.rank(), rows)
    }
}

#[cfg(test)]
mod tests {
    use burn::{module::Reparameterizer, tensor::Distribution};
    use proptest::prelude::*;

    use super::*;
    use crate::linear::{apply_linear, is_plain, multiply_adds, outputs};

    /// Gives a weight a form.
    struct Give(Option<LowRankRows>);

    impl Reparameterizer for Give {
        type Reparam = LowRankRows;

        fn reparameterize<const D: usize>(
            &mut self,
            _: &str,
            param: Param<Tensor<D>>,
        ) -> (Param<Tensor<D>>, Option<LowRankRows>) {
            let form = if D == 2 { self.0.take() } else { None };
            (param, form)
        }
    }

    fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    fn layer([inputs, outputs, rank]: [usize; 3], rows: &[i64], device: &Device) -> Linear {
        let rows_tensor = Tensor::<1, Int>::from_data(rows, device);
        let form = LowRankRows::new(
            random([inputs, rank], device),
            random([rank, outputs], device),
            rows_tensor,
        );
        let bias = random([1, outputs], device).squeeze_dim::<1>(0);
        let plain = Linear {
            weight: Param::from_tensor(random([inputs, rows.len()], device)),
            bias: Some(Param::from_tensor(bias)),
        };
        plain.apply_reparameterization(Give(Some(form)))
    }

    fn assert_close(found: Tensor<2>, expected: Tensor<2>) {
        let difference: f32 = (found - expected).abs().max().into_scalar();
        assert!(difference < 1e-4, "{difference}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_layer_and_its_gradients_are_those_of_the_whole_matrix(
            inputs in 1..9_usize,
            outputs_count in 1..9_usize,
            rank in 1..4_usize,
            mut kept in proptest::collection::vec(any::<bool>(), 9),
        ) {
            let device = Device::default().autodiff();
            kept[0] |= !kept[..outputs_count].contains(&true);
            let rows = (0..outputs_count as i64).filter(|row| kept[*row as usize]);
            let rows: Vec<i64> = rows.collect();
            let layer = layer([inputs, outputs_count, rank], &rows, &device);
            prop_assert!(!is_plain(&layer));
            prop_assert_eq!(outputs(&layer), outputs_count);
            let numbers = LowRankRows::numbers([inputs, outputs_count], rank, rows.len());
            prop_assert_eq!(multiply_adds(&layer), numbers);
            let input = random([5, inputs], &device).require_grad();
            let upstream = random([5, outputs_count], &device);
            let bias = layer.bias.as_ref().unwrap().val();
            let whole = input.clone().matmul(layer.weight.val()) + bias.unsqueeze();
            let found = apply_linear(&layer, input.clone());
            assert_close(found.clone().inner(), whole.clone().inner());
            let found = (found * upstream.clone()).sum().backward();
            let expected = (whole * upstream).sum().backward();
            let form = layer.weight.reparameterization::<LowRankRows>().unwrap();
            for tensor in [
                input,
                layer.weight.base(),
                form.right.weight.val(),
                form.left.weight.val(),
            ] {
                assert_close(tensor.grad(&found).unwrap(), tensor.grad(&expected).unwrap());
            }
        }
    }

    #[test]
    fn folding_gives_the_whole_matrix() {
        let device = Device::default();
        let layer = layer([3, 4, 1], &[1, 2], &device);
        let whole = layer.weight.val();
        let form = layer.weight.reparameterization::<LowRankRows>().unwrap();
        let product = form.right.weight.val().matmul(form.left.weight.val());
        let rest = (whole.clone() - product.clone()).slice_dim(1, 1..3);
        assert_close(rest, layer.weight.base());
        assert_close(whole.clone().slice_dim(1, 3..4), product.slice_dim(1, 3..4));
        let plain = layer.materialize();
        assert!(is_plain(&plain));
        plain
            .weight
            .val()
            .into_data()
            .assert_eq(&whole.into_data(), true);
    }
}
