//! A vocabulary made from sentences.

use std::collections::{BTreeSet, HashMap};

use serde_json::Map;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    normalizers::BertNormalizer, pre_tokenizers::bert::BertPreTokenizer,
};

use super::{
    SPECIAL_TOKENS, Tokenizer, TokenizerError, TokenizerFolder, from_vocabulary, special_id,
};

impl Tokenizer {
    /// Makes a tokenizer for a small corpus: special tokens, every character (as the start and as
    /// the continuation of a word), and whole words by falling count until the vocabulary is full.
    ///
    /// Equal sentences give equal tokenizers. The trainer of the `tokenizers` crate does not
    /// promise this: its ids follow the order of a hash map.
    ///
    /// # Errors
    ///
    /// If `vocab_size` is too small for the special tokens and characters.
    pub fn train<S: AsRef<str>>(
        sentences: impl IntoIterator<Item = S>,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        let mut counts = HashMap::<String, usize>::new();
        for sentence in sentences {
            for word in words(sentence.as_ref())? {
                *counts.entry(word).or_default() += 1;
            }
        }
        let mut characters = BTreeSet::new();
        for word in counts.keys() {
            characters.extend(word.chars().take(1).map(String::from));
            characters.extend(
                word.chars()
                    .skip(1)
                    .map(|character| format!("##{character}")),
            );
        }
        let mut vocabulary: Vec<String> = SPECIAL_TOKENS.map(String::from).into();
        vocabulary.extend(characters.iter().cloned());
        if vocabulary.len() > vocab_size {
            let needed = vocabulary.len();
            return Err(TokenizerError::VocabSize { vocab_size, needed });
        }
        counts.retain(|word, _| !characters.contains(word));
        let mut words: Vec<(String, usize)> = counts.into_iter().collect();
        words.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        vocabulary.extend(words.into_iter().map(|(word, _)| word));
        vocabulary.truncate(vocab_size);

        let config = Map::from_iter([
            ("tokenizer_class".to_owned(), "BertTokenizer".into()),
            ("do_lower_case".to_owned(), true.into()),
        ]);
        let vocabulary = vocabulary.into_iter().zip(0..).collect();
        let inner = from_vocabulary(vocabulary, &TokenizerFolder::default())?;
        let pad_id = special_id(&inner, SPECIAL_TOKENS[0])?;
        Self::new(inner, pad_id, config)
    }
}

/// The words of a sentence, as BERT's tokenizer sees them before `WordPiece`.
fn words(sentence: &str) -> Result<Vec<String>, TokenizerError> {
    let mut text = NormalizedString::from(sentence);
    BertNormalizer::default()
        .normalize(&mut text)
        .map_err(TokenizerError::Encode)?;
    let mut text = PreTokenizedString::from(text);
    BertPreTokenizer
        .pre_tokenize(&mut text)
        .map_err(TokenizerError::Encode)?;
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::None);
    Ok(splits
        .into_iter()
        .map(|(word, ..)| word.to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENTENCES: [&str; 3] = ["The Red fox saw the red fox.", "a fox", "the dog"];

    #[test]
    fn special_tokens_come_first_and_frequent_words_before_rare_ones() {
        let tokenizer = Tokenizer::train(SENTENCES, 64).unwrap();
        let id = |token: &str| tokenizer.inner().token_to_id(token).unwrap();
        for (expected, token) in SPECIAL_TOKENS.iter().enumerate() {
            assert_eq!(id(token), expected as u32);
        }
        let words = ["##x", "fox", "the", "red", "dog", "saw"].map(id);
        assert!(words.is_sorted(), "{words:?}");
    }

    #[test]
    fn the_vocabulary_has_the_size_asked_for_or_as_many_tokens_as_there_are() {
        let size = |vocab_size| {
            Tokenizer::train(SENTENCES, vocab_size)
                .unwrap()
                .vocab_size()
        };
        // 5 special tokens, 7 characters that start a word, 8 that continue one, 5 longer words.
        let needed = 5 + 7 + 8;
        assert_eq!(size(needed + 2), needed + 2);
        assert_eq!(size(1000), needed + 5);
        let error = Tokenizer::train(SENTENCES, needed - 1)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "a vocabulary of 19 tokens is too small: special tokens and characters are 20"
        );
    }
}
