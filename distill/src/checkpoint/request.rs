//! Asking a training for a checkpoint from outside.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A shared flag that asks a training for a checkpoint after its next optimiser step; the training goes on.
#[derive(Clone, Debug, Default)]
pub struct CheckpointRequest(Arc<AtomicBool>);

impl CheckpointRequest {
    /// Asks for a checkpoint.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a checkpoint was asked for since this was called last.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}
