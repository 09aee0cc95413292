//! The pairs that all tokens so far attended to, and the newest.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Evict, EvictSpec, Pass, Turn};
use crate::{
    cache::survivors::{Survivors, followed_by, without_least},
    text_form::TextForm,
};

/// Heavy hitters, `h2o` in texts (arXiv 2306.14048, algorithm 1): the newest `R` pairs stay, and of the others
/// those that received most attention from all queries so far, on average over the heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct H2o {
    /// `R`, below the budget. Default: half of the budget, as in the paper's experiments.
    pub recent: Option<usize>,
}

/// [`H2o`] in one layer.
#[derive(Clone, Debug)]
pub struct HeavyHitters {
    recent: Option<usize>,
    /// The attention that each pair has received `[B, S]`.
    sums: Option<Tensor<2>>,
}

impl TextForm for H2o {
    const NAME: &'static str = "h2o";
    const BARE: Option<&'static str> = Some("recent");
}

impl EvictSpec for H2o {
    type Policy = HeavyHitters;

    fn init(&self) -> HeavyHitters {
        HeavyHitters {
            recent: self.recent,
            sums: None,
        }
    }

    fn least_budget(&self) -> usize {
        self.recent.unwrap_or(0).saturating_add(1)
    }
}

impl Evict for HeavyHitters {
    fn turn(&self, pass: Pass) -> Turn {
        Turn::After { judges: pass.new }
    }

    fn keep(&mut self, pass: Pass, received: Option<Tensor<2>>) -> Survivors {
        let Some(received) = received else {
            return Survivors::All;
        };
        let [batch, length] = received.dims();
        let sums = match self.sums.take() {
            Some(sums) => {
                let new = Tensor::zeros([batch, pass.new], (&sums.device(), sums.dtype()));
                Tensor::cat(vec![sums, new], 1) + received
            }
            None => received,
        };
        if pass.excess() == 0 {
            self.sums = Some(sums);
            return Survivors::All;
        }
        let recent = self.recent.unwrap_or(pass.budget / 2);
        let judged = sums.clone().slice_dim(1, 0..length - recent);
        let places = followed_by(
            without_least(judged, pass.excess()),
            length - recent..length,
        );
        self.sums = Some(sums.gather(1, places.clone()));
        Survivors::Chosen(places)
    }

    fn select(&mut self, rows: &Tensor<1, Int>) {
        self.sums = self.sums.take().map(|sums| sums.select(0, rows.clone()));
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::reference::assert_baseline;

    #[test]
    fn survivors_are_those_of_the_reference() {
        assert_baseline("h2o", "h2o:3");
        // Half of a budget of 7.
        assert_baseline("h2o", "h2o");
    }
}
