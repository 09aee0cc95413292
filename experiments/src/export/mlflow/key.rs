//! Names as MLflow takes them.

use std::collections::HashMap;

/// The most characters of a key.
const MAX_LENGTH: usize = 250;

/// Two names become the same key.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{first}` and `{second}` have the same key in MLflow, `{key}`")]
pub struct SameKey {
    /// A name.
    pub first: String,
    /// A later name.
    pub second: String,
    /// The key of both.
    pub key: String,
}

/// The key of a parameter or metric. MLflow takes letters, digits and `_ - . space : /`, in the form of a relative path
/// without `.`, `..` and empty parts.
///
/// `=` becomes `:`, any other character `_`; such parts are left out, and what follows 250 characters too. If nothing is
/// left, the key is `_`.
pub fn key(name: &str) -> String {
    let parts = name
        .split('/')
        .map(|part| part.chars().map(allowed).collect::<String>());
    let parts = parts.filter(|part| !["", ".", ".."].contains(&part.as_str()));
    let path = parts.collect::<Vec<_>>().join("/");
    let path: String = path.chars().take(MAX_LENGTH).collect();
    // The cut may leave `a/`, `a/.` or `a/..`.
    let mut key = path.as_str();
    while let Some(shorter) = ["/", "/.", "/.."]
        .iter()
        .find_map(|end| key.strip_suffix(end))
    {
        key = shorter;
    }
    if key.is_empty() {
        key = "_";
    }
    key.to_owned()
}

fn allowed(c: char) -> char {
    match c {
        '=' => ':',
        c if c.is_ascii_alphanumeric() || "_-. :".contains(c) => c,
        _ => '_',
    }
}

/// The keys of `names`, which are different.
///
/// # Errors
///
/// If different names become the same key.
pub fn keys<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<&'a str, String>, SameKey> {
    let mut of_name = HashMap::new();
    let mut of_key: HashMap<String, &str> = HashMap::new();
    for name in names {
        let key = key(name);
        match of_key.insert(key.clone(), name) {
            Some(first) if first != name => {
                let (first, second) = (first.to_owned(), name.to_owned());
                return Err(SameKey { first, second, key });
            }
            _ => of_name.insert(name, key),
        };
    }
    Ok(of_name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn maps_what_mlflow_refuses() {
        assert_eq!(key("experts.order=random"), "experts.order:random");
        assert_eq!(key("valid/f1 (macro)"), "valid/f1 _macro_");
        assert_eq!(key("/a//b/../c/."), "a/b/c");
        assert_eq!(key("café"), "caf_");
        assert_eq!(key(".."), "_");
        assert_eq!(key(""), "_");
        assert_eq!(key(&"x".repeat(300)).len(), 250);
    }

    #[test]
    fn refuses_a_collision() {
        let error = keys(["a", "b=c", "b:c"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`b=c` and `b:c` have the same key in MLflow, `b:c`"
        );
        assert_eq!(keys(["a", "a=", "a"]).unwrap()["a="], "a:");
    }

    proptest! {
        #[test]
        fn keys_are_valid_and_stay(name in "[a-c/.= é]{0,12}|.{0,20}", long in 0..300_usize) {
            let name = "y/".repeat(long / 2) + &name;
            let first = key(&name);
            let valid = |c: char| c.is_ascii_alphanumeric() || "_-. :/".contains(c);
            prop_assert!(first.chars().all(valid) && !first.is_empty() && first.len() <= 250);
            prop_assert!(first.split('/').all(|part| !["", ".", ".."].contains(&part)), "{}", first);
            prop_assert_eq!(key(&first), first);
        }
    }
}
