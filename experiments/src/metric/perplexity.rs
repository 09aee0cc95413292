//! How well a language model predicts text: perplexity and bits per byte, over documents that are
//! longer than the model's input.

use std::{f64::consts::LN_2, ops::Range};

use super::{MetricError, Scores};

/// The first positions of a document, which are the first bucket; every later bucket ends at twice
/// the position where it begins.
const FIRST_BUCKET: usize = 128;

/// A plan that no model can follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "windows of {length} tokens with a stride of {stride}: the stride must be from 1 to {length}"
)]
pub struct SlidingError {
    /// Tokens of a window.
    pub length: usize,
    /// Tokens between the beginnings of two windows.
    pub stride: usize,
}

/// Windows that slide over a document, so that a model of `T` positions scores all its tokens.
///
/// Each window is read as a whole, and the tokens in it that no earlier window has scored are scored. A
/// small stride gives every token much context and costs more passes; `stride == length` divides
/// the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindows {
    length: usize,
    stride: usize,
}

/// One forward pass. Positions are those of the document's tokens, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationWindow {
    /// The tokens that are predicted, at most `T`.
    pub targets: Range<usize>,
    /// Those of them that are scored.
    pub scored: Range<usize>,
}

impl SlidingWindows {
    /// Windows of `length` tokens, `T`, that begin `stride` tokens apart, `S`.
    ///
    /// # Errors
    ///
    /// If the stride is 0 or longer than a window, which would leave tokens out.
    pub fn new(length: usize, stride: usize) -> Result<Self, SlidingError> {
        if (1..=length).contains(&stride) {
            Ok(Self { length, stride })
        } else {
            Err(SlidingError { length, stride })
        }
    }

    /// The stride where nothing else is asked for: half a window, so that each token is scored with at
    /// least half a window before it.
    pub fn default_stride(length: usize) -> usize {
        length.div_ceil(2)
    }

    /// The windows over a document of `tokens` tokens. Each token is scored once, in a window that
    /// has at least `T - S` tokens of the document before it, or all if there are fewer.
    pub fn over(self, tokens: usize) -> impl Iterator<Item = EvaluationWindow> {
        let mut done = 0;
        (0..).step_by(self.stride).map_while(move |start| {
            let end = tokens.min(start + self.length);
            let scored = done..end;
            done = end;
            (!scored.is_empty()).then_some(EvaluationWindow {
                targets: start..end,
                scored,
            })
        })
    }
}

impl EvaluationWindow {
    /// The tokens to feed the model, one before each target. Before the first token of a document
    /// stands `end_id`, the end of the document before it: so even that one can be scored.
    pub fn input_ids(&self, document: &[u32], end_id: u32) -> Vec<u32> {
        match self.targets.start.checked_sub(1) {
            Some(before) => document[before..self.targets.end - 1].to_vec(),
            None => [&[end_id], &document[..self.targets.end - 1]].concat(),
        }
    }
}

/// What has been predicted, in all and by the position in the document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Positions 0-127, 128-255, 256-511 and so on.
    buckets: Vec<Likelihood>,
}

/// A sum over tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood {
    /// Number of tokens.
    pub tokens: usize,
    /// Number of bytes of their text.
    pub bytes: usize,
    /// Their summed negative log-likelihood in nats.
    pub nats: f64,
}

impl Perplexity {
    /// Counts a token: its position in the document, the bytes of its text, and its negative
    /// log-likelihood in nats.
    ///
    /// # Errors
    ///
    /// If the likelihood is not a finite number, as after a training that diverged.
    pub fn add(&mut self, position: usize, bytes: usize, nats: f64) -> Result<(), MetricError> {
        if !nats.is_finite() {
            return Err(MetricError::Likelihood { position, nats });
        }
        let bucket = bucket(position);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, Likelihood::default());
        }
        let sum = &mut self.buckets[bucket];
        sum.tokens += 1;
        sum.bytes += bytes;
        sum.nats += nats;
        Ok(())
    }

    /// The sum over all tokens.
    pub fn total(&self) -> Likelihood {
        let sum = |a: Likelihood, b: &Likelihood| Likelihood {
            tokens: a.tokens + b.tokens,
            bytes: a.bytes + b.bytes,
            nats: a.nats + b.nats,
        };
        self.buckets.iter().fold(Likelihood::default(), sum)
    }

    /// The sums by position, where there are any tokens.
    pub fn by_position(&self) -> impl Iterator<Item = (Range<usize>, Likelihood)> {
        let buckets = self.buckets.iter().enumerate();
        buckets
            .filter(|(_, sum)| sum.tokens > 0)
            .map(|(bucket, sum)| (positions(bucket), *sum))
    }

    /// `perplexity`, `bits_per_byte`, and both for each bucket of positions, as in
    /// `perplexity_128_255`.
    ///
    /// # Errors
    ///
    /// If no token was counted, or a perplexity is too large a number.
    pub fn scores(&self) -> Result<Scores, MetricError> {
        let total = self.total();
        if total.tokens == 0 {
            return Err(MetricError::Empty);
        }
        let mut scores = Scores::default();
        let mut insert = |suffix: &str, sum: Likelihood| {
            let perplexity = sum.perplexity();
            if !perplexity.is_finite() {
                let nats = sum.nats / sum.tokens as f64;
                return Err(MetricError::Perplexity { nats });
            }
            scores.insert(format!("perplexity{suffix}"), perplexity);
            if let Some(bits) = sum.bits_per_byte() {
                scores.insert(format!("bits_per_byte{suffix}"), bits);
            }
            Ok(())
        };
        insert("", total)?;
        for (positions, sum) in self.by_position() {
            insert(&format!("_{}_{}", positions.start, positions.end - 1), sum)?;
        }
        Ok(scores)
    }
}

impl Likelihood {
    /// `exp(nats / tokens)`: among how many equally likely tokens a model as sure as this one would
    /// choose. NaN without tokens.
    pub fn perplexity(self) -> f64 {
        (self.nats / self.tokens as f64).exp()
    }

    /// `nats / (ln 2 * bytes)`, which does not depend on the tokenizer; `None` without bytes.
    pub fn bits_per_byte(self) -> Option<f64> {
        (self.bytes > 0).then(|| self.nats / (LN_2 * self.bytes as f64))
    }
}

/// The bucket of a position.
fn bucket(position: usize) -> usize {
    (position / FIRST_BUCKET)
        .checked_ilog2()
        .map_or(0, |power| power as usize + 1)
}

/// The positions of a bucket.
fn positions(bucket: usize) -> Range<usize> {
    let end = FIRST_BUCKET << bucket;
    if bucket == 0 { 0..end } else { end / 2..end }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(length: usize, stride: usize, tokens: usize) -> Vec<[Range<usize>; 2]> {
        let windows = SlidingWindows::new(length, stride).unwrap().over(tokens);
        windows
            .map(|window| [window.targets, window.scored])
            .collect()
    }

    #[test]
    fn a_window_scores_what_is_new_in_it() {
        assert_eq!(windows(4, 2, 7), [[0..4, 0..4], [2..6, 4..6], [4..7, 6..7]]);
        assert_eq!(windows(4, 4, 8), [[0..4, 0..4], [4..8, 4..8]]);
        assert_eq!(windows(4, 1, 3), [[0..3, 0..3]]);
        assert!(windows(4, 2, 0).is_empty());
        assert!(SlidingWindows::new(4, 5).is_err());
        let error = SlidingWindows::new(4, 0).unwrap_err().to_string();
        assert_eq!(
            error,
            "windows of 4 tokens with a stride of 0: the stride must be from 1 to 4"
        );
    }

    #[test]
    fn inputs_are_the_tokens_before_the_targets() {
        let document = [10, 11, 12, 13, 14];
        let inputs: Vec<_> = SlidingWindows::new(3, 2)
            .unwrap()
            .over(document.len())
            .map(|window| window.input_ids(&document, 9))
            .collect();
        assert_eq!(inputs, [vec![9, 10, 11], vec![11, 12, 13]]);
    }

    /// Every symbol of an alphabet of 2^k equally likely: perplexity 2^k, k bits a token.
    #[test]
    fn a_uniform_guess_has_the_perplexity_of_its_alphabet() {
        let mut perplexity = Perplexity::default();
        for position in 0..300 {
            let bits = if position < 128 { 3.0 } else { 5.0 };
            perplexity.add(position, 2, bits * LN_2).unwrap();
        }
        let scores = perplexity.scores().unwrap();
        let near = |name: &str, expected: f64| {
            assert!(
                (scores[name] - expected).abs() < 1e-9,
                "{name}: {}",
                scores[name]
            );
        };
        near("perplexity_0_127", 8.0);
        near("bits_per_byte_0_127", 1.5);
        near("perplexity_128_255", 32.0);
        near("bits_per_byte_256_511", 2.5);
        let bits = 128.0 * 3.0 + 172.0 * 5.0;
        near("perplexity", f64::exp2(bits / 300.0));
        near("bits_per_byte", bits / 600.0);
        assert_eq!(scores.len(), 2 * 4);
    }

    #[test]
    fn nothing_and_nonsense_are_errors() {
        let mut perplexity = Perplexity::default();
        assert_eq!(perplexity.scores(), Err(MetricError::Empty));
        let error = perplexity.add(3, 1, f64::INFINITY).unwrap_err().to_string();
        assert_eq!(
            error,
            "token 3: a negative log-likelihood of inf is not finite; the model has diverged"
        );
        perplexity.add(400, 0, 1.0).unwrap();
        let scores = perplexity.scores().unwrap();
        assert_eq!(
            scores.keys().collect::<Vec<_>>(),
            ["perplexity", "perplexity_256_511"]
        );
    }

    proptest! {
        #[test]
        fn every_token_is_scored_once_with_its_context(
            length in 1_usize..40,
            stride in 1_usize..40,
            tokens in 0_usize..200,
        ) {
            let stride = stride.min(length);
            let document: Vec<u32> = (0..tokens as u32).collect();
            let mut scored = Vec::new();
            for window in SlidingWindows::new(length, stride).unwrap().over(tokens) {
                let EvaluationWindow { targets, scored: new } = window.clone();
                prop_assert!(targets.len() <= length);
                prop_assert!(targets.start <= new.start && new.end == targets.end);
                for token in new {
                    prop_assert!(token - targets.start >= (length - stride).min(token));
                    scored.push(token);
                }
                let inputs = window.input_ids(&document, 999);
                prop_assert_eq!(inputs.len(), targets.len());
                for (input, target) in inputs.iter().zip(targets) {
                    prop_assert_eq!(*input, target.checked_sub(1).map_or(999, |before| before as u32));
                }
            }
            prop_assert_eq!(scored, (0..tokens).collect::<Vec<_>>());
        }

        #[test]
        fn buckets_divide_the_positions(position in 0_usize..1 << 20) {
            prop_assert!(positions(bucket(position)).contains(&position));
            let next = positions(bucket(position) + 1);
            prop_assert_eq!(next.start, positions(bucket(position)).end);
        }
    }
}
