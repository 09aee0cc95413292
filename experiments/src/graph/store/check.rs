//! Compares stages with their records.

use std::path::{Path, PathBuf};

use crate::graph::{
    digest::Digest,
    done::{self, Done, Written},
    error::StoreError,
    key::Key,
    walk,
};

/// A difference between a finished stage and its record.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    /// The record or a file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] StoreError),
    /// A file is missing.
    #[error("{} is missing; delete {} and run the command again", path.display(), stage.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The folder of the stage.
        stage: PathBuf,
    },
    /// The content of a file has changed.
    #[error(
        "{} has changed since it was written; delete {} and run the command again",
        path.display(),
        stage.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The folder of the stage.
        stage: PathBuf,
    },
    /// A file is not in the record.
    #[error("{} is not part of the stage; delete it", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
}

/// The findings in one stage.
pub(super) fn stage(folder: &Path, key: &Key) -> Vec<Finding> {
    let (mut done, tree) = match (Done::read(folder, key), walk::tree(folder)) {
        (Ok(done), Ok(tree)) => (done, tree),
        (Err(error), _) | (_, Err(error)) => return vec![error.into()],
    };
    let mut findings = vec![];
    for (name, path) in tree.files {
        if name == done::FILE {
            continue;
        }
        let stage = folder.to_owned();
        match (done.files.remove(&name), Digest::of_file(&path)) {
            (_, Err(error)) => findings.push(StoreError::from(error).into()),
            (None, _) => findings.push(Finding::Unknown { path }),
            (Some(written), Ok((length, sha256))) => {
                if written != (Written { length, sha256 }) {
                    findings.push(Finding::Changed { path, stage });
                }
            }
        }
    }
    findings.extend(done.files.into_keys().map(|name| Finding::Missing {
        path: folder.join(name),
        stage: folder.to_owned(),
    }));
    findings
}
