//! Files of JSON, and of lines of JSON.

use std::path::Path;

use moebert_core::file::{self, FileError};
use serde::de::DeserializeOwned;

/// The value of a file.
///
/// # Errors
///
/// If it cannot be read, or is no JSON of the right form.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    parse(path, &file::read(path)?)
}

/// The value of a file; none if there is no such file.
///
/// # Errors
///
/// If it is there and cannot be read, or is no JSON of the right form.
pub(crate) fn read_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let bytes = file::read_if_there(path)?;
    bytes.map(|bytes| parse(path, &bytes)).transpose()
}

/// The values of lines, the content of the file at `path`. Empty lines are left out.
///
/// # Errors
///
/// If a line is no JSON of the right form.
pub(crate) fn lines<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<Vec<T>, FileError> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines.map(|line| parse(path, line)).collect()
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, FileError> {
    serde_json::from_slice(bytes).map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn json_is_read_whole_and_by_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.jsonl");
        assert_eq!(read_if_there::<u32>(&path).unwrap(), None);
        assert!(read::<u32>(&path).is_err());
        fs::write(&path, b"7").unwrap();
        assert_eq!(read::<u32>(&path).unwrap(), 7);
        assert_eq!(read_if_there(&path).unwrap(), Some(7));
        assert_eq!(lines::<u32>(&path, b"1\n\n2\n").unwrap(), [1, 2]);
        let error = lines::<u32>(&path, b"1\nx\n").unwrap_err().to_string();
        assert!(error.contains("numbers.jsonl: expected value"), "{error}");
    }
}
