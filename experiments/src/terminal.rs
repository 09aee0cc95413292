//! The width of what people read.

use std::io;

use terminal_size::{Width, terminal_size_of};

/// Columns where the output is no terminal.
const COLUMNS: usize = 80;

/// The columns of the terminal that standard output is, or 80.
pub(crate) fn columns() -> usize {
    match terminal_size_of(io::stdout()) {
        // Some terminals do not tell.
        Some((Width(columns), _)) if columns > 0 => columns.into(),
        _ => COLUMNS,
    }
}

/// `text` in lines of at most `columns` characters, ended; all but the first begin with `indent` spaces. White space is one
/// space. A word that is longer than a line stands alone.
pub(crate) fn wrapped(text: &str, columns: usize, indent: usize) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        let is_first = length == 0;
        if !is_first && length + 1 + letters > columns {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            length = indent;
        } else if !is_first {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += letters;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("a bc  def\ng", 6, 2), "a bc\n  def\n  g\n");
        assert_eq!(wrapped("a bc def g", 80, 2), "a bc def g\n");
        assert_eq!(wrapped("considerable", 6, 2), "considerable\n");
        assert_eq!(wrapped("", 6, 2), "\n");
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_no_line_too_long(
            words in proptest::collection::vec("[a-zé]{1,9}", 1..30),
            columns in 12_usize..40,
            indent in 0_usize..3,
        ) {
            let text = wrapped(&words.join(" "), columns, indent);
            let found: Vec<&str> = text.split_whitespace().collect();
            prop_assert_eq!(found, words);
            prop_assert!(text.lines().all(|line| line.chars().count() <= columns));
        }
    }
}
