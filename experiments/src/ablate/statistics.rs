//! The statistics of ablations: what can be said about a difference between two arms that were run with
//! the same seeds and judged on the same examples.
//!
//! Shapes are written `[seeds, examples]`; where examples come in groups (a document, a passage), a
//! group stands in the place of an example. All numbers are float64, and sums are taken in the order of
//! the data.

mod alpha;
mod arm_interval;
mod binomial;
mod bootstrap;
mod confusion;
mod error;
mod family;
mod groups;
mod holm;
mod interval;
mod jackknife;
mod latency;
mod max_t;
mod mcnemar;
mod metric_values;
mod normal;
mod notes;
mod pearson;
mod quantile;
mod ratio;
mod refusal;
mod resampled_means;
mod seeds_needed;
mod sentence_numbers;
mod sign_flip;
mod simulation;
mod spearman;
mod splitmix64;
mod student_t;
mod task_bootstrap;
mod tasks;
#[cfg(test)]
mod testing;
mod two_way;
mod value_matrix;
mod verdict;
mod verdict_sentence;
mod wilson;

pub use alpha::Alpha;
pub use arm_interval::share_interval;
pub use bootstrap::{RESAMPLES, crossed_bootstrap, resampled_means};
pub use confusion::{f1, matthews};
pub use error::StatisticsError;
pub use family::{ComparisonStatistics, SimultaneousInterval, compare_family};
pub use groups::Groups;
pub use holm::holm;
pub use interval::Interval;
pub use jackknife::Jackknife;
pub use latency::{PairedLatency, RankInterval, Times, varies_by_start};
pub use max_t::MaxT;
pub use mcnemar::McNemar;
pub use metric_values::MetricValues;
pub use notes::Note;
pub use pearson::pearson;
pub use quantile::{median, quantile};
pub use ratio::{bits_per_byte, mean, nats_per_token};
pub use refusal::Refusal;
pub use resampled_means::ResampledMeans;
pub use seeds_needed::{Needs, seeds_at_least};
pub use sign_flip::{StepDown, sign_flip, smallest_p, step_down};
pub use simulation::Simulation;
pub use spearman::spearman;
pub use splitmix64::SplitMix64;
pub use task_bootstrap::{IqmResamples, bootstrap_iqm, resampled_iqm};
pub use tasks::TaskScores;
pub use two_way::{MeanSquares, TwoWay, two_way};
pub use value_matrix::ValueMatrix;
pub use verdict::{Direction, Unit, Verdict, VerdictInput, VerdictKind, verdict};
pub use wilson::wilson;
