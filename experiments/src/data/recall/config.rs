//! What a recall task consists of, and whether it can be made.

use burn::config::Config;

use super::Recall;

/// Configuration of [`Recall`].
#[derive(Config, Debug, PartialEq)]
pub struct RecallConfig {
    /// Tokens of a sequence, `T`.
    #[config(default = 512)]
    pub length: usize,
    /// Pairs of a key and a value at the beginning, `D`. No key has two.
    #[config(default = 16)]
    pub pairs: usize,
    /// Keys that are asked for, each once; at most as many as pairs.
    #[config(default = 16)]
    pub queries: usize,
    /// Number of different keys; ids from 0.
    #[config(default = 64)]
    pub keys: usize,
    /// Number of different values; ids after those of the keys.
    #[config(default = 64)]
    pub values: usize,
    /// Number of different fillers; ids after those of the values.
    #[config(default = 64)]
    pub fillers: usize,
    /// The span to look beyond, `W`: as [`is_beyond`](super::Query::is_beyond) counts it.
    #[config(default = 64)]
    pub window: usize,
    /// The least share of the queries, 0 to 1, that cannot see their pair in the window.
    #[config(default = 0.5)]
    pub beyond: f64,
    /// Decides every sequence.
    #[config(default = 0)]
    pub seed: u64,
}

/// A task that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecallError {
    /// A number is outside its range.
    #[error("{name} = {value}: it must be {expected}")]
    Value {
        /// The field of [`RecallConfig`].
        name: &'static str,
        /// What it is.
        value: f64,
        /// What would be right.
        expected: String,
    },
    /// Pairs, window and queries do not fit into a sequence.
    #[error(
        "length = {length} is too short: {pairs} pairs, {queries} queries and {beyond} of them beyond \
         a window of {window} need {needed} tokens"
    )]
    Length {
        /// Tokens of a sequence.
        length: usize,
        /// Pairs at the beginning.
        pairs: usize,
        /// Queries.
        queries: usize,
        /// Queries beyond the window, at least.
        beyond: usize,
        /// The window.
        window: usize,
        /// The least length.
        needed: usize,
    },
}

impl RecallConfig {
    /// Checks the task.
    ///
    /// # Errors
    ///
    /// If a number is outside its range, or the sequence is too short for what it should hold.
    pub fn init(&self) -> Result<Recall, RecallError> {
        let at_least = |name, value: usize, least: usize, why: &str| {
            if value >= least {
                return Ok(());
            }
            Err(RecallError::Value {
                name,
                value: value as f64,
                expected: format!("at least {least}{why}"),
            })
        };
        at_least("pairs", self.pairs, 1, "")?;
        at_least("queries", self.queries, 1, "")?;
        at_least(
            "keys",
            self.keys,
            self.pairs,
            ", as each pair has its own key",
        )?;
        at_least("values", self.values, 2, ", or there is nothing to recall")?;
        at_least("fillers", self.fillers, 1, "")?;
        at_least("window", self.window, 1, "")?;
        if self.queries > self.pairs {
            return Err(RecallError::Value {
                name: "queries",
                value: self.queries as f64,
                expected: format!("at most {}, as each pair is asked for once", self.pairs),
            });
        }
        if !(0.0..=1.0).contains(&self.beyond) {
            return Err(RecallError::Value {
                name: "beyond",
                value: self.beyond,
                expected: "a share from 0 to 1".into(),
            });
        }
        let beyond = self.least_beyond();
        let mut needed = 2 * self.pairs + self.queries;
        if beyond > 0 {
            needed = needed.max(self.first_beyond() + beyond);
        }
        if self.length < needed {
            return Err(RecallError::Length {
                length: self.length,
                pairs: self.pairs,
                queries: self.queries,
                beyond,
                window: self.window,
                needed,
            });
        }
        let config = self.clone();
        Ok(Recall { config })
    }

    /// Number of token ids: keys, values and fillers.
    pub fn vocabulary(&self) -> usize {
        self.keys + self.values + self.fillers
    }

    /// Queries that must lie beyond the window.
    pub(super) fn least_beyond(&self) -> usize {
        (self.beyond * self.queries as f64).ceil() as usize
    }

    /// The first position that is beyond the window of every pair, the last one included.
    pub(super) fn first_beyond(&self) -> usize {
        2 * self.pairs - 1 + self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_tasks_say_what_would_be_right() {
        for (config, expected) in [
            (
                RecallConfig::new().with_pairs(0),
                "pairs = 0: it must be at least 1",
            ),
            (
                RecallConfig::new().with_keys(15),
                "keys = 15: it must be at least 16, as each pair has its own key",
            ),
            (
                RecallConfig::new().with_queries(17),
                "queries = 17: it must be at most 16, as each pair is asked for once",
            ),
            (
                RecallConfig::new().with_values(1),
                "values = 1: it must be at least 2, or there is nothing to recall",
            ),
            (
                RecallConfig::new().with_fillers(0),
                "fillers = 0: it must be at least 1",
            ),
            (
                RecallConfig::new().with_window(0),
                "window = 0: it must be at least 1",
            ),
            (
                RecallConfig::new().with_beyond(1.5),
                "beyond = 1.5: it must be a share from 0 to 1",
            ),
            (
                RecallConfig::new().with_beyond(f64::NAN),
                "beyond = NaN: it must be a share from 0 to 1",
            ),
            (
                RecallConfig::new().with_window(474),
                "length = 512 is too short: 16 pairs, 16 queries and 8 of them beyond a window of \
                 474 need 513 tokens",
            ),
        ] {
            assert_eq!(config.init().unwrap_err().to_string(), expected);
        }
        assert!(RecallConfig::new().with_window(473).init().is_ok());
        let near = RecallConfig::new().with_beyond(0.0).with_window(9999);
        assert!(near.clone().with_length(48).init().is_ok());
        assert!(near.with_length(47).init().is_err());
    }
}
