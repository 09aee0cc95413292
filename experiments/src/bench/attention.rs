//! The time and memory of one attention layer as its input grows.

use std::num::NonZeroUsize;

use burn::{prelude::*, tensor::Distribution};
use masformer_core::{
    Direction, Span,
    ops::{SpanAttentionOptions, computed_pairs, span_attention},
};

use super::{Case, Pass, Plan, Work, held};
use crate::table::Table;

/// What is measured: causal attention `[B, H, T, d]`, from queries, keys and values to the output, and
/// with the gradients of all three.
#[derive(Clone, Debug)]
pub struct AttentionBench {
    /// Sequences `B`.
    pub batch: usize,
    /// Heads `H`.
    pub heads: usize,
    /// Width of a head `d`.
    pub head_width: usize,
    /// Numbers of tokens `T`.
    pub lengths: Vec<usize>,
    /// Tokens of a window, and of a block.
    pub width: NonZeroUsize,
}

/// The pairs of a query and a key that a layer has to look at, and those that it does look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// The span.
    pub span: Span,
    /// Number of tokens.
    pub length: usize,
    /// Those of the closed formula, [`Span::pairs`].
    pub seen: u64,
    /// Those whose scores are computed, [`computed_pairs`].
    pub computed: u64,
}

impl AttentionBench {
    /// Every span at every length, forward alone and with the backward pass.
    pub fn cases(&self, device: &Device) -> Vec<Case> {
        let mut cases = Vec::new();
        for span in self.spans() {
            for training in [false, true] {
                for &length in &self.lengths {
                    cases.push(self.case(span, training, length, device));
                }
            }
        }
        cases
    }

    /// The cases.
    pub fn plan(&self, device: &Device) -> Plan {
        Plan {
            name: "attention",
            title: "One causal attention layer as its input grows",
            unit: "tokens",
            cases: self.cases(device),
        }
    }

    /// The pairs that each layer looks at, as a table.
    pub fn pairs_table(&self, device: &Device) -> Table {
        let header = ["span", "tokens", "pairs", "computed", "extra per query"];
        let mut cells = vec![header.map(str::to_owned).to_vec()];
        cells.extend(self.pairs(device).into_iter().map(|pairs| {
            let more = (pairs.computed - pairs.seen) as f64 / pairs.length as f64;
            vec![
                pairs.span.to_string(),
                pairs.length.to_string(),
                pairs.seen.to_string(),
                pairs.computed.to_string(),
                format!("{more:.1}"),
            ]
        }));
        Table::from_cells(cells)
    }

    /// What each layer looks at.
    pub fn pairs(&self, device: &Device) -> Vec<Pairs> {
        let spans = self.spans().into_iter();
        let lengths = |span| self.lengths.iter().map(move |&length| (span, length));
        spans
            .flat_map(lengths)
            .map(|(span, length)| Pairs {
                span,
                length,
                seen: span.pairs(Direction::Causal, length),
                computed: computed_pairs(span, Direction::Causal, length, device),
            })
            .collect()
    }

    fn spans(&self) -> [Span; 3] {
        let width = self.width;
        [
            Span::Full,
            Span::Window { width, sinks: 0 },
            Span::Block { width },
        ]
    }

    fn case(&self, span: Span, training: bool, length: usize, device: &Device) -> Case {
        let shape = [self.batch, self.heads, length, self.head_width];
        let device = if training {
            device.clone().autodiff()
        } else {
            device.clone()
        };
        Case {
            name: format!("{span}, {}", if training { "training" } else { "forward" }),
            size: length,
            work: self.work(span, training, length),
            prepare: Box::new(move || Ok(pass(span, training, shape, &device))),
        }
    }

    /// Two products of the pairs by the width forward, and four more backward. Queries, keys, values
    /// and outputs pass once; backward they do again, with the gradients of all four.
    fn work(&self, span: Span, training: bool, length: usize) -> Work {
        let heads = (self.batch * self.heads) as u64;
        let width = self.head_width as u64;
        let [products, tensors] = if training { [6, 12] } else { [2, 4] };
        Work {
            multiply_adds: products * heads * width * span.pairs(Direction::Causal, length),
            bytes: tensors * 4 * heads * width * length as u64,
            tokens: (self.batch * length) as u64,
        }
    }
}

fn pass(span: Span, training: bool, shape: [usize; 4], device: &Device) -> Pass {
    let tensor = || Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), device);
    let inputs = [tensor(), tensor(), tensor()];
    let gradient = tensor().without_autodiff();
    let options = SpanAttentionOptions {
        span,
        direction: Direction::Causal,
        scale: (shape[3] as f64).powf(-0.5),
        dropout: None,
    };
    Box::new(move || {
        let inputs = inputs.clone();
        if training {
            let [query, key, value] = inputs.map(Tensor::require_grad);
            let gradient = Tensor::from_inner(gradient.clone());
            let output = span_attention(query, key, value, None, options);
            Ok(held((output * gradient).sum().backward()))
        } else {
            let [query, key, value] = inputs;
            Ok(held(span_attention(query, key, value, None, options)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench() -> AttentionBench {
        AttentionBench {
            batch: 2,
            heads: 3,
            head_width: 8,
            lengths: vec![32, 64],
            width: NonZeroUsize::new(16).unwrap(),
        }
    }

    #[test]
    fn every_case_runs() {
        let cases = bench().cases(&Device::default());
        let names: Vec<(&str, usize)> = cases
            .iter()
            .map(|case| (case.name.as_str(), case.size))
            .collect();
        assert_eq!(names.len(), 12);
        assert_eq!(names[0], ("full, forward", 32));
        assert_eq!(names[11], ("block:16, training", 64));
        for case in &cases {
            (case.prepare)().unwrap()().unwrap();
        }
    }

    #[test]
    fn work_follows_from_the_pairs() {
        let cases = bench().cases(&Device::default());
        // 32 * 33 / 2 pairs, 2 x 3 heads of 8, two products forward and six in training.
        assert_eq!(cases[0].work.multiply_adds, 2 * 48 * 528);
        assert_eq!(cases[2].work.multiply_adds, 6 * 48 * 528);
        assert_eq!(cases[0].work.bytes, 4 * 4 * 48 * 32);
        assert_eq!(cases[0].work.tokens, 64);
    }

    #[test]
    fn at_least_what_is_seen_is_computed() {
        let pairs = bench().pairs(&Device::default());
        assert_eq!(pairs.len(), 6);
        for pairs in pairs {
            assert!(pairs.computed >= pairs.seen, "{pairs:?}");
        }
    }
}
