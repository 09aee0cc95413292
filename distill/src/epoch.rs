//! Which epoch it is, shared between the training and the data loaders.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A handle on the current epoch; clones share it.
///
/// A stage sets it before it asks a loader for the epoch's batches, so that a loader can derive
/// their order from the seed and the epoch alone and a resumed training sees the same order.
#[derive(Clone, Debug, Default)]
pub struct Epoch(Arc<AtomicUsize>);

impl Epoch {
    /// The current epoch, from 1; 0 before the training.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the current epoch.
    pub fn set(&self, epoch: usize) {
        self.0.store(epoch, Ordering::Release);
    }

    /// A seed for this epoch, different for neighbouring epochs and seeds.
    pub fn seed(&self, seed: u64) -> u64 {
        mix(seed, self.get() as u64 + 1)
    }

    /// A seed for a batch of this epoch, by its number in the epoch, different for neighbouring batches.
    pub fn seed_of_batch(&self, seed: u64, batch: usize) -> u64 {
        mix(self.seed(seed), batch as u64)
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, 2014), which spreads neighbouring inputs.
fn mix(seed: u64, index: u64) -> u64 {
    let mut mixed = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn clones_share_the_epoch_and_seeds_differ() {
        let epoch = Epoch::default();
        let other = epoch.clone();
        let mut seeds = HashSet::new();
        for number in 0..50 {
            other.set(number);
            assert_eq!(epoch.get(), number);
            seeds.extend((0..50).map(|seed| epoch.seed(seed)));
            seeds.extend((1..50).map(|batch| epoch.seed_of_batch(7, batch)));
        }
        assert_eq!(seeds.len(), 50 * 50 + 50 * 49);
    }
}
