//! A training that goes on from where another stage stopped.

use std::{fs, io, path::Path};

use crate::error::Error;

/// The suffix of a copy that is not whole.
const PARTIAL: &str = ".partial";

/// Copies the folder of a training, unless the copy is there. It is whole or not there.
///
/// # Errors
///
/// If a file cannot be read or written.
pub(super) fn copy_training(from: &Path, to: &Path) -> Result<(), Error> {
    if to.exists() {
        return Ok(());
    }
    let mut name = to.as_os_str().to_owned();
    name.push(PARTIAL);
    let partial = Path::new(&name);
    match fs::remove_dir_all(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::file(partial, error));
        }
        _ => copy(from, partial)?,
    }
    fs::rename(partial, to).map_err(|source| Error::file(to, source))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(|source| Error::file(to, source))?;
    let entries = fs::read_dir(from).map_err(|source| Error::file(from, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| Error::file(from, source))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(|source| Error::file(&path, source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_and_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join("checkpoints/epoch-1")).unwrap();
        fs::write(from.join("checkpoints/epoch-1/state.json"), "1").unwrap();
        fs::write(from.join("metrics.jsonl"), "2").unwrap();
        // What a copy left that was stopped.
        fs::create_dir_all(folder.path().join("to.partial/old")).unwrap();
        copy_training(&from, &to).unwrap();
        let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
        assert_eq!(read("checkpoints/epoch-1/state.json"), "1");
        assert!(!to.join("old").exists());
        fs::write(from.join("metrics.jsonl"), "3").unwrap();
        copy_training(&from, &to).unwrap();
        assert_eq!(read("metrics.jsonl"), "2");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
