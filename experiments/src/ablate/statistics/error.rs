//! Numbers that cannot be judged.

/// Why there is no statistic.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StatisticsError {
    /// No seed was run.
    #[error("there are no seeds to compare")]
    NoSeeds,
    /// Nothing was judged.
    #[error("there are no examples to compare")]
    NoExamples,
    /// No arm is compared with the reference.
    #[error("there are no arms to compare")]
    NoArms,
    /// An interval over too few examples.
    #[error("an interval needs at least 2 examples or groups, there is 1")]
    OneExample,
    /// Seeds that were judged on different numbers of examples.
    #[error("the seed at position {seed} has {found} examples, the first has {expected}")]
    Ragged {
        /// The position of the seed, from 0.
        seed: usize,
        /// How many examples it has.
        found: usize,
        /// How many the first seed has.
        expected: usize,
    },
    /// Matrices that do not match.
    #[error(
        "{} seeds and {} examples do not match {} seeds and {} examples",
        found[0], found[1], expected[0], expected[1]
    )]
    Shapes {
        /// The shape of this matrix, `[seeds, examples]`.
        found: [usize; 2],
        /// The shape of the first matrix, `[seeds, examples]`.
        expected: [usize; 2],
    },
    /// Lists of numbers that belong together and differ in length.
    #[error("{found} {what} do not match {expected}")]
    Lengths {
        /// What the numbers are, in the plural.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
    /// A number that is infinite or NaN.
    #[error("the value {value} of seed {seed}, example {example} (counted from 0) is not finite")]
    NotFinite {
        /// The position of the seed, from 0.
        seed: usize,
        /// The position of the example or group, from 0.
        example: usize,
        /// The value.
        value: f64,
    },
    /// A number in a list that the statistic is not defined for.
    #[error("{what} number {index} (counted from 0) is {value}, which is not {expected}")]
    Value {
        /// What the numbers are, in the singular.
        what: &'static str,
        /// The position in the list, from 0.
        index: usize,
        /// The value.
        value: f64,
        /// What is allowed.
        expected: &'static str,
    },
    /// Finite values whose sums or squares are not.
    #[error("the values are so large that their variance is not finite")]
    Overflow,
    /// A level that is no probability.
    #[error("alpha is {0}; it must lie between 0 and 1")]
    Alpha(f64),
    /// More successes than trials, or fewer than none.
    #[error("{successes} successes in {trials} trials")]
    Successes {
        /// How many succeeded; the sum of shares need not be whole.
        successes: f64,
        /// How often it was tried.
        trials: usize,
    },
    /// A bootstrap without resamples.
    #[error("a bootstrap needs at least 1 resample")]
    NoResamples,
}

/// Refuses a list with a number that is not finite.
pub(super) fn finite(what: &'static str, values: &[f64]) -> Result<(), StatisticsError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(StatisticsError::Value {
            what,
            index,
            value: values[index],
            expected: "finite",
        }),
    }
}

/// Refuses a list of another length.
pub(super) fn lengths(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), StatisticsError> {
    if found == expected {
        Ok(())
    } else {
        Err(StatisticsError::Lengths {
            what,
            found,
            expected,
        })
    }
}
