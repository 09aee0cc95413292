//! The nearest right name for a wrong one.

/// How alike two names must be to be taken for each other, from 0 to 1 (Jaro-Winkler).
const ALIKE: f64 = 0.75;

/// The candidate most like `name`, if any is like it.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Names that a message lists at most.
const LISTED: usize = 40;

/// The end of a message about an unknown name: the nearest right one, or all of them, or some of very many.
pub fn hint(name: &str, candidates: &[&str]) -> String {
    if let Some(right) = nearest(name, candidates.iter().copied()) {
        return format!("did you mean `{right}`?");
    }
    match candidates.split_at_checked(LISTED) {
        _ if candidates.is_empty() => "there is none".to_owned(),
        Some((listed, more)) if !more.is_empty() => {
            format!("there is {} and {} more", listed.join(", "), more.len())
        }
        _ => format!("there is {}", candidates.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_misspelt_name_and_leaves_strange_ones() {
        let keys = ["epochs", "batch_size", "learning_rate"];
        assert_eq!(nearest("epoch", keys), Some("epochs"));
        assert_eq!(nearest("learnig_rate", keys), Some("learning_rate"));
        assert_eq!(nearest("zzz", keys), None);
        assert_eq!(hint("batchsize", &keys), "did you mean `batch_size`?");
        assert_eq!(hint("zzz", &["a", "b"]), "there is a, b");
        assert_eq!(hint("zzz", &[]), "there is none");
        let many = hint("zzz", &["a"; 42]);
        assert!(many.ends_with("a, a and 2 more"), "{many}");
    }
}
