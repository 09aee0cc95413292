//! The allocator, and how much memory a piece of work takes.

use burn::tensor::Device;
use mimalloc::MiMalloc;
use peakmem_alloc::{PeakMemAlloc, PeakMemAllocTrait};

// Training allocates and frees large tensors all the time; under glibc's allocator that time goes
// into page faults.
#[global_allocator]
static ALLOCATOR: &PeakMemAlloc<MiMalloc> = &COUNTED;
static COUNTED: PeakMemAlloc<MiMalloc> = PeakMemAlloc::new(MiMalloc);

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

    use super::*;

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
