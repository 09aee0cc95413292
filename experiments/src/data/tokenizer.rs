//! BERT's `WordPiece` tokenizer: loaded from a Hugging Face folder, or made from sentences.

mod error;
mod folder;
mod train;

use std::{fs, path::Path};

pub use error::TokenizerError;
pub(super) use folder::{GENERATION_CONFIG, TokenizerFolder, added_tokens, malformed};
use moebert_core::file::{self, FileError};
use serde_json::{Map, Value};
use tokenizers::{
    AddedToken, Encoding, Model, ModelWrapper, PostProcessor, TruncationDirection,
    TruncationParams, TruncationStrategy,
    decoders::wordpiece::WordPiece as WordPieceDecoder,
    models::{bpe::Vocab, wordpiece::WordPiece},
    normalizers::BertNormalizer,
    pre_tokenizers::bert::BertPreTokenizer,
    processors::bert::BertProcessing,
    truncate_encodings,
};

use super::{example::Example, loader::Feature};

pub(super) const TOKENIZER: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.txt";
pub(super) const CONFIG: &str = "tokenizer_config.json";

/// BERT's special tokens, in the order of a new vocabulary: padding has id 0.
const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The classes of Transformers that take the vocabulary alone from `tokenizer.json`.
const BERT_CLASSES: [&str; 6] = [
    "BertTokenizer",
    "ConvBertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "LayoutLMTokenizer",
    "MobileBertTokenizer",
];

/// The classes of Transformers that tell a model nothing of segments, unless their configuration does.
const PLAIN_CLASSES: [&str; 4] = [
    "DistilBertTokenizer",
    "PreTrainedTokenizer",
    "RobertaTokenizer",
    "TokenizersBackend",
];

/// A tokenizer with BERT's special tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    config: Map<String, Value>,
    pad_id: u32,
    /// Whether a second sentence has segment 1.
    has_segments: bool,
}

impl Tokenizer {
    /// Loads `tokenizer.json` of a Hugging Face folder or, where there is none, builds BERT's tokenizer from
    /// `vocab.txt`.
    ///
    /// What `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` say counts as in
    /// Transformers: `do_lower_case` (true if it says nothing), `strip_accents` and `tokenize_chinese_chars`
    /// go before the normalizer of `tokenizer.json`, as far as the tokenizer is of BERT's class.
    ///
    /// # Errors
    ///
    /// If the files are missing or malformed or contradict each other, or a special token is not in the
    /// vocabulary.
    pub fn load(dir: &Path) -> Result<Self, TokenizerError> {
        let folder = TokenizerFolder::read(dir)?;
        let mut inner = if let Some(bytes) = folder.bytes(TOKENIZER)? {
            from_json(&bytes, &folder)?
        } else if let Some(bytes) = folder.bytes(VOCABULARY)? {
            let vocabulary = WordPiece::read_bytes(&bytes)
                .map_err(|error| malformed(&folder.path(VOCABULARY), &error))?;
            from_vocabulary(vocabulary, &folder)?
        } else {
            return Err(TokenizerError::Missing {
                dir: dir.to_owned(),
            });
        };
        folder.add_tokens(&mut inner)?;
        let pad_id = pad_id(&inner, &folder)?;
        let has_segments = has_segments(&folder);
        let tokenizer = Self::new(inner, pad_id, folder.config())?;
        Ok(Self {
            has_segments,
            ..tokenizer
        })
    }

    fn new(
        mut inner: tokenizers::Tokenizer,
        pad_id: u32,
        config: Map<String, Value>,
    ) -> Result<Self, TokenizerError> {
        // Files may carry the truncation and padding of whoever saved them; here the caller and the
        // batch decide.
        inner
            .with_padding(None)
            .with_truncation(None)
            .map_err(TokenizerError::Encode)?;
        Ok(Self {
            inner,
            config,
            pad_id,
            has_segments: true,
        })
    }

    /// Writes `tokenizer.json`, `vocab.txt` and `tokenizer_config.json` to a folder, which is made
    /// if missing. Hugging Face's tokenizers read them.
    ///
    /// # Errors
    ///
    /// If a file cannot be written; what was there before stays whole.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        fs::create_dir_all(dir).map_err(|source| FileError::Write {
            path: dir.to_owned(),
            source,
        })?;
        let tokenizer = self.inner.to_string(true).map_err(TokenizerError::Encode)?;
        file::write(&dir.join(TOKENIZER), tokenizer.as_bytes())?;
        // An id without a token keeps its line, so that the line's number stays the id.
        let token = |id| self.inner.id_to_token(id).unwrap_or_default() + "\n";
        let vocabulary: String = (0..self.vocab_size() as u32).map(token).collect();
        file::write(&dir.join(VOCABULARY), vocabulary.as_bytes())?;
        let config = format!("{:#}\n", Value::Object(self.config.clone()));
        Ok(file::write(&dir.join(CONFIG), config.as_bytes())?)
    }

    /// Tokenizes examples, in order and on all cores: `[CLS] first [SEP]` or `[CLS] first [SEP]
    /// second [SEP]`, at most `max_length` tokens. Of a pair that is too long, the longer sentence
    /// loses its end first.
    ///
    /// # Errors
    ///
    /// If `max_length` leaves no room for two sentences.
    pub fn features(
        &self,
        examples: &[Example],
        max_length: usize,
    ) -> Result<Vec<Feature>, TokenizerError> {
        let special = |pair| {
            let processor = self.inner.get_post_processor();
            processor.map_or(0, |processor| processor.added_tokens(pair))
        };
        let least = special(true) + 2;
        if max_length < least {
            return Err(TokenizerError::MaxLength { max_length, least });
        }
        let firsts = self.encode(examples.iter().map(|example| Some(&example.first)))?;
        let mut seconds = self
            .encode(examples.iter().map(|example| example.second.as_ref()))?
            .into_iter();
        let feature = |(example, first): (&Example, Encoding)| {
            let second = example.second.as_ref().and_then(|_| seconds.next());
            // Truncating here and not within the tokenizer: tokenizers 0.23.2 stops reading a
            // sentence once it has `max_length` tokens, and then no longer knows which is longer.
            let truncation = TruncationParams {
                max_length: max_length - special(second.is_some()),
                strategy: TruncationStrategy::LongestFirst,
                direction: self.truncation_side(),
                ..TruncationParams::default()
            };
            let (first, second) = truncate_encodings(first, second, &truncation)?;
            let encoding = self.inner.post_process(first, second, true)?;
            Ok(Feature {
                input_ids: encoding.get_ids().to_vec(),
                type_ids: encoding
                    .get_type_ids()
                    .iter()
                    .map(|id| if self.has_segments { *id as u8 } else { 0 })
                    .collect(),
                target: example.label.map(Into::into),
            })
        };
        let features = examples.iter().zip(firsts).map(feature);
        features
            .collect::<Result<_, _>>()
            .map_err(TokenizerError::Encode)
    }

    /// Whether a model is told which tokens are those of the second text; otherwise all have segment 0.
    pub fn has_segments(&self) -> bool {
        self.has_segments
    }

    /// Where a sentence that is too long loses tokens.
    fn truncation_side(&self) -> TruncationDirection {
        match self.config.get("truncation_side").and_then(Value::as_str) {
            Some("left") => TruncationDirection::Left,
            _ => TruncationDirection::Right,
        }
    }

    /// The tokens of the sentences that are there, without special tokens.
    fn encode<'a>(
        &self,
        sentences: impl Iterator<Item = Option<&'a String>>,
    ) -> Result<Vec<Encoding>, TokenizerError> {
        let sentences = sentences.flatten().map(String::as_str).collect();
        self.inner
            .encode_batch_fast(sentences, false)
            .map_err(TokenizerError::Encode)
    }

    /// Checks that a model whose word embedding has `embedding` rows has one for every token.
    ///
    /// # Errors
    ///
    /// If it has not.
    pub fn check_fits(&self, embedding: usize) -> Result<(), TokenizerError> {
        let vocabulary = self.vocab_size();
        if vocabulary > embedding {
            Err(TokenizerError::Embedding {
                vocabulary,
                embedding,
            })
        } else {
            Ok(())
        }
    }

    /// Whether both give every token the same id.
    pub fn has_vocabulary_of(&self, other: &Self) -> bool {
        self.inner().get_vocab(true) == other.inner().get_vocab(true)
    }

    /// Number of ids: the highest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| *id as usize + 1)
    }

    /// The id of `[PAD]`.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// The tokenizer itself, without truncation or padding, for offsets and windows.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }
}

/// The tokenizer of `tokenizer.json`. Where its class is BERT's, Transformers takes the vocabulary and the added tokens
/// from there and all else from `tokenizer_config.json`.
fn from_json(
    bytes: &[u8],
    folder: &TokenizerFolder,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let path = folder.path(TOKENIZER);
    let inner =
        tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| malformed(&path, &error))?;
    folder.check_ids(&inner, bytes)?;
    let ModelWrapper::WordPiece(model) = inner.get_model() else {
        return Ok(inner);
    };
    if !BERT_CLASSES.contains(&folder.class()) {
        return Ok(inner);
    }
    let mut rebuilt = from_vocabulary(model.get_vocab().into_iter().collect(), folder)?;
    rebuilt
        .add_tokens(added_tokens(&inner))
        .map_err(TokenizerError::Encode)?;
    folder.check_ids(&rebuilt, bytes)?;
    Ok(rebuilt)
}

/// BERT's tokenizer over a vocabulary.
fn from_vocabulary(
    vocabulary: Vocab,
    folder: &TokenizerFolder,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let name = |key, default| folder.special(key).unwrap_or(default).to_owned();
    let [pad, unknown, class, separator, mask] = SPECIAL_TOKENS;
    let unknown = name("unk_token", unknown);
    let model = WordPiece::builder()
        .vocab(vocabulary)
        .unk_token(unknown.clone())
        .build()
        .map_err(TokenizerError::Encode)?;
    let mut inner = tokenizers::Tokenizer::new(model);
    let special = |token: String| -> Result<_, TokenizerError> {
        let id = special_id(&inner, &token)?;
        Ok((token, id))
    };
    let (class, separator) = (
        special(name("cls_token", class))?,
        special(name("sep_token", separator))?,
    );
    special(unknown.clone())?;
    // A model that is trained on a task may do without these two.
    let others = [name("pad_token", pad), name("mask_token", mask)];
    let others = others
        .into_iter()
        .filter(|token| inner.token_to_id(token).is_some());
    let tokens: Vec<String> = [unknown, class.0.clone(), separator.0.clone()]
        .into_iter()
        .chain(others)
        .collect();
    inner
        .with_normalizer(Some(normalizer(folder)?))
        .map_err(TokenizerError::Encode)?;
    inner
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(BertProcessing::new(separator, class)))
        .with_decoder(Some(WordPieceDecoder::default()));
    inner
        .add_special_tokens(tokens.iter().map(|token| AddedToken::from(token, true)))
        .map_err(TokenizerError::Encode)?;
    Ok(inner)
}

/// BERT's normalizer with the settings of `tokenizer_config.json`: lower case, accents and Chinese characters.
fn normalizer(folder: &TokenizerFolder) -> Result<BertNormalizer, TokenizerError> {
    let clean_text = true;
    Ok(BertNormalizer::new(
        clean_text,
        folder.flag("tokenize_chinese_chars")?.unwrap_or(true),
        folder.flag("strip_accents")?,
        folder.flag("do_lower_case")?.unwrap_or(true),
    ))
}

/// Whether Transformers gives a model the segments of two sentences: as `model_input_names` says, or as the class does.
fn has_segments(folder: &TokenizerFolder) -> bool {
    let config = folder.config();
    match config.get("model_input_names").and_then(Value::as_array) {
        Some(names) => names.iter().any(|name| name == "token_type_ids"),
        None => !PLAIN_CLASSES.contains(&folder.class()),
    }
}

/// The id of the padding token, whatever it is called; where no file names one, that of `config.json`.
fn pad_id(inner: &tokenizers::Tokenizer, folder: &TokenizerFolder) -> Result<u32, TokenizerError> {
    let token = folder.special("pad_token").unwrap_or(SPECIAL_TOKENS[0]);
    if let Some(id) = inner.token_to_id(token) {
        return Ok(id);
    }
    let ids = folder.model_ids("pad_token_id")?.unwrap_or_default();
    let known = ids.into_iter().find(|id| inner.id_to_token(*id).is_some());
    known.ok_or_else(|| TokenizerError::SpecialToken {
        token: token.to_owned(),
    })
}

fn special_id(tokenizer: &tokenizers::Tokenizer, token: &str) -> Result<u32, TokenizerError> {
    let missing = || TokenizerError::SpecialToken {
        token: token.to_owned(),
    };
    tokenizer.token_to_id(token).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SENTENCES: [&str; 4] = [
        "The Red fox saw the red fox.",
        "a fox",
        "the café",
        "saw a dog",
    ];

    fn trained() -> Tokenizer {
        Tokenizer::train(SENTENCES, 64).unwrap()
    }

    fn example(first: &str, second: Option<&str>) -> Example {
        Example {
            first: first.to_owned(),
            second: second.map(ToOwned::to_owned),
            row: 0,
            label: None,
        }
    }

    fn tokens(tokenizer: &Tokenizer, example: Example, max_length: usize) -> (String, Vec<u8>) {
        let feature = tokenizer
            .features(&[example], max_length)
            .unwrap()
            .remove(0);
        let tokens: Vec<_> = feature
            .input_ids
            .iter()
            .map(|id| tokenizer.inner().id_to_token(*id).unwrap())
            .collect();
        (tokens.join(" "), feature.type_ids)
    }

    fn vocabulary(dir: &Path, tokens: &[&str]) {
        fs::write(dir.join(VOCABULARY), tokens.join("\n") + "\n").unwrap();
    }

    #[test]
    fn training_and_saving_are_deterministic() {
        let files = || {
            let folder = tempfile::tempdir().unwrap();
            trained().save(folder.path()).unwrap();
            [TOKENIZER, VOCABULARY, CONFIG]
                .map(|name| fs::read_to_string(folder.path().join(name)).unwrap())
        };
        let first = files();
        for _ in 0..4 {
            assert_eq!(files(), first);
        }
    }

    #[test]
    fn unseen_words_fall_apart_into_characters_and_unseen_characters_are_unknown() {
        let (text, _) = tokens(&trained(), example("Cafe fad Z", None), 32);
        assert_eq!(text, "[CLS] cafe f ##a ##d [UNK] [SEP]");
    }

    #[test]
    fn pairs_lose_the_end_of_the_longer_sentence_first() {
        let pair = || example("the red fox saw the dog", Some("a fox"));
        let (text, types) = tokens(&trained(), pair(), 8);
        assert_eq!(text, "[CLS] the red fox [SEP] a fox [SEP]");
        assert_eq!(types, [0, 0, 0, 0, 0, 1, 1, 1]);
        let (text, _) = tokens(&trained(), pair(), 32);
        assert_eq!(text, "[CLS] the red fox saw the dog [SEP] a fox [SEP]");
        let (text, _) = tokens(&trained(), example("the red fox saw the dog", None), 5);
        assert_eq!(text, "[CLS] the red fox [SEP]");
    }

    /// Transformers 5.23 gives the odd place to the sentence that is longer before truncation.
    #[test]
    fn of_two_long_sentences_the_longer_keeps_one_token_more() {
        let (long, short) = ("a fox saw the café the red fox", "the dog saw a red fox a");
        let (text, _) = tokens(&trained(), example(long, Some(short)), 8);
        assert_eq!(text, "[CLS] a fox saw [SEP] the dog [SEP]");
        let (text, _) = tokens(&trained(), example(short, Some(long)), 8);
        assert_eq!(text, "[CLS] the dog [SEP] a fox saw [SEP]");
    }

    #[test]
    fn saved_files_give_the_same_tokenizer_with_and_without_the_json_form() {
        let folder = tempfile::tempdir().unwrap();
        let before = trained();
        before.save(folder.path()).unwrap();
        let from_json = Tokenizer::load(folder.path()).unwrap();
        fs::remove_file(folder.path().join(TOKENIZER)).unwrap();
        let from_vocabulary = Tokenizer::load(folder.path()).unwrap();

        let examples = [example("The Café saw a [MASK] dog", Some("Z, fox."))];
        let expected = before.features(&examples, 32).unwrap();
        assert_eq!(from_json.features(&examples, 32).unwrap(), expected);
        assert_eq!(from_vocabulary.features(&examples, 32).unwrap(), expected);
        assert_eq!(from_vocabulary.vocab_size(), before.vocab_size());
    }

    #[test]
    fn a_vocabulary_may_keep_capitals() {
        let folder = tempfile::tempdir().unwrap();
        vocabulary(
            folder.path(),
            &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Fox", "fox"],
        );
        let (lower, _) = tokens(
            &Tokenizer::load(folder.path()).unwrap(),
            example("Fox", None),
            8,
        );
        assert_eq!(lower, "[CLS] fox [SEP]");
        fs::write(folder.path().join(CONFIG), r#"{"do_lower_case": false}"#).unwrap();
        let (kept, _) = tokens(
            &Tokenizer::load(folder.path()).unwrap(),
            example("Fox", None),
            8,
        );
        assert_eq!(kept, "[CLS] Fox [SEP]");
    }

    #[test]
    fn truncation_and_padding_of_a_file_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        trained().save(folder.path()).unwrap();
        let path = folder.path().join(TOKENIZER);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["truncation"] =
            json!({"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
        json["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
        fs::write(&path, json.to_string()).unwrap();
        let (text, _) = tokens(
            &Tokenizer::load(folder.path()).unwrap(),
            example("the red fox", None),
            32,
        );
        assert_eq!(text, "[CLS] the red fox [SEP]");
    }

    #[test]
    fn bad_input_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Tokenizer::load(folder.path()).unwrap_err().to_string();
        assert!(load().ends_with("has neither tokenizer.json nor vocab.txt"));
        vocabulary(folder.path(), &["[PAD]", "[UNK]", "[CLS]", "fox"]);
        assert_eq!(load(), "the vocabulary has no [SEP], which BERT needs");
        fs::write(folder.path().join(TOKENIZER), "{").unwrap();
        assert!(load().contains("tokenizer.json is malformed"));

        let tokenizer = trained();
        let size = tokenizer.vocab_size();
        assert!(tokenizer.check_fits(size).is_ok());
        assert!(matches!(
            tokenizer.check_fits(size - 1),
            Err(TokenizerError::Embedding { .. })
        ));
        assert!(matches!(
            tokenizer.features(&[], 4),
            Err(TokenizerError::MaxLength { least: 5, .. })
        ));
    }
}
