use super::*;
use crate::{
    mixer::{Discretization, MixerSpec},
    span::Direction,
};

#[test]
fn text_names_the_keys_that_differ() {
    for (text, canonical) in [
        ("s4d", "s4d"),
        (
            "s4d:states=64,rule=bilinear,dt_min=0.001,dt_max=0.1,train=true",
            "s4d",
        ),
        ("s4d:rule=zoh,states=16", "s4d:states=16,rule=zoh"),
        (
            "s4d:train=false,dt_min=1e-5,dt_max=1",
            "s4d:dt_min=0.00001,dt_max=1.0,train=false",
        ),
    ] {
        let spec: MixerSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), canonical);
        assert_eq!(canonical.parse::<MixerSpec>().unwrap(), spec);
    }
    let spec = S4dSpec {
        state_space: StateSpaceConfig {
            states: 16,
            rule: Discretization::Zoh,
            ..StateSpaceConfig::default()
        },
    };
    assert_eq!("s4d:states=16,rule=zoh".parse(), Ok(MixerSpec::S4d(spec)));
}

#[test]
fn mistakes_are_named_with_what_would_be_right() {
    for (text, problem) in [
        (
            "s4",
            "unknown mixer `s4`; did you mean `s4d`? There is attention, s4d",
        ),
        (
            "s4d:state=4",
            "the mixer `s4d` has no key `state`; did you mean `states`? There is states, rule, dt_min, dt_max, train",
        ),
        (
            "s4d:states=many",
            "the mixer `s4d`: `states` cannot be `many`: invalid type: string \"many\", expected usize",
        ),
        (
            "s4d:rule=euler",
            "the mixer `s4d`: `rule` cannot be `euler`: unknown variant `euler`, expected `bilinear` or `zoh`",
        ),
        (
            "s4d:states",
            "the mixer `s4d`: `states` is no setting, expected KEY=VALUE",
        ),
        (
            "s4d:states=4,states=6",
            "the mixer `s4d`: `states` is given twice",
        ),
        (
            "s4d:states=0",
            "the mixer `s4d`: `states` must be an even number above 0, not 0",
        ),
        (
            "s4d:dt_min=0.5",
            "the mixer `s4d`: `dt_min` must be below `dt_max`, 0.1, not 0.5",
        ),
    ] {
        let error = text.parse::<MixerSpec>().unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}");
    }
}

#[test]
fn costs_are_those_of_the_sizes() {
    let device = Device::default();
    let attention = SpanAttentionConfig::new(8, 2).with_direction(Direction::Causal);
    let spec: MixerSpec = "s4d:states=4".parse().unwrap();
    let mixer = spec.init(&attention, &device);
    // 64 pairs in a chunk, the states in and out, and the projection.
    assert_eq!(mixer.cost(100), 100 * (8 * (64 + 2 * 4) + 8 * 8));
    assert_eq!(mixer.cost(10), 10 * (8 * (10 + 2 * 4) + 8 * 8));
    assert_eq!(spec.state(&attention), 8 * 4);
    let both = attention.with_direction(Direction::Bidirectional);
    let encoder = spec.init(&both, &device);
    assert_eq!(encoder.cost(10), 10 * (2 * 8 * (10 + 2 * 4) + 8 * 8));
}
