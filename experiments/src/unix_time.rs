//! The time of the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time in seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
