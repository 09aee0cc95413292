//! From values to pixels, with round ticks.

use crate::report::{extent::extent, number};

/// A way from values to pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    log: bool,
}

impl Scale {
    /// Equal distances are equal differences. The values get some room, but no more than to `limits`; equal ones get room on
    /// both sides.
    pub fn linear(values: impl IntoIterator<Item = f64>, limits: (f64, f64)) -> Self {
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        let room = if high > low {
            (high - low) * 0.04
        } else {
            (low.abs() * 0.05).max(1e-3)
        };
        Self {
            from: (
                (low - room).max(limits.0.min(low)),
                (high + room).min(limits.1.max(high)),
            ),
            to: (0.0, 1.0),
            log: false,
        }
    }

    /// From one value to another, without room.
    pub fn exact(low: f64, high: f64) -> Self {
        Self {
            from: (low, if high > low { high } else { low + 1.0 }),
            to: (0.0, 1.0),
            log: false,
        }
    }

    /// Equal distances are equal factors, for values above 0.
    pub fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let above = values.into_iter().filter(|value| *value > 0.0);
        let (low, high) = extent(above).unwrap_or((1.0, 10.0));
        let room = (high / low).powf(0.05).max(1.1);
        Self {
            from: (low / room, high * room),
            to: (0.0, 1.0),
            log: true,
        }
    }

    /// A log scale where all values are above 0 and the largest is many times the least, else a linear one.
    pub fn log_if_wide(values: &[f64]) -> Self {
        Self::log_if_wide_above(values, 8.0)
    }

    /// As [`Self::log_if_wide`], where the largest value is more than so many times the least.
    pub fn log_if_wide_above(values: &[f64], times: f64) -> Self {
        let values = values.iter().copied();
        match extent(values.clone()) {
            Some((low, high)) if low > 0.0 && high / low > times => Self::log(values),
            Some((low, _)) if low >= 0.0 => Self::linear(values, (0.0, f64::INFINITY)),
            _ => Self::linear(values, (f64::NEG_INFINITY, f64::INFINITY)),
        }
    }

    /// The scale to these pixels.
    pub fn to(self, start: f64, end: f64) -> Self {
        Self {
            to: (start, end),
            ..self
        }
    }

    /// The place of a value; values beyond the ends are put on them.
    pub fn at(self, value: f64) -> f64 {
        let (low, high) = self.from;
        let value = value.clamp(low, high);
        let share = if self.log {
            (value / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        self.to.0 + share * (self.to.1 - self.to.0)
    }

    /// Round values with their texts, about so many.
    pub fn ticks(self, about: usize) -> Vec<(f64, String)> {
        if self.log {
            self.log_ticks(about)
        } else {
            self.linear_ticks(about)
        }
    }

    fn linear_ticks(self, about: usize) -> Vec<(f64, String)> {
        let (low, high) = self.from;
        let rough = (high - low) / about.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let count = |step: f64| (high / step + 1e-6).floor() - (low / step - 1e-6).ceil() + 1.0;
        let far = |step: f64| (count(step) - about as f64).abs();
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        // Of two that are as far, the wider one.
        let nearest = steps.into_iter().rev();
        let nearest = nearest.min_by(|a, b| far(*a).total_cmp(&far(*b)));
        let step = nearest.unwrap_or(power);
        let first = (low / step - 1e-6).ceil() as i64;
        let last = (high / step + 1e-6).floor() as i64;
        let decimals = (-(step * 1.001).log10().floor()).max(0.0) as usize;
        (first..=last)
            .map(|index| {
                let value = index as f64 * step;
                let text = if value.abs().max(step) >= 1e4 {
                    number::count(value)
                } else {
                    number::fixed(value, decimals)
                };
                (value, text)
            })
            .collect()
    }

    fn log_ticks(self, about: usize) -> Vec<(f64, String)> {
        let (low, high) = self.from;
        let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let ticks = |factors: &[f64]| -> Vec<f64> {
            let all = powers.clone().flat_map(|power| {
                factors
                    .iter()
                    .map(move |factor| factor * 10_f64.powi(power))
            });
            all.filter(|value| (low..=high).contains(value)).collect()
        };
        let choices: [&[f64]; 4] = [
            &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
            &[1.0, 2.0, 5.0],
            &[1.0, 3.0],
            &[1.0],
        ];
        let mut found = vec![];
        for factors in choices {
            found = ticks(factors);
            if found.len() <= about + 1 {
                break;
            }
        }
        while found.len() > about + 2 {
            found = found.into_iter().step_by(2).collect();
        }
        let texts = found.into_iter();
        texts.map(|value| (value, number::count(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(scale: Scale) -> Vec<String> {
        scale.ticks(5).into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round() {
        let scale = Scale::linear([0.5, 1.0], (0.0, 1.0));
        assert_eq!(texts(scale), ["0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]);
        let scale = Scale::exact(-3.0, 7.0);
        assert_eq!(texts(scale), ["-2", "0", "2", "4", "6"]);
        let scale = Scale::log([1e3, 1e7]);
        assert_eq!(texts(scale), ["1000", "10k", "100k", "1M", "10M"]);
        assert_eq!(texts(Scale::exact(0.0, 40_000.0))[1], "10k");
    }

    #[test]
    fn no_values_and_equal_ones_have_a_scale() {
        for scale in [
            Scale::linear([], (0.0, 1.0)),
            Scale::linear([5.0, 5.0], (f64::NEG_INFINITY, f64::INFINITY)),
            Scale::log([3.0]),
            Scale::exact(1.0, 1.0),
            Scale::log_if_wide(&[f64::NAN]),
        ] {
            let scale = scale.to(0.0, 100.0);
            assert!(!scale.ticks(5).is_empty(), "{scale:?}");
            assert!(scale.at(5.0).is_finite());
        }
    }

    proptest! {
        #[test]
        fn ticks_are_few_rising_and_inside(low in -1e6..1e6, width in 1e-4..1e6) {
            let scale = Scale::linear([low, low + width], (f64::NEG_INFINITY, f64::INFINITY)).to(0.0, 1.0);
            let ticks = scale.ticks(5);
            prop_assert!((2..=7).contains(&ticks.len()), "{ticks:?}");
            prop_assert!(ticks.windows(2).all(|pair| pair[0].0 < pair[1].0));
            for (value, _) in ticks {
                prop_assert!((-1e-6..=1.0 + 1e-6).contains(&scale.at(value)));
            }
        }
    }
}
