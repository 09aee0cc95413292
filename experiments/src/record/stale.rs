//! Temporary files that a killed process left behind.

use std::{fs, io, path::Path};

use moebert_core::file::is_temporary;

/// Deletes the temporary files in a folder and in the folders within. Nobody may be writing there.
pub(super) fn delete(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            delete(&entry.path())?;
        } else if is_temporary(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("done.json"), "1").unwrap();
        let left = tempfile::NamedTempFile::new_in(&inner).unwrap();
        delete(folder.path()).unwrap();
        assert!(!left.path().exists());
        assert!(inner.join("done.json").exists());
    }
}
