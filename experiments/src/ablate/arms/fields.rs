//! Typed reading of TOML tables whose keys keep the order of the text.
//!
//! The order of keys is that of axes, and so of arms. Maps of `toml` sort their keys, and so does all that serde makes of
//! them; places in the text tell the order.

use masformer_core::nearest::hint;
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

use super::{
    error::{AblationError, Place, Refusal},
    settings::{Settings, check_keys},
    value::own,
};

/// A value with its dotted key.
pub(super) struct Field<'a, 'i> {
    /// The dotted key, with the number of an element of a list as a word.
    pub path: String,
    value: &'a Spanned<DeValue<'i>>,
}

/// The fields of a table, all of which are known.
pub(super) struct Fields<'a, 'i> {
    /// The dotted key of the table.
    pub path: String,
    /// Where it stands.
    pub place: Place,
    table: &'a DeTable<'i>,
}

impl<'a, 'i> Field<'a, 'i> {
    pub(super) fn new(path: &str, value: &'a Spanned<DeValue<'i>>) -> Self {
        Self {
            path: path.to_owned(),
            value,
        }
    }

    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        Place::Table(self.value.span())
    }

    /// A refusal of the value, which may have any type.
    pub(super) fn refused(&self, right: &str) -> AblationError {
        let value = match self.value.get_ref() {
            DeValue::String(text) => format!("`{text}`"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(boolean) => boolean.to_string(),
            other => a_type(other).to_owned(),
        };
        let refusal = Refusal::Value {
            key: self.path.clone(),
            value,
            right: right.to_owned(),
        };
        refusal.at(&self.place())
    }

    /// A refusal of the value's type.
    pub(super) fn wrong(&self, expected: &'static str) -> AblationError {
        let refusal = Refusal::Type {
            key: self.path.clone(),
            expected,
            found: a_type(self.value.get_ref()),
        };
        refusal.at(&self.place())
    }

    /// A text, if it is one.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    pub(super) fn text(&self) -> Result<&'a str, AblationError> {
        self.as_text().ok_or_else(|| self.wrong("a text"))
    }

    /// A number of any type.
    pub(super) fn number(&self) -> Result<f64, AblationError> {
        match self.value()? {
            Value::Float(number) => Ok(number),
            Value::Integer(number) => Ok(number as f64),
            _ => Err(self.wrong("a number")),
        }
    }

    /// An integer from `least` to the largest of TOML.
    pub(super) fn integer(&self, least: u64) -> Result<u64, AblationError> {
        let Value::Integer(number) = self.value()? else {
            return Err(self.wrong("an integer"));
        };
        let number = u64::try_from(number).ok().filter(|number| *number >= least);
        number.ok_or_else(|| self.refused(&format!("it is at least {least}")))
    }

    /// Whether it is an integer.
    pub(super) fn is_integer(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    /// Whether it is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    pub(super) fn integers(&self) -> Result<Vec<u64>, AblationError> {
        self.list()?.iter().map(|field| field.integer(0)).collect()
    }

    pub(super) fn texts(&self) -> Result<Vec<&'a str>, AblationError> {
        self.list()?.iter().map(Self::text).collect()
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        self.value.get_ref().is_array()
    }

    pub(super) fn list(&self) -> Result<Vec<Self>, AblationError> {
        let list = self
            .value
            .get_ref()
            .as_array()
            .ok_or_else(|| self.wrong("a list"))?;
        let fields = list.iter().enumerate();
        Ok(fields
            .map(|(index, value)| Self::new(&format!("{}.{index}", self.path), value))
            .collect())
    }

    /// The value without its place.
    pub(super) fn value(&self) -> Result<Value, AblationError> {
        own(self.value.clone()).map_err(|reason| self.refused(&reason))
    }

    /// The elements of a list, without their places.
    pub(super) fn values(&self) -> Result<Vec<Value>, AblationError> {
        self.list()?.iter().map(Self::value).collect()
    }

    /// A table all of whose keys are in `known`.
    pub(super) fn fields(&self, known: &[&str]) -> Result<Fields<'a, 'i>, AblationError> {
        let table = self
            .value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.wrong("a table"))?;
        Fields::new(&self.path, table, self.place(), known)
    }

    /// A table of any keys, each with its field, in the order of the text.
    pub(super) fn entries(&self) -> Result<Vec<(String, Self)>, AblationError> {
        let table = self
            .value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.wrong("a table"))?;
        let fields = in_order(table).into_iter();
        let entry = |(key, value): (&str, _)| {
            (
                key.to_owned(),
                Self::new(&format!("{}.{key}", self.path), value),
            )
        };
        Ok(fields.map(entry).collect())
    }

    /// A table of recipe keys, each with its field, in the order of the text. Keys of inner tables are joined by dots:
    /// `{ "a.b" = 1 }`, `{ a.b = 1 }` and `{ a = { b = 1 } }` are the same.
    pub(super) fn recipe_keys(&self) -> Result<Vec<(String, Self)>, AblationError> {
        let mut found = vec![];
        for (key, field) in self.entries()? {
            if key.split('.').any(str::is_empty) {
                return Err(Refusal::NoKey(key).at(&field.place()));
            }
            let is_inner = field
                .value
                .get_ref()
                .as_table()
                .is_some_and(|table| !table.is_empty());
            if is_inner {
                let inner = field.recipe_keys()?.into_iter();
                found.extend(inner.map(|(below, field)| (format!("{key}.{below}"), field)));
            } else {
                found.push((key, field));
            }
        }
        Ok(found)
    }

    /// Settings of an arm, each key once.
    pub(super) fn settings(&self) -> Result<Settings, AblationError> {
        let keys = self.recipe_keys()?;
        check_keys(keys.iter().map(|(key, _)| key.as_str()), &self.place())?;
        keys.into_iter()
            .map(|(key, field)| Ok((key, field.value()?)))
            .collect()
    }
}

impl<'a, 'i> Fields<'a, 'i> {
    /// The fields of a table, all of whose keys are in `known`.
    pub(super) fn new(
        path: &str,
        table: &'a DeTable<'i>,
        place: Place,
        known: &[&str],
    ) -> Result<Self, AblationError> {
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let refusal = Refusal::UnknownKey {
                    key: format!("{path}.{name}"),
                    hint: hint(name, known),
                };
                return Err(refusal.at(&Place::Table(key.span())));
            }
        }
        let path = path.to_owned();
        Ok(Self { path, place, table })
    }

    /// The field of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Field<'a, 'i>> {
        let value = self.table.get(key)?;
        Some(Field::new(&format!("{}.{key}", self.path), value))
    }

    /// The field of a key, with the reason why it is needed.
    pub(super) fn needed(
        &self,
        key: &str,
        why: &'static str,
    ) -> Result<Field<'a, 'i>, AblationError> {
        self.get(key).ok_or_else(|| {
            let key = format!("{}.{key}", self.path);
            Refusal::Missing { key, why }.at(&self.place)
        })
    }
}

/// The entries of a table in the order of the text.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a str, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries.into_iter();
    entries
        .map(|(key, value)| (key.get_ref().as_ref(), value))
        .collect()
}

fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<String>, String> {
        let value = DeValue::parse(text).expect("TOML");
        let keys = Field::new("ablate", &value)
            .recipe_keys()
            .map_err(|error| error.to_string())?;
        Ok(keys.into_iter().map(|(key, _)| key).collect())
    }

    #[test]
    fn keys_keep_the_order_of_the_text_at_all_levels() {
        let expected = ["z.b", "z.a", "c", "a.y.x"].map(str::to_owned).to_vec();
        assert_eq!(
            keys(r#"{ "z.b" = 1, "z.a" = 2, c = 3, a = { "y.x" = 4 } }"#),
            Ok(expected.clone())
        );
        assert_eq!(keys("{ z.b = 1, z.a = 2, c = 3, a.y.x = 4 }"), Ok(expected));
        assert_eq!(
            keys(r#"{ "a..b" = 1 }"#),
            Err("`a..b` is no key; write words joined by dots, as in train.epochs".to_owned())
        );
    }

    #[test]
    fn wrong_types_and_values_are_placed() {
        let value = DeValue::parse("[3, -1, 'x']").expect("TOML");
        let field = Field::new("ablate.seeds", &value);
        let error = field.integers().expect_err("negative");
        assert_eq!(
            error.to_string(),
            "`ablate.seeds.1` cannot be -1; it is at least 0"
        );
        assert_eq!(error.place, Place::Table(4..6));
        let error = field.text().expect_err("a list");
        assert_eq!(
            error.to_string(),
            "`ablate.seeds` must be a text, not a list"
        );
    }
}
