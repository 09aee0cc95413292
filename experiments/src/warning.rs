//! Warnings: what a person should know of work that goes on.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Mutex, PoisonError},
};

use crate::one_line::one_line;

/// What begins the line of a warning.
pub(crate) const BEGIN: &str = "kiln: warning: ";

/// What was said before.
static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Says `text` on one line of standard error, once. A record of the crate `log` would be lost here: those go to
/// the file `experiment.log` of a training, once there is one.
pub(crate) fn warn(text: &str) {
    let text = one_line(text);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(text.clone()) {
        // Work goes on when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{BEGIN}{text}");
    }
}
