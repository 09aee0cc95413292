//! Tests the file system of a store once, when the store is created.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
};

use super::ClaimBy;
use crate::graph::{error::StoreError, owner, walk};

/// How to claim stages on the file system of a folder.
///
/// # Errors
///
/// If it lacks an operation that stores need, or cannot be written to.
pub(super) fn probe(hidden: &Path) -> Result<ClaimBy, StoreError> {
    let folder = hidden.join(format!("probe-{}", owner::unique()));
    walk::make(&folder)?;
    let result = features(&folder);
    let removed = walk::remove_folder(&folder);
    let claim = match result.map_err(walk::write(&folder))? {
        Ok(claim) => claim,
        Err(problem) => {
            return Err(StoreError::FileSystem {
                path: hidden.to_owned(),
                problem,
            });
        }
    };
    removed?;
    Ok(claim)
}

fn features(folder: &Path) -> io::Result<Result<ClaimBy, &'static str>> {
    let is_taken = |result: io::Result<_>| {
        result.is_err_and(|error: io::Error| error.kind() == ErrorKind::AlreadyExists)
    };
    let [file, link] = ["file", "link"].map(|name| folder.join(name));
    File::create_new(&file)?;
    if !is_taken(File::create_new(&file).map(|_| ())) {
        return Ok(Err("it creates a file that already exists"));
    }
    let has_links = fs::hard_link(&file, &link).is_ok() && is_taken(fs::hard_link(&file, &link));

    let [full, other, free] = ["full", "other", "free"].map(|name| folder.join(name));
    for folder in [&full, &other] {
        fs::create_dir(folder)?;
        fs::write(folder.join("file"), "")?;
    }
    if fs::rename(&full, &other).is_ok() {
        return Ok(Err("it renames a folder onto another that is not empty"));
    }
    if fs::rename(&full, &free).is_err() || full.exists() || !free.join("file").exists() {
        return Ok(Err("it does not rename folders"));
    }
    Ok(Ok(if has_links {
        ClaimBy::Link
    } else {
        ClaimBy::Create
    }))
}
