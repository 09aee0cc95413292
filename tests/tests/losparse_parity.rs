//! `LoSparse` against the authors' code, on the files of `fixtures/losparse`.

#[path = "fixture/attach.rs"]
mod attach;
mod fixture;

use attach::Attach;
use burn::{
    module::{LoraAdapter, Module, Param, ParamId},
    nn::Linear,
    prelude::*,
    tensor::Tolerance,
};
use distill::{
    callback::{
        Pruning,
        pruning::{Group, Matrices},
    },
    names::Names,
    surgery::{LoSparse, Surgery},
};
use fixture::Fixture;
use masformer_core::linear::{LowRankRows, apply_linear};
use safetensors::SafeTensors;

impl Fixture {
    fn number(&self, name: &str) -> f64 {
        f64::from(self.tensor::<1>(name).into_scalar::<f32>())
    }

    fn integer(&self, name: &str) -> f64 {
        self.file.indices::<1>(name).unwrap().1[0] as f64
    }

    /// Files have transposed matrices.
    fn matrix(&self, name: &str) -> Tensor<2> {
        self.tensor::<2>(name).transpose()
    }

    /// The settings of a schedule whose shares are counted in steps.
    fn pruning(&self) -> (Pruning, usize) {
        let (total, warmup) = (self.integer("total_steps"), self.integer("warmup_steps"));
        let pruning = Pruning {
            keep: self.number("final_threshold"),
            every: self.integer("delta_t") as usize,
            start: warmup * self.integer("initial_warmup") / total,
            settle: warmup * self.integer("final_warmup") / total,
            ..Pruning::default()
        };
        pruning.check().unwrap();
        (pruning, total as usize)
    }
}

#[test]
fn a_split_layer_and_its_gradients_are_those_of_the_authors() {
    let fixture = Fixture::open("losparse", "init");
    let settings = LoSparse {
        rank: fixture.number("ratio"),
        targets: Names::new(["weight"]),
        ..LoSparse::default()
    };
    let layer = Linear {
        weight: Param::from_tensor(fixture.matrix("weight").autodiff()),
        bias: Some(Param::from_tensor(fixture.tensor::<1>("bias").autodiff())),
    };
    let layer = settings.apply(layer).unwrap();
    let factors = layer.weight.adapter().unwrap();
    let (a, b) = (factors.a.val(), factors.b.val());
    assert_eq!(a.dims()[1], fixture.integer("rank") as usize);
    let tolerance = Tolerance::rel_abs(1e-4, 1e-5);
    let rest = layer.weight.base();
    fixture.assert_close(
        "low_rank",
        a.clone().matmul(b.clone()).inner().transpose(),
        tolerance,
    );
    fixture.assert_close("sparse", rest.clone().inner().transpose(), tolerance);
    let input = fixture.tensor::<3>("x").autodiff().require_grad();
    let shape = fixture.tensor::<3>("y").dims();
    let output = apply_linear(&layer, input.clone().flatten(0, 1)).reshape(shape);
    fixture.assert_close("y", output.clone().inner(), tolerance);
    let upstream = fixture.tensor::<3>("upstream").autodiff();
    let gradients = (output * upstream).sum().backward();
    fixture.assert_close("grad_x", input.grad(&gradients).unwrap(), tolerance);
    let of = |tensor: &Tensor<2>| tensor.grad(&gradients).unwrap();
    fixture.assert_close("grad_sparse", of(&rest).transpose(), tolerance);
    // A column of one factor and the row of the other may have another sign than theirs.
    let signs = (b.inner().transpose() * fixture.tensor::<2>("left"))
        .sum_dim(0)
        .sign();
    let left = of(&factors.b.val()).transpose() * signs.clone();
    fixture.assert_close("grad_left", left, tolerance);
    let right = (of(&a) * signs).transpose();
    fixture.assert_close("grad_right", right, tolerance);
}

#[test]
fn what_is_left_of_a_pruned_layer_is_what_the_authors_keep() {
    let fixture = Fixture::open("losparse", "compact");
    let plain = Linear {
        weight: Param::from_tensor(fixture.matrix("sparse")),
        bias: Some(Param::from_tensor(fixture.tensor::<1>("bias"))),
    };
    let split = plain.apply_reparameterization(Attach(LoraAdapter {
        a: Param::from_tensor(fixture.matrix("right")),
        b: Param::from_tensor(fixture.matrix("left")),
        scale: 1.0,
    }));
    let layer = LoSparse::default().finish(split.clone()).unwrap();
    let form = layer.weight.reparameterization::<LowRankRows>().unwrap();
    let rows = form.rows.val().into_data();
    let rows: Vec<usize> = rows.iter::<i64>().map(|row| row as usize).collect();
    let expected = fixture.file.indices::<1>("kept_rows").unwrap().1;
    assert_eq!(rows, expected);
    let exact = Tolerance::absolute(0.0);
    fixture.assert_close("compact", layer.weight.base().transpose(), exact);
    let input = fixture.tensor::<3>("x").flatten(0, 1);
    let shape = fixture.tensor::<3>("y").dims();
    for layer in [layer, split] {
        let output = apply_linear(&layer, input.clone()).reshape(shape);
        fixture.assert_close("y", output, Tolerance::rel_abs(1e-4, 1e-5));
    }
}

#[test]
fn the_schedule_is_that_of_the_authors() {
    let fixture = Fixture::open("losparse", "schedule");
    let (pruning, total) = fixture.pruning();
    let expected: Vec<f32> = fixture
        .tensor::<1>("threshold")
        .into_data()
        .iter()
        .collect();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/losparse/schedule.safetensors"
    );
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let flags = file
        .tensor("mask")
        .unwrap()
        .data()
        .iter()
        .map(|flag| *flag == 1);
    let flags: Vec<bool> = flags.collect();
    for step in 0..=total {
        let done = step as f64 / total as f64;
        let found = pruning.left(done);
        assert!((found - f64::from(expected[step])).abs() < 1e-6, "{step}");
        assert_eq!(pruning.prunes(step, done), flags[step], "{step}");
    }
}

#[test]
fn what_is_pruned_at_each_step_is_what_the_authors_prune() {
    for (name, group) in [
        ("pruner_row", Group::Row),
        ("pruner_col", Group::Column),
        ("pruner_none", Group::None),
    ] {
        let fixture = Fixture::open("losparse", name);
        let (pruning, total) = fixture.pruning();
        let mut pruner = Pruning {
            group,
            smoothing: fixture.number("beta1"),
            ..pruning
        }
        .init();
        let rate = fixture.number("learning_rate");
        let names = ["first", "second"];
        let ids = names.map(|_| ParamId::new());
        let mut weights = names.map(|name| fixture.matrix(&format!("{name}_init")));
        let at = |name: String, step: usize| {
            let all = fixture.tensor::<3>(&name);
            all.slice_dim(0, step..step + 1)
                .squeeze_dim::<2>(0)
                .transpose()
        };
        for step in 0..total {
            let gradients = names.map(|name| at(format!("{name}_gradients"), step));
            for (weight, gradient) in weights.iter_mut().zip(&gradients) {
                *weight = weight.clone() - gradient.clone() * rate;
            }
            let of = |matrices: &[Tensor<2>; 2]| -> Matrices {
                ids.into_iter().zip(matrices.clone()).collect()
            };
            let done = step as f64 / total as f64;
            let masks = pruner.step(step, of(&weights), &of(&gradients), done);
            for ((weight, id), name) in weights.iter_mut().zip(ids).zip(names) {
                if let Some(mask) = masks.get(&id) {
                    *weight = weight.clone() * mask.clone().expand(weight.dims());
                }
                let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-6);
                let expected = at(format!("{name}_after"), step).into_data();
                let found = weight.to_data();
                found.assert_approx_eq(&expected, tolerance);
                let zeros = |data: &TensorData| data.iter::<f32>().filter(|x| *x == 0.0).count();
                assert_eq!(zeros(&found), zeros(&expected), "{name} {step}");
                let average = pruner.averages()[&id].to_data();
                let expected = at(format!("{name}_score"), step).into_data();
                average.assert_approx_eq(&expected, tolerance);
            }
        }
    }
}
