//! A vocabulary learned from text.

use tokenizers::models::{
    TrainerWrapper,
    bpe::{BPE, BpeTrainer},
};

use super::{END_OF_DOCUMENT, TextTokenizer, byte_level, bytes::byte_characters, end_of_document};
use crate::data::{
    corpus::{Corpus, CorpusError},
    tokenizer::TokenizerError,
};

/// Every byte and the end of a document.
const LEAST_VOCABULARY: usize = 256 + 1;

impl TextTokenizer {
    /// Learns a vocabulary of at most `vocab_size` tokens from a corpus: the end of a document, the
    /// 256 bytes, and the pairs that are most frequent. Equal text gives equal tokenizers.
    ///
    /// # Errors
    ///
    /// If the corpus cannot be read or `vocab_size` is less than 257.
    pub fn train(corpus: &Corpus, vocab_size: usize) -> Result<Self, TokenizerError> {
        let mut failure = None;
        let pieces = corpus
            .documents()
            .iter()
            .flat_map(|document| match document.pieces() {
                Ok(pieces) => Box::new(pieces) as Box<dyn Iterator<Item = _> + Send>,
                Err(error) => Box::new([Err(error)].into_iter()),
            })
            // The trainer takes text alone: an error ends the text, and is told afterwards.
            .map_while(|piece: Result<String, CorpusError>| {
                piece.map_err(|error| failure = Some(error)).ok()
            });
        let trained = Self::train_on(pieces, vocab_size);
        match failure {
            Some(failure) => Err(failure.into()),
            None => trained,
        }
    }

    /// As [`Self::train`], from texts at hand.
    ///
    /// # Errors
    ///
    /// If `vocab_size` is less than 257.
    pub fn train_on<S: AsRef<str> + Send>(
        texts: impl Iterator<Item = S> + Send,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        if vocab_size < LEAST_VOCABULARY {
            let needed = LEAST_VOCABULARY;
            return Err(TokenizerError::VocabSize { vocab_size, needed });
        }
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .special_tokens(vec![end_of_document()])
            .initial_alphabet(byte_characters().into_iter().collect())
            .show_progress(false)
            .build();
        let mut inner = byte_level(BPE::default());
        inner
            .train(&mut TrainerWrapper::from(trainer), texts)
            .map_err(TokenizerError::Encode)?;
        Self::new(inner, END_OF_DOCUMENT).map_err(|problem| TokenizerError::Encode(problem.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::text_tokenizer::tests::{TEXT, corpus, one, trained};

    #[test]
    fn training_fills_the_vocabulary_and_is_deterministic() {
        let first = trained();
        assert_eq!((first.vocab_size(), first.end_id()), (300, 0));
        assert!(one(&first, TEXT).len() < TEXT.len() * 2 / 3);
        assert_eq!(first.token_bytes(first.end_id()), b"");
        for _ in 0..4 {
            assert_eq!(
                trained().fingerprint().unwrap(),
                first.fingerprint().unwrap()
            );
        }
    }

    #[test]
    fn small_vocabularies_and_bad_text_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = corpus(folder.path(), &["a", "b"]);
        let error = |size| TextTokenizer::train(&corpus, size).unwrap_err().to_string();
        let small = error(256);
        assert!(
            small.ends_with("special tokens and characters are 257"),
            "{small}"
        );
        fs::write(folder.path().join("1.txt"), b"\xe9").unwrap();
        let text = error(257);
        assert!(text.ends_with("1.txt: byte 0 is not UTF-8 text"), "{text}");
    }
}
