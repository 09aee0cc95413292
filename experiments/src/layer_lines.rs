//! What a training measured layer by layer, as its stage keeps it.

use std::path::Path;

use distill::LayerLine;
use moebert_core::file::{self, FileError};

use crate::json_file;

/// The file of a training in the folder of its stage.
const LAYERS: &str = "training/layers.jsonl";

/// The lines of the stage in a folder; none where nothing was measured, as by earlier versions.
///
/// # Errors
///
/// If the file is there and cannot be read, or a line is none.
pub(crate) fn layer_lines(stage: &Path) -> Result<Vec<LayerLine>, FileError> {
    let path = stage.join(LAYERS);
    let bytes = file::read_if_there(&path)?.unwrap_or_default();
    json_file::lines(&path, &bytes)
}
