//! Keys laid over a recipe: tables are merged key by key, anything else is replaced as a whole.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A list that a table was laid over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartOfList {
    /// Its dotted key.
    pub list: String,
    /// Where the table stands.
    pub span: Range<usize>,
}

impl PartOfList {
    /// Why that is refused, and what to write; goes on with the sentence that the key begins.
    pub(super) fn reason(&self) -> String {
        let list = self.list.as_str();
        let whole = match list.rsplit('.').next() {
            Some("arms") => r#"'arms=[{name="wide", experts={width=8}}]'"#.to_owned(),
            Some("grow") => "'grow=[{length=256, until=0.5}]'".to_owned(),
            Some("methods") => {
                return format!(
                    "is a list and is replaced as a whole: '{list}=[\"kd\"]'; settings of a method are set under its \
                     name, as in kd.weight=2"
                );
            }
            _ => format!("'{list}=[1, 2, 3]'"),
        };
        format!("is a list and is replaced as a whole: {whole}")
    }
}

/// Lays `over` upon `table`. Spans stay with their values. `is_whole` says of the span of a table whether it is written as
/// one value, `{ .. }`, or under a header, and not as dotted keys.
///
/// # Errors
///
/// If a dotted key names a part of a list, which cannot be replaced.
pub(super) fn merge<'i>(
    table: &mut DeTable<'i>,
    over: DeTable<'i>,
    is_whole: &dyn Fn(&Range<usize>) -> bool,
) -> Result<(), PartOfList> {
    for (key, value) in over {
        let span = value.span();
        let name = key.get_ref().clone().into_owned();
        let below = table.get_mut(name.as_str()).map(Spanned::get_mut);
        match (below, value.into_inner()) {
            (Some(DeValue::Table(below)), DeValue::Table(above)) => {
                merge(below, above, is_whole).map_err(|PartOfList { list, span }| {
                    let list = format!("{name}.{list}");
                    PartOfList { list, span }
                })?;
            }
            (Some(DeValue::Array(_)), DeValue::Table(_)) if !is_whole(&span) => {
                return Err(PartOfList { list: name, span });
            }
            (_, value) => {
                // Taken out first: inserting over a key would keep the old key's place.
                table.remove(name.as_str());
                table.insert(key, Spanned::new(span, value));
            }
        }
    }
    Ok(())
}

/// The dotted keys of all values of a table, in its order.
pub(super) fn leaves(table: &DeTable<'_>) -> Vec<Vec<String>> {
    let mut found = vec![];
    for (key, value) in table {
        let key = key.get_ref().clone().into_owned();
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => {
                for mut path in leaves(inner) {
                    path.insert(0, key.clone());
                    found.push(path);
                }
            }
            _ => found.push(vec![key]),
        }
    }
    found
}

/// Whether a table, laid over another one, replaces the value at `path`.
pub(super) fn replaces(table: &DeTable<'_>, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    match table.get(first.as_str()).map(Spanned::get_ref) {
        Some(DeValue::Table(inner)) => replaces(inner, rest),
        Some(_) => true,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> DeTable<'_> {
        DeTable::parse(text).unwrap().into_inner()
    }

    /// A table as its leaves say, each with the number of its value.
    fn text(leaves: &[(&str, u8)]) -> String {
        let lines = leaves
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"));
        lines.collect()
    }

    fn values(table: DeTable<'_>) -> toml::Table {
        let table = Spanned::new(0..0, table);
        serde::Deserialize::deserialize(toml::de::Deserializer::from(table)).unwrap()
    }

    /// Keys none of which is a table and a value at once.
    const KEYS: [&str; 6] = ["a", "b.x", "b.y", "c.x.p", "c.x.q", "c.y"];

    fn any_leaves() -> impl Strategy<Value = Vec<(&'static str, u8)>> {
        let values = proptest::collection::vec(proptest::option::of(0_u8..4), KEYS.len());
        values.prop_map(|values| {
            let pairs = KEYS.into_iter().zip(values);
            pairs
                .filter_map(|(key, value)| Some((key, value?)))
                .collect()
        })
    }

    fn merged(tables: &[&str]) -> toml::Table {
        let mut all = parse("");
        for table in tables {
            merge(&mut all, parse(table), &|_| false).unwrap();
        }
        values(all)
    }

    proptest! {
        #[test]
        fn every_key_has_the_value_of_the_last_table_that_sets_it(below in any_leaves(), above in any_leaves()) {
            let mut expected = std::collections::BTreeMap::new();
            expected.extend(below.iter().copied());
            expected.extend(above.iter().copied());
            let expected: Vec<_> = expected.into_iter().collect();
            let (below, above) = (text(&below), text(&above));
            let got = merged(&[&below, &above]);
            prop_assert_eq!(&got, &merged(&[&text(&expected)]));
            // Once more changes nothing, and nothing changes nothing.
            prop_assert_eq!(&merged(&[&below, &above, &above]), &got);
            prop_assert_eq!(merged(&[&below, ""]), merged(&[&below]));
        }

        #[test]
        fn merging_is_associative(tables in proptest::collection::vec(any_leaves(), 3)) {
            let tables: Vec<String> = tables.iter().map(|leaves| text(leaves)).collect();
            let mut above = parse(&tables[1]);
            merge(&mut above, parse(&tables[2]), &|_| false).unwrap();
            let mut all = parse(&tables[0]);
            merge(&mut all, above, &|_| false).unwrap();
            let in_turn = merged(&tables.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(values(all), in_turn);
        }

        #[test]
        fn what_replaces_a_value_hides_it(below in any_leaves(), above in any_leaves()) {
            let (lower, upper) = (text(&below), text(&above));
            for path in leaves(&parse(&lower)) {
                let is_set = above.iter().any(|(key, _)| *key == path.join("."));
                prop_assert_eq!(replaces(&parse(&upper), &path), is_set);
            }
        }
    }

    #[test]
    fn lists_are_replaced_as_a_whole() {
        assert_eq!(merged(&["a = [1, 2]", "a = [3]"]), merged(&["a = [3]"]));
        assert_eq!(merged(&["a = { x = 1 }", "a = [3]"]), merged(&["a = [3]"]));
        let mut table = parse("a.b = [1]");
        let refused = merge(&mut table, parse("a.b.c = 2"), &|_| false).unwrap_err();
        assert_eq!(refused.list, "a.b");
        merge(&mut table, parse("a.b = { c = 2 }"), &|_| true).unwrap();
        assert_eq!(values(table), merged(&["a.b.c = 2"]));
    }
}
