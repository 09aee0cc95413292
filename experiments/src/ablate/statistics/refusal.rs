//! Why a comparison gets no verdict.

/// What makes a comparison unfair or impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sets of examples differ.
    #[error("the arms were judged on different examples")]
    DifferentExamples,
    /// The examples have the same names and other contents.
    #[error("the arms were judged on different data")]
    DifferentData,
    /// Seeds failed in one of the arms only.
    #[error("{failed} of {seeds} seeds of {arm} failed; leaving them out would favour it")]
    FailedSeeds {
        /// The arm.
        arm: String,
        /// How many of its seeds failed.
        failed: usize,
        /// How many there should be.
        seeds: usize,
    },
    /// Seeds have not been run in one of the arms only.
    #[error("{missing} of {seeds} seeds of {arm} are missing; leaving them out could favour it")]
    MissingSeeds {
        /// The arm.
        arm: String,
        /// How many of its seeds are missing.
        missing: usize,
        /// How many there should be.
        seeds: usize,
    },
    /// There is nothing to generalise from.
    #[error("there are fewer than 2 examples")]
    FewExamples,
    /// The arm was chosen because it was good with these seeds.
    #[error("the seeds that chose the arm are the seeds reported")]
    SeedsThatChose,
    /// A value, or a sum of values, is infinite or NaN.
    #[error("{metric} is not finite")]
    NotFinite {
        /// The metric.
        metric: String,
    },
}
