//! Texts of drawings: escaping, and how wide they are.

use std::borrow::Cow;

/// The size of texts in pixels.
pub const FONT_SIZE: f64 = 12.0;

/// A text as the content of an element, or the value of an attribute in double quotes.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_special = |character: char| {
        matches!(character, '<' | '>' | '&' | '"' | '\'') || is_forbidden(character)
    };
    if !text.contains(is_special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character if is_forbidden(character) => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

/// Whether XML cannot have the character.
fn is_forbidden(character: char) -> bool {
    let is_control = character.is_control() && !matches!(character, '\n' | '\t' | '\r');
    is_control || matches!(character, '\u{fffe}' | '\u{ffff}')
}

/// About how wide a text is at [`FONT_SIZE`]; fonts differ, so this errs on the wide side.
pub fn text_width(text: &str) -> f64 {
    text.chars().map(character_width).sum::<f64>() * FONT_SIZE
}

fn character_width(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.32,
        'f' | 't' | 'r' | ' ' | '(' | ')' | '[' | ']' | '-' | '/' | '"' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.98,
        'A'..='Z' => 0.72,
        '=' | '+' | '<' | '>' | '~' => 0.84,
        '\u{1100}'.. => 1.0,
        _ => 0.62,
    }
}

/// A text that is cut, with dots at its end, where it is wider than this.
pub fn fitted(text: &str, width: f64) -> Cow<'_, str> {
    if text_width(text) <= width {
        return Cow::Borrowed(text);
    }
    let room = width - text_width("\u{2026}");
    let mut used = 0.0;
    let mut kept = String::new();
    for character in text.chars() {
        used += character_width(character) * FONT_SIZE;
        if used > room {
            break;
        }
        kept.push(character);
    }
    kept.push('\u{2026}');
    Cow::Owned(kept)
}

/// A text in lines of at most this width, divided at spaces where there are some; what does not fit on so many lines is
/// cut.
pub fn wrapped(text: &str, width: f64, lines: usize) -> Vec<String> {
    let mut found = vec![];
    let mut rest = text;
    while text_width(rest) > width && found.len() + 1 < lines {
        let ends = rest
            .char_indices()
            .map(|(place, character)| place + character.len_utf8());
        let fitting = ends.take_while(|end| text_width(&rest[..*end]) <= width);
        let Some(most) = fitting.last() else { break };
        // A space after what fits is as good as one in it.
        let is_word_end = rest[most..].starts_with(' ');
        let space = rest[..most].rfind(' ').filter(|space| *space > 0);
        let end = if is_word_end {
            most
        } else {
            space.unwrap_or(most)
        };
        found.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    found.push(fitted(rest, width).into_owned());
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_divided_at_spaces_and_long_words_anywhere() {
        assert_eq!(
            wrapped("order=random shared=64 rate=1", 100.0, 3),
            ["order=random", "shared=64", "rate=1"]
        );
        let found = wrapped("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b", 100.0, 3);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].len(), 13);
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(escape("a\u{1}b"), "a\u{fffd}b");
        assert_eq!(escape("plain"), "plain");
    }

    proptest! {
        #[test]
        fn a_fitted_text_fits(text in ".{0,60}", width in 30.0..300.0) {
            let cut = fitted(&text, width);
            prop_assert!(text_width(&cut) <= width + 1e-9, "{cut}");
            let lines = wrapped(&text, width, 3);
            prop_assert!((1..=3).contains(&lines.len()));
            prop_assert!(lines.iter().all(|line| text_width(line) <= width + 1e-9));
        }

        #[test]
        fn an_escaped_text_has_nothing_special(text in ".{0,60}") {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
        }
    }
}
