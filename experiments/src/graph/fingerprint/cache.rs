//! Hashes of files that have not changed since they were read.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};

use super::FingerprintError;
use crate::{graph::digest::Digest, json_file};

/// A file modified more recently than this may change again without a new modification time, because the resolution
/// of these times is limited.
const SETTLED: Duration = Duration::from_secs(2);

/// The hashes in the cache file and those that this process adds.
#[derive(Debug, Default)]
pub(super) struct Cache {
    path: PathBuf,
    known: BTreeMap<String, Known>,
    /// Not written to the file yet.
    added: BTreeMap<String, Known>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    stamp: Stamp,
    sha256: Digest,
}

/// Changes when a file is replaced or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    /// In bytes.
    length: u64,
    /// The modification time, in nanoseconds since 1970-01-01 UTC.
    mtime_ns: u64,
    /// 0 on systems without inodes.
    inode: u64,
}

impl Cache {
    pub(super) fn read(path: PathBuf) -> Self {
        let known = match read(&path) {
            Ok(known) => known,
            Err(error) => {
                log::warn!("{error}; files will be hashed again");
                BTreeMap::new()
            }
        };
        Self {
            path,
            known,
            added: BTreeMap::new(),
        }
    }

    /// The length in bytes and the hash of a file.
    pub(super) fn digest(&mut self, path: &Path) -> Result<(u64, Digest), FingerprintError> {
        let stamp = stamp(path)?;
        let name = fs::canonicalize(path).map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })?;
        // A file whose path is not UTF-8 is hashed each time.
        let name = name.to_str();
        let known = name.and_then(|name| self.added.get(name).or_else(|| self.known.get(name)));
        if let Some(known) = known.filter(|known| known.stamp == stamp) {
            return Ok((stamp.length, known.sha256));
        }
        file::check_readable(path)?;
        let (length, sha256) = Digest::of_file(path)?;
        if self::stamp(path)? != stamp || length != stamp.length {
            return Err(FingerprintError::Changed {
                path: path.to_owned(),
            });
        }
        if let Some(name) = name
            && stamp.is_settled()
        {
            self.added.insert(name.to_owned(), Known { stamp, sha256 });
        }
        Ok((length, sha256))
    }

    /// Merges new hashes into the file. If two processes do this at once, the new hashes of one may be lost.
    pub(super) fn write(&mut self) -> Result<(), FileError> {
        if self.added.is_empty() {
            return Ok(());
        }
        self.known = read(&self.path).unwrap_or_default();
        self.known.append(&mut self.added);
        let json = serde_json::to_vec(&self.known).map_err(|source| FileError::Json {
            path: self.path.clone(),
            source,
        })?;
        file::write(&self.path, &json)
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Known>, FileError> {
    Ok(json_file::read_if_there(path)?.unwrap_or_default())
}

fn stamp(path: &Path) -> Result<Stamp, FileError> {
    let of = |metadata: Metadata| {
        let modified = metadata.modified()?;
        Ok(Stamp {
            length: metadata.len(),
            mtime_ns: modified
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos() as u64),
            inode: inode(&metadata),
        })
    };
    fs::metadata(path)
        .and_then(of)
        .map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

impl Stamp {
    fn is_settled(self) -> bool {
        let modified = UNIX_EPOCH + Duration::from_nanos(self.mtime_ns);
        SystemTime::now()
            .duration_since(modified)
            .is_ok_and(|age| age > SETTLED)
    }
}
