//! Numbers in texts for people.

/// `15,000`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 seed`, `6 seeds`.
pub(crate) fn counted(number: usize, what: &str) -> String {
    format!("{number} {}", plural(number, what))
}

/// `seed` for 1, and `seeds` for any other number.
pub(crate) fn plural(number: usize, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{what}{end}")
}

/// `0.031`, `< 0.001`: a p with three decimals, or that it is less.
pub(crate) fn p(value: f64) -> String {
    if value < 0.001 {
        "< 0.001".to_owned()
    } else {
        format!("{value:.3}")
    }
}

/// `p = 0.031`, `p < 0.001`.
pub(crate) fn p_value(value: f64) -> String {
    let text = p(value);
    let sign = if text.starts_with('<') { "" } else { "= " };
    format!("p {sign}{text}")
}

/// A number of bytes in the unit that suits it.
pub(crate) fn in_unit(bytes: f64) -> (f64, &'static str) {
    const UNITS: [&str; 6] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes;
    let mut unit = 0;
    // What would be shown as 1024 is 1 of the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    (value, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_commas_and_things_a_plural() {
        let texts = [0, 872, 1000, 15_000, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "872", "1,000", "15,000", "1,234,567"]);
        assert_eq!(counted(1, "seed"), "1 seed");
        assert_eq!(counted(0, "seed"), "0 seeds");
        assert_eq!(counted(2000, "example"), "2000 examples");
    }

    #[test]
    fn small_p_is_not_written_as_0() {
        assert_eq!(p_value(0.000_999), "p < 0.001");
        assert_eq!(p_value(0.001), "p = 0.001");
        assert_eq!(p_value(0.0625), "p = 0.062");
        assert_eq!(p_value(1.0), "p = 1.000");
        assert_eq!(
            (p(0.000_2), p(0.031_25)),
            ("< 0.001".to_owned(), "0.031".to_owned())
        );
    }

    #[test]
    fn bytes_are_told_in_the_largest_unit() {
        assert_eq!(in_unit(1023.0), (1023.0, "bytes"));
        assert_eq!(in_unit(1024.0 * 1024.0 - 1.0).1, "MiB");
        assert_eq!(in_unit(f64::from(5_u32 << 29)), (2.5, "GiB"));
    }
}
