//! What the stages of every run share.

use std::{fs, path::Path};

use crate::error::Error;

/// Deletes the checkpoints of a training that is done, also where a kill came between the two.
pub(super) fn discard_checkpoints(training: &Path) -> Result<(), Error> {
    let checkpoints = training.join("checkpoints");
    if checkpoints.exists() {
        fs::remove_dir_all(&checkpoints).map_err(|source| Error::file(&checkpoints, source))?;
    }
    Ok(())
}
