//! The allocator, and how much memory a piece of work takes.

use std::ffi::c_long;

use burn::tensor::Device;
use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;
use peakmem_alloc::{PeakMemAlloc, PeakMemAllocTrait};

// Training allocates and frees large tensors all the time; under glibc's allocator that time goes
// into page faults.
#[global_allocator]
static ALLOCATOR: &PeakMemAlloc<MiMalloc> = &COUNTED;
static COUNTED: PeakMemAlloc<MiMalloc> = PeakMemAlloc::new(MiMalloc);

/// `mi_option_purge_delay` of mimalloc 3, for which the bindings have no name.
const PURGE_DELAY: mi_option_t = 15;
/// How long the allocator keeps unused memory, in milliseconds.
const MINUTE: c_long = 60_000;

/// Lets the allocator keep freed memory for up to a minute, unless the environment's
/// `MIMALLOC_PURGE_DELAY` says otherwise. To be called before there are other threads.
///
/// By default a second after something was freed all that is free goes back to the system, which clears it
/// before it lends it again: with steps of about a second, up to a quarter of their time.
#[allow(
    unsafe_code,
    reason = "the bindings are plain C, and the default costs up to a quarter of the time"
)]
pub fn keep_freed() {
    // SAFETY: this sets a number of the size of a word. A thread that allocates meanwhile, as in tests,
    // reads the old or the new one.
    unsafe { mi_option_set_default(PURGE_DELAY, MINUTE) }
}

/// Does some work, and returns by how many bytes its allocations exceeded, at the most, what there was
/// before.
///
/// On a device with memory of its own these are the bytes that the device keeps for tensors afterwards,
/// those from before included, and on a remote one those of this process, which are few. What other threads
/// allocate meanwhile is counted too.
pub fn peak<T>(device: &Device, work: impl FnOnce() -> T) -> (T, u64) {
    device.memory_cleanup();
    COUNTED.reset_peak_memory();
    let result = work();
    let bytes = match device.memory_pool_usage() {
        Some(usage) => usage.bytes_reserved,
        None => COUNTED.get_peak_memory() as u64,
    };
    (result, bytes)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "as above")]
    fn the_option_is_the_delay() {
        // SAFETY: this reads a number that no other code sets.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            // The bindings' number of another option would have another default.
            assert_eq!(delay(), 1000);
            keep_freed();
            assert_eq!(delay(), MINUTE);
        }
    }

    #[test]
    fn what_is_freed_counts_and_what_was_there_does_not() {
        const SIZE: usize = 64 << 20;
        let before = black_box(vec![1_u8; SIZE]);
        let ((), bytes) = peak(&Device::default(), || {
            for _ in 0..3 {
                drop(black_box(vec![1_u8; SIZE]));
            }
        });
        drop(before);
        // Tests beside this one allocate too, though much less.
        let sizes = bytes as f64 / SIZE as f64;
        assert!((0.9..1.9).contains(&sizes), "{bytes} bytes");
    }
}
