//! The pairs that an instruction attends to.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Evict, EvictSpec, Pass, Turn};
use crate::{
    cache::survivors::{Survivors, followed_by, without_least},
    text_form::TextForm,
};

/// `CItruS`, `citrus` in texts (arXiv 2406.12018, section 3): a text is read in chunks of `N` tokens, and after each the
/// pairs that were kept before are reduced to the budget, to those that receive most attention, on average over the
/// heads. Those of the chunk stay until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Citrus {
    /// `N`, at least 1. Default 256, the paper's.
    pub chunk: usize,
    /// Whose attention counts. Default `single`.
    pub scorer: Scorer,
}

/// Whose attention decides between the pairs before a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// The chunk's tokens.
    Standard,
    /// The tokens of the instruction, read behind the pairs before the chunk and not kept; the paper's shared cache.
    #[default]
    Single,
    /// Both, each for a selection of its own: the chunk's for reading on, the instruction's for the answer; the paper's
    /// individual caches.
    Double,
}

/// [`Citrus`] in one layer, for one selection.
#[derive(Clone, Debug)]
pub struct ChunkEviction {
    by_chunk: bool,
    /// The attention that an instruction paid to the pairs kept and its own `[B, S + Q]`; the next choice takes it, so that
    /// it never outlives the reading of a text.
    probed: Option<Tensor<2>>,
}

impl Default for Citrus {
    fn default() -> Self {
        Self {
            chunk: 256,
            scorer: Scorer::default(),
        }
    }
}

impl Citrus {
    fn policy(by_chunk: bool) -> ChunkEviction {
        ChunkEviction {
            by_chunk,
            probed: None,
        }
    }
}

impl TextForm for Citrus {
    const NAME: &'static str = "citrus";
    const BARE: Option<&'static str> = Some("chunk");

    fn check(&self) -> Result<(), String> {
        if self.chunk == 0 {
            return Err("`chunk` must be at least 1, not 0".to_owned());
        }
        Ok(())
    }
}

impl EvictSpec for Citrus {
    type Policy = ChunkEviction;

    fn init(&self) -> ChunkEviction {
        Self::policy(self.scorer != Scorer::Single)
    }

    fn answering(&self) -> Option<ChunkEviction> {
        (self.scorer == Scorer::Double).then(|| Self::policy(false))
    }

    fn pass(&self, _seen: usize, _budget: usize) -> usize {
        self.chunk
    }

    fn is_instructed(&self) -> bool {
        true
    }

    fn probes(&self) -> bool {
        self.scorer != Scorer::Standard
    }

    /// A chunk or the instruction behind the budget and a chunk; or the answer behind the budget and the instruction.
    fn places(&self, budget: usize, instruction: usize, answer: usize) -> usize {
        let text = self.chunk.saturating_add(self.chunk.max(instruction));
        let end = instruction.saturating_add(answer);
        budget.saturating_add(text.max(end))
    }
}

impl Evict for ChunkEviction {
    fn turn(&self, pass: Pass) -> Turn {
        let decides = self.by_chunk && self.probed.is_none() && pass.old > pass.budget;
        let judges = if decides { pass.new } else { 0 };
        Turn::After { judges }
    }

    fn keep(&mut self, pass: Pass, received: Option<Tensor<2>>) -> Survivors {
        let scores = self.probed.take().or(received);
        let Some(scores) = scores.filter(|_| pass.old > pass.budget) else {
            return Survivors::All;
        };
        let old = scores.slice_dim(1, 0..pass.old);
        let kept = without_least(old, pass.old - pass.budget);
        let places = followed_by(kept, pass.old..pass.old + pass.new);
        Survivors::Chosen(places)
    }

    fn probed(&mut self, received: Tensor<2>) {
        self.probed = Some(received);
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::reference::{Ids, Reference};

    /// The official code reads chunks 0 and 1 in one pass, and chunk 0 with the instruction: the attention of chunk 1
    /// and of the instruction to chunk 0 is the same.
    fn assert_reference(scorer: &str) {
        let reference = Reference::open(scorer);
        let [chunk, instruction] = ["chunk", "query_tokens"].map(|name| reference.number(name));
        let budget = reference.number("k");
        for layer in 0..2 {
            let mut cache = Ids::new(&format!("citrus:{chunk},scorer={scorer}"), budget);
            // What the last `judges` rows of a call pay to its first keys, and nothing to others.
            let received = |call: usize, judges: usize, length: usize| {
                let name = format!("call{call}.attention.layer{layer}");
                let (attention, shape) = reference.numbers(&name);
                let [heads, rows, keys] = shape[..] else {
                    panic!("{shape:?}")
                };
                let mut received = vec![0.0; length];
                for head in 0..heads {
                    for row in rows - judges..rows {
                        let start = (head * rows + row) * keys;
                        let row = &attention[start..start + keys];
                        for (received, weight) in received.iter_mut().zip(row) {
                            *received += weight / heads as f64;
                        }
                    }
                }
                received
            };
            let ids = |chunk_index: usize| -> Vec<usize> {
                let first = 100 + chunk_index * chunk;
                (first..first + chunk).collect()
            };
            cache.read(&ids(0), |_, _| panic!("there is nothing to choose from"));
            let calls = if scorer == "standard" { 1 } else { 2 };
            for index in 1..3 {
                let call = calls * (index - 1);
                if scorer != "standard" {
                    let mut probe = cache.0.clone();
                    probe.start_probe();
                    let mut probe = Ids(probe);
                    let ids: Vec<usize> = (900..900 + instruction).collect();
                    probe.read(&ids, |all, judges| {
                        assert_eq!(judges, instruction);
                        received(call + 1, judges, all.len())
                    });
                    cache.0.learn(&probe.0);
                }
                cache.read(&ids(index), |all, judges| {
                    assert_eq!(judges, chunk);
                    received(call, judges, all.len())
                });
                let expected = |name: &str| -> Vec<usize> {
                    let name = format!("after_chunk{}.{name}layer{layer}", index + 1);
                    let (ids, _) = reference.numbers(&name);
                    ids.into_iter().map(|id| id as usize).collect()
                };
                assert_eq!(cache.to_answer(), expected(""), "{scorer} {index}");
                let to_read = if scorer == "double" { "context." } else { "" };
                assert_eq!(cache.kept(), expected(to_read), "{scorer} {index}");
            }
        }
    }

    #[test]
    fn survivors_are_those_of_the_official_code() {
        for scorer in ["standard", "single", "double"] {
            assert_reference(scorer);
        }
    }
}
