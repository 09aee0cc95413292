//! Numbers in sentences.

use super::{Interval, Unit};
use crate::number::{plural, thousands};

/// More decimals say nothing.
const MOST_DECIMALS: usize = 12;

/// `1 seed`, `15,000 examples`.
pub(super) fn counted(number: usize, what: &str) -> String {
    format!("{} {}", thousands(number), plural(number, what))
}

/// `+2.62 points [+1.71, +3.53]`, with so many decimals that half the width has two digits. Without an interval,
/// the difference has two digits.
pub(super) fn measured(difference: f64, interval: Option<Interval>, unit: Unit) -> String {
    let scaled = |value: f64| value * unit.scale();
    let difference = scaled(difference);
    let interval = interval.map(|interval| (scaled(interval.low), scaled(interval.high)));
    let size = interval.map_or(difference, |(low, high)| (high - low) / 2.0);
    let decimals = decimals_of_two_digits(size);
    let text = format!("{difference:+.decimals$}{}", unit.suffix());
    match interval {
        Some((low, high)) => format!("{text} [{low:+.decimals$}, {high:+.decimals$}]"),
        None => text,
    }
}

/// `1 point`, `0.5 points`, `0.01`: rounded to three digits, as a share of the reference has many.
pub(super) fn margin(margin: f64, unit: Unit) -> String {
    let margin = margin * unit.scale();
    let rounded: f64 = format!("{margin:.2e}").parse().unwrap_or(margin);
    let text = rounded.to_string();
    match unit {
        Unit::Points if text == "1" => format!("{text} point"),
        _ => format!("{text}{}", unit.suffix()),
    }
}

/// How many decimals show two digits of a number, after rounding to them: 2 for 0.91, 1 for 0.996 and 1.5,
/// 0 for 15.
fn decimals_of_two_digits(number: f64) -> usize {
    let rounded = format!("{number:.1e}");
    let exponent = rounded
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    // Not a number, which has no digits.
    let exponent = exponent.unwrap_or(1);
    usize::try_from(1 - exponent)
        .unwrap_or(0)
        .min(MOST_DECIMALS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_things_have_commas() {
        assert_eq!(counted(1, "seed"), "1 seed");
        assert_eq!(counted(2000, "example"), "2,000 examples");
    }

    #[test]
    fn half_the_width_has_two_digits() {
        let expected = [
            (0.91, 2),
            (0.996, 1),
            (1.5, 1),
            (15.0, 0),
            (150.0, 0),
            (0.0071, 4),
        ];
        for (number, decimals) in expected {
            assert_eq!(decimals_of_two_digits(number), decimals, "{number}");
        }
        assert_eq!(decimals_of_two_digits(0.0), 1);
        assert_eq!(decimals_of_two_digits(1e-300), MOST_DECIMALS);
        assert_eq!(decimals_of_two_digits(f64::NAN), 0);
    }

    #[test]
    fn margins_have_no_idle_digits() {
        let points = [0.01, 0.005, 0.07, 0.1].map(|number| margin(number, Unit::Points));
        assert_eq!(points, ["1 point", "0.5 points", "7 points", "10 points"]);
        assert_eq!(margin(0.01, Unit::Plain), "0.01");
        assert_eq!(margin(0.009_034_166, Unit::Points), "0.903 points");
    }
}
