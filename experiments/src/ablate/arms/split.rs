//! Lists of the command line: separators inside brackets, braces and quotes do not split.

/// The parts of a text between separators that stand outside brackets, braces and quotes, without the white space around
/// them. None if a bracket, brace or quote is not closed, or closed twice, in a text that has the separator. An
/// apostrophe inside a word opens no quote.
pub(super) fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    if !text.contains(separator) {
        return Some(vec![text.trim()]);
    }
    let mut parts = vec![];
    let (mut start, mut closers, mut quote, mut before) = (0, vec![], None, ' ');
    let mut is_escaped = false;
    for (at, char) in text.char_indices() {
        if let Some(open) = quote {
            if char == open && !is_escaped {
                quote = None;
            }
            is_escaped = open == '"' && char == '\\' && !is_escaped;
        } else {
            match char {
                '"' => quote = Some(char),
                '\'' if !before.is_alphanumeric() => quote = Some(char),
                '[' => closers.push(']'),
                '{' => closers.push('}'),
                ']' | '}' if closers.pop() != Some(char) => return None,
                _ if char == separator && closers.is_empty() => {
                    parts.push(text[start..at].trim());
                    start = at + char.len_utf8();
                }
                _ => {}
            }
        }
        before = char;
    }
    if quote.is_some() || !closers.is_empty() {
        return None;
    }
    parts.push(text[start..].trim());
    Some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_outer_separators_split() {
        for (text, expected) in [
            ("a,b, c", vec!["a", "b", "c"]),
            ("[1,2],[3]", vec!["[1,2]", "[3]"]),
            (
                "{a=1,b=[2,{c=3,d=4}]},x",
                vec!["{a=1,b=[2,{c=3,d=4}]}", "x"],
            ),
            (r#""a,b",'c,"d',e"#, vec![r#""a,b""#, r#"'c,"d'"#, "e"]),
            (r#""a\",b",c"#, vec![r#""a\",b""#, "c"]),
            (r#""a\\",b"#, vec![r#""a\\""#, "b"]),
            ("['a]',2],b", vec!["['a]',2]", "b"]),
            ("it's,here", vec!["it's", "here"]),
            ("a,", vec!["a", ""]),
            ("it's [open", vec!["it's [open"]),
        ] {
            assert_eq!(split(text, ','), Some(expected), "{text}");
        }
        for text in ["[1,2", "1],2", "'a,b", "{a,]"] {
            assert_eq!(split(text, ','), None, "{text}");
        }
        assert_eq!(
            split("[1+2]+'3+4'+5", '+'),
            Some(vec!["[1+2]", "'3+4'", "5"])
        );
    }

    proptest! {
        #[test]
        fn no_text_panics_and_parts_are_of_the_text(text in "[\\[\\]{}'\",+a \\\\é]{0,30}") {
            for part in split(&text, ',').unwrap_or_default() {
                prop_assert!(text.contains(part));
            }
        }
    }
}
