//! The tokenizer of a decoder's folder.

use std::{collections::HashMap, path::Path};

use tokenizers::{
    PreTokenizerWrapper,
    models::bpe::{BPE, Vocab},
    processors::template::TemplateProcessing,
};

use super::{END_OF_DOCUMENT, TextTokenizer, byte_level};
use crate::data::tokenizer::{CONFIG, TOKENIZER, TokenizerError, TokenizerFolder, malformed};

/// The vocabulary of a byte-level BPE, where there is no `tokenizer.json`.
pub(in crate::data) const VOCABULARY_JSON: &str = "vocab.json";
/// Its merges.
pub(in crate::data) const MERGES: &str = "merges.txt";

/// The class of Transformers that takes the space before a text from `tokenizer_config.json`.
const GPT2_CLASS: &str = "GPT2Tokenizer";

impl TextTokenizer {
    /// Loads `tokenizer.json` of a Hugging Face folder or, where there is none, `vocab.json` and `merges.txt`,
    /// with the special and added tokens that its other files name. `generation_config.json` or `config.json`
    /// says which tokens begin and end a generation.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, two contradict each other, or they are no byte-level BPE of GPT-2's kind, as
    /// those of GPT-2 and GPT-Neo are.
    pub fn load(dir: &Path) -> Result<Self, TokenizerError> {
        let folder = TokenizerFolder::read(dir)?;
        let is_gpt2 = folder.class() == GPT2_CLASS;
        let prefix = folder.flag("add_prefix_space")?;
        if prefix == Some(true) {
            return Err(TokenizerError::Malformed {
                path: folder.path(CONFIG),
                reason: "`add_prefix_space` is true, which would change the text; expected false"
                    .to_owned(),
            });
        }
        let (path, mut inner) = if let Some(bytes) = folder.bytes(TOKENIZER)? {
            let path = folder.path(TOKENIZER);
            let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
                .map_err(|error| malformed(&path, &error))?;
            folder.check_ids(&inner, &bytes)?;
            if is_gpt2 {
                without_prefix_space(&mut inner);
            }
            (path, inner)
        } else if let Some(vocabulary) = folder.bytes(VOCABULARY_JSON)?
            && let Some(merges) = folder.bytes(MERGES)?
        {
            let model = bpe(&folder, &vocabulary, &merges)?;
            (folder.path(VOCABULARY_JSON), byte_level(model))
        } else {
            return Err(TokenizerError::MissingText {
                dir: dir.to_owned(),
            });
        };
        folder.add_tokens(&mut inner)?;
        // Where there is `tokenizer.json`, it alone says what stands around a prompt.
        if !folder.path(TOKENIZER).exists()
            && let Some(template) = template(&folder, &inner)?
        {
            inner.with_post_processor(Some(template));
        }
        let end = folder.special("eos_token").unwrap_or(END_OF_DOCUMENT);
        let mut tokenizer = Self::new(inner, end).map_err(|reason| malformed(&path, &reason))?;
        tokenizer.stop_ids = folder.model_ids("eos_token_id")?;
        tokenizer.start_id = folder
            .model_ids("bos_token_id")?
            .and_then(|ids| ids.first().copied());
        Ok(tokenizer)
    }
}

/// The BPE of `vocab.json` and `merges.txt`.
fn bpe(folder: &TokenizerFolder, vocabulary: &[u8], merges: &[u8]) -> Result<BPE, TokenizerError> {
    let path = folder.path(VOCABULARY_JSON);
    let vocabulary: HashMap<String, u32> =
        serde_json::from_slice(vocabulary).map_err(|error| malformed(&path, &error))?;
    let path = folder.path(MERGES);
    let text = str::from_utf8(merges).map_err(|error| malformed(&path, &error))?;
    let mut pairs = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if line.is_empty() || (number == 1 && line.starts_with("#version")) {
            continue;
        }
        let Some((left, right)) = line.split_once(' ') else {
            let reason =
                format!("line {number} is `{line}`; expected two tokens with a space between them");
            return Err(malformed(&path, &reason));
        };
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder().vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), pairs);
    model.build().map_err(|error| malformed(&path, &error))
}

/// What `tokenizer_config.json` puts around a prompt; `None` where it says nothing.
fn template(
    folder: &TokenizerFolder,
    inner: &tokenizers::Tokenizer,
) -> Result<Option<TemplateProcessing>, TokenizerError> {
    let flags = [
        (folder.flag("add_bos_token")?, "bos_token"),
        (folder.flag("add_eos_token")?, "eos_token"),
    ];
    if flags.iter().all(|(flag, _)| flag.is_none()) {
        return Ok(None);
    }
    let mut around = [None, None];
    for (place, (flag, key)) in around.iter_mut().zip(flags) {
        if flag != Some(true) {
            continue;
        }
        let token = folder.special(key).unwrap_or(END_OF_DOCUMENT);
        let Some(id) = inner.token_to_id(token) else {
            return Err(TokenizerError::Contradiction {
                path: folder.path(CONFIG),
                reason: format!("has `add_{key}`, and the vocabulary has no {token}"),
            });
        };
        *place = Some((token.to_owned(), id));
    }
    let [before, after] = around;
    let word = |token: &Option<(String, u32)>| token.as_ref().map(|(token, _)| token.clone());
    let words = [word(&before), Some("$A".to_owned()), word(&after)];
    let single: Vec<String> = words.into_iter().flatten().collect();
    let tokens: Vec<(String, u32)> = before.into_iter().chain(after).collect();
    let path = folder.path(CONFIG);
    let mut builder = TemplateProcessing::builder();
    builder
        .try_single(single)
        .map_err(|reason| malformed(&path, &reason))?;
    let template = builder.special_tokens(tokens).build();
    Ok(Some(template.map_err(|error| malformed(&path, &error))?))
}

/// Whether a text gets a space before it, `tokenizer_config.json` decides for GPT-2's class, and it says no.
fn without_prefix_space(inner: &mut tokenizers::Tokenizer) {
    if let Some(PreTokenizerWrapper::ByteLevel(found)) = inner.get_pre_tokenizer()
        && found.add_prefix_space
    {
        let pre_tokenizer = found.add_prefix_space(false);
        inner.with_pre_tokenizer(Some(pre_tokenizer));
    }
}
