//! The time of a new token: by its position, and with and without a cache.

use std::ops::ControlFlow;

use burn::{prelude::*, tensor::Distribution};
use masformer_core::{
    Decoder, DecoderCache, DecoderConfig, DecoderInput, Direction, GenerateConfig, Generator,
    ScheduleError, SpanSchedule, ops::prepack,
};

use super::{Case, Pass, Plan, Work, held};
use crate::error::Error;

/// What is measured: a decoder with random weights that continues one sequence.
#[derive(Clone, Debug)]
pub struct DecodeBench {
    /// Layers `L`.
    pub layers: usize,
    /// Hidden width `D`; heads are 64 wide, feed-forward layers `4 D`.
    pub hidden: usize,
    /// Token ids `V`.
    pub vocabulary: usize,
    /// What the layers attend to.
    pub schedules: Vec<SpanSchedule>,
    /// Tokens before the one that is timed.
    pub positions: Vec<usize>,
    /// Tokens of the prompt that is continued with and without a cache.
    pub prompt: usize,
    /// Tokens that continue it.
    pub new_tokens: usize,
}

impl DecodeBench {
    /// The cases of this bench.
    ///
    /// # Errors
    ///
    /// As [`Self::cases`].
    pub fn plan(&self, device: &Device) -> Result<Plan, ScheduleError> {
        Ok(Plan {
            name: "decode",
            title: "The next token of a decoder",
            unit: "tokens",
            cases: self.cases(device)?,
        })
    }

    /// A step at every position under every schedule, then whole continuations.
    ///
    /// # Errors
    ///
    /// If a schedule does not fit the number of layers.
    pub fn cases(&self, device: &Device) -> Result<Vec<Case>, ScheduleError> {
        let mut cases = Vec::new();
        for schedule in &self.schedules {
            let config = self.config(schedule)?;
            for &position in &self.positions {
                let (device, decoder) = (device.clone(), config.clone());
                cases.push(Case {
                    name: format!("{schedule}, a token"),
                    size: position,
                    work: step_work(&config, position),
                    prepare: Box::new(move || step_pass(&decoder, position, &device)),
                });
            }
        }
        for schedule in &self.schedules {
            let config = self.config(schedule)?;
            for cache in [true, false] {
                let (device, decoder, bench) = (device.clone(), config.clone(), self.clone());
                let with = if cache { "with" } else { "without" };
                cases.push(Case {
                    name: format!("{schedule}, {with} cache"),
                    size: self.prompt,
                    work: self.generation_work(&config, cache),
                    prepare: Box::new(move || Ok(bench.generation_pass(&decoder, cache, &device))),
                });
            }
        }
        Ok(cases)
    }

    fn config(&self, schedule: &SpanSchedule) -> Result<DecoderConfig, ScheduleError> {
        let last = self.positions.iter().copied().max().unwrap_or(0);
        let positions = (last + near(last)).max(self.prompt + self.new_tokens);
        Ok(DecoderConfig::new(
            self.vocabulary,
            positions,
            self.hidden,
            (self.hidden / 64).max(1),
            4 * self.hidden,
            schedule.spans(self.layers)?,
        ))
    }

    fn generation_work(&self, config: &DecoderConfig, cache: bool) -> Work {
        let all = self.prompt + self.new_tokens;
        let work = if cache {
            // The prompt at once, then every token but the last.
            let steps = self.prompt..all - 1;
            let steps = steps.map(|position| step_work(config, position));
            steps.fold(read_work(config, self.prompt), sum)
        } else {
            let reads = self.prompt..all;
            let reads = reads.map(|length| read_work(config, length));
            reads.fold(Work::default(), sum)
        };
        Work {
            tokens: self.new_tokens as u64,
            ..work
        }
    }

    fn generation_pass(&self, decoder: &DecoderConfig, cache: bool, device: &Device) -> Pass {
        let model = decoder.init(device);
        let prompt: Vec<u32> = (0..self.prompt)
            .map(|place| (place * 7919 % self.vocabulary) as u32)
            .collect();
        let config = GenerateConfig::new()
            .with_max_new_tokens(self.new_tokens)
            .with_cache(cache);
        let prepacked = prepack(&model);
        Box::new(move || {
            // So that the pass owns them, and they live as long as it.
            let _prepacked = &prepacked;
            let generator = Generator::new(&model, &config);
            generator.generate(std::slice::from_ref(&prompt), |_| ControlFlow::Continue(()))?;
            Ok(held(()))
        })
    }
}

/// Weights of all layers that each token is multiplied with.
fn layer_weights(config: &DecoderConfig) -> u64 {
    let layer = 4 * config.hidden * config.hidden + 2 * config.hidden * config.width;
    (config.spans.len() * layer) as u64
}

fn head_weights(config: &DecoderConfig) -> u64 {
    (config.vocabulary * config.hidden) as u64
}

/// One token after `position` others, whose keys and values are there.
fn step_work(config: &DecoderConfig, position: usize) -> Work {
    let spans = config.spans.iter();
    let seen: usize = spans.map(|span| span.cached_positions(position + 1)).sum();
    let weights = layer_weights(config) + head_weights(config);
    let numbers = (2 * config.hidden * seen) as u64;
    Work {
        multiply_adds: weights + numbers,
        bytes: 4 * (weights + numbers),
        tokens: 1,
    }
}

/// A whole sequence, and the scores of the token after it.
fn read_work(config: &DecoderConfig, length: usize) -> Work {
    let pairs = config.spans.iter().map(|span| {
        let pairs = span.pairs(Direction::Causal, length);
        2 * config.hidden as u64 * pairs
    });
    let layers = layer_weights(config);
    Work {
        multiply_adds: layers * length as u64 + head_weights(config) + pairs.sum::<u64>(),
        bytes: 4 * (layers + head_weights(config)),
        tokens: length as u64,
    }
}

fn sum(one: Work, other: Work) -> Work {
    Work {
        multiply_adds: one.multiply_adds + other.multiply_adds,
        bytes: one.bytes + other.bytes,
        tokens: one.tokens + other.tokens,
    }
}

fn step_pass(config: &DecoderConfig, position: usize, device: &Device) -> Result<Pass, Error> {
    let model = config.init(device);
    let prepacked = prepack(&model);
    let mut before = model.cache();
    if position > 0 {
        let range = Distribution::Uniform(0.0, config.vocabulary as f64);
        let prompt = Tensor::<2>::random([1, position], range, device).int();
        step(&model, prompt, &mut before)?;
    }
    let token = Tensor::zeros([1, 1], device);
    let mut cache = before.clone();
    Ok(Box::new(move || {
        // So that the pass owns them, and they live as long as it.
        let _prepacked = &prepacked;
        // Continues with the same cache, as in decoding; a cache grows in place only if it has no other owner.
        if cache.length() == position + near(position) {
            cache = before.clone();
        }
        step(&model, token.clone(), &mut cache)?;
        Ok(held(()))
    }))
}

/// How many tokens are measured as those after `position`.
fn near(position: usize) -> usize {
    position / 16 + 4
}

/// Reads tokens `[1, T]`, and the scores of the one after them.
fn step(model: &Decoder, input_ids: Tensor<2, Int>, cache: &mut DecoderCache) -> Result<(), Error> {
    let [_, length] = input_ids.dims();
    let input = DecoderInput {
        input_ids,
        padding: None,
    };
    let hidden = model.step(&input, cache);
    let last = hidden.slice_dim(1, length - 1..length);
    model.logits(last).try_into_data()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench() -> DecodeBench {
        DecodeBench {
            layers: 2,
            hidden: 64,
            vocabulary: 50,
            schedules: vec!["full".parse().unwrap(), "window:8".parse().unwrap()],
            positions: vec![0, 7, 20],
            prompt: 12,
            new_tokens: 4,
        }
    }

    #[test]
    fn every_case_runs() {
        let cases = bench().cases(&Device::default()).unwrap();
        assert_eq!(cases.len(), 10);
        assert_eq!(cases[4].name, "window:8, a token");
        assert_eq!(cases[9].name, "window:8, without cache");
        for case in &cases {
            let mut pass = (case.prepare)().unwrap();
            // Past the tokens that are measured with the same cache.
            for _ in 0..7 {
                pass().unwrap();
            }
        }
    }

    #[test]
    fn local_steps_have_the_same_work_everywhere_past_the_window() {
        let bench = bench();
        let work = |schedule: usize, position| {
            let config = bench.config(&bench.schedules[schedule]).unwrap();
            step_work(&config, position).multiply_adds
        };
        assert_eq!(work(1, 8), work(1, 20));
        assert_eq!(work(0, 20) - work(0, 19), 2 * 2 * 64);
    }

    #[test]
    fn a_schedule_must_fit_the_layers() {
        let mut bench = bench();
        bench.schedules.push("bottom:3 window:8".parse().unwrap());
        assert!(bench.cases(&Device::default()).is_err());
    }
}
