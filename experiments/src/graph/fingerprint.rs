//! One hash for the content of the files that a stage reads, independent of their paths.

mod cache;
mod model;

use std::path::{Path, PathBuf};

use moebert_core::file::FileError;

use self::cache::Cache;
use super::{
    digest::{Digest, Fingerprint},
    store::Store,
};

/// Why a fingerprint cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file changed while it was read.
    #[error(
        "{} changed while it was read; run the command again when it is complete",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The fields of a line are separated by tabs.
    #[error(
        "the name of {} has control characters or is not UTF-8; rename the file",
        path.display()
    )]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// A folder has no weights.
    #[error(
        "{} holds no weights: expected model.safetensors or pytorch_model.bin, or the index of its parts",
        folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
}

/// Files that a stage reads, with their role in it, such as `train` or `model`.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// One file.
    File {
        /// Its role.
        role: &'a str,
        /// The file.
        path: &'a Path,
    },
    /// The configuration, weights and tokenizer of a model; other files of the folder are ignored.
    Model {
        /// Its role.
        role: &'a str,
        /// The model's folder.
        folder: &'a Path,
    },
}

/// Computes fingerprints, with a cache of the hashes of unchanged files.
#[derive(Debug)]
pub struct Fingerprints {
    cache: Cache,
}

impl Fingerprints {
    /// Reads the cache of a store. A cache that cannot be read is ignored with a warning.
    pub fn open(store: &Store) -> Self {
        Self {
            cache: Cache::read(store.fingerprints()),
        }
    }

    /// Without the hashes of a store.
    pub fn without_cache() -> Self {
        Self {
            cache: Cache::default(),
        }
    }

    /// The SHA-256 over the sorted lines `role, name, length, sha256` of the files, with tabs between the fields and a
    /// line break after each line.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is a Git LFS pointer or changes while it is read, or a model has no weights.
    pub fn of(&mut self, sources: &[Source]) -> Result<Fingerprint, FingerprintError> {
        let mut lines = vec![];
        for source in sources {
            match *source {
                Source::File { role, path } => lines.push(self.line(role, path)?),
                Source::Model { role, folder } => {
                    for path in model::files(folder)? {
                        lines.push(self.line(role, &path)?);
                    }
                }
            }
        }
        lines.sort();
        Ok(Fingerprint(Digest::of(lines.concat())))
    }

    /// Writes new hashes to the cache. Losing them costs only time, so a failure is a warning.
    pub fn save(&mut self) {
        if let Err(error) = self.cache.write() {
            log::warn!("{error}; files will be hashed again");
        }
    }

    fn line(&mut self, role: &str, path: &Path) -> Result<String, FingerprintError> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| !name.contains(char::is_control))
            .ok_or_else(|| FingerprintError::Name {
                path: path.to_owned(),
            })?;
        let (length, sha256) = self.cache.digest(path)?;
        Ok(format!("{role}\t{name}\t{length}\t{sha256}\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use tempfile::TempDir;

    use super::*;

    fn store() -> (TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    /// Writes a file that was changed long ago.
    fn write_old(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }

    #[test]
    fn is_the_hash_of_the_sorted_lines_without_paths() {
        let (folder, store) = store();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        fs::create_dir_all(&a).unwrap();
        fs::create_dir_all(&b).unwrap();
        for place in [&a, &b] {
            fs::write(place.join("dev.tsv"), "abc").unwrap();
            fs::write(place.join("train.tsv"), "").unwrap();
        }
        let mut fingerprints = Fingerprints::open(&store);
        let mut of = |place: &Path, reverse: bool| {
            let paths = [place.join("train.tsv"), place.join("dev.tsv")];
            let mut sources = [
                Source::File {
                    role: "train",
                    path: &paths[0],
                },
                Source::File {
                    role: "dev",
                    path: &paths[1],
                },
            ];
            if reverse {
                sources.reverse();
            }
            fingerprints.of(&sources).unwrap()
        };
        let lines = format!(
            "dev\tdev.tsv\t3\t{}\ntrain\ttrain.tsv\t0\t{}\n",
            Digest::of("abc"),
            Digest::of("")
        );
        let expected = format!("sha256:{}", Digest::of(lines));
        for fingerprint in [of(&a, false), of(&a, true), of(&b, false)] {
            assert_eq!(fingerprint.to_string(), expected);
        }
    }

    #[test]
    fn remembers_files_by_length_time_and_inode() {
        let (folder, store) = store();
        let path = folder.path().join("dev.tsv");
        let source = [Source::File {
            role: "dev",
            path: &path,
        }];
        write_old(&path, "first");
        let mut fingerprints = Fingerprints::open(&store);
        let first = fingerprints.of(&source).unwrap();
        fingerprints.save();
        // Same file, length and time: the cache cannot tell, which shows that it is used.
        write_old(&path, "other");
        let mut fingerprints = Fingerprints::open(&store);
        assert_eq!(fingerprints.of(&source).unwrap(), first);
        // A new time means a new file, and a file this young is not cached.
        fs::write(&path, "third").unwrap();
        let third = fingerprints.of(&source).unwrap();
        assert_ne!(third, first);
        fs::write(&path, "fifth").unwrap();
        assert_ne!(fingerprints.of(&source).unwrap(), third);
        // Losing the cache is harmless, and so is a damaged one.
        write_old(&path, "other");
        fs::write(store.fingerprints(), "{").unwrap();
        let other = Fingerprints::open(&store).of(&source).unwrap();
        assert_ne!(other, first);
        fs::remove_file(store.fingerprints()).unwrap();
        assert_eq!(Fingerprints::open(&store).of(&source).unwrap(), other);
    }

    #[test]
    fn processes_add_to_the_cache_of_others() {
        let (folder, store) = store();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        let mut both = paths.each_ref().map(|path| {
            write_old(path, "text");
            let mut fingerprints = Fingerprints::open(&store);
            fingerprints
                .of(&[Source::File { role: "r", path }])
                .unwrap();
            fingerprints
        });
        both[0].save();
        both[1].save();
        let text = fs::read_to_string(store.fingerprints()).unwrap();
        for path in &paths {
            let path = path.canonicalize().unwrap();
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
        // A folder stands in the way: a warning, no error.
        fs::remove_file(store.fingerprints()).unwrap();
        fs::create_dir(store.fingerprints()).unwrap();
        both[0].save();
    }

    #[test]
    fn a_model_is_its_configuration_weights_and_tokenizer() {
        let (folder, store) = store();
        let model = folder.path().join("model");
        fs::create_dir(&model).unwrap();
        let mut fingerprints = Fingerprints::open(&store);
        let mut of = || {
            fingerprints.of(&[Source::Model {
                role: "model",
                folder: &model,
            }])
        };
        let error = of().unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
        fs::write(model.join("config.json"), "{}").unwrap();
        let error = of().unwrap_err().to_string();
        assert!(error.contains("model holds no weights"), "{error}");

        let index =
            r#"{ "weight_map": { "x": "part-1.bin", "y": "part-2.bin", "z": "part-1.bin" } }"#;
        fs::write(model.join("pytorch_model.bin.index.json"), index).unwrap();
        fs::write(model.join("part-1.bin"), "1").unwrap();
        let error = of().unwrap_err().to_string();
        assert!(error.contains("part-2.bin"), "{error}");
        fs::write(model.join("part-2.bin"), "2").unwrap();
        let parts = of().unwrap();
        fs::write(model.join("part-2.bin"), "3").unwrap();
        assert_ne!(of().unwrap(), parts);

        fs::write(model.join("model.safetensors"), "weights").unwrap();
        let whole = of().unwrap();
        for unread in ["README.md", "pytorch_model.bin", "part-1.bin"] {
            fs::write(model.join(unread), "unread").unwrap();
            assert_eq!(of().unwrap(), whole, "{unread}");
        }
        for read in ["tokenizer.json", "experts.json", "config.json"] {
            let before = of().unwrap();
            fs::write(model.join(read), "{ \"read\": 1 }").unwrap();
            assert_ne!(of().unwrap(), before, "{read}");
        }
    }

    #[test]
    fn what_has_no_fingerprint_is_named() {
        let (folder, store) = store();
        let mut fingerprints = Fingerprints::open(&store);
        let pointer = folder.path().join("train.tsv");
        fs::write(&pointer, "version https://git-lfs.github.com/spec/v1\n").unwrap();
        let absent = folder.path().join("absent.tsv");
        let tab = folder.path().join("a\tb.tsv");
        for (path, problem) in [
            (&pointer, "train.tsv is a Git LFS pointer"),
            (&absent, "absent.tsv"),
            (&tab, "rename the file"),
        ] {
            let error = fingerprints
                .of(&[Source::File { role: "r", path }])
                .unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
