//! A list of what is wrong with a recipe, filled by small rules.

use std::ops::Range;

/// A dotted key, and a reason that goes on with the sentence that the key begins.
pub type Problem = (String, String);

/// What was found so far.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// The dotted keys, each with its reason.
    pub(super) fn into_pairs(self) -> Vec<Problem> {
        self.0
    }

    /// Adds what was found elsewhere.
    pub(super) fn extend(&mut self, others: Vec<Problem>) {
        self.0.extend(others);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them is in the table `table`.
    pub(super) fn concerns(&self, table: &str) -> bool {
        self.0.iter().any(|(key, _)| key.starts_with(table))
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `key` is wrong; `reason` goes on with the sentence that the key begins.
    pub(super) fn add(&mut self, key: &str, reason: &str) {
        self.0.push((key.to_owned(), reason.to_owned()));
    }

    /// Adds `reason` unless `holds`.
    pub(super) fn require(&mut self, key: &str, holds: bool, reason: &str) {
        if !holds {
            self.add(key, reason);
        }
    }

    /// `value` must be `least` or more.
    pub(super) fn at_least(&mut self, key: &str, value: usize, least: usize) {
        self.require(
            key,
            value >= least,
            &format!("must be at least {least}, not {value}"),
        );
    }

    /// `value` must be `most` or less, and `what` says where that limit comes from.
    pub(super) fn at_most(&mut self, key: &str, value: usize, most: usize, what: &str) {
        self.require(
            key,
            value <= most,
            &format!("must be at most {most} ({what}), not {value}"),
        );
    }

    /// `value` must be a multiple of `divisor`, and both at least 1.
    pub(super) fn divided(&mut self, key: &str, value: usize, by: &str, divisor: usize) {
        self.at_least(by, divisor, 1);
        self.at_least(key, value, 1);
        if divisor > 0 && !value.is_multiple_of(divisor) {
            let name = by.rsplit('.').next().unwrap_or(by);
            let reason = format!("must be a multiple of the {divisor} {name}, not {value}");
            self.add(key, &reason);
        }
    }

    /// `value` must be finite and above 0.
    pub(super) fn positive(&mut self, key: &str, value: f64) {
        self.require(
            key,
            value > 0.0 && value.is_finite(),
            &format!("must be above 0, not {value}"),
        );
    }

    /// `value` must lie in `range`.
    pub(super) fn within(&mut self, key: &str, value: f64, range: Range<f64>) {
        let reason = if range.end.is_finite() {
            format!(
                "must be from {} to below {}, not {value}",
                range.start, range.end
            )
        } else {
            format!("must be {} or more, not {value}", range.start)
        };
        self.require(key, range.contains(&value), &reason);
    }

    /// A name that is also the name of a folder.
    pub(super) fn name(&mut self, key: &str, name: &str) {
        let plain = name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let reason =
            "must be a plain name of letters, digits, `-`, `_` and `.`, as it also names a folder";
        self.require(
            key,
            !name.is_empty() && plain && !name.starts_with('.'),
            reason,
        );
    }
}
