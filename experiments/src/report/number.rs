//! Numbers as texts.

use crate::{ablate::statistics::Unit, number::in_unit};

/// A number with so many decimals, without a sign on zero.
pub fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| matches!(byte, b'0' | b'.')) => digits.to_owned(),
        _ => text,
    }
}

/// As [`fixed`], with a sign on all but zero.
pub fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if text.starts_with('-') || is_zero {
        text
    } else {
        format!("+{text}")
    }
}

/// The decimals with which a half-width has two digits, at most 6.
pub fn decimals(half_width: f64) -> usize {
    if !half_width.is_finite() || half_width <= 0.0 {
        return 2;
    }
    (1.0 - half_width.log10().floor()).clamp(0.0, 6.0) as usize
}

/// A number with about so many digits, without trailing zeros.
pub fn short(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 {
            "0".to_owned()
        } else {
            "undefined".to_owned()
        };
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-5..15).contains(&magnitude) {
        return format!("{value:.1e}");
    }
    let decimals = (digits as i32 - 1 - magnitude).clamp(0, 12) as usize;
    trimmed(&fixed(value, decimals))
}

/// A text of a number without trailing zeros behind the point.
fn trimmed(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

/// A large number in thousands, millions or billions, to about three digits.
pub fn count(value: f64) -> String {
    let sized = |divisor: f64, unit: &str| format!("{}{unit}", short(value / divisor, 3));
    match value.abs() {
        size if size < 1e4 => short(value, 4),
        size if size < 9.995e5 => sized(1e3, "k"),
        size if size < 9.995e8 => sized(1e6, "M"),
        _ => sized(1e9, "B"),
    }
}

/// Bytes in the unit that suits them.
pub fn memory(bytes: f64) -> String {
    let (value, unit) = in_unit(bytes);
    format!("{} {unit}", short(value, 3))
}

/// Seconds in the unit that suits them.
pub fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 100.0 => format!("{} s", short(seconds, 2)),
        seconds if seconds < 5970.0 => format!("{} min", short(seconds / 60.0, 2)),
        seconds if seconds < 172_800.0 => format!("{} h", short(seconds / 3600.0, 3)),
        _ => format!("{} d", short(seconds / 86_400.0, 3)),
    }
}

/// A difference with its interval, in a unit, as in `+2.62 [+1.71, +3.53]`.
pub fn difference(value: f64, interval: Option<(f64, f64)>, unit: Unit) -> String {
    let scale = unit.scale();
    match interval {
        Some((low, high)) => {
            let decimals = decimals((high - low) / 2.0 * scale);
            format!(
                "{} [{}, {}]",
                signed(value * scale, decimals),
                signed(low * scale, decimals),
                signed(high * scale, decimals)
            )
        }
        None => signed(value * scale, decimals(value.abs() * scale / 10.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_write_them() {
        for (found, expected) in [
            (signed(-0.001, 2), "0.00"),
            (signed(1.5, 1), "+1.5"),
            (short(0.012_345, 3), "0.0123"),
            (short(1200.0, 3), "1200"),
            (short(2.50, 3), "2.5"),
            (count(125_444.0), "125k"),
            (count(999_700.0), "1M"),
            (count(850.0), "850"),
            (memory(9216.0 * 3072.0), "27 MiB"),
            (time(7200.0), "2 h"),
            (
                difference(0.0262, Some((0.0171, 0.0353)), Unit::Points),
                "+2.62 [+1.71, +3.53]",
            ),
            (
                difference(-0.5, Some((-1.0, 0.0)), Unit::Plain),
                "-0.50 [-1.00, 0.00]",
            ),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn decimals_give_a_half_width_two_digits() {
        assert_eq!(decimals(0.91), 2);
        assert_eq!(decimals(4.2), 1);
        assert_eq!(decimals(42.0), 0);
        assert_eq!(decimals(0.0), 2);
    }
}
