//! Integers that a TOML file cannot hold, whatever their key is.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

/// An integer beyond 64 bits with a sign. The reader takes larger ones, but the record of a run cannot
/// be read back with one.
pub(super) struct TooLarge {
    /// Its dotted key.
    pub key: String,
    /// Where it stands.
    pub span: Range<usize>,
    /// Why it is refused; goes on with the sentence that the key begins.
    pub reason: String,
}

/// The first such integer of a recipe.
pub(super) fn too_large(table: &DeTable<'_>) -> Option<TooLarge> {
    table
        .iter()
        .find_map(|(key, value)| in_value(key.get_ref().to_string(), value))
}

fn in_value(key: String, value: &Spanned<DeValue<'_>>) -> Option<TooLarge> {
    match value.get_ref() {
        DeValue::Integer(integer) if !fits(integer) => Some(TooLarge {
            reason: format!("must be from {} to {}, not {integer}", i64::MIN, i64::MAX),
            key,
            span: value.span(),
        }),
        DeValue::Array(values) => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| in_value(format!("{key}.{index}"), value)),
        DeValue::Table(table) => table
            .iter()
            .find_map(|(inner, value)| in_value(format!("{key}.{}", inner.get_ref()), value)),
        _ => None,
    }
}

fn fits(integer: &DeInteger<'_>) -> bool {
    i64::from_str_radix(integer.as_str(), integer.radix()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::load::{self, VALID};

    #[test]
    fn integers_of_more_than_63_bits_are_placed_whatever_their_key() {
        let cases = [
            (
                "seeds=[1, 9223372036854775808]",
                "`seeds.1` must be from -9223372036854775808 to 9223372036854775807, not \
                 9223372036854775808",
            ),
            (
                "seeds=[18446744073709551615]",
                "`seeds.0` must be from -9223372036854775808 to 9223372036854775807, not \
                 18446744073709551615",
            ),
            ("train.epochs=0x8000000000000000", "`train.epochs` must be"),
            (
                "importance.samples=100000000000000000000",
                "`importance.samples` must be",
            ),
            (
                "arms=[{name='a', experts={width=9223372036854775808}}]",
                "`arms.0.experts.width` must be",
            ),
        ];
        for (given, expected) in cases {
            let message = load::refusal(VALID, &[given]);
            let expected = format!("override `{given}`: {expected}");
            assert!(message.starts_with(&expected), "{message}");
        }
        let text = VALID.replace("epochs = 5", "epochs = 9_223_372_036_854_775_808");
        let message = load::refusal(&text, &[]);
        let expected = "mine.toml, line 8: `train.epochs` must be from";
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn the_largest_seed_is_read_back() {
        let overrides = ["seeds=[9223372036854775807]".to_owned()];
        load::parse("mine.toml", VALID, &overrides).expect("it fits");
    }
}
