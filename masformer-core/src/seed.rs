//! Seeds of whatever a forward pass draws.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use burn::{prelude::*, tensor::Distribution};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::ops::is_on_host;

/// The generator of the process, for devices with memory of their own.
fn host() -> MutexGuard<'static, StdRng> {
    static HOST: LazyLock<Mutex<StdRng>> = LazyLock::new(|| Mutex::new(StdRng::seed_from_u64(0)));
    // A generator is valid whatever panicked while it was locked.
    HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seeds all random numbers of a device: those that it draws itself, and those that the host draws for it.
///
/// [`Device::seed`] alone does not repeat the dropout of attention weights on a device with memory of its own:
/// reading a number from it would wait for it in every layer, so the host draws there, from a generator that all
/// such devices of a process share.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that seeds both"
)]
pub fn seed(device: &Device, seed: u64) {
    device.seed(seed);
    *host() = StdRng::seed_from_u64(seed);
}

/// A seed for an operation on a device that makes random numbers of it.
pub(crate) fn draw(device: &Device) -> u64 {
    if is_on_host(device) {
        draw_on_device(device)
    } else {
        host().random()
    }
}

fn draw_on_device(device: &Device) -> u64 {
    let distribution = Distribution::Uniform(0.0, f64::from(i32::MAX));
    let draw = Tensor::<1, Int>::random([2], distribution, &device.clone().inner());
    #[expect(
        clippy::disallowed_methods,
        reason = "the device's memory is the host's, so nothing waits"
    )]
    let halves = draw.into_data();
    halves
        .iter::<i64>()
        .fold(0, |seed, half| seed << 31 ^ half as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_on_the_host() {
        let draws = |start| {
            seed(&Device::default(), start);
            [(); 3].map(|()| host().random::<u64>())
        };
        let first = draws(7);
        assert_eq!(draws(7), first);
        assert_ne!(draws(8), first);
        assert_ne!(first[0], first[1]);
    }
}
