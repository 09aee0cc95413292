//! What can be wrong with the text of a mixer.

use crate::nearest::nearest;

/// A mixer that cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixerError {
    /// There is no mixer of this name.
    #[error("unknown mixer `{name}`; {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The nearest name, and all of them.
        known: String,
    },
    /// The mixer has no such key.
    #[error("the mixer `{mixer}` has no key `{key}`; {known}")]
    UnknownKey {
        /// The mixer.
        mixer: &'static str,
        /// The key.
        key: String,
        /// The nearest key, and all of them.
        known: String,
    },
    /// A setting cannot be read or makes no sense.
    #[error("the mixer `{mixer}`: {problem}")]
    Setting {
        /// The mixer.
        mixer: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The mixer cannot be that of a decoder.
    #[error(
        "the mixer `{mixer}` of layer {layer} cannot decode: its tokens see later ones, or it has no \
         steps; decoders cannot have it"
    )]
    Decoder {
        /// The mixer.
        mixer: &'static str,
        /// The layer.
        layer: usize,
    },
}

impl MixerError {
    pub(super) fn unknown(name: &str, names: &[&str]) -> Self {
        Self::Unknown {
            name: name.to_owned(),
            known: known(name, names),
        }
    }

    pub(super) fn unknown_key(mixer: &'static str, key: &str, keys: &[&str]) -> Self {
        Self::UnknownKey {
            mixer,
            key: key.to_owned(),
            known: known(key, keys),
        }
    }
}

/// The nearest name, if any is near, and all of them.
fn known(name: &str, names: &[&str]) -> String {
    if names.is_empty() {
        return "it has none".to_owned();
    }
    let all = names.join(", ");
    match nearest(name, names.iter().copied()) {
        Some(right) => format!("did you mean `{right}`? There is {all}"),
        None => format!("there is {all}"),
    }
}
