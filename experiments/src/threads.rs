//! The threads that compute on a CPU.

use std::{env, num::NonZero, thread};

use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

/// Makes the calling thread one of those that compute, of which there are as many as cores, or as
/// `RAYON_NUM_THREADS` says. To be called once, by the main thread, before there are others.
///
/// Otherwise it sleeps during each operation and has to be woken after it, which takes a tenth of a forward pass
/// over a short sequence.
///
/// # Errors
///
/// If the system gives no thread.
pub fn join_pool() -> Result<(), ThreadPoolBuildError> {
    let wanted = env::var("RAYON_NUM_THREADS").ok();
    let wanted = wanted.and_then(|number| number.parse().ok());
    let count = wanted
        .filter(|count| *count > 0)
        .or_else(|| thread::available_parallelism().ok().map(NonZero::get))
        .unwrap_or(1);
    // A pool of the calling thread alone could not run the work of other threads while it waits for them.
    if count > 1 {
        let pool = ThreadPoolBuilder::new().num_threads(count);
        pool.use_current_thread().build_global()?;
    }
    Ok(())
}
