//! The text form of a part that a registry has, `NAME` or `NAME:KEY=VALUE,...`, for settings of any type that serde knows.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::nearest::nearest;

/// The settings of a part of a model, such as a mixer or a router.
///
/// The fields are the keys of the text form; each has a default and is a number, a truth value or a name.
pub trait TextForm:
    Clone + fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned
{
    /// The name before the settings.
    const NAME: &'static str;

    /// The first field, if its value may stand without its key before the other settings: `NAME:4` for
    /// `NAME:KEY=4`.
    const BARE: Option<&'static str> = None;

    /// Checks that the settings make sense.
    ///
    /// # Errors
    ///
    /// If they do not: what is wrong, with the key in backticks.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A text that names no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextFormError {
    /// There is no part of this name.
    #[error("unknown {kind} `{name}`; {known}")]
    Unknown {
        /// What it should be one of.
        kind: &'static str,
        /// The name.
        name: String,
        /// The nearest name, and all of them.
        known: String,
    },
    /// The part has no such key.
    #[error("the {kind} `{name}` has no key `{key}`; {known}")]
    UnknownKey {
        /// What the part is one of.
        kind: &'static str,
        /// The part.
        name: &'static str,
        /// The key.
        key: String,
        /// The nearest key, and all of them.
        known: String,
    },
    /// A setting cannot be read or makes no sense.
    #[error("the {kind} `{name}`: {problem}")]
    Setting {
        /// What the part is one of.
        kind: &'static str,
        /// The part.
        name: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

impl TextFormError {
    /// An error for a name that is none of `names`.
    pub fn unknown(kind: &'static str, name: &str, names: &[&str]) -> Self {
        Self::Unknown {
            kind,
            name: name.to_owned(),
            known: known(name, names),
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

/// Gives the text form to an enum with the settings of one part ([`TextForm`](crate::text_form::TextForm)) in each variant; the first
/// argument says what the parts are, for messages.
#[macro_export]
macro_rules! text_forms {
    ($kind:literal, $parts:ident { $($arm:ident($settings:ty)),+ $(,)? }) => {
        impl $parts {
            /// The names of all.
            pub const NAMES: &[&str] = &[$(<$settings as $crate::text_form::TextForm>::NAME),+];

            /// The name, without settings.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$arm(_) => <$settings as $crate::text_form::TextForm>::NAME),+
                }
            }
        }

        impl ::std::fmt::Display for $parts {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self {
                    $(Self::$arm(settings) => $crate::text_form::write(settings, f)),+
                }
            }
        }

        impl ::std::str::FromStr for $parts {
            type Err = $crate::text_form::TextFormError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (name, settings) = $crate::text_form::split(text.trim());
                $(
                    if name == <$settings as $crate::text_form::TextForm>::NAME {
                        return $crate::text_form::read($kind, settings).map(Self::$arm);
                    }
                )+
                Err($crate::text_form::TextFormError::unknown($kind, name, Self::NAMES))
            }
        }

        impl TryFrom<String> for $parts {
            type Error = $crate::text_form::TextFormError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$parts> for String {
            fn from(parts: $parts) -> Self {
                parts.to_string()
            }
        }
    };
}

/// The name and, behind a colon, the settings.
pub fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, settings)) => (name, Some(settings)),
        None => (text, None),
    }
}

/// Reads settings over the default ones.
///
/// # Errors
///
/// If there is no such key, or a setting cannot be read or makes no sense.
pub fn read<S: TextForm>(kind: &'static str, settings: Option<&str>) -> Result<S, TextFormError> {
    let wrong = |problem| TextFormError::Setting {
        kind,
        name: S::NAME,
        problem,
    };
    let defaults = keys(&S::default());
    let mut values = defaults.clone();
    let mut given = vec![];
    let settings = settings.iter().flat_map(|settings| settings.split(','));
    for (index, setting) in settings.enumerate() {
        let bare = S::BARE.filter(|_| index == 0).map(|key| (key, setting));
        let (key, value) = setting
            .split_once('=')
            .or(bare)
            .ok_or_else(|| wrong(format!("`{setting}` is no setting, expected KEY=VALUE")))?;
        if !defaults.contains_key(key) {
            let known: Vec<&str> = defaults.keys().map(String::as_str).collect();
            return Err(TextFormError::UnknownKey {
                kind,
                name: S::NAME,
                key: key.to_owned(),
                known: self::known(key, &known),
            });
        }
        if given.contains(&key) {
            return Err(wrong(format!("`{key}` is given twice")));
        }
        given.push(key);
        // Each on its own over the defaults, so that the message can name the key.
        let mut one = defaults.clone();
        one.insert(key.to_owned(), parsed(value));
        serde_json::from_value::<S>(Value::Object(one))
            .map_err(|error| wrong(format!("`{key}` cannot be `{value}`: {error}")))?;
        values.insert(key.to_owned(), parsed(value));
    }
    let spec: S =
        serde_json::from_value(Value::Object(values)).map_err(|error| wrong(error.to_string()))?;
    spec.check().map_err(wrong)?;
    Ok(spec)
}

/// Writes the name and the settings that are not the default ones.
///
/// # Errors
///
/// If the text cannot be written.
pub fn write<S: TextForm>(spec: &S, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(S::NAME)?;
    let defaults = keys(&S::default());
    let changed = keys(spec)
        .into_iter()
        .filter(|(key, value)| defaults.get(key) != Some(value));
    for (index, (key, value)) in changed.enumerate() {
        f.write_str(if index == 0 { ":" } else { "," })?;
        if S::BARE != Some(key.as_str()) {
            write!(f, "{key}=")?;
        }
        match value {
            Value::String(name) => f.write_str(&name)?,
            value => write!(f, "{value}")?,
        }
    }
    Ok(())
}

/// The settings by their keys.
fn keys<S: TextForm>(spec: &S) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(keys)) => keys,
        _ => unreachable!("settings are a struct of numbers, truth values and names"),
    }
}

/// A number or a truth value; anything else is a name.
fn parsed(value: &str) -> Value {
    match serde_json::from_str(value) {
        Ok(plain @ (Value::Number(_) | Value::Bool(_))) => plain,
        _ => value.into(),
    }
}
