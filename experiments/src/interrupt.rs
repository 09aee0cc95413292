//! Stopping on request: the first signal asks, the second one ends the program.

use std::{
    fmt, io, process,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use burn::train::Interrupter;
use distill::CheckpointRequest;
use signal_hook::consts::SIGINT;

use crate::error::Error;

/// What a training says that it stopped for.
const REASON: &str = "asked to stop";

/// A shared flag that asks long work to stop at the next safe point. Trainings and their dashboard
/// share it.
#[derive(Clone, Default)]
pub struct Stop {
    flag: Interrupter,
    /// The exit code by the signal that asks the program to stop, and not a piece of work alone; 0 without one.
    asked: Arc<AtomicU8>,
    checkpoint: CheckpointRequest,
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.requested()).finish()
    }
}

impl Stop {
    /// A flag that the first SIGINT, SIGTERM or SIGHUP sets. The second one ends the program at once, with its own exit
    /// code. SIGUSR1 asks for a checkpoint of the training. SIGUSR2 asks for a stop as well and never ends the program: a process
    /// sends it to those that work for it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn on_signals() -> Result<Self, Error> {
        let stop = Self::default();
        watch(stop.clone()).map_err(Error::Signals)?;
        Ok(stop)
    }

    /// Asks for a stop by a signal; true when one had been asked for before.
    pub fn request(&self, signal: i32) -> bool {
        let code = exit_code(signal);
        let first = self
            .asked
            .compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst);
        self.flag.stop(Some(REASON));
        first.is_err()
    }

    /// Asks for a stop, or ends the program if one had been asked for.
    fn request_or_exit(&self, signal: i32) {
        if self.request(signal) {
            process::exit(exit_code(signal).into());
        }
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
        if self.asked.load(Ordering::SeqCst) > 0 {
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

    /// The flag by which trainings are asked for a checkpoint.
    pub fn checkpoint_request(&self) -> CheckpointRequest {
        self.checkpoint.clone()
    }

    /// Leaves the work when a stop was asked for; call it where everything needed to go on is
    /// saved.
    ///
    /// # Errors
    /// [`Error::Stopped`] when a stop was asked for.
    pub fn check(&self) -> Result<(), Error> {
        if self.requested() {
            Err(self.error())
        } else {
            Ok(())
        }
    }

    /// What a command fails with that stops where it can go on.
    pub fn error(&self) -> Error {
        Error::Stopped {
            exit_code: self.exit_code(),
        }
    }

    /// The exit code of the program by the first signal, that of SIGINT without one.
    pub fn exit_code(&self) -> u8 {
        match self.asked.load(Ordering::SeqCst) {
            0 => exit_code(SIGINT),
            code => code,
        }
    }
}

/// The exit code of a program that a signal ended, as shells have it.
fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Starts the thread that hears of signals.
#[cfg(unix)]
fn watch(stop: Stop) -> io::Result<()> {
    use signal_hook::{
        consts::{SIGHUP, SIGTERM, SIGUSR1, SIGUSR2},
        iterator::Signals,
    };

    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
    let listen = move || {
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => stop.checkpoint.ask(),
                // It may have heard of a signal itself.
                SIGUSR2 => drop(stop.request(SIGTERM)),
                signal => stop.request_or_exit(signal),
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen)?;
    Ok(())
}

/// Starts the thread that hears of signals, which sets a variable here.
#[cfg(not(unix))]
fn watch(stop: Stop) -> io::Result<()> {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use signal_hook::{consts::SIGTERM, flag};

    let latest = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        flag::register_usize(signal, latest.clone(), signal as usize)?;
    }
    let listen = move || {
        loop {
            thread::sleep(Duration::from_millis(50));
            match latest.swap(0, Ordering::SeqCst) {
                0 => {}
                signal => stop.request_or_exit(signal as i32),
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::SIGTERM;

    use super::*;

    #[test]
    fn every_clone_sees_the_request() {
        let stop = Stop::default();
        let other = stop.clone();
        assert!(other.check().is_ok());
        assert!(!stop.request(SIGTERM));
        let is_second = stop.request(SIGINT);
        assert!(is_second, "the second request is told from the first");
        let error = other.check().unwrap_err();
        assert!(matches!(error, Error::Stopped { .. }));
        assert_eq!(error.exit_code(), 143, "that of the first signal");
    }

    #[test]
    fn what_is_abandoned_stops_nothing_else() {
        let stop = Stop::default();
        stop.abandon();
        assert!(stop.check().is_err());
        stop.go_on();
        assert!(stop.check().is_ok());
        assert!(!stop.request(SIGINT));
        stop.go_on();
        assert_eq!(stop.check().unwrap_err().exit_code(), 130);
    }
}
