//! Sampling with a temperature, from the likeliest tokens alone if asked for.

use burn::config::Config;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::error::GenerateError;

/// Configuration of sampling; the defaults draw from the model's own distribution.
///
/// The steps follow one another as they stand here, and mean what they mean in Transformers.
#[derive(Config, Debug, PartialEq)]
pub struct SampleConfig {
    /// Divides the logits: below 1 likely tokens become likelier; above 0.
    #[config(default = 1.0)]
    pub temperature: f64,
    /// Leaves the `k` likeliest tokens (Fan et al. 2018, arXiv 1805.04833), and those that are equal
    /// to the last of them; `None` for all.
    #[config(default = "None")]
    pub top_k: Option<usize>,
    /// Leaves the fewest likeliest tokens whose probabilities make up at least this sum (nucleus
    /// sampling; Holtzman et al. 2019, arXiv 1904.09751), and no less than one; above 0, and at most
    /// 1, which leaves all.
    #[config(default = 1.0)]
    pub top_p: f64,
    /// Decides every draw. Each prompt has random numbers of its own, by its place among the
    /// prompts.
    #[config(default = 0)]
    pub seed: u64,
}

impl SampleConfig {
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        let refuse = |name, value, expected| Err(GenerateError::value(name, value, expected));
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return refuse("temperature", self.temperature, "a number above 0");
        }
        if self.top_k == Some(0) {
            return refuse("top_k", 0.0, "at least 1");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "above 0 and at most 1");
        }
        Ok(())
    }

    /// The probability of each token to be drawn `[V]`, from logits `[V]` that are finite.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f64> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = self.least(logits);
        let mut weights: Vec<f64> = logits
            .iter()
            .map(|&logit| {
                if logit < least {
                    return 0.0;
                }
                (f64::from(logit - largest) / self.temperature).exp()
            })
            .collect();
        if self.top_p < 1.0 {
            self.keep_nucleus(&mut weights);
        }
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }

    /// The least of the `top_k` largest logits.
    fn least(&self, logits: &[f32]) -> f32 {
        match self.top_k {
            Some(count) if count < logits.len() => {
                let mut logits = logits.to_vec();
                let by_size = |one: &f32, other: &f32| other.total_cmp(one);
                *logits.select_nth_unstable_by(count - 1, by_size).1
            }
            _ => f32::NEG_INFINITY,
        }
    }

    /// Leaves the largest weights that make up the share `top_p`, and 0 for the others.
    fn keep_nucleus(&self, weights: &mut [f64]) {
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.retain(|id| weights[*id] > 0.0);
        order.sort_by(|&one, &other| weights[other].total_cmp(&weights[one]));
        let needed = self.top_p * weights.iter().sum::<f64>();
        let mut sum = 0.0;
        for id in order {
            if sum < needed {
                sum += weights[id];
            } else {
                weights[id] = 0.0;
            }
        }
    }

    /// What draws the tokens of each of a number of prompts.
    pub(super) fn samplers(
        &self,
        prompts: usize,
    ) -> impl Iterator<Item = impl FnMut(&[f32]) -> u32 + use<>> {
        let mut root = StdRng::seed_from_u64(self.seed);
        let config = self.clone();
        (0..prompts).map(move |_| {
            let (mut rng, config) = (StdRng::from_rng(&mut root), config.clone());
            move |logits: &[f32]| draw(&config.probabilities(logits), &mut rng)
        })
    }
}

/// An id with its probability.
fn draw(probabilities: &[f64], rng: &mut StdRng) -> u32 {
    let mut left: f64 = rng.random();
    let mut drawn = 0;
    for (id, probability) in probabilities.iter().enumerate() {
        if *probability > 0.0 {
            // The last one, should rounding leave more than all of them have.
            drawn = id as u32;
            if left < *probability {
                break;
            }
            left -= probability;
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(config: &SampleConfig, logits: &[f32]) -> Vec<usize> {
        let probabilities = config.probabilities(logits);
        let kept = |id: &usize| probabilities[*id] > 0.0;
        (0..logits.len()).filter(kept).collect()
    }

    #[test]
    fn the_likeliest_are_left() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits = [0.0, 2.0_f32.ln(), 0.0, 4.0_f32.ln()];
        let config = SampleConfig::new();
        let close = |found: &[f64], expected: [f64; 4]| {
            let mut pairs = found.iter().zip(expected);
            assert!(
                pairs.all(|(found, expected)| (found - expected).abs() < 1e-6),
                "{found:?}"
            );
        };
        close(&config.probabilities(&logits), [0.125, 0.25, 0.125, 0.5]);
        let cold = config.clone().with_temperature(0.5);
        close(
            &cold.probabilities(&logits),
            [1.0, 4.0, 1.0, 16.0].map(|it| it / 22.0),
        );
        let two = config.clone().with_top_k(Some(2));
        close(
            &two.probabilities(&logits),
            [0.0, 1.0 / 3.0, 0.0, 2.0 / 3.0],
        );
        // The third and the fourth are equal.
        assert_eq!(
            kept(&config.clone().with_top_k(Some(3)), &logits),
            [0, 1, 2, 3]
        );
        assert_eq!(
            kept(&config.clone().with_top_k(Some(9)), &logits),
            [0, 1, 2, 3]
        );
        for (top_p, expected) in [
            (0.1, 1),
            (0.49, 1),
            (0.51, 2),
            (0.74, 2),
            (0.76, 3),
            (0.9, 4),
        ] {
            let nucleus = config.clone().with_top_p(top_p);
            assert_eq!(kept(&nucleus, &logits).len(), expected, "{top_p}");
        }
        // Two thirds and one third are left of the two.
        assert_eq!(kept(&two.clone().with_top_p(0.6), &logits), [3]);
        assert_eq!(kept(&two.with_top_p(0.7), &logits), [1, 3]);
    }

    #[test]
    fn a_vanishing_temperature_leaves_the_likeliest() {
        let config = SampleConfig::new().with_temperature(f64::MIN_POSITIVE);
        assert_eq!(config.probabilities(&[-3e38, 3.0, 3e38]), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn draws_have_their_probabilities_and_depend_on_the_prompts_place_alone() {
        let logits = [1.0, 0.0, -1.0, 0.5];
        let config = SampleConfig::new().with_seed(3);
        let draws = |config: &SampleConfig, prompts| {
            let samplers = config.samplers(prompts);
            let draws = samplers.map(|mut draw| (0..20_000).map(|_| draw(&logits)).collect());
            draws.collect::<Vec<Vec<u32>>>()
        };
        let (two, three) = (draws(&config, 2), draws(&config, 3));
        assert_eq!(two, three[..2]);
        assert_ne!(three[0], three[1]);
        assert_ne!(three[0], draws(&config.clone().with_seed(4), 1)[0]);
        for (id, probability) in config.probabilities(&logits).into_iter().enumerate() {
            let count = two[0].iter().filter(|drawn| **drawn == id as u32).count();
            // Six standard deviations are at most 0.0213.
            let share = count as f64 / 20_000.0;
            assert!((share - probability).abs() < 0.0213, "{id}: {share}");
        }
    }

    #[test]
    fn values_outside_their_ranges_are_named() {
        let config = SampleConfig::new();
        let told = |config: SampleConfig| config.check().unwrap_err().to_string();
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let message = told(config.clone().with_temperature(value));
            assert!(message.starts_with(&format!("temperature = {value}: it must be")));
        }
        for value in [0.0, -0.1, 1.5, f64::NAN] {
            let message = told(config.clone().with_top_p(value));
            assert_eq!(
                message,
                format!("top_p = {value}: it must be above 0 and at most 1")
            );
        }
        let message = told(config.with_top_k(Some(0)));
        assert_eq!(message, "top_k = 0: it must be at least 1");
    }

    proptest! {
        #[test]
        fn the_nucleus_is_the_smallest_that_is_large_enough(
            logits in prop::collection::vec(-5.0..5.0_f32, 1..40),
            top_p in 0.01..0.99,
        ) {
            let all = SampleConfig::new().probabilities(&logits);
            let kept = kept(&SampleConfig::new().with_top_p(top_p), &logits);
            let sum: f64 = kept.iter().map(|id| all[*id]).sum();
            let least = kept.iter().map(|id| all[*id]).fold(1.0, f64::min);
            prop_assert!(sum >= top_p - 1e-9 && sum - least < top_p + 1e-9);
            let others = (0..logits.len()).filter(|id| !kept.contains(id));
            prop_assert!(others.map(|id| all[id]).all(|probability| probability <= least));
        }
    }
}
