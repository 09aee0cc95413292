//! Which of N workers a process is, by the variables that its engine sets.

use std::str::FromStr;

use super::error::ShardError;

/// Looks up a variable of the environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One of the workers that an engine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its number, from 1.
    pub number: usize,
    /// How many there are, if the engine says so.
    pub count: Option<usize>,
}

/// The number in a variable; none if it is not set.
///
/// # Errors
/// It is no number, or below `least`.
pub(crate) fn number<N: FromStr + PartialOrd>(
    variables: Variables<'_>,
    name: &'static str,
    least: N,
) -> Result<Option<N>, ShardError> {
    let Some(value) = variables(name) else {
        return Ok(None);
    };
    // `usize` also parses `+1`.
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value
        .parse()
        .ok()
        .filter(|number| *number >= least && is_plain);
    number.map_or(Err(ShardError::Variable { name, value }), |number| {
        Ok(Some(number))
    })
}
