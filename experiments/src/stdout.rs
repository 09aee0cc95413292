//! Standard output.

use std::io::Write;

use crate::error::Error;

/// Writes `text` to standard output.
///
/// # Errors
///
/// If it cannot be written, for one because its reader went away.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::Output)
}
