//! Mixers against what other code computed, on the files of `fixtures/mixers`.

mod fixture;

use burn::{module::Param, nn::Linear, prelude::*, tensor::Tolerance};
use fixture::Fixture;
use masformer_core::{
    Activation, Direction, FeedForward, Flow, Mlp, MlpConfig, NormConfig, NormPlacement, Tokens,
    Trace,
    mixer::{Discretization, Join, StateSpace, StateSpaceCache, StateSpaceConfig},
};

impl Fixture {
    fn mixer(name: &str) -> Self {
        Self::open("mixers", name)
    }

    fn param<const D: usize>(&self, name: &str) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(name))
    }

    fn assert_same<const D: usize>(&self, name: &str, found: Tensor<D>) {
        self.assert_close(name, found, Tolerance::absolute(1e-5));
    }
}

/// The state spaces of a fixture, whose `a` is `-exp(log_decay) + i frequency`.
fn state_space(fixture: &Fixture, rule: Discretization) -> StateSpace {
    let a = fixture.tensor::<2>("a_re");
    let [channels, half] = a.dims();
    let config = StateSpaceConfig {
        states: 2 * half,
        rule,
        ..StateSpaceConfig::default()
    };
    let mut space = config.init(channels, Direction::Causal, &fixture.device);
    space.log_dt = fixture.param("log_dt");
    space.log_decay = Param::from_tensor(a.neg().log());
    space.frequency = fixture.param("a_im");
    space.input_real = fixture.param("b_re");
    space.input_imag = fixture.param("b_im");
    space.output_real = fixture.param("c_re");
    space.output_imag = fixture.param("c_im");
    space.direct = fixture.param("d");
    space
}

#[test]
fn diagonal_state_spaces_are_those_of_the_dense_matrices() {
    for (name, rule) in [
        ("s4d_bilinear", Discretization::Bilinear),
        ("s4d_zoh", Discretization::Zoh),
    ] {
        let fixture = Fixture::mixer(name);
        let space = state_space(&fixture, rule);
        let input = fixture.tensor::<3>("u").swap_dims(1, 2);
        let [_, length, _] = input.dims();
        fixture.assert_same("kernel", space.kernel(length));
        let mut cache = StateSpaceCache::default();
        let output = space.forward(input, None, Some(&mut cache));
        fixture.assert_same("y", output.swap_dims(1, 2));
        let [real, imag] = cache.states.unwrap();
        fixture.assert_same("last_state_re", real.swap_dims(0, 1));
        fixture.assert_same("last_state_im", imag.swap_dims(0, 1));
    }
}

/// The combination and what is around it; see `docs/methods/spade.md` for what the official layer has besides.
#[test]
fn spade_combines_its_parts_as_the_official_layer() {
    let fixture = Fixture::mixer("spade_layer_concat");
    let device = &fixture.device;
    let norm = |name: &str| {
        let mut norm = NormConfig::new(16).init(device);
        norm.gamma = fixture.param(&format!("w.{name}.weight"));
        norm.beta = Some(fixture.param(&format!("w.{name}.bias")));
        norm
    };
    // `[out, in]` in the file.
    let linear = |name: &str| Linear {
        weight: Param::from_tensor(fixture.tensor::<2>(&format!("w.{name}.weight")).transpose()),
        bias: Some(fixture.param(&format!("w.{name}.bias"))),
    };
    let join = Join {
        state_norm: norm("norm_global"),
        attention_norm: norm("norm_local"),
        aggregate: Some(linear("aggregate")),
    };
    let joined = join.forward(fixture.tensor("s4_out"), fixture.tensor("local_out"));
    let hidden = fixture.tensor::<3>("x") + joined;
    let [batch, length, _] = hidden.dims();
    let config = MlpConfig::new(16, 32)
        .with_norm_placement(NormPlacement::Pre)
        .with_activation(Activation::Relu)
        .init(device);
    let mlp = Mlp {
        inner: linear("fc1"),
        outer: linear("fc2"),
        norm: norm("final_layer_norm"),
        ..config
    };
    let flow = Flow::new(
        hidden,
        Tokens::new(Tensor::zeros([batch, length], device), None),
    );
    fixture.assert_same("y", mlp.forward(&flow, &mut Trace::nothing()));
}
