//! Stages that fail.

use distill::StageError;

use crate::{error::Error, graph::failure::Cause};

/// How many stages must fail for one reason before any is done, so that the run stops.
const SAME: usize = 3;

/// A stage that failed.
#[derive(Clone)]
pub(super) struct Ended {
    /// What it does and why it failed.
    pub line: String,
    /// Why it failed.
    pub message: String,
    pub cause: Cause,
}

/// The stages that could not be done.
#[derive(Debug, Default)]
pub(in crate::run) struct Failures {
    /// One line for each that failed.
    pub failed: Vec<String>,
    /// The stages that depend on them.
    pub blocked: Vec<String>,
    /// Whether one could use its settings and files.
    pub is_not_input: bool,
}

impl Failures {
    /// Adds those of another phase, which may have the same stages.
    pub fn add(&mut self, others: Self) {
        let add = |all: &mut Vec<String>, lines: Vec<String>| {
            for line in lines {
                if !all.contains(&line) {
                    all.push(line);
                }
            }
        };
        add(&mut self.failed, others.failed);
        add(&mut self.blocked, others.blocked);
        self.is_not_input |= others.is_not_input;
    }

    /// An error, if there are some.
    pub fn into_result(self) -> Result<(), Error> {
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(Error::Failed {
            failed: self.failed,
            blocked: self.blocked,
            is_bad_input: !self.is_not_input,
        })
    }
}

/// The stages that ended first, as long as all of them failed for one reason.
#[derive(Default)]
pub(super) struct Start {
    reason: Option<(Cause, String)>,
    count: usize,
    is_over: bool,
}

impl Start {
    /// Takes in how a stage ended.
    ///
    /// # Errors
    ///
    /// [`Error::SameCause`] if the first stages failed for one reason: the others would, too.
    pub fn take(&mut self, ended: Option<Ended>, keep_going: bool) -> Result<(), Error> {
        let Some(ended) = ended.filter(|_| !self.is_over && !keep_going) else {
            self.is_over = true;
            return Ok(());
        };
        let reason = (ended.cause, masked(&ended.message));
        if *self.reason.get_or_insert_with(|| reason.clone()) != reason {
            self.is_over = true;
            return Ok(());
        }
        self.count += 1;
        if self.count < SAME {
            return Ok(());
        }
        Err(Error::SameCause {
            count: SAME,
            line: ended.line,
        })
    }
}

/// A message without what differs from stage to stage: numbers, and words that are paths or names in quotes.
fn masked(message: &str) -> String {
    let words = message.split_whitespace().map(|word| {
        let is_name = word.contains(['/', '\\', '`']);
        let letters = word.chars().filter(|char| !char.is_ascii_digit());
        if is_name {
            "_".to_owned()
        } else {
            letters.collect()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The cause of a failure; none if the stage is not to blame.
pub(super) fn cause(error: &Error) -> Option<Cause> {
    match error {
        Error::Stopped { .. } | Error::Interrupted { .. } => None,
        error if is_of_disk(error) => None,
        error if is_not_finite(error) => Some(Cause::NotFinite),
        Error::Panic(_) => Some(Cause::Panic),
        _ => Some(Cause::BadInput),
    }
}

/// Whether a disk is full or cannot be written: no stage is to blame for that.
fn is_of_disk(error: &Error) -> bool {
    // Some errors of Burn keep of the system's error its text alone.
    let text = error.line();
    // No space left, file too large, over quota, read-only.
    [28, 27, 122, 30]
        .iter()
        .any(|code| text.contains(&format!("(os error {code})")))
}

/// Whether a number stopped being finite.
fn is_not_finite(error: &Error) -> bool {
    match error {
        Error::Training(error) => matches!(error, StageError::NotFinite { .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panics;

    fn ended(cause: Cause, message: &str) -> Ended {
        Ended {
            line: message.to_owned(),
            message: message.to_owned(),
            cause,
        }
    }

    #[test]
    fn a_panic_is_a_failure_and_a_stop_or_a_full_disk_is_none() {
        let error = panics::caught(|| -> Result<(), Error> { panic!("index 3 of 2") });
        let error = Error::Panic(error.unwrap_err());
        assert_eq!(cause(&error), Some(Cause::Panic));
        assert!(error.line().contains("index 3 of 2"), "{}", error.line());
        assert_eq!(cause(&Error::Stopped { exit_code: 130 }), None);
        let full = Error::Output(std::io::Error::from_raw_os_error(28));
        assert_eq!(cause(&full), None);
        assert_eq!(cause(&Error::NotAsGood), Some(Cause::BadInput));
    }

    #[test]
    fn three_equal_failures_at_the_start_are_enough() {
        let texts = [
            "step 1: /a/x is NaN",
            "step 22: /b is NaN",
            "step 3: c/d is NaN",
        ];
        let mut start = Start::default();
        let mut take = |index: usize| {
            let ended = ended(Cause::NotFinite, texts[index]);
            start.take(Some(ended), false)
        };
        assert!(take(0).is_ok() && take(1).is_ok());
        let error = take(2).unwrap_err();
        assert!(matches!(error, Error::SameCause { count: 3, .. }));
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn one_that_was_done_or_failed_otherwise_shows_that_others_may_not() {
        let again = || Some(ended(Cause::NotFinite, "NaN"));
        for other in [None, Some(ended(Cause::Panic, "NaN"))] {
            let mut start = Start::default();
            start.take(again(), false).unwrap();
            start.take(other, false).unwrap();
            for _ in 0..5 {
                start.take(again(), false).unwrap();
            }
        }
        let mut start = Start::default();
        for _ in 0..5 {
            start.take(again(), true).unwrap();
        }
    }
}
