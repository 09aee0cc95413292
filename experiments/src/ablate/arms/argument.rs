//! One argument of the command line: its key and its value.

use toml::{
    Value,
    de::{DeTable, DeValue},
};

use super::{
    error::{AblationError, Place, Refusal},
    settings::{Settings, check_keys},
    value::read,
};

/// Settings `key=value`, one per word; lists are not split.
pub(super) fn settings(words: &[String], place: &Place) -> Result<Settings, AblationError> {
    let mut settings = vec![];
    for word in words {
        let (name, text) = assignment(word, place)?;
        settings.push((key(name, place)?, value(name, text, place)?));
    }
    check_keys(settings.iter().map(|(key, _)| key.as_str()), place)?;
    Ok(settings)
}

/// Keys and value of an argument.
pub(super) fn assignment<'a>(
    argument: &'a str,
    place: &Place,
) -> Result<(&'a str, &'a str), AblationError> {
    let pair = argument
        .split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()));
    let pair = pair.filter(|(key, _)| !key.is_empty());
    pair.ok_or_else(|| Refusal::NoSetting(argument.to_owned()).at(place))
}

/// The value of a key; what is no TOML is a string.
pub(super) fn value(name: &str, text: &str, place: &Place) -> Result<Value, AblationError> {
    read(text).map_err(|right| {
        let (key, value) = (name.to_owned(), format!("`{text}`"));
        Refusal::Value { key, value, right }.at(place)
    })
}

/// The dotted key of a key as TOML writes it, spaces and quotes included.
pub(super) fn key(text: &str, place: &Place) -> Result<String, AblationError> {
    let refused = || Refusal::NoKey(text.to_owned()).at(place);
    let toml = format!("{text} = 0");
    let table = DeTable::parse(&toml).map_err(|_| refused())?;
    let (mut table, mut words) = (table.get_ref(), vec![]);
    while let (1, Some((word, value))) = (table.len(), table.iter().next()) {
        words.push(word.get_ref().as_ref());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Integer(_) if !words.iter().any(|word| word.split('.').any(str::is_empty)) => {
                return Ok(words.join("."));
            }
            _ => break,
        }
    }
    Err(refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_toml_reads_them() {
        let read = |text: &str| key(text, &Place::Whole).ok();
        assert_eq!(read("train.epochs").as_deref(), Some("train.epochs"));
        assert_eq!(read("train . 'epochs'").as_deref(), Some("train.epochs"));
        for text in ["", ".", "a..b", "a b", "a.", "'a.'", "a#", "[a]", "a\nb"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
