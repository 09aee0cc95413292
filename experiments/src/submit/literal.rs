//! A text in double quotes, as YAML and Python both read it.

use std::fmt::Write;

/// The text in double quotes. Characters that YAML does not allow in a file, or takes for line breaks, are escaped in
/// the form `\uXXXX`, which both languages know.
pub fn literal(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                // Writing to a text does not fail.
                let _ = write!(quoted, "\\u{:04x}", character as u32);
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_is_escaped() {
        assert_eq!(literal("a'é𝄞$ "), "\"a'é𝄞$ \"");
        assert_eq!(literal("\"\\\n\t\r\0"), r#""\"\\\n\t\u000d\u0000""#);
        assert_eq!(
            literal("\x7f\u{85}\u{2028}\u{ffff}"),
            r#""\u007f\u0085\u2028\uffff""#
        );
    }
}
