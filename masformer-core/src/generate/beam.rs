//! Beam search.

use burn::config::Config;

use super::{
    Generated, Stopped,
    error::GenerateError,
    repeat::Repeats,
    search::{Ending, Extension, Search},
};

/// Configuration of beam search, as `generate` of Transformers searches with `early_stopping=False`.
///
/// Each step extends the hypotheses by the likeliest tokens and keeps the `beams` likeliest that have
/// not ended. A hypothesis that ends while it is among the `beams` likeliest of its step is a result,
/// with the score `sum(log p) / length^length_penalty` (Wu et al. 2016, arXiv 1609.08144, section 7,
/// have a similar penalty); length counts the new tokens. The `beams` best results stay. The search is over
/// when there are as many, and the likeliest hypothesis would not be one of them if it ended now.
#[derive(Config, Debug, PartialEq)]
pub struct BeamConfig {
    /// The most hypotheses that are followed at a time.
    #[config(default = 4)]
    pub beams: usize,
    /// The power of the length that divides log-probabilities: 0 prefers short continuations, more
    /// longer ones.
    #[config(default = 1.0)]
    pub length_penalty: f64,
}

impl BeamConfig {
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        if self.beams == 0 {
            return Err(GenerateError::value("beams", 0.0, "at least 1"));
        }
        if !self.length_penalty.is_finite() {
            let (name, value) = ("length_penalty", self.length_penalty);
            return Err(GenerateError::value(name, value, "a finite number"));
        }
        Ok(())
    }

    /// The score of a hypothesis with a number of new tokens.
    fn score(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / (length as f64).powf(self.length_penalty)
    }
}

/// A beam search for one prompt.
pub(super) struct BeamSearch<'a> {
    config: BeamConfig,
    repeats: Repeats<'a>,
    ending: &'a Ending<'a>,
    /// The hypotheses, the likeliest first.
    running: Vec<Hypothesis>,
    /// The results, the best first.
    ended: Vec<Ended>,
}

#[derive(Clone, Debug)]
struct Hypothesis {
    tokens: Vec<u32>,
    log_probability: f64,
}

#[derive(Clone, Debug)]
struct Ended {
    tokens: Vec<u32>,
    score: f64,
    stopped: Stopped,
}

/// A hypothesis and a token.
struct Candidate {
    row: usize,
    id: u32,
    log_probability: f64,
}

impl<'a> BeamSearch<'a> {
    pub(super) fn new(config: BeamConfig, repeats: Repeats<'a>, ending: &'a Ending<'a>) -> Self {
        Self {
            config,
            repeats,
            ending,
            running: vec![Hypothesis {
                tokens: Vec::new(),
                log_probability: 0.0,
            }],
            ended: Vec::new(),
        }
    }

    /// The likeliest candidates, sorted: as many as leave `beams` that no stop token ends.
    fn candidates(&self, logits: &[&[f32]]) -> Vec<Candidate> {
        let kinds = (1 + self.ending.stop_tokens.len()).max(2);
        let count = self.config.beams.saturating_mul(kinds);
        let mut candidates: Vec<Candidate> = Vec::new();
        for (row, (hypothesis, logits)) in self.running.iter().zip(logits).enumerate() {
            let normalizer = log_sum_exp(logits);
            let logits = logits.iter().map(|&logit| f64::from(logit));
            let mut scores: Vec<f64> = logits.map(|logit| logit - normalizer).collect();
            self.repeats.apply(&hypothesis.tokens, |id, change| {
                let score = &mut scores[id as usize];
                *score = change(*score);
            });
            let possible = scores
                .iter()
                .zip(0..)
                .filter(|(score, _)| score.is_finite());
            candidates.extend(possible.map(|(score, id)| Candidate {
                row,
                id,
                log_probability: hypothesis.log_probability + score,
            }));
        }
        let by_size = |one: &Candidate, other: &Candidate| {
            let order = other.log_probability.total_cmp(&one.log_probability);
            order.then((one.row, one.id).cmp(&(other.row, other.id)))
        };
        if count < candidates.len() {
            candidates.select_nth_unstable_by(count, by_size);
            candidates.truncate(count);
        }
        candidates.sort_unstable_by(by_size);
        candidates
    }

    /// Whether no hypothesis can become a result, as far as `early_stopping=False` looks.
    fn is_over(&self) -> bool {
        let Some(likeliest) = self.running.first() else {
            return true;
        };
        let score = self
            .config
            .score(likeliest.log_probability, likeliest.tokens.len());
        let is_full = self.ended.len() == self.config.beams;
        is_full && self.ended.last().is_some_and(|worst| score <= worst.score)
    }
}

impl Search for BeamSearch<'_> {
    fn advance(&mut self, logits: &[&[f32]]) -> Vec<Extension> {
        let candidates = self.candidates(logits);
        let (mut running, mut extensions) = (Vec::new(), Vec::new());
        for (rank, candidate) in candidates.into_iter().enumerate() {
            let Candidate {
                row,
                id,
                log_probability,
            } = candidate;
            let mut tokens = self.running[row].tokens.clone();
            tokens.push(id);
            match self.ending.of(&tokens) {
                Some(stopped) if rank < self.config.beams => self.ended.push(Ended {
                    score: self.config.score(log_probability, tokens.len()),
                    tokens,
                    stopped,
                }),
                None if running.len() < self.config.beams => {
                    running.push(Hypothesis {
                        tokens,
                        log_probability,
                    });
                    extensions.push(Extension { row, id });
                }
                _ => {}
            }
        }
        if running.is_empty() && self.ended.is_empty() {
            // No token may follow any of them.
            let likeliest = self.running.first();
            self.ended.extend(likeliest.map(|hypothesis| Ended {
                tokens: hypothesis.tokens.clone(),
                score: hypothesis.log_probability,
                stopped: Stopped::Exhausted,
            }));
        }
        self.running = running;
        self.ended
            .sort_by(|one, other| other.score.total_cmp(&one.score));
        self.ended.truncate(self.config.beams);
        if self.is_over() {
            self.running.clear();
            extensions.clear();
        }
        extensions
    }

    fn settled(&self) -> &[u32] {
        match self.ended.first() {
            Some(best) if self.running.is_empty() => &best.tokens,
            _ => &[],
        }
    }

    fn result(&self) -> Generated {
        let (ended, running) = (self.ended.first(), self.running.first());
        let tokens = ended.map(|best| &best.tokens);
        Generated {
            tokens: tokens
                .or(running.map(|likeliest| &likeliest.tokens))
                .cloned()
                .unwrap_or_default(),
            stopped: match ended {
                Some(best) if running.is_none() => best.stopped,
                _ => Stopped::Interrupt,
            },
        }
    }
}

/// The logarithm of the sum of the exponentials of logits `[V]`.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| f64::from(logit - largest).exp())
        .sum();
    f64::from(largest) + sum.ln()
}
