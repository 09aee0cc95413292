//! Where the text of a run lies, and whether it is text.

use std::path::{Path, PathBuf};

use crate::{
    data::{
        corpus::{Corpus, CorpusError, Document},
        token_file::TokenFile,
    },
    interrupt::Stop,
    run::Shares,
};

/// Text to train on, to validate on, and to judge by.
#[derive(Clone, Debug)]
pub struct TextFiles {
    /// `train`.
    pub train: Corpus,
    /// `valid`.
    pub valid: Corpus,
    /// `test`, if it is there.
    pub test: Option<Corpus>,
}

/// Text that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TextFilesError {
    /// It cannot be read, or is not text.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A split is not there.
    #[error(
        "{} has no `{split}`: expected a folder `{split}` with .txt files, or a file `{split}.txt`",
        path.display()
    )]
    Missing {
        /// The folder.
        path: PathBuf,
        /// `train` or `valid`.
        split: &'static str,
    },
    /// A split is shorter than one sequence, whatever the tokenizer.
    #[error(
        "{split} has {bytes} bytes of text, at most {most} tokens: one sequence of {length} needs \
         {}; take more text or a smaller data.length",
        length + 1
    )]
    Short {
        /// `train` or `valid`.
        split: &'static str,
        /// Bytes of text.
        bytes: u64,
        /// The most tokens that they can be, document ends included.
        most: u64,
        /// Tokens of a sequence.
        length: usize,
    },
}

impl TextFiles {
    /// Finds the splits in a folder and makes sure that they are text and that there is enough of it
    /// for sequences of `length` tokens. Documents are read for that unless the folder `tokens` has
    /// token files made of them. Stops early if a stop is asked for.
    ///
    /// # Errors
    ///
    /// If a split is missing, cannot be read, is not UTF-8, or is too short.
    pub fn open(
        path: &Path,
        length: usize,
        tokens: &Path,
        stop: &Stop,
    ) -> Result<Self, TextFilesError> {
        let split = |name: &'static str| -> Result<Option<Corpus>, TextFilesError> {
            let places = [path.join(name), path.join(format!("{name}.txt"))];
            let place = places.iter().find(|place| place.exists());
            Ok(place.map(|place| Corpus::open(place)).transpose()?)
        };
        let needed = |name| {
            split(name)?.ok_or_else(|| TextFilesError::Missing {
                path: path.to_owned(),
                split: name,
            })
        };
        let files = Self {
            train: needed("train")?,
            valid: needed("valid")?,
            test: split("test")?,
        };
        for (split, corpus) in [("train", &files.train), ("valid", &files.valid)] {
            let bytes = corpus.bytes();
            // A token is a byte at least, and each document has an end.
            let most = bytes + corpus.documents().len() as u64;
            if most <= length as u64 {
                return Err(TextFilesError::Short {
                    split,
                    bytes,
                    most,
                    length,
                });
            }
        }
        let corpora = files.corpora();
        for (split, corpus) in corpora {
            // A token file that is damaged is an error when its tokens are needed.
            let known = TokenFile::open(&tokens.join(split)).ok();
            for document in corpus.documents() {
                let is_known = known
                    .as_ref()
                    .is_some_and(|file| file.header().holds(document));
                if !is_known {
                    read(document, stop)?;
                }
            }
        }
        Ok(files)
    }

    /// The beginning of each split, `bytes` of those that models are validated on and judged by and eight times as many to
    /// train on, written into a folder; and their shares of the splits.
    ///
    /// # Errors
    ///
    /// If text cannot be read or written.
    pub(crate) fn sampled(
        &self,
        folder: &Path,
        bytes: usize,
    ) -> Result<(Self, Shares), TextFilesError> {
        let cut = |name: &str, corpus: &Corpus, bytes: usize| {
            let cut = corpus.beginning(&folder.join(format!("{name}.txt")), bytes)?;
            let share = cut.bytes() as f64 / corpus.bytes() as f64;
            Ok::<_, CorpusError>((cut, share))
        };
        let (train, of_train) = cut("train", &self.train, 8 * bytes)?;
        let (valid, of_valid) = cut("valid", &self.valid, bytes)?;
        let test = self.test.as_ref().map(|test| cut("test", test, bytes));
        let (test, of_test) = test.transpose()?.unzip();
        let shares = Shares {
            train: of_train,
            valid: of_valid,
            judged: of_test.unwrap_or(of_valid),
        };
        Ok((Self { train, valid, test }, shares))
    }

    /// The splits that are there, each with the name of its token file.
    pub fn corpora(&self) -> impl Iterator<Item = (&'static str, &Corpus)> {
        let test = self.test.as_ref().map(|test| ("test", test));
        [("train", &self.train), ("valid", &self.valid)]
            .into_iter()
            .chain(test)
    }
}

/// Reads a document to its end.
fn read(document: &Document, stop: &Stop) -> Result<(), CorpusError> {
    for piece in document.pieces()? {
        piece?;
        if stop.requested() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::data::text_tokenizer::TextTokenizer;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn open_in(folder: &Path) -> Result<TextFiles, String> {
        let tokens = folder.join("tokens");
        TextFiles::open(folder, 4, &tokens, &Stop::default()).map_err(|error| {
            let folder = folder.display().to_string();
            error.to_string().replace(&folder, "DIR")
        })
    }

    fn open(files: &[(&str, &[u8])]) -> Result<TextFiles, String> {
        open_in(folder(files).path())
    }

    #[test]
    fn splits_are_folders_or_files() {
        let files = open(&[
            ("train/a.txt", b"one two"),
            ("train/b.txt", b"three"),
            ("valid.txt", b"four"),
        ])
        .unwrap();
        assert_eq!(files.train.documents().len(), 2);
        assert_eq!(files.valid.bytes(), 4);
        assert!(files.test.is_none());
    }

    #[test]
    fn what_is_missing_short_or_no_text_is_named() {
        let missing = open(&[("train.txt", b"enough text")]).unwrap_err();
        let expected =
            "DIR has no `valid`: expected a folder `valid` with .txt files, or a file `valid.txt`";
        assert_eq!(missing, expected);
        let short = open(&[("train.txt", b"abc"), ("valid.txt", b"enough")]).unwrap_err();
        let expected = "train has 3 bytes of text, at most 4 tokens: one sequence of 4 needs 5; \
                        take more text or a smaller data.length";
        assert_eq!(short, expected);
        let broken = open(&[
            ("train.txt", b"enough"),
            ("valid.txt", b"enough"),
            ("test/x.txt", b"abc\xff"),
        ])
        .unwrap_err();
        assert_eq!(broken, "DIR/test/x.txt: byte 3 is not UTF-8 text");
    }

    #[test]
    fn text_that_has_tokens_is_read_again_where_it_changed() {
        let folder = folder(&[
            ("train/a.txt", b"enough"),
            ("train/b.txt", b"enough"),
            ("valid.txt", b"enough"),
        ]);
        let files = open_in(folder.path()).unwrap();
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let tokenizer = TextTokenizer::bytes().unwrap();
        for (split, corpus) in files.corpora() {
            TokenFile::make(&tokens.join(split), corpus, &tokenizer, &mut |_| {}).unwrap();
        }
        // What looks unchanged is not read: its tokens were made of text.
        let path = folder.path().join("train/b.txt");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, b"enoug\xff").unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        open_in(folder.path()).unwrap();
        file.set_modified(modified + Duration::from_secs(1))
            .unwrap();
        let refused = open_in(folder.path()).unwrap_err();
        assert_eq!(refused, "DIR/train/b.txt: byte 5 is not UTF-8 text");
        file.set_modified(modified).unwrap();
        fs::write(tokens.join("train.json"), "{").unwrap();
        assert_eq!(open_in(folder.path()).unwrap_err(), refused);
    }
}
