//! Operations on folders and their content, with the path in each error.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use moebert_core::file::FileError;

use super::error::StoreError;

/// The content of a folder.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The files, sorted: the name relative to the folder, with `/` between parts, and the path.
    pub(super) files: Vec<(String, PathBuf)>,
    /// The folder and its subfolders, parents first.
    pub(super) folders: Vec<PathBuf>,
}

/// Lists a folder and its subfolders.
///
/// # Errors
///
/// If a folder cannot be read, or an entry is neither a file nor a folder or its name is not UTF-8.
pub(super) fn tree(folder: &Path) -> Result<Tree, StoreError> {
    let mut tree = Tree::default();
    add(folder, "", &mut tree)?;
    tree.files.sort();
    Ok(tree)
}

fn add(folder: &Path, prefix: &str, tree: &mut Tree) -> Result<(), StoreError> {
    tree.folders.push(folder.to_owned());
    for entry in fs::read_dir(folder).map_err(read(folder))? {
        let entry = entry.map_err(read(folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(read(&path))?;
        let Some(name) = entry
            .file_name()
            .to_str()
            .map(|name| format!("{prefix}{name}"))
        else {
            return Err(StoreError::Entry { path });
        };
        if kind.is_dir() {
            add(&path, &format!("{name}/"), tree)?;
        } else if kind.is_file() {
            tree.files.push((name, path));
        } else {
            return Err(StoreError::Entry { path });
        }
    }
    Ok(())
}

/// The sorted names in a folder; none if it does not exist. Names that are not UTF-8 are left out: Kiln writes none.
///
/// # Errors
///
/// If it exists and cannot be read.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(read(folder)(error)),
    };
    let mut names = vec![];
    for entry in entries {
        let name = entry.map_err(read(folder))?.file_name();
        names.extend(name.into_string());
    }
    names.sort();
    Ok(names)
}

/// The total length in bytes of the files in a folder, or the length of a file. Symbolic links count as 0, and so do
/// files that another process removes meanwhile.
///
/// # Errors
///
/// If an entry cannot be read.
pub fn size(path: &Path) -> Result<u64, FileError> {
    let of = || -> io::Result<u64> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(if metadata.is_file() {
            metadata.len()
        } else {
            0
        })
    };
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut bytes = 0;
            for entry in entries {
                let entry = entry.map_err(read(path))?;
                let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                bytes += if is_link { 0 } else { size(&entry.path())? };
            }
            Ok(bytes)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => of().map_err(read(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(read(path)(error)),
    }
}

/// Creates a folder and its parents, if they do not exist.
///
/// # Errors
///
/// The system's.
pub(super) fn make(folder: &Path) -> Result<(), FileError> {
    fs::create_dir_all(folder).map_err(write(folder))
}

/// Removes a file, if it exists.
///
/// # Errors
///
/// The system's.
pub(super) fn remove_file(path: &Path) -> Result<(), FileError> {
    gone(fs::remove_file(path)).map_err(write(path))
}

/// Removes a folder and its content, if it exists.
///
/// # Errors
///
/// The system's.
pub(super) fn remove_folder(path: &Path) -> Result<(), FileError> {
    gone(fs::remove_dir_all(path)).map_err(write(path))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Waits until the content of a file, or the entries of a folder, are on the disk.
///
/// # Errors
///
/// The system's.
pub(super) fn sync(path: &Path) -> Result<(), FileError> {
    // Windows does not open folders as files; its journal protects their entries.
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(write(path))
}

/// The error of reading `path`.
pub(super) fn read(path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::Read {
        path: path.to_owned(),
        source,
    }
}

/// The error of writing `path`.
pub(super) fn write(path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_measures_what_is_inside() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        make(&root.join("b/c")).unwrap();
        fs::write(root.join("z"), "12").unwrap();
        fs::write(root.join("b/c/d"), "345").unwrap();
        let tree = tree(root).unwrap();
        let names = tree.files.iter().map(|(name, _)| name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["b/c/d", "z"]);
        assert_eq!(tree.folders.len(), 3);
        assert_eq!(size(root).unwrap(), 5);
        assert_eq!(size(&root.join("z")).unwrap(), 2);
        assert_eq!(size(&root.join("absent")).unwrap(), 0);
        assert_eq!(self::names(root).unwrap(), ["b", "z"]);
        assert!(self::names(&root.join("absent")).unwrap().is_empty());
        sync(root).unwrap();
        for _ in 0..2 {
            remove_file(&root.join("z")).unwrap();
            remove_folder(&root.join("b")).unwrap();
        }
        assert_eq!(size(root).unwrap(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_neither_a_file_nor_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        assert_eq!(size(root).unwrap(), 0);
        let error = tree(root).unwrap_err().to_string();
        assert!(error.contains("link"), "{error}");
    }
}
