//! From text to a token file.

use std::{
    fs,
    io::{self, BufWriter, ErrorKind, Write},
    path::Path,
};

use moebert_core::file::{self, FileError};

use super::{TokenFileError, TokenFileHeader, header, header_path, tokens_path};
use crate::data::{
    corpus::{Corpus, Document},
    text_tokenizer::TextTokenizer,
};

/// Pieces of text that are tokenized at once: enough for all cores.
const BATCH: usize = 32;

/// Writes the tokens under a temporary name, then puts them and their header in their places.
pub(super) fn write(
    path: &Path,
    corpus: &Corpus,
    tokenizer: &TextTokenizer,
    progress: &mut dyn FnMut(u64),
) -> Result<(), TokenFileError> {
    let (header_path, tokens_path) = (header_path(path), tokens_path(path));
    let unwritable = |source: io::Error| FileError::Write {
        path: tokens_path.clone(),
        source,
    };
    file::check_writable(&header_path)?;
    let mut writer = TokenWriter {
        file: BufWriter::new(file::temporary(&tokens_path).map_err(unwritable)?),
        width: header::width(tokenizer.vocab_size()),
        written: 0,
    };
    let mut starts = Vec::new();
    let mut done = 0;
    for document in corpus.documents() {
        starts.push(writer.written);
        for_each_batch(document, |pieces| {
            for ids in tokenizer.encode(pieces)? {
                writer.write(&ids).map_err(unwritable)?;
            }
            done += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
            progress(done);
            Ok(())
        })?;
        writer.write(&[tokenizer.end_id()]).map_err(unwritable)?;
    }
    let header = TokenFileHeader::new(corpus, tokenizer, &starts, writer.written)?;
    let finish = || {
        let file = writer
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        // A header always describes the tokens beside it: the old one goes first, the new one
        // comes last, and without one there is no token file.
        match fs::remove_file(&header_path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => file.persist(&tokens_path)?,
        };
        Ok(())
    };
    finish().map_err(unwritable)?;
    Ok(file::write(&header_path, header.json().as_bytes())?)
}

/// Hands the text of a document on, a few pieces at a time.
fn for_each_batch(
    document: &Document,
    mut take: impl FnMut(&[String]) -> Result<(), TokenFileError>,
) -> Result<(), TokenFileError> {
    let mut pieces = document.pieces()?;
    loop {
        let batch = pieces.by_ref().take(BATCH).collect::<Result<Vec<_>, _>>()?;
        if batch.is_empty() {
            return Ok(());
        }
        take(&batch)?;
    }
}

struct TokenWriter<W: Write> {
    file: W,
    width: usize,
    written: usize,
}

impl<W: Write> TokenWriter<W> {
    fn write(&mut self, ids: &[u32]) -> io::Result<()> {
        for id in ids {
            self.file.write_all(&id.to_le_bytes()[..self.width])?;
        }
        self.written += ids.len();
        Ok(())
    }
}
