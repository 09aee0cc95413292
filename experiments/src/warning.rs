//! Warnings: what a person should know of work that goes on.

use std::io::Write;

use crate::one_line::one_line;

/// Says `text` on one line of standard error. A record of the crate `log` would be lost here: those go to
/// the file `experiment.log` of a training, once there is one.
pub(crate) fn warn(text: &str) {
    // Work goes on when standard error is closed.
    let _ = writeln!(std::io::stderr(), "kiln: warning: {}", one_line(text));
}
