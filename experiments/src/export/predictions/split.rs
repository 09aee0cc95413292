//! The names of the splits that stages judge on.

use crate::data::glue::Split;

/// The split that a metric is of: `eval`, the one that the stage judges on, or `eval-mismatched` and
/// `eval-out_of_domain` for the further ones of MNLI and of a `CoLA` with two. Stages do not keep whether it is a validation or a test split.
pub fn split_of(metric: &str) -> &'static str {
    let is_of = |split: Split| metric.ends_with(split.metric_suffix());
    if is_of(Split::DevMismatched) {
        "eval-mismatched"
    } else if is_of(Split::DevOutOfDomain) {
        "eval-out_of_domain"
    } else {
        "eval"
    }
}
