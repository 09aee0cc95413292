//! Which arms of an ablation with a halving compete, and which are reported.

use std::collections::BTreeSet;

use super::{drafts::BlockArms, halving::HalvingPlan, search::Method};

/// A halving among the arms of an ablation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// Its settings.
    pub plan: HalvingPlan,
    /// The arms that compete, as indices.
    pub arms: Vec<usize>,
    /// The arms that are reported, whoever survives: those of other blocks and the reference, in arm order.
    pub others: Vec<usize>,
}

impl Contest {
    /// The halving in one of the blocks of an ablation with this reference.
    pub(super) fn new(plan: HalvingPlan, reference: usize, blocks: &[BlockArms]) -> Self {
        let is_point = |block: &BlockArms, arm: usize| match &block.search {
            Some(search) => {
                matches!(search.method, Method::Halving(_)) && search.arms.contains(&arm)
            }
            None => false,
        };
        let searches = blocks.iter().filter_map(|block| block.search.as_ref());
        let mut halvings = searches.filter(|search| matches!(search.method, Method::Halving(_)));
        let mut others = BTreeSet::from([reference]);
        for block in blocks {
            others.extend(block.arms.iter().filter(|arm| !is_point(block, **arm)));
        }
        Self {
            plan,
            arms: halvings
                .next()
                .map(|search| search.arms.clone())
                .unwrap_or_default(),
            others: others.into_iter().collect(),
        }
    }

    /// The arms that run the final seeds, in arm order.
    pub fn reported(&self, survivors: &[usize]) -> Vec<usize> {
        let arms: BTreeSet<usize> = self.others.iter().chain(survivors).copied().collect();
        arms.into_iter().collect()
    }
}
