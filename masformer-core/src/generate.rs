//! Text generation: continuations of prompts, token by token.
//!
//! A search decides for one prompt which tokens follow; the model reads the prompts of a batch
//! together. So a prompt's continuation does not depend on the others, up to rounding.

mod batch;
mod beam;
mod error;
mod limits;
mod repeat;
mod sample;
mod search;
#[cfg(test)]
mod tests;

use std::{cell::Cell, collections::BTreeMap, ops::ControlFlow};

use burn::{config::Config, module::Module};
use serde::{Deserialize, Serialize};

pub use beam::BeamConfig;
pub use error::{GenerateError, PromptError};
pub use limits::Limits;
pub use sample::SampleConfig;

use self::{
    batch::Batch,
    beam::BeamSearch,
    repeat::Repeats,
    search::{Ending, Extension, Search, Single, likeliest},
};
use crate::{
    cache::{Eviction, EvictionError},
    decoder::Decoder,
    feed_forward::FeedForward,
};

/// How the next token is chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The likeliest token.
    #[default]
    Greedy,
    /// A random token.
    Sample(SampleConfig),
    /// The token of the likeliest continuation that a beam search finds.
    Beam(BeamConfig),
}

/// Configuration of [`Generator`].
#[derive(Config, Debug, PartialEq)]
pub struct GenerateConfig {
    /// The most tokens that follow a prompt.
    #[config(default = 128)]
    pub max_new_tokens: usize,
    /// How the next token is chosen.
    #[config(default = "Strategy::Greedy")]
    pub strategy: Strategy,
    /// Makes tokens that occur in the prompt or the continuation less likely (Keskar et al. 2019, arXiv
    /// 1909.05858, section 4.1): their logits are divided by this where they are positive, and multiplied
    /// where they are negative, before anything else changes them; a beam search does so with
    /// log-probabilities. Above 0; 1 changes nothing, and less makes repetition likelier.
    #[config(default = 1.0)]
    pub repetition_penalty: f64,
    /// The length of the sequences of tokens of which none occurs twice in prompt and continuation: the
    /// token that would complete one again is not chosen; `None` for no such rule.
    #[config(default = "None")]
    pub no_repeat_ngram: Option<usize>,
    /// The ids after which a continuation has ended.
    #[config(default = "Vec::new()")]
    pub stop_tokens: Vec<u32>,
    /// Whether keys and values are kept from step to step. Without, each step reads everything again:
    /// the plain definition of what the cache does.
    #[config(default = true)]
    pub cache: bool,
    /// What the cache keeps; `None` for all that the spans may see.
    #[config(default = "None")]
    pub evict: Option<Eviction>,
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Its last token is a stop token.
    Token,
    /// The rule of [`Generator::with_rule`] holds.
    Rule,
    /// It has as many tokens as are allowed.
    Length,
    /// Every token would have repeated a sequence ([`GenerateConfig::no_repeat_ngram`]).
    Exhausted,
    /// The caller stopped the generation, and it is not complete.
    Interrupt,
}

/// The continuation of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The new token ids; a stop token is the last of them.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub stopped: Stopped,
}

/// A new token of a continuation, which no later step changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// The prompt that it continues, counted from 0.
    pub prompt: usize,
    /// The token id.
    pub id: u32,
}

type Rule<'a> = dyn Fn(&[u32]) -> bool + 'a;

/// Continues prompts with a decoder.
pub struct Generator<'a, F: FeedForward> {
    model: Decoder<F>,
    config: GenerateConfig,
    rule: Option<Box<Rule<'a>>>,
    peak: Cell<usize>,
}

impl GenerateConfig {
    /// Checks the configuration, and prompts against what a model can take.
    ///
    /// # Errors
    ///
    /// If a value is outside its range, a token is not in the vocabulary, a prompt has no tokens, or
    /// has not enough positions for itself and `max_new_tokens`; if the model's pairs cannot be evicted, or the settings of
    /// the eviction do not fit each other.
    pub fn check(&self, prompts: &[Vec<u32>], limits: &Limits) -> Result<(), GenerateError> {
        let (vocabulary, positions) = (limits.vocabulary, limits.positions);
        if self.max_new_tokens == 0 {
            let expected = "at least 1";
            return Err(GenerateError::value("max_new_tokens", 0.0, expected));
        }
        let penalty = self.repetition_penalty;
        if !(penalty > 0.0 && penalty.is_finite()) {
            let expected = "a number above 0, and above 1 to avoid repetition";
            return Err(GenerateError::value(
                "repetition_penalty",
                penalty,
                expected,
            ));
        }
        if self.no_repeat_ngram == Some(0) {
            return Err(GenerateError::value("no_repeat_ngram", 0.0, "at least 1"));
        }
        match &self.strategy {
            Strategy::Greedy => {}
            Strategy::Sample(config) => config.check()?,
            Strategy::Beam(config) => config.check()?,
        }
        if let Some(eviction) = &self.evict {
            eviction.check()?;
            if !self.cache {
                return Err(EvictionError::NoCache.into());
            }
            if !limits.is_rotary {
                return Err(EvictionError::Learned.into());
            }
        }
        let foreign = |ids: &[u32]| ids.iter().copied().find(|id| *id as usize >= vocabulary);
        if let Some(id) = foreign(&self.stop_tokens) {
            return Err(GenerateError::StopToken { id, vocabulary });
        }
        for (prompt, ids) in prompts.iter().enumerate() {
            let refuse = |problem| Err(GenerateError::Prompt { prompt, problem });
            if ids.is_empty() {
                return refuse(PromptError::Empty);
            }
            if let Some(id) = foreign(ids) {
                return refuse(PromptError::Vocabulary { id, vocabulary });
            }
            let (tokens, new_tokens) = (ids.len(), self.max_new_tokens);
            if let Some(eviction) = &self.evict {
                let places = eviction.places(&limits.spans, tokens, new_tokens);
                if places > positions {
                    return refuse(PromptError::Places { places, positions });
                }
            } else if tokens.saturating_add(new_tokens) > positions {
                return refuse(PromptError::TooLong {
                    tokens,
                    new_tokens,
                    positions,
                });
            }
        }
        Ok(())
    }

    /// A search for each of the prompts.
    fn searches<'a>(
        &self,
        prompts: &'a [Vec<u32>],
        ending: &'a Ending<'a>,
    ) -> Vec<Box<dyn Search + 'a>> {
        let repeats = prompts.iter().map(|prompt| Repeats {
            prompt,
            penalty: self.repetition_penalty,
            ngram: self.no_repeat_ngram,
        });
        match &self.strategy {
            Strategy::Greedy => repeats
                .map(|repeats| Box::new(Single::new(likeliest, repeats, ending)) as Box<dyn Search>)
                .collect(),
            Strategy::Sample(config) => repeats
                .zip(config.samplers(prompts.len()))
                .map(|(repeats, sampler)| {
                    Box::new(Single::new(sampler, repeats, ending)) as Box<dyn Search>
                })
                .collect(),
            Strategy::Beam(config) => repeats
                .map(|repeats| {
                    Box::new(BeamSearch::new(config.clone(), repeats, ending)) as Box<dyn Search>
                })
                .collect(),
        }
    }
}

impl<'a, F: FeedForward> Generator<'a, F> {
    /// A generator over a model in its evaluation form.
    pub fn new(model: &Decoder<F>, config: &GenerateConfig) -> Self {
        Self {
            model: model.valid(),
            config: config.clone(),
            rule: None,
            peak: Cell::new(0),
        }
    }

    /// The most pairs of a key and a value that a layer has held at once for one sequence, in all that has been
    /// generated; 0 without a cache.
    pub fn peak(&self) -> usize {
        self.peak.get()
    }

    /// Ends a continuation also where `rule` holds for its new tokens, the last of which has just been
    /// chosen.
    pub fn with_rule(mut self, rule: impl Fn(&[u32]) -> bool + 'a) -> Self {
        self.rule = Some(Box::new(rule));
        self
    }

    /// The continuation of each prompt. `on_step` sees after each step the tokens that have become
    /// certain, and may stop the generation; of a beam search, those are all tokens of a prompt when
    /// its search is over.
    ///
    /// Prompts are read together, padded on the left to the longest of them. Where a span depends on
    /// the position in the sequence ([`Span::is_relative`](crate::Span::is_relative)), padding would
    /// change it, and only prompts of equal length are read together; so where pairs are evicted.
    ///
    /// # Errors
    ///
    /// As [`GenerateConfig::check`], before any work; if logits are not finite or cannot be read from
    /// the device.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        mut on_step: impl FnMut(&[NewToken]) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, GenerateError> {
        self.config.check(prompts, &Limits::from(&self.model))?;
        let ending = Ending {
            stop_tokens: &self.config.stop_tokens,
            rule: self.rule.as_deref(),
            max_new_tokens: self.config.max_new_tokens,
        };
        let mut searches = self.config.searches(prompts, &ending);
        for group in self.groups(prompts) {
            let ids = group.iter().map(|prompt| prompts[*prompt].as_slice());
            let cache = self.config.cache.then(|| match &self.config.evict {
                Some(eviction) => self.model.evicting_cache(eviction),
                None => self.model.cache(),
            });
            let mut batch = Batch::new(&self.model, ids, cache);
            let flow = run(&mut batch, group, &mut searches, &mut on_step);
            self.peak.set(self.peak.get().max(batch.peak()));
            if flow?.is_break() {
                break;
            }
        }
        Ok(searches.iter().map(|search| search.result()).collect())
    }

    /// The prompts that may be read together.
    fn groups(&self, prompts: &[Vec<u32>]) -> Vec<Vec<usize>> {
        let is_relative = self.model.stack.is_relative() && self.config.evict.is_none();
        let mut groups = BTreeMap::<usize, Vec<usize>>::new();
        for (prompt, ids) in prompts.iter().enumerate() {
            let key = if is_relative { 0 } else { ids.len() };
            groups.entry(key).or_default().push(prompt);
        }
        groups.into_values().collect()
    }
}

/// Goes on with the prompts of a batch until their searches are over.
fn run<'a, F: FeedForward>(
    batch: &mut Batch<'_, F>,
    prompts: Vec<usize>,
    searches: &mut [Box<dyn Search + 'a>],
    on_step: &mut impl FnMut(&[NewToken]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, GenerateError> {
    // The prompts whose searches are not over, with the number of their rows in the batch.
    let mut open: Vec<(usize, usize)> = prompts.into_iter().map(|prompt| (prompt, 1)).collect();
    loop {
        let logits = batch.logits()?;
        let logits: Vec<&[f32]> = logits.chunks(batch.vocabulary()).collect();
        let (mut first, mut still_open) = (0, Vec::new());
        let (mut tokens, mut extensions) = (Vec::new(), Vec::new());
        for (prompt, rows) in open {
            let own = &logits[first..first + rows];
            if !own.iter().copied().flatten().all(|logit| logit.is_finite()) {
                return Err(GenerateError::NotFinite { prompt });
            }
            let search = &mut searches[prompt];
            let known = search.settled().len();
            let next = search.advance(own);
            let settled = search.settled()[known..].iter();
            tokens.extend(settled.map(|&id| NewToken { prompt, id }));
            if !next.is_empty() {
                still_open.push((prompt, next.len()));
            }
            extensions.extend(next.into_iter().map(|Extension { row, id }| Extension {
                row: first + row,
                id,
            }));
            first += rows;
        }
        open = still_open;
        if on_step(&tokens).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if open.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        batch.extend(&extensions);
    }
}
