//! The prepared data of a run: what is made of model and data before any stage of the graph.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{RecordError, damaged, io_error, write_json};

/// The folder of prepared data in a run folder.
const FOLDER: &str = "artifacts";
/// The file that is written last.
const DONE: &str = "done.json";

/// The prepared data of arms that begin with the same model and data.
#[derive(Clone, Debug)]
pub struct Artifacts(PathBuf);

impl Artifacts {
    /// Those in a run folder, whether or not they are there: they may be asked for before the run folder is made. The
    /// first arms have place 0.
    pub fn new(run: &Path, place: usize) -> Self {
        let folder = run.join(FOLDER);
        Self(match place {
            0 => folder,
            place => folder.join(format!("{place}")),
        })
    }

    /// Where a part is, such as `tokenizer`.
    pub fn path(&self, part: &str) -> PathBuf {
        self.0.join(part)
    }

    /// The folder of a part; made if it is missing.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made.
    pub fn folder(&self, part: &str) -> Result<PathBuf, RecordError> {
        let path = self.path(part);
        fs::create_dir_all(&path).map_err(io_error("make the folder", &path))?;
        Ok(path)
    }

    /// Whether a part was finished.
    ///
    /// # Errors
    ///
    /// If its record cannot be read.
    pub fn is_done(&self, part: &str) -> Result<bool, RecordError> {
        let path = self.path(part).join(DONE);
        match fs::read(&path) {
            Ok(bytes) => {
                let (): () = serde_json::from_slice(&bytes).map_err(damaged(&path))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Marks a part as finished. Everything else of it must be on disk.
    ///
    /// # Errors
    ///
    /// If its record cannot be written.
    pub fn finish(&self, part: &str) -> Result<(), RecordError> {
        write_json(&self.folder(part)?.join(DONE), &())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_part_is_found_again() {
        let run = tempfile::tempdir().unwrap();
        let [first, second] = [0, 1].map(|place| Artifacts::new(run.path(), place));
        assert!(!first.is_done("tokenizer").unwrap());
        first.finish("tokenizer").unwrap();
        assert!(Artifacts::new(run.path(), 0).is_done("tokenizer").unwrap());
        assert!(!second.is_done("tokenizer").unwrap());
    }

    #[test]
    fn a_damaged_record_is_named() {
        let run = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(run.path(), 0);
        let path = artifacts.folder("tokens").unwrap().join(DONE);
        fs::write(&path, "{").unwrap();
        let message = artifacts.is_done("tokens").unwrap_err().to_string();
        assert!(message.contains("done.json is damaged"), "{message}");
    }
}
