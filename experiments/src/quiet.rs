//! `--quiet`: nothing is told of work that goes on. Results, warnings and errors are.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

use distill::Ui;

/// What the command line says, for all of the process.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Tells nothing of work from now on.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// How progress is shown: as asked for, unless it is not told.
pub(crate) fn unless_quiet(ui: Ui) -> Ui {
    if QUIET.load(Ordering::Relaxed) {
        Ui::None
    } else {
        ui
    }
}

/// Tells of work on a line of standard error.
pub(crate) fn tell(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        // Work goes on when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}
