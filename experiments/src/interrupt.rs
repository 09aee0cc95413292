//! Stopping on request: the first interrupt asks, the second one ends the program.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use burn::train::Interrupter;

use crate::error::Error;

/// What a training says that it stopped for.
const REASON: &str = "asked to stop";

/// A shared flag that asks long work to stop at the next safe point. Trainings and their dashboard
/// share it.
#[derive(Clone, Default)]
pub struct Stop {
    flag: Interrupter,
    /// Whether the program is to stop, and not a piece of work alone.
    is_final: Arc<AtomicBool>,
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.requested()).finish()
    }
}

impl Stop {
    /// A flag that the first SIGINT or SIGTERM sets. The second one ends the program at once, with
    /// exit code 130.
    ///
    /// # Errors
    /// The process already handles these signals, or the system refuses.
    pub fn on_signals() -> Result<Self, Error> {
        let stop = Self::default();
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if flag.request() {
                std::process::exit(130);
            }
        })?;
        Ok(stop)
    }

    /// Asks for a stop; true when one had been asked for before.
    pub fn request(&self) -> bool {
        let before = self.is_final.swap(true, Ordering::SeqCst);
        self.flag.stop(Some(REASON));
        before
    }

    /// Asks for a stop of the work at hand alone; [`go_on`](Self::go_on) ends that.
    pub fn abandon(&self) {
        self.flag
            .stop(Some("the work at hand is not wanted any more"));
    }

    /// Lets work begin again after one was abandoned, unless the program is to stop.
    pub fn go_on(&self) {
        self.flag.reset();
        // A request may have come just before.
        if self.is_final.load(Ordering::SeqCst) {
            self.flag.stop(Some(REASON));
        }
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        self.flag.should_stop()
    }

    /// The same flag in the form that trainings watch.
    pub fn interrupter(&self) -> Interrupter {
        self.flag.clone()
    }

    /// Leaves the work when a stop was asked for; call it where everything needed to go on is
    /// saved.
    ///
    /// # Errors
    /// [`Error::Stopped`] when a stop was asked for.
    pub fn check(&self) -> Result<(), Error> {
        if self.requested() {
            Err(Error::Stopped)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_sees_the_request() {
        let stop = Stop::default();
        let other = stop.clone();
        assert!(other.check().is_ok());
        assert!(!stop.request());
        assert!(stop.request(), "the second request is told from the first");
        assert!(matches!(other.check(), Err(Error::Stopped)));
    }

    #[test]
    fn what_is_abandoned_stops_nothing_else() {
        let stop = Stop::default();
        stop.abandon();
        assert!(stop.check().is_err());
        stop.go_on();
        assert!(stop.check().is_ok());
        assert!(!stop.request());
        stop.go_on();
        assert!(stop.check().is_err());
    }
}
