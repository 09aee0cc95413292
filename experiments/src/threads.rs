//! The threads that compute on a CPU.

use std::{env, ffi::OsString, num::NonZero, thread};

use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

/// The variable that says how many threads compute.
pub(crate) const THREADS: &str = "KILN_THREADS";

/// Why no threads compute.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsError {
    /// The variable does not hold a number of threads.
    #[error("the variable {THREADS} is `{0}`; expected a number of threads, at least 1")]
    Count(String),
    /// The system gives no thread.
    #[error("no threads to compute with: {0}")]
    Pool(#[from] ThreadPoolBuildError),
}

/// Makes the calling thread one of those that compute, of which there are as many as cores, or as `KILN_THREADS` says, or
/// else `RAYON_NUM_THREADS`. To be called once, by the main thread, before there are others.
///
/// Otherwise it sleeps during each operation and has to be woken after it, which takes a tenth of a forward pass
/// over a short sequence.
///
/// # Errors
///
/// If `KILN_THREADS` is no number of threads, or the system gives no thread.
pub fn join_pool() -> Result<(), ThreadsError> {
    let count = match env::var_os(THREADS) {
        Some(value) => count(value)?,
        None => env::var("RAYON_NUM_THREADS")
            .ok()
            .and_then(|number| number.parse().ok())
            .filter(|count| *count > 0)
            .or_else(|| thread::available_parallelism().ok().map(NonZero::get))
            .unwrap_or(1),
    };
    let pool = ThreadPoolBuilder::new().num_threads(count);
    // A pool of the calling thread alone could not run the work of other threads while it waits for them.
    let pool = if count > 1 {
        pool.use_current_thread()
    } else {
        pool
    };
    Ok(pool.build_global()?)
}

/// The number of threads in a text.
fn count(value: OsString) -> Result<usize, ThreadsError> {
    let text = value.to_str();
    let count: Option<NonZero<usize>> = text.and_then(|text| text.parse().ok());
    let error = || ThreadsError::Count(value.to_string_lossy().into_owned());
    count.map(NonZero::get).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_a_number_from_1() {
        assert_eq!(count("3".into()).unwrap(), 3);
        for text in ["", "0", "-1", "1.5", "two", "99999999999999999999999"] {
            let error = count(text.into()).unwrap_err().to_string();
            let expected = format!(
                "the variable KILN_THREADS is `{text}`; expected a number of threads, at least 1"
            );
            assert_eq!(error, expected);
        }
    }
}
