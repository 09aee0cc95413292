//! The search for a prompt's continuation: its interface, and that which follows one path.

use super::{Generated, Rule, Stopped, repeat::Repeats};

/// A hypothesis of the next step: one of this step's and a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extension {
    /// The hypothesis, counted from 0 as its logits were given.
    pub(super) row: usize,
    /// The token id.
    pub(super) id: u32,
}

/// The search for the continuation of one prompt. It begins with one hypothesis, that without a new
/// token.
pub(super) trait Search {
    /// Takes the logits `[V]` of the token after each hypothesis, and goes on to those of the next
    /// step; there are none when the search is over.
    fn advance(&mut self, logits: &[&[f32]]) -> Vec<Extension>;

    /// The tokens that no later step changes.
    fn settled(&self) -> &[u32];

    /// The best continuation so far.
    fn result(&self) -> Generated;
}

/// What ends a continuation.
pub(super) struct Ending<'a> {
    pub(super) stop_tokens: &'a [u32],
    pub(super) rule: Option<&'a Rule<'a>>,
    pub(super) max_new_tokens: usize,
}

impl Ending<'_> {
    /// Whether new tokens are a whole continuation, and why.
    pub(super) fn of(&self, tokens: &[u32]) -> Option<Stopped> {
        let last = tokens.last()?;
        if self.stop_tokens.contains(last) {
            Some(Stopped::Token)
        } else if self.rule.is_some_and(|rule| rule(tokens)) {
            Some(Stopped::Rule)
        } else {
            (tokens.len() >= self.max_new_tokens).then_some(Stopped::Length)
        }
    }
}

/// The search that chooses one token per step and never goes back.
pub(super) struct Single<'a, F> {
    choose: F,
    repeats: Repeats<'a>,
    ending: &'a Ending<'a>,
    tokens: Vec<u32>,
    stopped: Option<Stopped>,
}

impl<'a, F: FnMut(&[f32]) -> u32> Single<'a, F> {
    /// A search that takes the token that `choose` finds for logits `[V]`, some of which may be negative
    /// infinity.
    pub(super) fn new(choose: F, repeats: Repeats<'a>, ending: &'a Ending<'a>) -> Self {
        Self {
            choose,
            repeats,
            ending,
            tokens: Vec::new(),
            stopped: None,
        }
    }
}

impl<F: FnMut(&[f32]) -> u32> Search for Single<'_, F> {
    fn advance(&mut self, logits: &[&[f32]]) -> Vec<Extension> {
        let mut extensions = Vec::new();
        for (row, logits) in logits.iter().enumerate() {
            let Some(scores) = self.repeats.scores(&self.tokens, logits) else {
                self.stopped = Some(Stopped::Exhausted);
                return Vec::new();
            };
            let id = (self.choose)(&scores);
            self.tokens.push(id);
            extensions.push(Extension { row, id });
        }
        self.stopped = self.ending.of(&self.tokens);
        if self.stopped.is_some() {
            extensions.clear();
        }
        extensions
    }

    fn settled(&self) -> &[u32] {
        &self.tokens
    }

    fn result(&self) -> Generated {
        Generated {
            tokens: self.tokens.clone(),
            stopped: self.stopped.unwrap_or(Stopped::Interrupt),
        }
    }
}

/// The id with the largest of the logits `[V]`; the first of equals.
pub(super) fn likeliest(logits: &[f32]) -> u32 {
    let first = (f32::NEG_INFINITY, 0);
    let best = logits.iter().zip(0..).fold(
        first,
        |best, (&logit, id)| {
            if logit > best.0 { (logit, id) } else { best }
        },
    );
    best.1
}
