//! Links from a run folder to the stages of a store.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Component, Path, PathBuf},
};

/// Makes a relative link at `path` to the folder `target`; one that is there is replaced. Where the system has no links,
/// it is a text file with the path.
pub(super) fn make(path: &Path, target: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let target = relative(&fs::canonicalize(folder)?, &fs::canonicalize(target)?);
    if fs::read_link(path).is_ok_and(|found| found == target) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match symlink(&target, path) {
        // Another process that finds the run finished makes the same link.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    fs::write(path, target.to_string_lossy().as_bytes())
}

/// The way from one absolute path to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components());
    let shared = shared.take_while(|(one, other)| one == other).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_goes_up_to_what_both_share() {
        for (from, to, way) in [
            ("/runs/a/arms", "/runs/store/train-1", "../../store/train-1"),
            ("/runs", "/runs/store", "store"),
            ("/a", "/b/c", "../b/c"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way));
        }
    }

    #[test]
    fn a_link_follows_its_target_to_another_place() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("all/run");
        let stages = ["one", "two"].map(|name| folder.path().join("all/store").join(name));
        fs::create_dir_all(&run).unwrap();
        for stage in &stages {
            fs::create_dir_all(stage).unwrap();
            fs::write(
                stage.join("name"),
                stage.file_name().unwrap().as_encoded_bytes(),
            )
            .unwrap();
            make(&run.join("link"), stage).unwrap();
            make(&run.join("link"), stage).unwrap();
        }
        fs::rename(folder.path().join("all"), folder.path().join("moved")).unwrap();
        let name = fs::read_to_string(folder.path().join("moved/run/link/name")).unwrap();
        assert_eq!(name, "two");
    }
}
