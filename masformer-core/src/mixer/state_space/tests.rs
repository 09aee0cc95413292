//! Chunks against the plain definitions: the recurrence, token by token in float64, and the convolution.

use burn::optim::GradientsParams;
use proptest::prelude::*;

use super::*;

/// Numbers of a parameter, row by row.
fn values<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f64> {
    param.val().into_data().iter::<f64>().collect()
}

type C = (f64, f64);

fn times(a: C, b: C) -> C {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

fn over(a: C, b: C) -> C {
    let square = b.0 * b.0 + b.1 * b.1;
    times(a, (b.0 / square, -b.1 / square))
}

/// The recurrence of one channel, token by token.
fn recurrence(space: &StateSpace, channel: usize, input: &[f64]) -> Vec<f64> {
    let [_, half] = space.frequency.dims();
    let dt = values(&space.log_dt)[channel].exp();
    let row = |param| values(param)[channel * half..][..half].to_vec();
    let [decay, frequency] = [&space.log_decay, &space.frequency].map(row);
    let [input_re, input_im] = [&space.input_real, &space.input_imag].map(row);
    let [output_re, output_im] = [&space.output_real, &space.output_imag].map(row);
    let direct = values(&space.direct)[channel];
    let discretized: Vec<(C, C)> = (0..half)
        .map(|n| {
            let a = (-decay[n].exp(), frequency[n]);
            let b = (input_re[n], input_im[n]);
            match space.rule {
                Discretization::Bilinear => {
                    let below = (1.0 - dt * a.0 / 2.0, -dt * a.1 / 2.0);
                    let above = (1.0 + dt * a.0 / 2.0, dt * a.1 / 2.0);
                    (over(above, below), over((dt * b.0, dt * b.1), below))
                }
                Discretization::Zoh => {
                    let size = (dt * a.0).exp();
                    let next = (size * (dt * a.1).cos(), size * (dt * a.1).sin());
                    (next, times(b, over((next.0 - 1.0, next.1), a)))
                }
            }
        })
        .collect();
    let mut states = vec![(0.0, 0.0); half];
    let outputs = input.iter().map(|&u| {
        let mut y = direct * u;
        for (n, state) in states.iter_mut().enumerate() {
            let (a, b) = discretized[n];
            let kept = times(a, *state);
            *state = (kept.0 + b.0 * u, kept.1 + b.1 * u);
            y += 2.0 * times((output_re[n], output_im[n]), *state).0;
        }
        y
    });
    outputs.collect()
}

/// The convolution with the kernel, as one product with a Toeplitz matrix of the whole length.
fn convolution(space: &StateSpace, input: Tensor<3>) -> Tensor<3> {
    let [_, length, channels] = input.dims();
    let kernel = space.kernel(length);
    let mut output = input.clone() * space.direct.val().reshape([1, 1, channels]);
    for lag in 0..length {
        let tap = kernel.clone().slice_dim(1, lag..lag + 1);
        let tap = tap.reshape([1, 1, channels]);
        let seen = input.clone().slice_dim(1, 0..length - lag) * tap;
        let seen = if lag == 0 {
            seen
        } else {
            let zeros = input.clone().slice_dim(1, 0..lag).zeros_like();
            Tensor::cat(vec![zeros, seen], 1)
        };
        output = output + seen;
    }
    output
}

fn largest(difference: Tensor<3>) -> f32 {
    difference.abs().max().into_scalar()
}

fn config(rule: Discretization, states: usize) -> StateSpaceConfig {
    StateSpaceConfig {
        states,
        rule,
        ..StateSpaceConfig::default()
    }
}

fn rules() -> impl Strategy<Value = Discretization> {
    prop_oneof![Just(Discretization::Bilinear), Just(Discretization::Zoh)]
}

fn random(shape: [usize; 3], device: &Device) -> Tensor<3> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Padding on the left of each row.
fn left(padded: &[usize], length: usize, device: &Device) -> Tensor<2, Bool> {
    let padding: Vec<bool> = padded
        .iter()
        .flat_map(|&padded| (0..length).map(move |place| place < padded))
        .collect();
    Tensor::from_data(TensorData::new(padding, [padded.len(), length]), device)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn chunks_are_the_recurrence_and_the_convolution(
        rule in rules(),
        half in 1..5_usize,
        channels in 1..4_usize,
        length in 1..200_usize,
        padded in prop::collection::vec(0..30_usize, 1..4),
        seed in 0..1000_u64,
    ) {
        let device = Device::default();
        device.seed(seed);
        let space = config(rule, 2 * half).init(channels, Direction::Causal, &device);
        let input = random([padded.len(), length, channels], &device);
        let padding = left(&padded, length, &device);
        let output = space.forward(input.clone(), Some(&padding), None);
        let heard = input.mask_fill(padding.unsqueeze_dim::<3>(2), 0.0);
        let convolved = convolution(&space, heard.clone());
        prop_assert!(largest(output.clone() - convolved) < 2e-5);
        for (row, &padded) in padded.iter().enumerate() {
            for channel in 0..channels {
                let pick = |tensor: &Tensor<3>| -> Vec<f64> {
                    let one = tensor.clone().slice([row..row + 1, 0..length, channel..channel + 1]);
                    one.into_data().iter().collect()
                };
                // Without the padding, as if the sequence were alone.
                let padded = padded.min(length);
                let expected = recurrence(&space, channel, &pick(&heard)[padded..]);
                for (found, expected) in pick(&output)[padded..].iter().zip(expected) {
                    prop_assert!((found - expected).abs() < 2e-5, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn parts_with_a_cache_are_the_whole(
        rule in rules(),
        parts in prop::collection::vec(1..90_usize, 1..5),
        padded in 0..30_usize,
        seed in 0..1000_u64,
    ) {
        let device = Device::default();
        device.seed(seed);
        let length = parts.iter().sum();
        let space = config(rule, 6).init(3, Direction::Causal, &device);
        let input = random([2, length, 3], &device);
        let padding = left(&[padded, 0], length, &device);
        let whole = space.forward(input.clone(), Some(&padding), None);
        let mut cache = StateSpaceCache::default();
        let (mut start, swap) = (0, Tensor::from_data([1, 0], &device));
        for part in parts {
            let range = start..start + part;
            let padding = padding.clone().slice_dim(1, range.clone());
            let new = input.clone().slice_dim(1, range.clone());
            // There and back again, as in a beam search.
            cache.select(&swap);
            cache.select(&swap);
            let output = space.forward(new, Some(&padding), Some(&mut cache));
            let difference = whole.clone().slice_dim(1, range) - output;
            prop_assert!(largest(difference) < 2e-5);
            start += part;
        }
    }
}

#[test]
fn an_encoder_reads_from_both_sides() {
    let device = Device::default();
    let (length, channels) = (70, 2);
    let space = config(Discretization::Zoh, 4).init(channels, Direction::Bidirectional, &device);
    let input = random([2, length, channels], &device);
    let output = space.forward(input.clone(), None, None);
    let mirrored = StateSpace {
        output_real: space.reverse_real.clone().unwrap(),
        output_imag: space.reverse_imag.clone().unwrap(),
        direct: Param::from_tensor(space.direct.val().zeros_like()),
        ..space.clone()
    };
    let before = convolution(&space, input.clone());
    // What comes after a token, without the token.
    let after = convolution(&mirrored, input.flip([1])).flip([1]);
    let after = after.slice_dim(1, 1..length);
    let inner = before.clone().slice_dim(1, 0..length - 1) + after;
    let found = output.clone().slice_dim(1, 0..length - 1);
    assert!(largest(found - inner) < 2e-5);
    let last = (output - before).slice_dim(1, length - 1..length);
    assert!(largest(last) < 2e-5);
    // One token alone has nothing after it.
    let one = random([2, 1, channels], &device);
    let alone = space.forward(one.clone(), None, None);
    assert!(largest(alone - convolution(&space, one)) < 2e-5);
}

#[test]
fn padding_on_the_right_of_an_encoder_changes_nothing() {
    let device = Device::default();
    let space = config(Discretization::Bilinear, 4).init(2, Direction::Bidirectional, &device);
    let input = random([1, 70, 2], &device);
    let padding: Vec<bool> = (0..70).map(|place| place >= 66).collect();
    let padding = Tensor::from_data(TensorData::new(padding, [1, 70]), &device);
    let padded = space.forward(input.clone(), Some(&padding), None);
    let alone = space.forward(input.slice_dim(1, 0..66), None, None);
    assert!(largest(padded.slice_dim(1, 0..66) - alone) < 2e-5);
}

#[test]
fn chunks_have_the_gradients_of_steps() {
    let device = Device::default().autodiff();
    let (length, channels) = (70, 2);
    for rule in [Discretization::Bilinear, Discretization::Zoh] {
        let space = config(rule, 4).init(channels, Direction::Causal, &device);
        let input = random([2, length, channels], &device).require_grad();
        let weight = random([2, length, channels], &device);
        let gradients = |output: Tensor<3>| {
            let gradients = (output * weight.clone()).sum().backward();
            let of_input = input.grad(&gradients).unwrap();
            (of_input, GradientsParams::from_grads(gradients, &space))
        };
        let (of_input, whole) = gradients(space.forward(input.clone(), None, None));
        let mut cache = StateSpaceCache::default();
        let steps = (0..length).map(|place| {
            let token = input.clone().slice_dim(1, place..place + 1);
            space.forward(token, None, Some(&mut cache))
        });
        let (of_stepped_input, stepped) = gradients(Tensor::cat(steps.collect(), 1));
        assert!(largest(of_input - of_stepped_input) < 1e-4);
        let vectors = [&space.log_dt, &space.direct];
        let matrices = [
            &space.log_decay,
            &space.frequency,
            &space.input_real,
            &space.input_imag,
            &space.output_real,
            &space.output_imag,
        ];
        let close = |one: Vec<f64>, other: Vec<f64>| {
            for (one, other) in one.into_iter().zip(other) {
                let size = one.abs().max(1.0);
                assert!((one - other).abs() < 1e-4 * size, "{rule:?}: {one} {other}");
            }
        };
        for param in vectors {
            let of = |all: &GradientsParams| all.get::<1>(param.id).unwrap().into_data();
            close(of(&whole).iter().collect(), of(&stepped).iter().collect());
        }
        for param in matrices {
            let of = |all: &GradientsParams| all.get::<2>(param.id).unwrap().into_data();
            close(of(&whole).iter().collect(), of(&stepped).iter().collect());
        }
    }
}

#[test]
fn a_frozen_one_stays_frozen() {
    let frozen = StateSpaceConfig {
        train: false,
        ..config(Discretization::Bilinear, 4)
    };
    let device = Device::default();
    for device in [device.clone(), device.autodiff()] {
        let space = frozen.init(3, Direction::Causal, &device);
        let other = frozen.init(3, Direction::Causal, &device);
        let loaded = space.clone().load_record(other.into_record());
        for space in [space, loaded] {
            let space = space.valid().train();
            let device = device.clone().autodiff();
            let input = random([1, 9, 3], &device).require_grad();
            let gradients = space.forward(input.clone(), None, None).sum().backward();
            assert!(input.grad(&gradients).is_some());
            assert_eq!(GradientsParams::from_grads(gradients, &space).len(), 0);
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let default = StateSpaceConfig::default;
    for (config, problem) in [
        (
            config(Discretization::Zoh, 0),
            "`states` must be an even number above 0, not 0",
        ),
        (
            config(Discretization::Zoh, 5),
            "`states` must be an even number above 0, not 5",
        ),
        (
            StateSpaceConfig {
                dt_min: 0.2,
                ..default()
            },
            "`dt_min` must be below `dt_max`, 0.1, not 0.2",
        ),
        (
            StateSpaceConfig {
                dt_min: 0.0,
                ..default()
            },
            "`dt_min` and `dt_max` must be finite numbers above 0, not 0 and 0.1",
        ),
    ] {
        assert_eq!(config.check().unwrap_err(), problem);
    }
    assert_eq!(default().check(), Ok(()));
}
