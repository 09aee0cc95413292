//! Files that appear whole or not at all, and what can be wrong with one.

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use safetensors::SafeTensorError;
use tempfile::NamedTempFile;

/// A file that cannot be read, written or understood.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is what Git has in the place of one that Git LFS keeps elsewhere.
    #[error(
        "{} is a Git LFS pointer, not the file itself; run `git lfs install` and `git lfs pull` in its \
         repository",
        path.display()
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// The file is truncated or is no safetensors file.
    #[error("{} is not a whole safetensors file: {source}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// The file is no JSON of the right form.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A tensor or key is missing, has the wrong form or holds a wrong value.
    #[error("{}: `{name}` {problem}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The tensor or key.
        name: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}

impl FileError {
    /// An error about one tensor or key of a file.
    pub fn entry(path: &Path, name: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self::Entry {
            path: path.to_owned(),
            name: name.into(),
            problem: problem.to_string(),
        }
    }
}

/// The first names of a list and how many follow, for messages.
pub fn shorten(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let first = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// What a pointer of Git LFS begins with.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// The content of a file.
///
/// # Errors
///
/// If it cannot be opened or read, or is a pointer of Git LFS.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let bytes = fs::read(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    refuse_pointer(path, &bytes)?;
    Ok(bytes)
}

/// Checks that a file can be read, for those who leave the reading to someone whose errors would not
/// say why it cannot.
///
/// # Errors
///
/// As [`read`].
pub fn check_readable(path: &Path) -> Result<(), FileError> {
    let mut start = vec![];
    let first = File::open(path).map(|file| file.take(LFS_POINTER.len() as u64));
    first
        .and_then(|mut first| first.read_to_end(&mut start))
        .map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })?;
    refuse_pointer(path, &start)
}

fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if bytes.starts_with(LFS_POINTER) {
        let path = path.to_owned();
        return Err(FileError::LfsPointer { path });
    }
    Ok(())
}

/// The content of a file; `None` if there is no such file.
///
/// # Errors
///
/// If it is there and cannot be opened or read.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// [`write_whole`] with the file named in the error.
///
/// # Errors
///
/// If it cannot be written; what was there before stays whole.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_whole(path, bytes).map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Checks that a file can be written, for those who have long work to do before they write it.
///
/// # Errors
///
/// If it cannot be made or replaced.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    let check = match fs::metadata(path) {
        Ok(entry) if entry.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => tempfile::tempfile_in(folder(path)),
    };
    match check {
        Ok(_) => Ok(()),
        Err(source) => Err(FileError::Write {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The folder that a file is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes a file under a temporary name in the same folder, then renames it, so that a crash or a
/// full disk leaves the previous content as it was.
///
/// # Errors
///
/// The system's.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// [`write_whole`] without waiting for the disk: readers find the file whole, but a crash of the machine can lose it. For
/// files that are only of use while the program runs.
///
/// # Errors
///
/// The system's.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary(path)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// What the names of temporary files begin with.
const TEMPORARY: &str = ".tmp";

/// Whether a file has the name of a [`temporary`] one. Where nobody is writing, a killed process has left it.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// A temporary file in the folder of `path`, which is deleted unless it is renamed.
///
/// # Errors
///
/// The system's.
pub fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // Temporary files are for their owner alone; this one is to be read like any other.
    #[cfg(unix)]
    builder.permissions(PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_content_and_leaves_nothing_else_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layout.json");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read(&path).unwrap(), b"second");
        replace(&path, b"next").unwrap();
        assert_eq!(read(&path).unwrap(), b"next");
        // A folder stands in the way of the rename.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write(&taken, b"third").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_it_as_they_may_any_file() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let metadata = fs::metadata(folder.path().join(name)).unwrap();
            metadata.permissions().mode()
        };
        write(&folder.path().join("ours"), b"text").unwrap();
        fs::write(folder.path().join("any"), b"text").unwrap();
        assert_eq!(mode("ours"), mode("any"));
    }

    #[test]
    fn a_pointer_of_git_lfs_is_named_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.json");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        for pointer in [pointer.to_owned(), pointer.replace('\n', "\r\n")] {
            fs::write(&path, pointer).unwrap();
            for result in [read(&path).map(|_| ()), check_readable(&path)] {
                let error = result.unwrap_err().to_string();
                assert!(
                    error.contains("vocab.json is a Git LFS pointer")
                        && error.contains("`git lfs pull`"),
                    "{error}"
                );
            }
        }
        for other in [
            "",
            "version",
            "version https://git-lfs.github.com/spec/v2\n",
        ] {
            fs::write(&path, other).unwrap();
            assert_eq!(read(&path).unwrap(), other.as_bytes());
            assert!(check_readable(&path).is_ok());
        }
        assert!(check_readable(&folder.path().join("absent")).is_err());
        assert!(check_readable(folder.path()).is_err());
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent/layout.json");
        let error = write(&path, b"text").unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write") && error.contains("absent"),
            "{error}"
        );
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read") && error.contains("absent"),
            "{error}"
        );
    }

    #[test]
    fn tells_what_cannot_be_written_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_writable(&dir.path().join("new")).is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        for path in [dir.path().to_owned(), dir.path().join("nowhere/new")] {
            let error = check_writable(&path).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
