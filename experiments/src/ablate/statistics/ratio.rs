//! Metrics that are a sum over a sum.

use std::{
    f64::consts::LN_2,
    ops::{Add, Sub},
};

use super::{
    Groups, Jackknife, StatisticsError,
    error::finite,
    jackknife::{jackknife, ratio},
};

/// Bits per byte of text: `sum nats / (ln 2 sum bytes)`. `nats` and `bytes` are `[documents]`; the
/// pseudo-values are `[groups]`, each in O(1). 0 if there are no bytes.
///
/// # Errors
///
/// If there are no documents, the lengths differ, or a number of nats is not finite.
pub fn bits_per_byte(
    nats: &[f64],
    bytes: &[u64],
    groups: &Groups,
) -> Result<Jackknife, StatisticsError> {
    let bytes = bytes.iter().map(|&bytes| bytes as f64 * LN_2).collect();
    sum_over_sum("nats", nats, "bytes", bytes, groups)
}

/// Nats per token: `sum nats / sum tokens`, the logarithm of the perplexity; the ratio of two perplexities
/// is `exp` of the difference. Shapes and cost as those of [`bits_per_byte`]. 0 if there are no
/// tokens.
///
/// # Errors
///
/// As [`bits_per_byte`].
pub fn nats_per_token(
    nats: &[f64],
    tokens: &[u64],
    groups: &Groups,
) -> Result<Jackknife, StatisticsError> {
    let tokens = tokens.iter().map(|&tokens| tokens as f64).collect();
    sum_over_sum("nats", nats, "tokens", tokens, groups)
}

/// A mean over the examples, whose groups differ in size: `sum values / number of examples`. `values` is
/// `[examples]`; the pseudo-values are `[groups]`, each in O(1). Where every example is its own
/// group, the pseudo-values are the values.
///
/// # Errors
///
/// If there are no examples, the lengths differ, or a value is not finite.
pub fn mean(values: &[f64], groups: &Groups) -> Result<Jackknife, StatisticsError> {
    sum_over_sum("values", values, "values", vec![1.0; values.len()], groups)
}

fn sum_over_sum(
    what: &'static str,
    numerators: &[f64],
    per_what: &'static str,
    denominators: Vec<f64>,
    groups: &Groups,
) -> Result<Jackknife, StatisticsError> {
    groups.check(what, numerators.len())?;
    groups.check(per_what, denominators.len())?;
    finite(what, numerators)?;
    let pairs = numerators.iter().zip(denominators);
    let examples = pairs.map(|(&numerator, denominator)| Parts {
        numerator,
        denominator,
    });
    Ok(jackknife(
        examples,
        groups,
        |Parts {
             numerator,
             denominator,
         }| { ratio(numerator, denominator) },
    ))
}

#[derive(Clone, Copy, Default)]
struct Parts {
    numerator: f64,
    denominator: f64,
}

impl Add for Parts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            numerator: self.numerator + other.numerator,
            denominator: self.denominator + other.denominator,
        }
    }
}

impl Sub for Parts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            numerator: self.numerator - other.numerator,
            denominator: self.denominator - other.denominator,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::{
        super::{
            MetricValues,
            jackknife::{assert_equal, plainly},
            testing::{ExpectedInterval, assert_near, cases, metric_cases},
        },
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        name: String,
        bytes: Vec<u64>,
        tokens: Vec<u64>,
        nats_a: Vec<Vec<f64>>,
        nats_b: Vec<Vec<f64>>,
        values_a: Values,
        bits_per_byte_difference: ExpectedInterval,
        nats_per_token_difference: ExpectedInterval,
        perplexity_ratio: Quotient,
    }

    #[derive(Deserialize)]
    struct Values {
        bits_per_byte: Vec<f64>,
        perplexity: Vec<f64>,
    }

    /// Of perplexities.
    #[derive(Deserialize)]
    struct Quotient {
        ratio: f64,
        low: f64,
        high: f64,
    }

    #[test]
    fn text_agrees_with_the_reference() {
        for case in cases::<Case>("text") {
            let groups = Groups::single(case.bytes.len());
            let of = |nats: &[Vec<f64>], metric: fn(&_, &_, &_) -> _, per: &[u64]| {
                let seeds: Result<Vec<Jackknife>, StatisticsError> =
                    nats.iter().map(|nats| metric(nats, per, &groups)).collect();
                MetricValues::from_jackknife(&seeds.unwrap()).unwrap()
            };
            let bits = |nats: &[Vec<f64>]| of(nats, |n, b, g| bits_per_byte(n, b, g), &case.bytes);
            let nats =
                |nats: &[Vec<f64>]| of(nats, |n, t, g| nats_per_token(n, t, g), &case.tokens);
            let [bits_a, bits_b] = [bits(&case.nats_a), bits(&case.nats_b)];
            let [nats_a, nats_b] = [nats(&case.nats_a), nats(&case.nats_b)];
            for (found, expected) in bits_a.by_seed().iter().zip(&case.values_a.bits_per_byte) {
                assert_near(*found, *expected, &case.name);
            }
            for (found, expected) in nats_a.by_seed().iter().zip(&case.values_a.perplexity) {
                assert_near(found.exp(), *expected, &case.name);
            }
            let bits = bits_a.difference(&bits_b).unwrap();
            case.bits_per_byte_difference.check(&bits, &case.name);
            let nats = nats_a.difference(&nats_b).unwrap();
            let interval = case
                .nats_per_token_difference
                .check(&nats, &case.name)
                .unwrap();
            assert_near(nats.theta().exp(), case.perplexity_ratio.ratio, &case.name);
            assert_near(interval.low.exp(), case.perplexity_ratio.low, &case.name);
            assert_near(interval.high.exp(), case.perplexity_ratio.high, &case.name);
        }
    }

    #[test]
    fn nats_must_be_finite_and_have_bytes() {
        let groups = Groups::single(2);
        let error = bits_per_byte(&[1.0, f64::INFINITY], &[1, 1], &groups).unwrap_err();
        assert_eq!(
            error.to_string(),
            "nats number 1 (counted from 0) is inf, which is not finite"
        );
        assert!(bits_per_byte(&[1.0, 2.0], &[1], &groups).is_err());
        assert!(mean(&[], &Groups::single(0)).is_err());
        let empty = nats_per_token(&[1.0, 2.0], &[0, 0], &groups).unwrap();
        assert_eq!(empty.pseudo_values, [0.0, 0.0]);
    }

    /// Values 0 and 1 by example.
    #[test]
    fn accuracy_agrees_with_the_reference() {
        metric_cases("accuracy", |predictions, labels| {
            let pairs = predictions.iter().zip(labels);
            let right = pairs.map(|(prediction, label)| {
                f64::from(u8::from(prediction.total_cmp(label).is_eq()))
            });
            let right: Vec<f64> = right.collect();
            mean(&right, &Groups::single(right.len())).unwrap()
        });
    }

    proptest! {
        #[test]
        fn leaving_out_by_sums_equals_summing_anew(
            documents in prop::collection::vec((0.0..1e4_f64, 1_u64..5000, 0_u8..9), 1..30),
            is_grouped: bool,
        ) {
            let nats: Vec<_> = documents.iter().map(|document| document.0).collect();
            let tokens: Vec<_> = documents.iter().map(|document| document.1).collect();
            let keys: Vec<_> = documents.iter().map(|document| document.2).collect();
            let groups = if is_grouped { Groups::from_keys(&keys) } else { Groups::single(keys.len()) };
            let sums = |kept: &[usize]| {
                let nats: f64 = kept.iter().map(|&i| nats[i]).sum();
                (nats, kept.iter().map(|&i| tokens[i]).sum::<u64>() as f64)
            };
            let expected = plainly(&groups, |kept| {
                let (nats, tokens) = sums(kept);
                ratio(nats, tokens)
            });
            assert_equal(&nats_per_token(&nats, &tokens, &groups).unwrap(), &expected);
            let expected = plainly(&groups, |kept| {
                let (nats, bytes) = sums(kept);
                ratio(nats, bytes * LN_2)
            });
            assert_equal(&bits_per_byte(&nats, &tokens, &groups).unwrap(), &expected);
        }

        #[test]
        fn the_pseudo_values_of_a_mean_are_its_values(
            values in prop::collection::vec(-10.0..10.0, 2..30),
        ) {
            let found = mean(&values, &Groups::single(values.len())).unwrap();
            for (found, expected) in found.pseudo_values.iter().zip(&values) {
                prop_assert!((found - expected).abs() < 1e-11);
            }
            let average = found.pseudo_values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((average - found.value).abs() < 1e-11);
        }
    }
}
