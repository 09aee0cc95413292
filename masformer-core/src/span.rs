//! Which positions a layer attends to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The positions that a query may attend to.
///
/// Padding and span combine by AND: a key is seen if the span allows it and it is not padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Span {
    /// Every position (of an encoder).
    #[default]
    Full,
}

/// A span that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown span `{0}`: expected `full`")]
pub struct SpanError(String);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
        }
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "full" => Ok(Self::Full),
            other => Err(SpanError(other.to_owned())),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        assert_eq!(Span::Full.to_string().parse(), Ok(Span::Full));
    }

    #[test]
    fn unknown_text_names_itself_and_the_choices() {
        let error = "diagonal".parse::<Span>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown span `diagonal`: expected `full`"
        );
    }
}
