//! Rows of a data file that cannot be used: they are counted and named, and too many are an error.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

use crate::warning::warn;

/// One row in so many may be unusable. Files made by people have such rows, and a result hardly depends
/// on them; where there are more, the file has another form than it is read in, and what is left of it is
/// another data set.
const ONE_IN: usize = 10;

/// So many rows are named.
const NAMED: usize = 3;

/// A file has too many rows that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: {count} of {total} {rows} cannot be used, and at most one in {ONE_IN} may be: {reasons}",
    path.display()
)]
pub struct TooManyUnreadable {
    /// The file.
    pub path: PathBuf,
    /// What its rows are called.
    pub rows: &'static str,
    /// Rows that cannot be used.
    pub count: usize,
    /// Rows in the file.
    pub total: usize,
    /// The first of them, each with its place and what is wrong.
    pub reasons: String,
}

/// The rows of a file that cannot be used.
#[derive(Debug)]
pub(super) struct Unreadable {
    path: PathBuf,
    rows: &'static str,
    count: usize,
    reasons: Vec<String>,
}

impl Unreadable {
    /// None so far; `rows` is what they are called, as in "lines".
    pub fn new(path: &Path, rows: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            rows,
            count: 0,
            reasons: vec![],
        }
    }

    /// Adds rows that share a reason, which names their place.
    pub fn add(&mut self, rows: usize, reason: impl Display) {
        self.count += rows;
        if self.reasons.len() < NAMED {
            self.reasons.push(reason.to_string());
        }
    }

    /// Warns of the rows; `read` is the number of all others.
    ///
    /// # Errors
    ///
    /// If there are more than one in ten.
    pub fn finish(self, read: usize) -> Result<(), TooManyUnreadable> {
        if self.count == 0 {
            return Ok(());
        }
        let (count, total, rows) = (self.count, self.count + read, self.rows);
        let more = if count > self.reasons.len() {
            "; ..."
        } else {
            ""
        };
        let reasons = self.reasons.join("; ") + more;
        let path = self.path;
        if count.saturating_mul(ONE_IN) > total {
            return Err(TooManyUnreadable {
                path,
                rows,
                count,
                total,
                reasons,
            });
        }
        let path = path.display();
        warn(&format!(
            "{path}: left out {count} of {total} {rows}: {reasons}"
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable(count: usize) -> Unreadable {
        let mut unreadable = Unreadable::new(Path::new("a.tsv"), "lines");
        for line in 1..=count {
            unreadable.add(1, format!("line {line}: broken"));
        }
        unreadable
    }

    #[test]
    fn one_in_ten_may_be_unusable_and_no_more() {
        assert!(unreadable(0).finish(0).is_ok());
        assert!(unreadable(1).finish(9).is_ok());
        let error = unreadable(1).finish(8).unwrap_err().to_string();
        assert_eq!(
            error,
            "a.tsv: 1 of 9 lines cannot be used, and at most one in 10 may be: line 1: broken"
        );
        assert!(unreadable(10).finish(90).is_ok());
        let error = unreadable(10).finish(89).unwrap_err().to_string();
        assert!(
            error.ends_with(": line 1: broken; line 2: broken; line 3: broken; ..."),
            "{error}"
        );
    }

    #[test]
    fn rows_with_one_reason_all_count() {
        let mut unreadable = Unreadable::new(Path::new("a.json"), "questions");
        unreadable.add(2, "data[0].paragraphs[1]: no context");
        assert_eq!(unreadable.finish(17).unwrap_err().count, 2);
    }
}
