//! What a full layer's cache keeps when it may not keep everything.
//!
//! An eviction policy is one file with three small implementations ([`TextForm`], [`EvictSpec`], [`Evict`]) and
//! one line of the registry below, which makes [`EvictionSpec`] and [`Evictor`] and everything that they hand on.

pub mod citrus;
pub mod h2o;
pub mod streaming;
pub mod tova;

use std::fmt;

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::Survivors;
use crate::{span::Span, text_form::TextForm, text_forms};

/// What chooses which pairs of one layer stay.
pub trait Evict: Clone + fmt::Debug {
    /// When it chooses in a pass, and whose attention it needs.
    fn turn(&self, pass: Pass) -> Turn;

    /// The pairs that stay of the `old + new` of a pass.
    ///
    /// # Shapes
    ///
    /// - received: `[B, old + new]`, the attention that the judges of [`Self::turn`] pay to each pair: see
    ///   [`attention_received`](crate::ops::attention_received). `None` where there are none
    fn keep(&mut self, pass: Pass, received: Option<Tensor<2>>) -> Survivors;

    /// Learns the attention that the tokens of an instruction pay: see [`EvictSpec::probes`].
    ///
    /// # Shapes
    ///
    /// - received: `[B, old + Q]`, of the pairs kept and the instruction's own `Q`
    fn probed(&mut self, _received: Tensor<2>) {}

    /// Takes the sequences `rows` `[R]` of the batch, in that order and as often as they are named.
    fn select(&mut self, _rows: &Tensor<1, Int>) {}
}

/// The pairs of one layer in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Those that were kept.
    pub old: usize,
    /// Those of the tokens that are read; they are the last.
    pub new: usize,
    /// How many the user lets it keep.
    pub budget: usize,
}

impl Pass {
    /// How many pairs are more than the budget.
    pub fn excess(self) -> usize {
        (self.old + self.new).saturating_sub(self.budget)
    }
}

/// When a policy chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before the new tokens attend, so that they see only what stays.
    Before,
    /// After they have attended.
    After {
        /// How many of the newest queries the policy needs the attention of.
        judges: usize,
    },
}

/// How an eviction policy is made: its settings, and what they alone say of it.
pub trait EvictSpec: TextForm {
    /// What it is in one layer.
    type Policy: Evict;

    /// The policy of a layer.
    fn init(&self) -> Self::Policy;

    /// A second policy of a layer, which chooses what an answer is read with; `None` where that is what new
    /// tokens are read with.
    fn answering(&self) -> Option<Self::Policy> {
        None
    }

    /// The least budget with which it can choose.
    fn least_budget(&self) -> usize {
        1
    }

    /// How many tokens of a text are read in one pass after `seen` others. By default, as many as there is room
    /// for, then one at a time.
    fn pass(&self, seen: usize, budget: usize) -> usize {
        budget.saturating_sub(seen).max(1)
    }

    /// Whether it chooses by an instruction, which stands at the end of a text.
    fn is_instructed(&self) -> bool {
        false
    }

    /// Whether the instruction is read before each pass to see what it attends to.
    fn probes(&self) -> bool {
        false
    }

    /// The most places that a layer needs at once: pairs that are kept, and those that are read.
    fn places(&self, budget: usize, _instruction: usize, _answer: usize) -> usize {
        budget.saturating_add(self.pass(usize::MAX, budget))
    }
}

/// Makes the enums of all policies from one line for each, with the settings that make it.
macro_rules! evictions {
    ($($(#[$doc:meta])* $arm:ident($spec:ty)),+ $(,)?) => {
        /// How any eviction policy is made.
        ///
        /// The text form is `NAME` or `NAME:KEY=VALUE,KEY=VALUE,...`; the first setting needs no key.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum EvictionSpec {
            $($(#[$doc])* $arm($spec)),+
        }

        /// Any eviction policy of a layer.
        #[derive(Clone, Debug)]
        pub enum Evictor {
            $($(#[$doc])* $arm(<$spec as EvictSpec>::Policy)),+
        }

        impl EvictionSpec {
            /// The policy of a layer.
            pub fn init(&self) -> Evictor {
                match self {
                    $(Self::$arm(spec) => Evictor::$arm(spec.init())),+
                }
            }

            /// See [`EvictSpec::answering`].
            pub fn answering(&self) -> Option<Evictor> {
                match self {
                    $(Self::$arm(spec) => spec.answering().map(Evictor::$arm)),+
                }
            }

            /// See [`EvictSpec::least_budget`].
            pub fn least_budget(&self) -> usize {
                match self {
                    $(Self::$arm(spec) => spec.least_budget()),+
                }
            }

            /// See [`EvictSpec::pass`].
            pub fn pass(&self, seen: usize, budget: usize) -> usize {
                match self {
                    $(Self::$arm(spec) => spec.pass(seen, budget)),+
                }
            }

            /// See [`EvictSpec::is_instructed`].
            pub fn is_instructed(&self) -> bool {
                match self {
                    $(Self::$arm(spec) => spec.is_instructed()),+
                }
            }

            /// See [`EvictSpec::probes`].
            pub fn probes(&self) -> bool {
                match self {
                    $(Self::$arm(spec) => spec.probes()),+
                }
            }

            /// See [`EvictSpec::places`].
            pub fn places(&self, budget: usize, instruction: usize, answer: usize) -> usize {
                match self {
                    $(Self::$arm(spec) => spec.places(budget, instruction, answer)),+
                }
            }
        }

        impl Evict for Evictor {
            fn turn(&self, pass: Pass) -> Turn {
                match self {
                    $(Self::$arm(policy) => policy.turn(pass)),+
                }
            }

            fn keep(&mut self, pass: Pass, received: Option<Tensor<2>>) -> Survivors {
                match self {
                    $(Self::$arm(policy) => policy.keep(pass, received)),+
                }
            }

            fn probed(&mut self, received: Tensor<2>) {
                match self {
                    $(Self::$arm(policy) => policy.probed(received)),+
                }
            }

            fn select(&mut self, rows: &Tensor<1, Int>) {
                match self {
                    $(Self::$arm(policy) => policy.select(rows)),+
                }
            }
        }

        text_forms!("eviction policy", EvictionSpec { $($arm($spec)),+ });
    };
}

evictions! {
    /// The first pairs and the newest, `streaming`.
    Streaming(streaming::Streaming),
    /// The pairs that the newest token attends to, `tova`.
    Tova(tova::Tova),
    /// The pairs that all tokens so far attended to, and the newest, `h2o`.
    H2o(h2o::H2o),
    /// The pairs that an instruction attends to, `citrus`.
    Citrus(citrus::Citrus),
}

/// An eviction policy with what it may keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eviction {
    /// The policy.
    pub policy: EvictionSpec,
    /// How many pairs of a key and a value a full layer keeps of each sequence.
    pub budget: usize,
    /// How many tokens at the end of each prompt are an instruction on what stands before them.
    pub instruction: usize,
}

/// An eviction that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvictionError {
    /// There is too little to choose.
    #[error("budget = {budget}: it must be at least {least} for `{policy}`")]
    Budget {
        /// The policy.
        policy: EvictionSpec,
        /// What it may keep.
        budget: usize,
        /// The least that it can do with.
        least: usize,
    },
    /// Nothing says what to look for.
    #[error("`{0}` keeps what an instruction attends to: expected an instruction")]
    NoInstruction(EvictionSpec),
    /// The instruction has no use.
    #[error("`{0}` does not choose by an instruction: expected none, or another policy")]
    Instruction(EvictionSpec),
    /// There is nothing to evict from.
    #[error("pairs are evicted from a cache: expected one")]
    NoCache,
    /// Pairs cannot move.
    #[error(
        "the model has learned positions, with which pairs cannot move up when others are evicted: expected \
         rotary positions"
    )]
    Learned,
}

impl Eviction {
    /// Checks that the settings fit each other.
    ///
    /// # Errors
    ///
    /// If the budget is too small for the policy, or there is an instruction and the policy does not choose by one, or
    /// the reverse.
    pub fn check(&self) -> Result<(), EvictionError> {
        let (policy, budget) = (self.policy.clone(), self.budget);
        let least = policy.least_budget();
        if budget < least {
            return Err(EvictionError::Budget {
                policy,
                budget,
                least,
            });
        }
        match (policy.is_instructed(), self.instruction > 0) {
            (true, false) => Err(EvictionError::NoInstruction(policy)),
            (false, true) => Err(EvictionError::Instruction(policy)),
            _ => Ok(()),
        }
    }

    /// The most places that any layer needs at once for a prompt of `tokens`, its instruction among them, and an
    /// answer.
    pub fn places(&self, spans: &[Span], tokens: usize, answer: usize) -> usize {
        let (policy, budget) = (&self.policy, self.budget);
        let pass = policy.pass(usize::MAX, budget).max(self.instruction);
        let most = |span: &Span| match span {
            Span::Full => policy.places(budget, self.instruction, answer),
            Span::Window { width, sinks } => budget.max(width.get() + sinks + pass),
            Span::Block { width } => budget.max(width.get() + pass),
        };
        let most = spans.iter().map(most).max().unwrap_or(0);
        most.min(tokens.saturating_add(answer))
    }
}
