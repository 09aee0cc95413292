//! The random numbers of the bootstrap and of drawn sign flips.

/// `SplitMix64` (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): the same
/// numbers on every machine and in every language.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Where a table's draws begin: always here, so that a table does not depend on the order of
    /// its arms or on which worker makes it.
    pub const START: u64 = 0x4B49_4C4E;

    /// The generator with this state.
    pub fn new(state: u64) -> Self {
        Self { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`, each equally likely but for `n / 2^64` (Lemire 2019, "Fast random
    /// integer generation in an interval", without the rejection, so that every draw takes one
    /// output). 0 if `n` is.
    pub fn draw(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }
}

impl Default for SplitMix64 {
    fn default() -> Self {
        Self::new(Self::START)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::{super::testing::cases, *};

    #[derive(Deserialize)]
    struct Case {
        state: u64,
        first_outputs_hex: Vec<String>,
        indices_3_seeds_5_examples: Vec<Vec<usize>>,
    }

    #[test]
    fn outputs_agree_with_the_reference() {
        for case in cases::<Case>("splitmix64") {
            assert_eq!(case.state, SplitMix64::START);
            let mut generator = SplitMix64::new(case.state);
            for expected in case.first_outputs_hex {
                assert_eq!(format!("{:016x}", generator.next_u64()), expected);
            }
            let mut generator = SplitMix64::default();
            for expected in case.indices_3_seeds_5_examples {
                let sizes = [3, 3, 3, 5, 5, 5, 5, 5];
                assert_eq!(sizes.map(|size| generator.draw(size)), *expected);
            }
        }
    }

    #[test]
    fn the_first_output_from_0_is_the_published_one() {
        assert_eq!(SplitMix64::new(0).next_u64(), 0xE220_A839_7B1D_CDAF);
    }

    proptest! {
        #[test]
        fn a_draw_is_below_its_limit(state: u64, n in 1_usize..1 << 40) {
            prop_assert!(SplitMix64::new(state).draw(n) < n);
            prop_assert_eq!(SplitMix64::new(state).draw(0), 0);
        }
    }
}
