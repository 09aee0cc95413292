//! The pairs that the newest token attends to.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Evict, EvictSpec, Pass, Turn};
use crate::{
    cache::survivors::{Survivors, without_least},
    text_form::TextForm,
};

/// Token omission via attention, `tova` in texts (arXiv 2401.06104, section 3.2): the pair to which the newest
/// query pays least goes, on average over the heads; the newest may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tova {}

impl TextForm for Tova {
    const NAME: &'static str = "tova";
}

impl EvictSpec for Tova {
    type Policy = Self;

    fn init(&self) -> Self {
        *self
    }
}

impl Evict for Tova {
    fn turn(&self, pass: Pass) -> Turn {
        let judges = usize::from(pass.excess() > 0);
        Turn::After { judges }
    }

    fn keep(&mut self, pass: Pass, received: Option<Tensor<2>>) -> Survivors {
        match received {
            Some(scores) => Survivors::Chosen(without_least(scores, pass.excess())),
            None => Survivors::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::reference::assert_baseline;

    #[test]
    fn survivors_are_those_of_the_reference() {
        assert_baseline("tova", "tova");
    }
}
