//! Byte-level tokenizers for language models: GPT-2's kind of BPE (Radford et al. 2019), which
//! turns any text into tokens and back without loss.

mod bytes;
mod load;
mod stream;
mod train;

use std::{fs, path::Path, sync::Arc};

pub(super) use load::{MERGES, VOCABULARY_JSON};
use moebert_core::file::{self, FileError};
use serde_json::json;
pub use stream::StreamDecoder;
use tokenizers::{
    AddedToken, AddedVocabulary, ModelWrapper, PreTokenizerWrapper,
    decoders::byte_level::ByteLevel as Bytes, models::bpe::BPE,
    pre_tokenizers::byte_level::ByteLevel,
};

use self::bytes::byte_characters;
use super::tokenizer::{CONFIG, GENERATION_CONFIG, TOKENIZER, TokenizerError, added_tokens};

/// The token that ends a document, as GPT-2 writes it.
pub const END_OF_DOCUMENT: &str = "<|endoftext|>";

/// A byte-level BPE tokenizer.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    /// Reads documents: where one mentions the token that ends a document, that is text.
    documents: tokenizers::Tokenizer,
    /// Reads prompts: every special token counts, as in Transformers.
    prompts: tokenizers::Tokenizer,
    end_id: u32,
    /// The tokens that the model's folder says end a generation, if it says anything.
    stop_ids: Option<Vec<u32>>,
    /// The token that the model's folder says a generation begins with.
    start_id: Option<u32>,
    /// The bytes of each id; none for the end of a document and for ids without a token.
    token_bytes: Arc<[Vec<u8>]>,
    /// As `token_bytes`, and none for special tokens.
    shown_bytes: Arc<[Vec<u8>]>,
}

impl TextTokenizer {
    /// The tokenizer without training: id `b` is the byte `b`, and id 256 ends a document.
    ///
    /// # Errors
    ///
    /// None that is known; the `tokenizers` crate does not rule them out.
    pub fn bytes() -> Result<Self, TokenizerError> {
        let characters = byte_characters().map(String::from);
        let tokens = characters.into_iter().chain([END_OF_DOCUMENT.to_owned()]);
        let vocabulary: Vec<(String, u32)> = tokens.zip(0..).collect();
        let merges = Vec::new();
        let mut inner = byte_level(BPE::new(vocabulary.into_iter().collect(), merges));
        inner
            .add_special_tokens([end_of_document()])
            .map_err(TokenizerError::Encode)?;
        Self::new(inner, END_OF_DOCUMENT).map_err(|problem| TokenizerError::Encode(problem.into()))
    }

    /// Takes a tokenizer that never loses text, or says why it does. `end` ends a document.
    fn new(mut inner: tokenizers::Tokenizer, end: &str) -> Result<Self, String> {
        if !matches!(inner.get_model(), ModelWrapper::BPE(_)) {
            return Err("its model is not BPE, which language models here need".into());
        }
        if inner.get_normalizer().is_some() {
            return Err("it has a normalizer, which would change the text".into());
        }
        match inner.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(ByteLevel {
                add_prefix_space: false,
                use_regex: true,
                ..
            })) => {}
            _ => {
                return Err(
                    "its pre-tokenizer is not ByteLevel with GPT-2's words and without a \
                            space before the text"
                        .into(),
                );
            }
        }
        let Some(end_id) = inner.token_to_id(end) else {
            return Err(format!("it has no {end}, which ends a document"));
        };
        let bytes = byte_characters();
        if let Some(byte) = bytes
            .iter()
            .position(|character| inner.token_to_id(&character.to_string()).is_none())
        {
            return Err(format!("it has no token for the byte {byte:#04x}"));
        }
        let as_text = |error: tokenizers::Error| error.to_string();
        if !inner.get_added_vocabulary().is_special_token(end) {
            inner
                .add_special_tokens([AddedToken::from(end, true)])
                .map_err(as_text)?;
        }
        // Files may carry the truncation and padding of whoever saved them; here documents are whole.
        inner
            .with_padding(None)
            .with_truncation(None)
            .map_err(as_text)?;
        let documents = documents(&inner, end).map_err(as_text)?;
        let token_bytes: Arc<[Vec<u8>]> = bytes::token_bytes(&inner, end_id).into();
        let mut shown_bytes = token_bytes.to_vec();
        for (id, token) in inner.get_added_tokens_decoder() {
            if token.special {
                shown_bytes[id as usize].clear();
            }
        }
        Ok(Self {
            documents,
            prompts: inner,
            end_id,
            stop_ids: None,
            start_id: None,
            token_bytes,
            shown_bytes: shown_bytes.into(),
        })
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` to a folder, which is made
    /// if missing. Transformers reads them.
    ///
    /// # Errors
    ///
    /// If a file cannot be written; what was there before stays whole.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        fs::create_dir_all(dir).map_err(|source| FileError::Write {
            path: dir.to_owned(),
            source,
        })?;
        let tokenizer = self
            .prompts
            .to_string(true)
            .map_err(TokenizerError::Encode)?;
        file::write(&dir.join(TOKENIZER), tokenizer.as_bytes())?;
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_DOCUMENT,
            "eos_token": END_OF_DOCUMENT,
            "clean_up_tokenization_spaces": false,
        });
        let generation = json!({ "bos_token_id": self.end_id, "eos_token_id": self.end_id });
        for (name, json) in [(CONFIG, config), (GENERATION_CONFIG, generation)] {
            file::write(&dir.join(name), format!("{json:#}\n").as_bytes())?;
        }
        Ok(())
    }

    /// The tokens of each document, on all cores, without any that ends a document. Other special tokens are
    /// read as such.
    ///
    /// # Errors
    ///
    /// None that is known; the `tokenizers` crate does not rule them out.
    pub fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>, TokenizerError> {
        ids(&self.documents, texts, false)
    }

    /// The tokens of each prompt as Transformers reads them: with every special token that a prompt mentions,
    /// and those that the tokenizer puts around a text.
    ///
    /// # Errors
    ///
    /// None that is known; the `tokenizers` crate does not rule them out.
    pub fn encode_prompts<S: AsRef<str>>(
        &self,
        texts: &[S],
    ) -> Result<Vec<Vec<u32>>, TokenizerError> {
        ids(&self.prompts, texts, true)
    }

    /// The text of tokens. Bytes that are not UTF-8 become U+FFFD; special tokens and ids without a token have
    /// no text.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .filter_map(|id| self.shown_bytes.get(*id as usize))
            .flatten()
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A decoder for tokens that come one at a time.
    pub fn stream(&self) -> StreamDecoder {
        StreamDecoder::new(self.shown_bytes.clone())
    }

    /// The bytes of text that a token stands for. Those of a document's tokens are the document's,
    /// so that their number is what bits per byte are counted by.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.token_bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// The id that ends a document.
    pub fn end_id(&self) -> u32 {
        self.end_id
    }

    /// The tokens that end a generation of a model with `vocabulary` tokens: those that its folder names, or where it
    /// says nothing the end of a document. Ids beyond the vocabulary are left out: no model writes them.
    pub fn stop_ids(&self, vocabulary: usize) -> Vec<u32> {
        let end = [self.end_id];
        let named = self.stop_ids.as_deref().unwrap_or(&end).iter().copied();
        named.filter(|id| (*id as usize) < vocabulary).collect()
    }

    /// The token that a generation without a prompt begins with: the one that the folder of the model, which
    /// has `vocabulary` tokens, names, or the first that ends one, or the end of a document.
    pub fn start_id(&self, vocabulary: usize) -> u32 {
        let named = self.start_id.filter(|id| (*id as usize) < vocabulary);
        let named = named.or_else(|| self.stop_ids(vocabulary).first().copied());
        named.unwrap_or(self.end_id)
    }

    /// Number of ids: the highest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.token_bytes.len()
    }

    /// Checks that a model with `vocabulary` embeddings has one for every token.
    ///
    /// # Errors
    ///
    /// If it has not.
    pub fn check_fits(&self, vocabulary: usize) -> Result<(), TokenizerError> {
        if self.vocab_size() > vocabulary {
            return Err(TokenizerError::Embedding {
                vocabulary: self.vocab_size(),
                embedding: vocabulary,
            });
        }
        Ok(())
    }

    /// A hash of the tokenizer, which differs where its tokens may: the 64-bit FNV-1a (RFC 9923) of
    /// its JSON form, in hexadecimal digits. Unlike std's hashes it is the same in every release.
    ///
    /// # Errors
    ///
    /// None that is known; the `tokenizers` crate does not rule them out.
    pub fn fingerprint(&self) -> Result<String, TokenizerError> {
        let json = self
            .documents
            .to_string(false)
            .map_err(TokenizerError::Encode)?;
        let hash = json.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Ok(format!("{hash:016x}"))
    }
}

/// The tokens of texts; `with_template` adds what the tokenizer puts around a text.
fn ids<S: AsRef<str>>(
    tokenizer: &tokenizers::Tokenizer,
    texts: &[S],
    with_template: bool,
) -> Result<Vec<Vec<u32>>, TokenizerError> {
    let texts = texts.iter().map(AsRef::as_ref).collect::<Vec<&str>>();
    let encodings = tokenizer.encode_batch_fast(texts, with_template);
    let encodings = encodings.map_err(TokenizerError::Encode)?;
    let ids = encodings.iter().map(|encoding| encoding.get_ids().to_vec());
    Ok(ids.collect())
}

/// The tokenizer that takes `end` for text and reads every other special token as such.
fn documents(
    inner: &tokenizers::Tokenizer,
    end: &str,
) -> Result<tokenizers::Tokenizer, tokenizers::Error> {
    let added = added_tokens(inner);
    let is_other = |token: &AddedToken| token.special && token.content != end;
    let strips = |token: &AddedToken| token.lstrip || token.rstrip;
    let mut documents = inner.clone();
    if added.iter().any(|token| is_other(token) || strips(token)) {
        // The crate leaves out all special tokens or none: the others become plain added tokens.
        documents.with_added_vocabulary(AddedVocabulary::new());
        // The blanks around a token are text, too, whatever the token takes of a prompt.
        let tokens = added.into_iter().map(|token| {
            let is_special = token.content == end;
            token.special(is_special).lstrip(false).rstrip(false)
        });
        documents.add_tokens(tokens)?;
    }
    documents.set_encode_special_tokens(true);
    Ok(documents)
}

/// GPT-2's tokenizer over a vocabulary.
fn byte_level(model: BPE) -> tokenizers::Tokenizer {
    let (add_prefix_space, trim_offsets, use_regex) = (false, true, true);
    let mut inner = tokenizers::Tokenizer::new(model);
    inner
        .with_pre_tokenizer(Some(ByteLevel::new(
            add_prefix_space,
            trim_offsets,
            use_regex,
        )))
        .with_decoder(Some(Bytes::default()));
    inner
}

fn end_of_document() -> AddedToken {
    let special = true;
    AddedToken::from(END_OF_DOCUMENT, special)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::data::corpus::Corpus;

    pub(in crate::data) const TEXT: &str = "the cat saw the other cat\n  that the cat's mother saw — \
        «там», 猫が猫を見た\nit's 2024, isn't it?\n\n\nthe end\n";

    pub(in crate::data) fn corpus(folder: &Path, texts: &[&str]) -> Corpus {
        for (index, text) in texts.iter().enumerate() {
            fs::write(folder.join(format!("{index}.txt")), text).unwrap();
        }
        Corpus::open(folder).unwrap()
    }

    pub(super) fn trained() -> TextTokenizer {
        let folder = tempfile::tempdir().unwrap();
        TextTokenizer::train(&corpus(folder.path(), &[TEXT, TEXT]), 300).unwrap()
    }

    pub(super) fn one(tokenizer: &TextTokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode(&[text]).unwrap().remove(0)
    }

    #[test]
    fn without_training_tokens_are_bytes() {
        let tokenizer = TextTokenizer::bytes().unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_id()), (257, 256));
        let ids: Vec<u32> = TEXT.bytes().map(u32::from).collect();
        assert_eq!(one(&tokenizer, TEXT), ids);
    }

    #[test]
    fn a_saved_tokenizer_is_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        for tokenizer in [trained(), TextTokenizer::bytes().unwrap()] {
            tokenizer.save(folder.path()).unwrap();
            let loaded = TextTokenizer::load(folder.path()).unwrap();
            assert_eq!(one(&loaded, TEXT), one(&tokenizer, TEXT));
            let fingerprint = |tokenizer: &TextTokenizer| tokenizer.fingerprint().unwrap();
            assert_eq!(fingerprint(&loaded), fingerprint(&tokenizer));
        }
    }

    #[test]
    fn text_cannot_end_a_document() {
        let tokenizer = trained();
        let ids = one(&tokenizer, "a<|endoftext|>b");
        assert!(!ids.contains(&tokenizer.end_id()));
        assert_eq!(tokenizer.decode(&ids), "a<|endoftext|>b");
    }

    #[test]
    fn tokenizers_that_lose_text_are_refused() {
        type Change = dyn Fn(&mut Value);
        let folder = tempfile::tempdir().unwrap();
        trained().save(folder.path()).unwrap();
        let path = folder.path().join(TOKENIZER);
        let saved: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let error = |change: &Change| {
            let mut json = saved.clone();
            change(&mut json);
            fs::write(&path, json.to_string()).unwrap();
            TextTokenizer::load(folder.path()).unwrap_err().to_string()
        };
        let cases: [(&Change, &str); 5] = [
            (
                &|json| json["normalizer"] = json!({"type": "NFC"}),
                "it has a normalizer",
            ),
            (
                &|json| json["pre_tokenizer"]["add_prefix_space"] = true.into(),
                "its pre-tokenizer is not ByteLevel",
            ),
            (
                &|json| {
                    json["added_tokens"] = json!([]);
                    let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
                    vocabulary.remove(END_OF_DOCUMENT);
                },
                "it has no <|endoftext|>",
            ),
            (
                &|json| {
                    let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
                    vocabulary.remove("~");
                },
                "it has no token for the byte 0x7e",
            ),
            (&|json| *json = json!({}), "tokenizer.json is malformed"),
        ];
        for (change, expected) in cases {
            let error = error(change);
            assert!(error.contains(expected), "{error}");
        }
        let absent = TextTokenizer::load(&folder.path().join("absent")).unwrap_err();
        assert!(
            absent
                .to_string()
                .ends_with("has neither tokenizer.json nor vocab.json with merges.txt"),
            "{absent}"
        );
    }

    #[test]
    fn a_model_needs_an_embedding_for_every_token() {
        let tokenizer = trained();
        assert!(tokenizer.check_fits(300).is_ok());
        let error = tokenizer.check_fits(299).unwrap_err();
        assert!(matches!(error, TokenizerError::Embedding { .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn text_survives_its_tokens(text in "(the|cat|[ \n]|'s|\\PC|[\u{0}-\u{10ffff}]){0,40}") {
            let trained = trained();
            for tokenizer in [trained, TextTokenizer::bytes().unwrap()] {
                let ids = one(&tokenizer, &text);
                prop_assert_eq!(tokenizer.decode(&ids), text.as_str());
                let bytes: usize = ids.iter().map(|id| tokenizer.token_bytes(*id).len()).sum();
                prop_assert_eq!(bytes, text.len());
            }
        }
    }
}
