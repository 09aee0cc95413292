//! The tokens of a corpus in a file, made once and read by position.

mod error;
mod header;
mod write;

use std::{
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    path::{Path, PathBuf},
};

pub use error::TokenFileError;
pub use header::{StoredDocument, TokenFileHeader};
use moebert_core::file::FileError;

use super::{corpus::Corpus, text_tokenizer::TextTokenizer};

/// The tokens of a corpus: document after document, each followed by the end-of-document token.
///
/// `NAME.tokens` holds them as little-endian integers, of 2 bytes for at most 65536 tokens and of 4
/// for more; `NAME.json` beside it is the [`TokenFileHeader`].
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    file: File,
    header: TokenFileHeader,
}

impl TokenFile {
    /// Opens the token file of a corpus, or makes it if it is not there, or if the corpus or the
    /// tokenizer is not that which it was made of. `path` is without extension; `progress` is told
    /// the bytes of text done so far, of [`Corpus::bytes`].
    ///
    /// # Errors
    ///
    /// As [`Self::open`] and [`Self::make`].
    pub fn open_or_make(
        path: &Path,
        corpus: &Corpus,
        tokenizer: &TextTokenizer,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, TokenFileError> {
        match Self::open(path) {
            Ok(file) if file.header.describes(corpus, tokenizer)? => return Ok(file),
            Ok(_) | Err(TokenFileError::Version { .. }) => {}
            Err(TokenFileError::File(FileError::Read { source, .. }))
                if source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Self::make(path, corpus, tokenizer, progress)
    }

    /// Tokenizes a corpus into a file, whole or not at all. Only a few pieces of the text are in
    /// memory at a time. `progress` as for [`Self::open_or_make`].
    ///
    /// # Errors
    ///
    /// If the corpus cannot be read or a file cannot be written.
    pub fn make(
        path: &Path,
        corpus: &Corpus,
        tokenizer: &TextTokenizer,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, TokenFileError> {
        write::write(path, corpus, tokenizer, progress)?;
        Self::open(path)
    }

    /// Opens a token file that was made before. `path` is without extension.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, the header is malformed or of another version, or the tokens are
    /// not as many as it says.
    pub fn open(path: &Path) -> Result<Self, TokenFileError> {
        let header = TokenFileHeader::load(&header_path(path))?;
        let path = tokens_path(path);
        let open = || {
            let file = File::open(&path)?;
            let found = file.metadata()?.len();
            Ok((file, found))
        };
        let (file, found) = open().map_err(|source| unreadable(&path, source))?;
        let expected = (header.tokens as u64).saturating_mul(header.width() as u64);
        if found != expected {
            return Err(TokenFileError::Length {
                path,
                found,
                expected,
            });
        }
        Ok(Self { path, file, header })
    }

    /// The file with the tokens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says of itself.
    pub fn header(&self) -> &TokenFileHeader {
        &self.header
    }

    /// Reads the tokens of a range of positions.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or holds an id outside the vocabulary.
    ///
    /// # Panics
    ///
    /// If the range is not within the file, as that of a slice.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u32>, TokenFileError> {
        let (start, tokens) = (range.start, self.header.tokens);
        assert!(
            start <= range.end && range.end <= tokens,
            "tokens {range:?} of {tokens}"
        );
        let width = self.header.width();
        let mut bytes = vec![0; range.len() * width];
        self.read_at(&mut bytes, (start * width) as u64)
            .map_err(|source| unreadable(&self.path, source))?;
        let ids: Vec<u32> = if width == 2 {
            let (pairs, _) = bytes.as_chunks();
            pairs
                .iter()
                .map(|pair| u16::from_le_bytes(*pair).into())
                .collect()
        } else {
            let (fours, _) = bytes.as_chunks();
            fours.iter().map(|four| u32::from_le_bytes(*four)).collect()
        };
        let vocabulary = self.header.vocabulary;
        match ids.iter().position(|id| *id as usize >= vocabulary) {
            None => Ok(ids),
            Some(index) => Err(TokenFileError::Damaged {
                path: self.path.clone(),
                position: start + index,
                id: ids[index],
                vocabulary,
            }),
        }
    }

    // Every way to map a file into memory is `unsafe`, as another program may change it: read by
    // position, from any number of threads, and leave what is read again to the system's cache.
    #[cfg(unix)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }

    // Threads would share the position of one handle: each read takes a handle of its own.
    #[cfg(not(unix))]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }
}

fn header_path(path: &Path) -> PathBuf {
    path.with_added_extension("json")
}

fn tokens_path(path: &Path) -> PathBuf {
    path.with_added_extension("tokens")
}

fn unreadable(path: &Path, source: io::Error) -> FileError {
    let path = path.to_owned();
    FileError::Read { path, source }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::data::{
        corpus::tests::pieces,
        text_tokenizer::tests::{TEXT, corpus},
    };

    /// A token file of bytes, in a folder that has the texts too.
    pub(in crate::data) fn byte_file(texts: &[&str]) -> (TempDir, TokenFile) {
        let folder = tempfile::tempdir().unwrap();
        let corpus = corpus(folder.path(), texts);
        let tokenizer = TextTokenizer::bytes().unwrap();
        let path = folder.path().join("bytes");
        let file = TokenFile::make(&path, &corpus, &tokenizer, &mut |_| {}).unwrap();
        (folder, file)
    }

    fn ids(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn documents_follow_each_other_with_their_ends() {
        let (_folder, file) = byte_file(&["abc", "é"]);
        let header = file.header();
        assert_eq!(
            (header.tokens, header.vocabulary, header.width()),
            (7, 257, 2)
        );
        let mut expected = ids("abc");
        expected.push(256);
        expected.extend(ids("é"));
        expected.push(256);
        assert_eq!(file.read(0..7).unwrap(), expected);
        assert_eq!(file.read(3..5).unwrap(), expected[3..5]);
        assert!(file.read(7..7).unwrap().is_empty());
        assert_eq!((header.document(0), header.document(1)), (0..4, 4..7));
        let bytes: Vec<u64> = header
            .documents
            .iter()
            .map(|document| document.bytes)
            .collect();
        assert_eq!(bytes, [3, 2]);
    }

    #[test]
    fn long_documents_are_tokenized_in_pieces_with_progress() {
        let folder = tempfile::tempdir().unwrap();
        let long = TEXT.repeat(40_000);
        let corpus = corpus(folder.path(), &[TEXT, &long]);
        let tokenizer = TextTokenizer::bytes().unwrap();
        let mut steps = Vec::new();
        let path = folder.path().join("long");
        let file = TokenFile::make(&path, &corpus, &tokenizer, &mut |done| steps.push(done));
        let file = file.unwrap();
        assert!(steps.len() > 2 && steps.is_sorted(), "{steps:?}");
        assert_eq!(steps.last(), Some(&corpus.bytes()));
        let document = file.header().document(1);
        let text = file.read(document.start..document.end - 1).unwrap();
        assert!(text == ids(&long));
    }

    #[test]
    fn a_file_is_made_again_only_when_its_source_changed() {
        let folder = tempfile::tempdir().unwrap();
        let text = corpus(folder.path(), &["abc", "def"]);
        let bytes = TextTokenizer::bytes().unwrap();
        let path = folder.path().join("tokens");
        let made = |corpus: &Corpus, tokenizer: &TextTokenizer| {
            let mut made = false;
            TokenFile::open_or_make(&path, corpus, tokenizer, &mut |_| made = true).unwrap();
            made
        };
        assert!(made(&text, &bytes));
        assert!(!made(&text, &bytes));
        let trained = TextTokenizer::train(&text, 257).unwrap();
        assert!(made(&text, &trained));
        assert!(!made(&text, &trained));
        let longer = corpus(folder.path(), &["abc", "defg"]);
        assert!(made(&longer, &trained));
        assert!(made(
            &corpus(folder.path(), &["abc", "defg", "h"]),
            &trained
        ));

        let header = header_path(&path);
        let json = fs::read_to_string(&header).unwrap();
        fs::write(&header, json.replace("\"version\": 1", "\"version\": 2")).unwrap();
        let error = TokenFile::open(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("version 2; this program reads version 1"),
            "{error}"
        );
        assert!(made(&longer, &trained));
        fs::remove_file(tokens_path(&path)).unwrap();
        assert!(made(&longer, &trained));
    }

    #[test]
    fn a_failed_making_leaves_the_old_file_and_nothing_else() {
        let (folder, file) = byte_file(&["abc"]);
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let before = count();
        let corpus = Corpus::open(&folder.path().join("0.txt")).unwrap();
        fs::write(folder.path().join("0.txt"), b"ab\xff").unwrap();
        let path = folder.path().join("bytes");
        let tokenizer = TextTokenizer::bytes().unwrap();
        let error = TokenFile::make(&path, &corpus, &tokenizer, &mut |_| {}).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("0.txt: byte 2 is not UTF-8 text"),
            "{error}"
        );
        assert_eq!(count(), before);
        let opened = TokenFile::open(&path).unwrap();
        assert_eq!(opened.read(0..4).unwrap(), file.read(0..4).unwrap());
    }

    #[test]
    fn damage_is_named() {
        let (folder, file) = byte_file(&["abc"]);
        let path = folder.path().join("bytes");
        let tokens = tokens_path(&path);
        let open = || TokenFile::open(&path).unwrap_err().to_string();

        let mut bytes = fs::read(&tokens).unwrap();
        bytes[5] = 7;
        fs::write(&tokens, &bytes).unwrap();
        let opened = TokenFile::open(&path).unwrap();
        assert!(opened.read(0..2).is_ok());
        let error = opened.read(1..4).unwrap_err().to_string();
        assert!(
            error.contains("bytes.tokens: token 2 is 1891, but there are only 257 tokens"),
            "{error}"
        );

        fs::write(&tokens, &bytes[..5]).unwrap();
        let error = open();
        assert!(
            error.contains("bytes.tokens has 5 bytes, its header says 8"),
            "{error}"
        );
        // It was whole when it was opened, and is not any more.
        let error = file.read(0..4).unwrap_err().to_string();
        assert!(error.starts_with("cannot read"), "{error}");
        fs::remove_file(&tokens).unwrap();
        assert!(open().starts_with("cannot read"));

        let header = header_path(&path);
        let json = fs::read_to_string(&header).unwrap();
        for (from, to, expected) in [
            (
                "\"start\": 0",
                "\"start\": 3",
                "`documents` must begin with token 0",
            ),
            (
                "\"tokens\": 4",
                "\"tokens\": 0",
                "`documents` must begin with token 0",
            ),
            ("\"vocabulary\"", "\"words\"", "unknown field `words`"),
            ("\"version\": 1,", "", "missing field `version`"),
        ] {
            fs::write(&header, json.replace(from, to)).unwrap();
            let error = open();
            assert!(
                error.contains("bytes.json") && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn large_vocabularies_take_four_bytes() {
        let (folder, _) = byte_file(&["abc"]);
        let path = folder.path().join("bytes");
        let json = fs::read_to_string(header_path(&path)).unwrap();
        let json = json.replace("\"vocabulary\": 257", "\"vocabulary\": 65537");
        fs::write(header_path(&path), json).unwrap();
        let ids = [65_536_u32, 1, 2, 3];
        fs::write(tokens_path(&path), ids.map(u32::to_le_bytes).concat()).unwrap();
        assert_eq!(TokenFile::open(&path).unwrap().read(0..4).unwrap(), ids);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// What the pieces of a corpus promise of the tokens of its whole text.
        #[test]
        fn the_tokens_of_pieces_are_those_of_the_whole(
            text in "(the cat|[ a'\n\r\t—1]|\u{3000}|\u{85}|\u{a0}|猫|\\PC){1,60}",
            least in 1_usize..9,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let corpus = corpus(folder.path(), &[TEXT, &text]);
            let tokenizer = TextTokenizer::train(&corpus, 400).unwrap();
            let pieces = pieces(text.as_bytes(), least).unwrap();
            let tokens = tokenizer.encode(&pieces).unwrap().concat();
            prop_assert_eq!(vec![tokens], tokenizer.encode(&[text]).unwrap());
        }
    }
}
