//! Reading a text with a cache that may not keep all of it.

use std::ops::Range;

use burn::prelude::*;

use super::{Decoder, DecoderCache, DecoderInput};
use crate::{cache::LayerCache, feed_forward::FeedForward, mixer::MixCache};

impl<F: FeedForward> Decoder<F> {
    /// [`Self::step`] in as many passes as the eviction policy of the cache asks for; one, without a policy.
    ///
    /// With an instruction, which is the end of the first text that the cache takes in, the passes are those of
    /// `CItruS` (arXiv 2406.12018, section 3): the text before it chunk by chunk; then the policy keeps what the instruction
    /// attends to, and the instruction and all that follows it stay.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T]`, the new tokens alone
    /// - output: `[B, P, D]`, of the tokens of the last pass
    ///
    /// # Panics
    ///
    /// As [`Self::step`]; or if there are no tokens.
    pub fn read(&self, input: &DecoderInput, cache: &mut DecoderCache) -> Tensor<3> {
        let Some(eviction) = cache.eviction.clone() else {
            return self.step(input, cache);
        };
        let [_, length] = input.input_ids.dims();
        let instruction = if cache.length == 0 {
            eviction.instruction
        } else {
            0
        };
        let text = length.saturating_sub(instruction);
        let instruction = || part(input, text..length);
        let mut hidden = None;
        let mut start = 0;
        while start < text {
            if eviction.policy.probes() && text < length && cache.length > eviction.budget {
                self.probe(&instruction(), cache);
            }
            let pass = eviction.policy.pass(cache.length, eviction.budget);
            let end = start.saturating_add(pass).min(text);
            hidden = Some(self.step(&part(input, start..end), cache));
            start = end;
        }
        if text < length {
            self.probe(&instruction(), cache);
            for layer in cache.attention() {
                layer.settle();
            }
            hidden = Some(self.step(&instruction(), cache));
        }
        hidden.expect("a text of one token or more")
    }

    /// Shows the eviction policies of a cache what tokens after it attend to. The cache takes in none of them.
    fn probe(&self, input: &DecoderInput, cache: &mut DecoderCache) {
        let mut probe = cache.clone();
        probe.attention().for_each(LayerCache::start_probe);
        self.step(input, &mut probe);
        for (layer, mut probe) in cache.layers.iter_mut().zip(probe.layers) {
            if let (Some(layer), Some(probe)) = (layer.attention(), probe.attention()) {
                layer.learn(probe);
            }
        }
    }
}

/// Some of the tokens of each sequence.
fn part(input: &DecoderInput, range: Range<usize>) -> DecoderInput {
    let padding = input.padding.clone();
    DecoderInput {
        input_ids: input.input_ids.clone().slice_dim(1, range.clone()),
        padding: padding.map(|padding| padding.slice_dim(1, range)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{Eviction, EvictionSpec},
        decoder::DecoderConfig,
        position::PositionEncoding,
    };

    const LENGTH: usize = 24;
    const INSTRUCTION: usize = 3;

    fn model(spans: &[&str], positions: usize) -> Decoder {
        let spans = spans.iter().map(|span| span.parse().unwrap()).collect();
        DecoderConfig::new(11, positions, 8, 2, 16, spans)
            .with_position_encoding(PositionEncoding::Rotary { theta: 100.0 })
            .with_initializer_range(0.5)
            .init(&Device::default())
    }

    /// Two different sequences.
    fn tokens(length: usize) -> DecoderInput {
        let ids = Tensor::<1, Int>::arange(0..2 * length as i64, &Device::default());
        DecoderInput {
            input_ids: ((ids.clone() * ids + 3) % 11).reshape([2, length]),
            padding: None,
        }
    }

    fn eviction(policy: &str, budget: usize) -> Eviction {
        let policy: EvictionSpec = policy.parse().unwrap();
        let instruction = if policy.is_instructed() {
            INSTRUCTION
        } else {
            0
        };
        let eviction = Eviction {
            policy,
            budget,
            instruction,
        };
        eviction.check().unwrap();
        eviction
    }

    /// The hidden state of the last token of a prompt, and those of the tokens after it.
    fn hidden(model: &Decoder, cache: &mut DecoderCache, prompt: usize) -> Vec<Tensor<3>> {
        let all = tokens(LENGTH);
        let parts = std::iter::once(0..prompt).chain((prompt..LENGTH).map(|next| next..next + 1));
        let last = |part: Range<usize>| {
            let hidden = model.read(&super::part(&all, part), cache);
            let [_, length, _] = hidden.dims();
            hidden.slice_dim(1, length - 1..length)
        };
        parts.map(last).collect()
    }

    fn assert_near(found: Vec<Tensor<3>>, expected: Vec<Tensor<3>>, case: &str) {
        for (found, expected) in found.into_iter().zip(expected) {
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-4, "{case}: {difference}");
        }
    }

    #[test]
    fn a_budget_for_all_changes_nothing() {
        let model = model(&["full", "window:5", "block:4", "full"], LENGTH);
        let expected = hidden(&model, &mut model.cache(), 18);
        for name in EvictionSpec::NAMES {
            let mut cache = model.evicting_cache(&eviction(name, LENGTH));
            assert_near(hidden(&model, &mut cache, 18), expected.clone(), name);
        }
    }

    #[test]
    fn streaming_is_a_window_with_sinks() {
        let full = model(&["full", "full"], 9);
        let windows = model(&["window:6+2", "window:6+2"], 9);
        let windows = windows.load_record(full.clone().into_record());
        let mut cache = full.evicting_cache(&eviction("streaming:2", 8));
        let mut window_cache = windows.evicting_cache(&eviction("streaming:2", 8));
        let found = hidden(&full, &mut cache, 1);
        assert_near(found, hidden(&windows, &mut window_cache, 1), "streaming:2");
        assert_eq!(cache.peak(), 8);
    }

    #[test]
    fn no_cache_is_above_its_bound_and_runs_agree() {
        // Fewer positions than tokens.
        let model = model(&["full", "window:3", "full"], 20);
        for (policy, budget, bound, peak) in policies() {
            let run = || {
                let eviction = eviction(policy, budget);
                let mut cache = model.evicting_cache(&eviction);
                let output = model.read(&tokens(LENGTH), &mut cache);
                let kept: Vec<usize> = cache.attention().map(|layer| layer.kept()).collect();
                assert!(kept.iter().all(|&kept| kept <= bound), "{policy}: {kept:?}");
                assert_eq!(cache.peak(), peak, "{policy}");
                output.into_data()
            };
            run().assert_eq(&run(), true);
        }
    }

    #[test]
    fn sequences_are_evicted_as_each_alone() {
        let model = model(&["full", "window:3", "full"], LENGTH);
        let device = Device::default();
        for (policy, budget, ..) in policies() {
            let eviction = eviction(policy, budget);
            let alone = [0, 1].map(|row| {
                let all = tokens(LENGTH);
                let ids = all.input_ids.slice_dim(0, row..row + 1);
                let input = DecoderInput {
                    input_ids: ids,
                    padding: None,
                };
                let mut cache = model.evicting_cache(&eviction);
                model.read(&super::part(&input, 0..20), &mut cache);
                model.read(&super::part(&input, 20..LENGTH), &mut cache)
            });
            let all = tokens(LENGTH);
            let mut cache = model.evicting_cache(&eviction);
            model.read(&super::part(&all, 0..20), &mut cache);
            // The other way round from here.
            let rows = Tensor::from_data([1, 0], &device);
            cache.select(&rows);
            let rest = super::part(&all, 20..LENGTH);
            let rest = DecoderInput {
                input_ids: rest.input_ids.select(0, rows),
                padding: None,
            };
            let both = model.read(&rest, &mut cache);
            let [first, second] = alone;
            let alone = Tensor::cat(vec![second, first], 0);
            assert_near(vec![both], vec![alone], policy);
        }
    }

    /// Policies with a budget, the most pairs that they keep in the end, and at once.
    fn policies() -> Vec<(&'static str, usize, usize, usize)> {
        vec![
            ("streaming:2", 6, 6, 6),
            ("tova", 6, 6, 7),
            ("h2o:2", 6, 6, 7),
            // The budget and the instruction; two chunks, and two selections where the scorer is both.
            ("citrus:4,scorer=standard", 6, 9, 14),
            ("citrus:4", 6, 9, 14),
            ("citrus:4,scorer=double", 6, 9, 28),
        ]
    }
}
