//! The pipeline behind `kiln run`.

use std::path::PathBuf;

use burn::tensor::Device;
use distill::Ui;

use crate::error::Error;
use crate::interrupt::Stop;
use crate::recipe::Recipe;

/// How a recipe is run; nothing here changes its results.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run folder.
    pub out: PathBuf,
    /// The device to compute on.
    pub device: Device,
    /// The device's name, for the record.
    pub device_name: String,
    /// How progress is shown.
    pub ui: Ui,
    /// Asks for a stop.
    pub stop: Stop,
}

/// Runs every stage of `recipe` that has no result yet.
///
/// # Errors
/// Whatever the stages fail with.
pub fn run(_recipe: &Recipe, _options: &RunOptions) -> Result<(), Error> {
    Err(Error::Usage("the pipeline is not here yet".to_owned()))
}
