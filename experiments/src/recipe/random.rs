//! `stages.NAME.random`: the size of a student whose weights are drawn.

use masformer_core::{Direction, MixerSchedule, MixerSpec, ScheduleError, SpanAttentionConfig};
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// The size of a fresh model, whose tokens and positions are those of another one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomStudent {
    /// Number of transformer layers L.
    pub layers: usize,
    /// Hidden size D, a multiple of `heads`.
    pub hidden: usize,
    /// Attention heads H.
    pub heads: usize,
    /// Feed-forward width F.
    pub width: usize,
    /// Dropout of embeddings, attention and hidden states. Default 0.1.
    #[serde(default = "dropout")]
    pub dropout: f64,
    /// Standard deviation of the weights at the start. Default 0.02; a narrow model learns faster from about
    /// `1 / sqrt(hidden)`.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
}

pub(super) fn dropout() -> f64 {
    0.1
}

pub(super) fn initializer_range() -> f64 {
    0.02
}

impl RandomStudent {
    /// Span attention as every layer would have it.
    pub fn attention(&self, direction: Direction) -> SpanAttentionConfig {
        SpanAttentionConfig::new(self.hidden, self.heads).with_direction(direction)
    }

    /// Checks that a model of this size can have these mixers.
    ///
    /// # Errors
    ///
    /// If the schedule does not fit its depth, or a mixer its width and heads.
    pub(super) fn check_mixers(
        &self,
        mixers: &MixerSchedule,
        direction: Direction,
    ) -> Result<(), ScheduleError> {
        let mixers = mixers.mixers(self.layers)?;
        Ok(MixerSpec::check(&mixers, &self.attention(direction))?)
    }

    /// What cannot work in the table at `table`.
    pub(super) fn problems(&self, found: &mut Problems, table: &str) {
        let key = |name: &str| format!("{table}.{name}");
        found.at_least(&key("layers"), self.layers, 1);
        found.at_least(&key("width"), self.width, 1);
        found.divided(&key("hidden"), self.hidden, &key("heads"), self.heads);
        found.within(&key("dropout"), self.dropout, 0.0..1.0);
        found.positive(&key("initializer_range"), self.initializer_range);
    }
}
