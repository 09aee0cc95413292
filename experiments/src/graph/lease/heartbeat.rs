//! A thread that calls a function at intervals.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// The thread. Dropping this stops it, without waiting for a call that is running.
#[derive(Debug)]
pub(super) struct Heartbeat {
    stop: Arc<(Mutex<bool>, Condvar)>,
}

impl Heartbeat {
    /// Starts a thread that calls `beat` after each interval, until `beat` returns false.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread.
    pub(super) fn start(
        interval: Duration,
        mut beat: impl FnMut() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let signal = Arc::clone(&stop);
        let run = move || {
            let (stopped, changed) = &*signal;
            loop {
                let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
                let (stopped, _) = changed
                    .wait_timeout_while(stopped, interval, |stopped| !*stopped)
                    .unwrap_or_else(PoisonError::into_inner);
                if *stopped {
                    return;
                }
                drop(stopped);
                if !beat() {
                    return;
                }
            }
        };
        thread::Builder::new().name("lease".to_owned()).spawn(run)?;
        Ok(Self { stop })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let (stopped, changed) = &*self.stop;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn beats_until_it_is_dropped() {
        let (sender, beats) = mpsc::channel();
        let heartbeat = Heartbeat::start(TICK, move || sender.send(()).is_ok()).unwrap();
        for _ in 0..3 {
            beats.recv().unwrap();
        }
        drop(heartbeat);
        // The thread drops its sender when it ends.
        while beats.recv().is_ok() {}
    }

    #[test]
    fn stops_when_a_beat_says_so_and_at_once_between_beats() {
        let (sender, beats) = mpsc::channel();
        let mut count = 0;
        let beat = move || {
            count += 1;
            sender.send(count).unwrap();
            count < 3
        };
        let _heartbeat = Heartbeat::start(TICK, beat).unwrap();
        assert_eq!(beats.iter().collect::<Vec<_>>(), [1, 2, 3]);

        let (sender, beats) = mpsc::channel::<()>();
        let heartbeat = Heartbeat::start(Duration::MAX, move || sender.send(()).is_ok()).unwrap();
        drop(heartbeat);
        assert!(beats.recv().is_err());
    }
}
