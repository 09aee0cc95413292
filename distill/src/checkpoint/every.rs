//! How often checkpoints are written within an epoch.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// When a stage writes checkpoints besides those at the ends of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CheckpointEvery {
    /// After so many optimiser steps.
    Steps(usize),
    /// After so many seconds.
    Seconds(u64),
}

/// A text that does not say how often checkpoints are written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no interval of checkpoints; write `10min`, `30s`, `2h` or `500 steps`")]
pub struct CheckpointEveryError(String);

impl Default for CheckpointEvery {
    fn default() -> Self {
        Self::Seconds(600)
    }
}

impl FromStr for CheckpointEvery {
    type Err = CheckpointEveryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CheckpointEveryError(text.to_owned());
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let number: u64 = number.parse().map_err(|_| error())?;
        let seconds = |each: u64| number.checked_mul(each).map(Self::Seconds);
        let every = match unit.trim() {
            "step" | "steps" => Some(Self::Steps(number as usize)),
            "s" => seconds(1),
            "min" => seconds(60),
            "h" => seconds(3600),
            _ => None,
        };
        every.filter(|_| number > 0).ok_or_else(error)
    }
}

impl fmt::Display for CheckpointEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(1) => f.write_str("1 step"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Seconds(seconds) if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            Self::Seconds(seconds) if seconds % 60 == 0 => write!(f, "{}min", seconds / 60),
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
        }
    }
}

impl TryFrom<String> for CheckpointEvery {
    type Error = CheckpointEveryError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CheckpointEvery> for String {
    fn from(every: CheckpointEvery) -> Self {
        every.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_and_written() {
        for (text, every) in [
            ("10min", CheckpointEvery::Seconds(600)),
            ("90s", CheckpointEvery::Seconds(90)),
            ("2h", CheckpointEvery::Seconds(7200)),
            ("1 step", CheckpointEvery::Steps(1)),
            ("500 steps", CheckpointEvery::Steps(500)),
        ] {
            assert_eq!(text.parse::<CheckpointEvery>().unwrap(), every);
            assert_eq!(every.to_string(), text);
        }
        for text in [
            "",
            "10",
            "min",
            "0s",
            "-1min",
            "1.5h",
            "9999999999999999999h",
        ] {
            assert!(text.parse::<CheckpointEvery>().is_err(), "{text}");
        }
    }
}
