//! Panics as readable errors: the last resort of the program, and quiet attempts at what may panic.

use std::any::Any;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::one_line::one_line;

/// How many [`quietly`] calls are under way.
static QUIET: AtomicUsize = AtomicUsize::new(0);
/// The first panic of the quiet attempt under way, on whichever thread it happened.
static FIRST: Mutex<Option<String>> = Mutex::new(None);
/// Whether a panic was already reported: what follows it are its consequences.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// From here on a panic prints one line, `kiln: error: internal error: ...`, in place of a trace.
/// With `RUST_BACKTRACE` set the trace follows.
pub fn report_as_errors() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let reason = format!("{}{}", message(info.payload()), place(info));
        if QUIET.load(Ordering::SeqCst) > 0 {
            FIRST
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(reason);
            return;
        }
        if !REPORTED.swap(true, Ordering::SeqCst) {
            let _ = writeln!(
                std::io::stderr(),
                "kiln: error: internal error: {reason} (please report)"
            );
        }
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            default(info);
        }
    }));
}

/// Runs `work` on a thread of its own and keeps its panics, and those of the threads it starts, off
/// the terminal.
///
/// # Errors
/// The message of the first panic, or that nothing came back within `limit`; the thread is then
/// left behind.
pub fn quietly<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    *FIRST.lock().unwrap_or_else(PoisonError::into_inner) = None;
    QUIET.fetch_add(1, Ordering::SeqCst);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // A send fails only when the limit has passed and nobody listens any more.
        let _ = sender.send(panic::catch_unwind(AssertUnwindSafe(work)));
    });
    let outcome = receiver.recv_timeout(limit);
    QUIET.fetch_sub(1, Ordering::SeqCst);
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(payload)) => {
            // The panic that reached us is often only the echo of one on a worker thread.
            let first = FIRST.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(first.unwrap_or_else(|| message(payload.as_ref())))
        }
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// Does some work on this thread, and keeps its panics, and those of the threads that it starts, off the terminal.
///
/// # Errors
/// The message of the first panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    *FIRST.lock().unwrap_or_else(PoisonError::into_inner) = None;
    QUIET.fetch_add(1, Ordering::SeqCst);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.fetch_sub(1, Ordering::SeqCst);
    outcome.map_err(|payload| {
        let first = FIRST.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| message(payload.as_ref()))
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    one_line(text)
}

fn place(info: &PanicHookInfo) -> String {
    info.location()
        .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back() {
        assert_eq!(quietly(Duration::from_secs(10), || 7), Ok(7));
    }

    #[test]
    fn a_panic_becomes_its_message() {
        let outcome: Result<(), _> = quietly(Duration::from_secs(10), || panic!("no such\nGPU"));
        assert_eq!(outcome, Err("no such GPU".to_owned()));
    }

    #[test]
    fn a_panic_is_caught_where_it_happens() {
        assert_eq!(caught(|| 7), Ok(7));
        let outcome: Result<(), _> = caught(|| panic!("no such\nlayer"));
        assert_eq!(outcome, Err("no such layer".to_owned()));
    }

    #[test]
    fn silence_is_an_error() {
        let outcome = quietly(Duration::ZERO, || thread::sleep(Duration::from_millis(200)));
        assert!(outcome.is_err_and(|reason| reason.contains("no answer")));
    }
}
