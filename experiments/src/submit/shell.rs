//! Words of a Bash command line.

/// Words that mean something else to Bash where a command is expected.
const RESERVED: &str =
    "if then elif else fi time for in until while do done case esac coproc select function";

/// The command as a line of Bash; a word with line breaks continues on the next line.
pub fn command_line(words: &[String]) -> String {
    let mut words = words.iter();
    let program = words.next().map(|program| program_word(program));
    let words: Vec<String> = program
        .into_iter()
        .chain(words.map(|argument| word(argument)))
        .collect();
    words.join(" ")
}

/// The text as one word, in quotes only where it needs them.
pub fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// The first word of a command, which must not be taken for an assignment or a keyword.
fn program_word(text: &str) -> String {
    let mut reserved = RESERVED.split(' ');
    if text.contains('=') || reserved.any(|word| word == text) {
        quoted(text)
    } else {
        word(text)
    }
}

/// In single quotes, nothing has a meaning but the quote that ends them.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_have_no_quotes() {
        let words = ["kiln", "train.epochs=3", "a,b", "--out", "runs/a_1"];
        let words = words.map(str::to_owned);
        assert_eq!(command_line(&words), words.join(" "));
    }

    #[test]
    fn others_do() {
        for (text, expected) in [
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("~", "'~'"),
            ("{a,b}", "'{a,b}'"),
            ("é", "'é'"),
        ] {
            assert_eq!(word(text), expected);
        }
        let program = |text: &str| command_line(&[text.to_owned()]);
        assert_eq!(program("a=b"), "'a=b'");
        assert_eq!(program("time"), "'time'");
    }
}
