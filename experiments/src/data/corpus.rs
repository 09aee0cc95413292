//! Plain text to model: one file, or a folder of `.txt` files. A document is a file, without the byte
//! order mark that it may begin with.

use std::{
    fs::{self, File, Metadata},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use moebert_core::file::{self, FileError};

use super::byte_order_mark::{BYTE_ORDER_MARK, without_mark};

/// Text is read in pieces of at least this many bytes, so that a file need not fit in memory.
const PIECE_BYTES: usize = 128 << 10;

/// Text that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A folder has no text.
    #[error("{} has no .txt files; a corpus is a text file or a folder of .txt files", path.display())]
    NoFiles {
        /// The folder.
        path: PathBuf,
    },
    /// A file has no text.
    #[error("{} is empty; a document needs at least one byte of text", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file is not UTF-8.
    #[error("{}: byte {offset} is not UTF-8 text", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// Where the first byte is that is not text, from 0.
        offset: u64,
    },
    /// A file does not have the length that it had when the corpus was opened.
    #[error("{} changed while it was read: {found} bytes, {expected} before", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Bytes when the corpus was opened.
        expected: u64,
        /// Bytes that were read.
        found: u64,
    },
}

/// One file of a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    path: PathBuf,
    bytes: u64,
    modified: u64,
}

/// Documents in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    documents: Vec<Document>,
}

impl Corpus {
    /// Finds the documents: the file itself, or the `.txt` files of a folder, sorted by name and
    /// without those of its folders. Their text is not read yet.
    ///
    /// # Errors
    ///
    /// If the path cannot be read, the folder has no `.txt` file, or a file is empty.
    pub fn open(path: &Path) -> Result<Self, CorpusError> {
        let documents = if metadata(path)?.is_dir() {
            let documents = text_files(path)?
                .into_iter()
                .map(Document::open)
                .collect::<Result<Vec<_>, _>>()?;
            if documents.is_empty() {
                let path = path.to_owned();
                return Err(CorpusError::NoFiles { path });
            }
            documents
        } else {
            vec![Document::open(path.to_owned())?]
        };
        Ok(Self { documents })
    }

    /// The first `bytes` of the text, up to the end of a line or of a document, as one document that is written to `path`.
    ///
    /// # Errors
    ///
    /// If the text cannot be read or written.
    pub fn beginning(&self, path: &Path, bytes: usize) -> Result<Self, CorpusError> {
        let mut text = String::new();
        for document in &self.documents {
            for piece in document.pieces()? {
                for line in piece?.split_inclusive('\n') {
                    text.push_str(line);
                    if text.len() >= bytes {
                        file::write(path, text.as_bytes())?;
                        return Self::open(path);
                    }
                }
            }
        }
        file::write(path, text.as_bytes())?;
        Self::open(path)
    }

    /// The documents; at least one.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The size of all documents in bytes.
    pub fn bytes(&self) -> u64 {
        self.documents.iter().map(Document::bytes).sum()
    }
}

impl Document {
    fn open(path: PathBuf) -> Result<Self, CorpusError> {
        file::check_readable(&path)?;
        let file = File::open(&path).map_err(|source| unreadable(&path, source))?;
        let metadata = file
            .metadata()
            .map_err(|source| unreadable(&path, source))?;
        let mut head = vec![];
        file.take(BYTE_ORDER_MARK.len() as u64)
            .read_to_end(&mut head)
            .map_err(|source| unreadable(&path, source))?;
        let mark = head.len() - without_mark(&head).len();
        let bytes = metadata.len().saturating_sub(mark as u64);
        if bytes == 0 {
            return Err(CorpusError::Empty { path });
        }
        let modified = metadata
            .modified()
            .map_err(|source| unreadable(&path, source))?;
        // Nobody has text from before 1970, but archives do have such dates.
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            path,
            bytes,
            modified: modified.as_nanos() as u64,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the file without its folder.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The size of the text in bytes; at least 1.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the file was last changed, in nanoseconds since 1970.
    pub fn modified(&self) -> u64 {
        self.modified
    }

    /// The text in pieces, which joined are the document.
    ///
    /// A piece ends before a line break that a line follows which does not begin with white space.
    /// There the byte-level pre-tokenizer of GPT-2 divides words in any case, so that tokens of
    /// pieces are tokens of the whole. A line is never divided.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened. The pieces are errors where it cannot be read, is not UTF-8
    /// or has changed its length.
    pub fn pieces(&self) -> Result<Pieces<BufReader<File>>, CorpusError> {
        let file = File::open(&self.path).map_err(|source| unreadable(&self.path, source))?;
        Ok(Pieces::new(BufReader::new(file), self.clone(), PIECE_BYTES))
    }
}

/// The pieces of a document; nothing comes after an error.
#[derive(Debug)]
pub struct Pieces<R> {
    reader: R,
    document: Document,
    least: usize,
    /// Bytes of the file that have been read.
    offset: u64,
    /// Those of its byte order mark.
    mark: u64,
    pending: String,
    ended: bool,
}

impl<R: BufRead> Pieces<R> {
    fn new(reader: R, document: Document, least: usize) -> Self {
        Self {
            reader,
            document,
            least,
            offset: 0,
            mark: 0,
            pending: String::new(),
            ended: false,
        }
    }

    fn next_piece(&mut self) -> Result<String, CorpusError> {
        loop {
            let line = self.next_line()?;
            if line.is_empty() {
                self.ended = true;
                return Ok(std::mem::take(&mut self.pending));
            }
            let divides = !line.starts_with(char::is_whitespace);
            if divides && self.pending.len() > self.least && self.pending.ends_with('\n') {
                let next = format!("\n{line}");
                let mut piece = std::mem::replace(&mut self.pending, next);
                piece.pop();
                return Ok(piece);
            }
            self.pending += &line;
        }
    }

    /// The next line with its line break; empty at the end.
    fn next_line(&mut self) -> Result<String, CorpusError> {
        let path = &self.document.path;
        let mut line = Vec::new();
        let read = self.reader.read_until(b'\n', &mut line);
        let read = read.map_err(|source| unreadable(path, source))? as u64;
        let found = self.offset - self.mark;
        if read == 0 && found != self.document.bytes {
            return Err(CorpusError::Changed {
                path: path.clone(),
                expected: self.document.bytes,
                found,
            });
        }
        if self.offset == 0 {
            let text = without_mark(&line).len();
            self.mark = line.drain(..line.len() - text).len() as u64;
        }
        let line = String::from_utf8(line).map_err(|error| CorpusError::Encoding {
            path: path.clone(),
            offset: self.offset + read - error.as_bytes().len() as u64
                + error.utf8_error().valid_up_to() as u64,
        })?;
        self.offset += read;
        Ok(line)
    }
}

impl<R: BufRead> Iterator for Pieces<R> {
    type Item = Result<String, CorpusError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let piece = self.next_piece();
        self.ended |= piece.is_err();
        match piece {
            Ok(piece) if piece.is_empty() => None,
            piece => Some(piece),
        }
    }
}

/// The `.txt` files of a folder by name.
fn text_files(folder: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
        let path = entry.map_err(|source| unreadable(folder, source))?.path();
        if path.extension().is_some_and(|extension| extension == "txt") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn metadata(path: &Path) -> Result<Metadata, CorpusError> {
    fs::metadata(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> CorpusError {
    let path = path.to_owned();
    FileError::Read { path, source }.into()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pieces of a text that is divided as soon as there are more than `least` bytes.
    pub(in crate::data) fn pieces(text: &[u8], least: usize) -> Result<Vec<String>, CorpusError> {
        let document = Document {
            path: "a.txt".into(),
            bytes: without_mark(text).len() as u64,
            modified: 0,
        };
        Pieces::new(text, document, least).collect()
    }

    #[test]
    fn a_pointer_of_git_lfs_is_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.txt");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        fs::write(&path, pointer).unwrap();
        let error = Corpus::open(&path).unwrap_err().to_string();
        assert!(error.contains("git lfs pull"), "{error}");
    }

    #[test]
    fn a_folder_is_its_text_files_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("b.txt", "bé"), ("a.txt", "a"), ("c.md", "no")] {
            fs::write(path(name), text).unwrap();
        }
        fs::create_dir(path("d.txt")).unwrap();
        let corpus = Corpus::open(folder.path()).unwrap();
        let names: Vec<_> = corpus.documents().iter().map(Document::name).collect();
        assert_eq!(names, ["a.txt", "b.txt"]);
        assert_eq!(corpus.bytes(), 1 + 3);
        assert!(corpus.documents()[0].modified() > 0);

        // A single file may have any name.
        let single = Corpus::open(&path("c.md")).unwrap();
        let text: Result<String, _> = single.documents()[0].pieces().unwrap().collect();
        assert_eq!(text.unwrap(), "no");
    }

    #[test]
    fn a_corpus_without_text_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| {
            let error = Corpus::open(path).unwrap_err().to_string();
            error.replace(&folder.path().display().to_string(), "DIR")
        };
        let none = "DIR has no .txt files; a corpus is a text file or a folder of .txt files";
        assert_eq!(error(folder.path()), none);
        let empty = folder.path().join("empty.txt");
        fs::write(&empty, "").unwrap();
        let expected = "DIR/empty.txt is empty; a document needs at least one byte of text";
        assert_eq!(error(&empty), expected);
        assert_eq!(error(folder.path()), expected);
        fs::write(&empty, BYTE_ORDER_MARK).unwrap();
        assert_eq!(error(&empty), expected);
        assert!(error(&folder.path().join("absent")).starts_with("cannot read DIR/absent: "));
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let path = folder.path().join("a.txt");
            fs::write(&path, text).unwrap();
            let document = Corpus::open(&path).unwrap().documents[0].clone();
            let text: Result<String, _> = document.pieces().unwrap().collect();
            (document.bytes(), text.unwrap())
        };
        assert_eq!(read("\u{feff}one\r\ntwo"), (8, "one\r\ntwo".to_owned()));
        // Elsewhere it is a character like others.
        let text = "\u{feff}\u{feff}a\n\u{feff}b";
        assert_eq!(read(text), (9, text[3..].to_owned()));
    }

    #[test]
    fn bytes_that_are_not_text_are_named_by_their_place() {
        for (text, offset) in [
            (&b"ab\ncaf\xe9 x\n"[..], 6),
            (b"\xff", 0),
            (b"a\n\nb\n\xe2\x82", 5),
            (b"\xef\xbb\xbfa\xff", 4),
            (b"\xef\xbb\xbfa\n\xff", 5),
        ] {
            let error = pieces(text, 1).unwrap_err().to_string();
            assert_eq!(error, format!("a.txt: byte {offset} is not UTF-8 text"));
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "one\ntwo\n").unwrap();
        let corpus = Corpus::open(&path).unwrap();
        fs::write(&path, "one\n").unwrap();
        let mut pieces = corpus.documents()[0].pieces().unwrap();
        let error = pieces.next().unwrap().unwrap_err().to_string();
        assert!(
            error.ends_with("a.txt changed while it was read: 4 bytes, 8 before"),
            "{error}"
        );
        assert!(pieces.next().is_none());
    }

    #[test]
    fn pieces_begin_with_the_line_break_before_a_line_without_indent() {
        let text = b"one\ntwo\n  in\n\nthree\nfour";
        assert_eq!(
            pieces(text, 4).unwrap(),
            ["one\ntwo\n  in\n", "\nthree", "\nfour"]
        );
    }

    proptest! {
        #[test]
        fn joined_pieces_are_the_text(text in "([ab \n\r]|é|\u{3000}|[\u{0}-\u{10ffff}]){1,60}", least in 1_usize..9) {
            let marked = pieces(format!("\u{feff}{text}").as_bytes(), least).unwrap();
            prop_assert_eq!(marked.concat(), text.clone());
            let pieces = pieces(text.as_bytes(), least).unwrap();
            prop_assert!(!pieces.iter().any(String::is_empty));
            prop_assert_eq!(&pieces.concat(), text.strip_prefix('\u{feff}').unwrap_or(&text));
        }
    }
}
