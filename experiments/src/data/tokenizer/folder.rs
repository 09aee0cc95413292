//! What the files beside a vocabulary say of a tokenizer, read as Transformers 5 reads them.
//!
//! `added_tokens_decoder` of `tokenizer_config.json` lists the tokens that were added to the vocabulary. Where it
//! is absent, `special_tokens_map.json` names the special tokens (before `tokenizer_config.json` does) and
//! `added_tokens.json` the added ones. `tokenizer.json` has its own list besides.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use masformer_core::pretrained::without_kiln_prefix;
use moebert_core::{
    file,
    pretrained::{CONFIG_FILE, tokenizer_class},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::{CONFIG, TOKENIZER, TokenizerError};

/// Names of special tokens by their place, in an old Transformers.
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// Tokens that were added to a vocabulary, in an old Transformers.
const ADDED_TOKENS: &str = "added_tokens.json";
/// What a decoder begins and ends with when it generates.
pub(in crate::data) const GENERATION_CONFIG: &str = "generation_config.json";

/// The keys that name one special token each.
const NAMED: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// The keys that list further special tokens, the second one that of Transformers 4.
const MORE_SPECIAL: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// The files of a tokenizer beside its vocabulary.
#[derive(Clone, Debug, Default)]
pub(in crate::data) struct TokenizerFolder {
    dir: PathBuf,
    /// `tokenizer_config.json`.
    config: Map<String, Value>,
    /// `config.json` of the model, if it is there.
    model: Map<String, Value>,
    /// `generation_config.json`, if it is there.
    generation: Option<Map<String, Value>>,
    /// Special tokens by key, as [`NAMED`] has them.
    named: BTreeMap<&'static str, String>,
    /// Further special tokens.
    more_special: Vec<String>,
    added: Vec<Added>,
}

/// A token that was added to the vocabulary.
#[derive(Clone, Debug)]
struct Added {
    token: AddedToken,
    id: u32,
    file: &'static str,
}

/// A token in a file: its text, or an object that describes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenForm {
    Text(String),
    Object {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        normalized: Option<bool>,
        #[serde(default)]
        special: bool,
    },
}

impl TokenForm {
    fn content(self) -> String {
        match self {
            Self::Text(content) | Self::Object { content, .. } => content,
        }
    }

    fn into_token(self) -> AddedToken {
        match self {
            Self::Text(content) => AddedToken::from(content, true),
            Self::Object {
                content,
                single_word,
                lstrip,
                rstrip,
                normalized,
                special,
            } => AddedToken::from(content, special)
                .single_word(single_word)
                .lstrip(lstrip)
                .rstrip(rstrip)
                .normalized(normalized.unwrap_or(!special)),
        }
    }
}

impl TokenizerFolder {
    /// Reads the files of a folder, as far as it has them.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is not of its form.
    pub fn read(dir: &Path) -> Result<Self, TokenizerError> {
        let mut folder = Self {
            dir: dir.to_owned(),
            config: object(&dir.join(CONFIG))?,
            model: object(&dir.join(CONFIG_FILE))?,
            generation: object_if_there(&dir.join(GENERATION_CONFIG))?,
            ..Self::default()
        };
        let config = folder.config.clone();
        folder.name_special(&config, CONFIG)?;
        folder.list_special(&config, CONFIG, &MORE_SPECIAL)?;
        if let Some(list) = config.get("added_tokens_decoder") {
            let list: BTreeMap<u32, TokenForm> = form(list, &dir.join(CONFIG))?;
            let added = list.into_iter().map(|(id, token)| Added {
                token: token.into_token(),
                id,
                file: CONFIG,
            });
            folder.added = added.collect();
            return Ok(folder);
        }
        let special = object(&dir.join(SPECIAL_TOKENS_MAP))?;
        folder.name_special(&special, SPECIAL_TOKENS_MAP)?;
        let [listed, legacy] = MORE_SPECIAL;
        folder.list_special(&special, SPECIAL_TOKENS_MAP, &[listed])?;
        let path = dir.join(ADDED_TOKENS);
        let added: BTreeMap<String, u32> = form(&object(&path)?.into(), &path)?;
        let mut added: Vec<Added> = added
            .into_iter()
            .map(|(content, id)| Added {
                token: AddedToken::from(&content, folder.is_special(&content)),
                id,
                file: ADDED_TOKENS,
            })
            .collect();
        added.sort_by_key(|added| added.id);
        folder.added = added;
        // Transformers 5 takes these for special only where `added_tokens.json` does not have them, and none of them
        // where `tokenizer_config.json` has a list.
        if !MORE_SPECIAL.iter().any(|key| has_tokens(config.get(*key))) {
            folder.list_special(&special, SPECIAL_TOKENS_MAP, &[legacy])?;
        }
        Ok(folder)
    }

    /// Takes the special tokens that a file names; its names go before those that are known.
    fn name_special(
        &mut self,
        json: &Map<String, Value>,
        file: &str,
    ) -> Result<(), TokenizerError> {
        let path = self.dir.join(file);
        for key in NAMED {
            match json.get(key) {
                None => {}
                Some(Value::Null) => drop(self.named.remove(key)),
                Some(token) => {
                    let token: TokenForm = form(token, &path)?;
                    self.named.insert(key, token.content());
                }
            }
        }
        Ok(())
    }

    /// Takes the special tokens that a file lists under these keys.
    fn list_special(
        &mut self,
        json: &Map<String, Value>,
        file: &str,
        keys: &[&str],
    ) -> Result<(), TokenizerError> {
        let path = self.dir.join(file);
        for list in keys.iter().filter_map(|key| json.get(*key)) {
            let tokens: Vec<TokenForm> = match list {
                Value::Null => vec![],
                Value::Object(by_name) => {
                    let tokens = by_name.values().map(|token| form(token, &path));
                    tokens.collect::<Result<_, _>>()?
                }
                list => form(list, &path)?,
            };
            for token in tokens.into_iter().map(TokenForm::content) {
                if !self.more_special.contains(&token) {
                    self.more_special.push(token);
                }
            }
        }
        Ok(())
    }

    fn is_special(&self, token: &str) -> bool {
        let mut special = self.named.values().chain(&self.more_special);
        special.any(|special| special == token)
    }

    /// `tokenizer_config.json`, every key in order, with the special tokens that other files name.
    pub fn config(&self) -> Map<String, Value> {
        let mut config = self.config.clone();
        for (key, token) in &self.named {
            config.insert((*key).to_owned(), token.as_str().into());
        }
        config
    }

    /// A file of the folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The content of a file of the folder; `None` if it is not there.
    pub fn bytes(&self, file: &str) -> Result<Option<Vec<u8>>, TokenizerError> {
        Ok(file::read_if_there(&self.dir.join(file))?)
    }

    /// The class of Transformers that reads the folder, without `Fast`: the one that
    /// `tokenizer_config.json` names, or that of the model's type.
    pub fn class(&self) -> &str {
        if let Some(class) = self.config.get("tokenizer_class").and_then(Value::as_str) {
            return class.strip_suffix("Fast").unwrap_or(class);
        }
        let model_type = self.model.get("model_type").and_then(Value::as_str);
        let model_type = model_type.unwrap_or_default();
        match without_kiln_prefix(model_type) {
            "gpt2" | "gpt_neo" => "GPT2Tokenizer",
            encoder => tokenizer_class(encoder).unwrap_or_default(),
        }
    }

    /// A yes or no of `tokenizer_config.json`; `None` where it says nothing.
    ///
    /// # Errors
    ///
    /// If the value is neither.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, TokenizerError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(TokenizerError::Malformed {
                path: self.dir.join(CONFIG),
                reason: format!("`{key}` is {other}; expected true or false"),
            }),
        }
    }

    /// The special token of a key such as `pad_token`, if a file names one.
    pub fn special(&self, key: &str) -> Option<&str> {
        self.named.get(key).map(String::as_str)
    }

    /// The ids of a key such as `eos_token_id`: those of `generation_config.json` or, where there is no such file,
    /// of `config.json`. `None` where no file says anything.
    ///
    /// # Errors
    ///
    /// If the value is neither an id nor a list of ids.
    pub fn model_ids(&self, key: &str) -> Result<Option<Vec<u32>>, TokenizerError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Ids {
            One(i64),
            List(Vec<i64>),
        }
        let (file, json) = match &self.generation {
            Some(json) => (GENERATION_CONFIG, json),
            None => (CONFIG_FILE, &self.model),
        };
        let Some(value) = json.get(key).filter(|value| !value.is_null()) else {
            // A generation's configuration without a key leaves it out on purpose, as Transformers has it.
            return Ok(self.generation.is_some().then(Vec::new));
        };
        let ids: Ids = serde_json::from_value(value.clone()).map_err(|_| {
            let reason = format!("`{key}` is {value}; expected an id or a list of ids");
            let path = self.dir.join(file);
            TokenizerError::Malformed { path, reason }
        })?;
        let ids = match ids {
            Ids::One(id) => vec![id],
            Ids::List(ids) => ids,
        };
        // Some configurations write -1 for no token.
        Ok(Some(ids.into_iter().flat_map(u32::try_from).collect()))
    }

    /// Gives a tokenizer the tokens that the files add to its vocabulary.
    ///
    /// A special token that is named and has no id gets the next one, as in Transformers, if the model has room
    /// for it.
    ///
    /// # Errors
    ///
    /// If a token would get another id than a file gives it.
    pub fn add_tokens(&self, inner: &mut tokenizers::Tokenizer) -> Result<(), TokenizerError> {
        for Added { token, id, file } in &self.added {
            let content = token.content.clone();
            let is_named = self.named.values().any(|named| *named == content);
            let special = token.special || is_named;
            inner
                .add_tokens([token.clone().special(special)])
                .map_err(TokenizerError::Encode)?;
            self.check_id(inner, &content, *id, file)?;
        }
        let room = self.model.get("vocab_size").and_then(Value::as_u64);
        for content in self.named.values().chain(&self.more_special) {
            if inner
                .get_added_vocabulary()
                .get_vocab()
                .contains_key(content)
            {
                continue;
            }
            let is_known = inner.token_to_id(content).is_some();
            let next = inner.get_vocab_size(true) as u64;
            if is_known || room.is_some_and(|room| next < room) {
                let token = AddedToken::from(content, true);
                inner
                    .add_special_tokens([token])
                    .map_err(TokenizerError::Encode)?;
            }
        }
        Ok(())
    }

    /// Checks that the tokens that `tokenizer.json` adds have the ids that it gives them.
    ///
    /// # Errors
    ///
    /// If one has not.
    pub fn check_ids(
        &self,
        inner: &tokenizers::Tokenizer,
        bytes: &[u8],
    ) -> Result<(), TokenizerError> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            added_tokens: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            id: u32,
            content: String,
        }
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| malformed(&self.dir.join(TOKENIZER), &error))?;
        for Entry { id, content } in file.added_tokens {
            self.check_id(inner, &content, id, TOKENIZER)?;
        }
        Ok(())
    }

    fn check_id(
        &self,
        inner: &tokenizers::Tokenizer,
        token: &str,
        stated: u32,
        file: &str,
    ) -> Result<(), TokenizerError> {
        match inner.token_to_id(token) {
            Some(id) if id != stated => Err(TokenizerError::Contradiction {
                path: self.dir.join(file),
                reason: format!(
                    "gives the token `{token}` the id {stated}; beside the vocabulary's other tokens it has {id}"
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// The tokens that a tokenizer has beside its vocabulary, in the order of their ids.
pub(in crate::data) fn added_tokens(inner: &tokenizers::Tokenizer) -> Vec<AddedToken> {
    let by_id: BTreeMap<u32, AddedToken> = inner.get_added_tokens_decoder().into_iter().collect();
    by_id.into_values().collect()
}

/// The keys of a JSON file; none if it is not there.
fn object(path: &Path) -> Result<Map<String, Value>, TokenizerError> {
    Ok(object_if_there(path)?.unwrap_or_default())
}

fn object_if_there(path: &Path) -> Result<Option<Map<String, Value>>, TokenizerError> {
    let bytes = file::read_if_there(path)?;
    let json = bytes.map(|bytes| serde_json::from_slice(&bytes));
    json.transpose().map_err(|error| malformed(path, &error))
}

/// Whether a list of special tokens has any.
fn has_tokens(list: Option<&Value>) -> bool {
    match list {
        Some(Value::Array(tokens)) => !tokens.is_empty(),
        Some(Value::Object(tokens)) => !tokens.is_empty(),
        _ => false,
    }
}

fn form<T: serde::de::DeserializeOwned>(value: &Value, path: &Path) -> Result<T, TokenizerError> {
    serde_json::from_value(value.clone()).map_err(|error| malformed(path, &error))
}

pub(in crate::data) fn malformed(path: &Path, reason: &dyn ToString) -> TokenizerError {
    TokenizerError::Malformed {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
