//! The recipes that ship inside the program.

/// Name and text of every recipe that `kiln run NAME` knows without a file.
pub const SHIPPED: &[(&str, &str)] = &[
    ("quickstart", include_str!("../../recipes/quickstart.toml")),
    ("sst2", include_str!("../../recipes/sst2.toml")),
    (
        "sst2-students",
        include_str!("../../recipes/sst2-students.toml"),
    ),
    ("cola", include_str!("../../recipes/cola.toml")),
    ("mnli", include_str!("../../recipes/mnli.toml")),
    ("squad", include_str!("../../recipes/squad.toml")),
    ("recall", include_str!("../../recipes/recall.toml")),
    (
        "recall-experts",
        include_str!("../../recipes/recall-experts.toml"),
    ),
    ("gutenberg", include_str!("../../recipes/gutenberg.toml")),
    (
        "gutenberg-experts",
        include_str!("../../recipes/gutenberg-experts.toml"),
    ),
    ("compose", include_str!("../../recipes/compose.toml")),
    ("summary", include_str!("../../recipes/summary.toml")),
    ("continue", include_str!("../../recipes/continue.toml")),
    ("partition", include_str!("../../recipes/partition.toml")),
    ("layers", include_str!("../../recipes/layers.toml")),
    ("routers", include_str!("../../recipes/routers.toml")),
    ("placement", include_str!("../../recipes/placement.toml")),
    (
        "placement-books",
        include_str!("../../recipes/placement-books.toml"),
    ),
];

/// What a recipe is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The command that reads all of it: `run`, or `ablate` for one with a table `[ablate]`.
    pub command: &'static str,
    /// The first clause of the comment at its top.
    pub title: String,
}

/// The names of the shipped recipes, separated by commas.
pub fn shipped_names() -> String {
    let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// What a recipe says of itself.
pub fn about(text: &str) -> About {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let has_ablation = table.contains_key("ablate");
    About {
        command: if has_ablation { "ablate" } else { "run" },
        title: title(text),
    }
}

/// The comment at the top of a recipe up to the end of its first clause.
fn title(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    let lines: Vec<&str> = lines.map(str::trim).collect();
    let words = lines.iter().flat_map(|line| line.split_whitespace());
    let mut title: Vec<&str> = vec![];
    for word in words {
        let clause = word.trim_end_matches(['.', ':', '?']);
        title.push(clause);
        if clause != word {
            break;
        }
    }
    title.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_clause() {
        let text = "# Books, tokenized\n# by what they say: the\n# same.\nname = \"a\"\n[ablate]\n";
        let found = about(text);
        assert_eq!(found.title, "Books, tokenized by what they say");
        assert_eq!(found.command, "ablate");
        assert_eq!(about("name = \"a\"\n").command, "run");
        assert_eq!(
            about("# Sentences (SST-2).\n#\n").title,
            "Sentences (SST-2)"
        );
    }

    #[test]
    fn every_shipped_recipe_has_a_title() {
        for (name, text) in SHIPPED {
            let About { title, .. } = about(text);
            assert!((10..120).contains(&title.len()), "{name}: {title}");
        }
    }
}
