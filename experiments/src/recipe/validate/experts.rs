//! Sizes of experts, and what their routers can do.

use masformer_core::Direction;
use moebert_core::{adapt::check_causal, partition::PartitionError, router::RouterKind};

use super::super::{RecipeFamily, problems::Problems};
use crate::methods::experts::{Experts, ExpertsRecipe};

/// Checks experts, as `key` names their settings; what depends on the width F of the model is checked where that is
/// known.
pub(super) fn problems<T: RecipeFamily>(
    found: &mut Problems,
    key: impl Fn(&str) -> String,
    experts: &Experts,
    dense_width: Option<usize>,
) {
    let Experts { split, routers } = experts;
    for loss in RouterKind::all_losses() {
        found.within(&key(loss.name), routers.of(loss.name), 0.0..f64::INFINITY);
    }
    if T::DIRECTION == Direction::Causal
        && let Err(error) = check_causal(split.router.kind())
    {
        found.add(&key("router"), &format!("cannot work: {error}"));
    }
    let ExpertsRecipe {
        count,
        width,
        shared,
        ..
    } = *split;
    let before = found.len();
    found.at_least(&key("count"), count, 1);
    found.at_least(&key("width"), width, 1);
    found.at_most(&key("shared"), shared, width, "`width`");
    if count > 0
        && let Err(error) = split.routers(0).check(count)
    {
        found.add(&key("k"), &format!("cannot work: {error}"));
    }
    let Some(dense_width) = dense_width.filter(|_| found.len() == before) else {
        return;
    };
    if let Err(error) = split.partition(0).validate(dense_width) {
        let name = match error {
            PartitionError::TooManyExperts { .. } => "count",
            PartitionError::TooWide { .. } => "width",
            _ => "shared",
        };
        found.add(&key(name), &format!("cannot work: {error}"));
    }
}
