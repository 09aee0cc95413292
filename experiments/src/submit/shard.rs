//! The share of one worker: the arms of an ablation that it does.

use std::{fmt, str::FromStr};

use super::{
    engines::ENGINES,
    error::ShardError,
    worker::{Variables, Worker},
};

/// Share i of n: each n-th arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    count: usize,
}

impl Shard {
    /// Share `number`, from 1, of `count`; none if there is no such share.
    pub fn new(number: usize, count: usize) -> Option<Self> {
        (1..=count)
            .contains(&number)
            .then_some(Self { number, count })
    }

    /// Whether arm `index`, from 0, is in the share: `index mod n = i - 1`.
    pub fn has(self, index: usize) -> bool {
        index % self.count == self.number - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

/// The value of `--shard`: `i/n`, `auto` or `auto/n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardArg {
    /// This share.
    Fixed(Shard),
    /// The share by the number that the engine gave the worker.
    Auto {
        /// How many shares there are; what the engine says if none. GNU parallel, `HyperQueue` and Kubernetes do not say.
        count: Option<usize>,
    },
}

impl ShardArg {
    /// The share of this process.
    ///
    /// # Errors
    /// For `auto`: no engine or two engines started the process, a variable does not hold a number, or there are
    /// fewer shares than workers.
    pub fn resolve(self, variables: Variables<'_>) -> Result<Shard, ShardError> {
        let count = match self {
            Self::Fixed(shard) => return Ok(shard),
            Self::Auto { count } => count,
        };
        let (engine, worker) = worker(variables)?.ok_or(ShardError::NoEngine)?;
        let count = count.or(worker.count);
        let count = count.ok_or(ShardError::NoCount { engine })?;
        let number = worker.number;
        Shard::new(number, count).ok_or(ShardError::OutOfRange {
            engine,
            number,
            count,
        })
    }
}

impl FromStr for ShardArg {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parsed = match text.split_once('/') {
            None if text == "auto" => Some(Self::Auto { count: None }),
            None => None,
            Some(("auto", count)) => natural(count).map(|count| Self::Auto { count: Some(count) }),
            Some((number, count)) => natural(number)
                .zip(natural(count))
                .and_then(|(number, count)| Shard::new(number, count))
                .map(Self::Fixed),
        };
        parsed.ok_or_else(|| ShardError::Format(text.to_owned()))
    }
}

impl fmt::Display for ShardArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(shard) => shard.fmt(f),
            Self::Auto { count: None } => f.write_str("auto"),
            Self::Auto { count: Some(count) } => write!(f, "auto/{count}"),
        }
    }
}

/// The engine that started this process, by its name, and the number that it gave it; none if none did.
///
/// # Errors
/// Two engines did, or a variable of an engine does not hold a number.
fn worker(variables: Variables<'_>) -> Result<Option<(&'static str, Worker)>, ShardError> {
    let mut found: Option<(&'static str, Worker)> = None;
    for engine in ENGINES {
        let Some(worker) = engine.worker(variables)? else {
            continue;
        };
        let second = engine.name();
        if let Some((first, _)) = found {
            return Err(ShardError::TwoEngines { first, second });
        }
        found = Some((second, worker));
    }
    Ok(found)
}

/// A number from 1, in digits alone: `usize` also parses `+1`.
fn natural(text: &str) -> Option<usize> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| *number > 0);
    number.filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolve(text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let look_up = |name: &str| {
            let mut all = variables.iter();
            all.find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let shard = text.parse::<ShardArg>();
        let shard = shard.and_then(|shard| shard.resolve(&look_up));
        shard
            .map(|shard| shard.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_fixed_share_reads_no_variable() {
        assert_eq!(resolve("2/3", &[("PARALLEL_SEQ", "x")]).unwrap(), "2/3");
    }

    #[test]
    fn auto_reads_the_variables_of_each_engine() {
        for (text, variables, expected) in [
            (
                "auto",
                &[
                    ("SLURM_ARRAY_TASK_ID", "3"),
                    ("SLURM_ARRAY_TASK_COUNT", "8"),
                ][..],
                "3/8",
            ),
            ("auto/4", &[("PARALLEL_SEQ", "4")], "4/4"),
            ("auto/4", &[("HQ_JOB_ID", "7"), ("HQ_TASK_ID", "1")], "2/4"),
            ("auto", &[("KILN_WORKER", "2/5")], "2/5"),
            ("auto/4", &[("JOB_COMPLETION_INDEX", "0")], "1/4"),
            // A job that is no array, with GNU parallel in it.
            (
                "auto/2",
                &[("SLURM_JOB_ID", "9"), ("PARALLEL_SEQ", "1")],
                "1/2",
            ),
        ] {
            assert_eq!(resolve(text, variables).unwrap(), expected);
        }
    }

    #[test]
    fn the_reason_is_said_when_auto_cannot_be_resolved() {
        for (text, variables, reason) in [
            ("auto", &[][..], "no variable has one"),
            ("auto", &[("PARALLEL_SEQ", "1")], "use --shard auto/n"),
            (
                "auto",
                &[("JOB_COMPLETION_INDEX", "1")],
                "use --shard auto/n",
            ),
            (
                "auto/2",
                &[("HQ_TASK_ID", "2"), ("HQ_JOB_ID", "1")],
                "this is worker 3 of hq, and the share is for 2 workers",
            ),
            ("auto/2", &[("PARALLEL_SEQ", "0")], "PARALLEL_SEQ is `0`"),
            ("auto/2", &[("PARALLEL_SEQ", "")], "PARALLEL_SEQ is ``"),
            ("auto", &[("KILN_WORKER", "3/2")], "KILN_WORKER is `3/2`"),
            (
                "auto/2",
                &[("SLURM_ARRAY_TASK_ID", "1"), ("PARALLEL_SEQ", "1")],
                "variables of both slurm and parallel are set",
            ),
        ] {
            let error = resolve(text, variables).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "3", "0/3", "4/3", "1/0", "a/3", "1/", "/1", "1/2/3", "+1/2", " 1/2", "auto/0",
            "auto/", "AUTO",
        ] {
            assert!(resolve(text, &[]).unwrap_err().contains("is no share"));
        }
    }

    proptest! {
        #[test]
        fn shares_divide_the_arms(count in 1usize..20, arm in 0usize..1000) {
            let shares = (1..=count).map(|number| Shard::new(number, count).unwrap());
            prop_assert_eq!(shares.filter(|shard| shard.has(arm)).count(), 1);
        }

        #[test]
        fn texts_come_back(number in 1usize..100, more in 0usize..100) {
            let fixed = ShardArg::Fixed(Shard::new(number, number + more).unwrap());
            let auto = ShardArg::Auto { count: Some(number) };
            for shard in [fixed, auto, ShardArg::Auto { count: None }] {
                prop_assert_eq!(shard.to_string().parse::<ShardArg>(), Ok(shard));
            }
        }
    }
}
