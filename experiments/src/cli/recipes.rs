//! `kiln recipes`: the recipes that ship.

use clap::Args;
use masformer_core::nearest::hint;
use serde_json::{Value, json};

use crate::{
    error::Error,
    recipe::{About, SHIPPED, about},
    terminal::{columns, wrapped},
};

/// List the recipes that ship, or print one, to be changed
///
/// A recipe for `kiln ablate` describes an ablation; `kiln run` takes the others.
#[derive(Debug, Args)]
#[command(after_help = "Example: a recipe of your own from one that ships\n  \
    kiln recipes quickstart > mine.toml\n  kiln run mine.toml name=mine")]
pub struct RecipesArgs {
    /// The recipe whose text is printed
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the list, or a recipe.
///
/// # Errors
/// There is no such recipe, or the text cannot be written.
pub fn run(args: &RecipesArgs) -> Result<(), Error> {
    let Some(name) = &args.name else {
        if args.json {
            let recipes = SHIPPED.iter().map(|(name, text)| described(name, text));
            return super::print_json(&recipes.collect::<Vec<_>>());
        }
        return super::print(&list(columns()));
    };
    let Some((name, text)) = SHIPPED.iter().find(|(shipped, _)| shipped == name) else {
        let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        let problem = format!("`{name}` is no recipe that ships; {}", hint(name, &names));
        return Err(Error::Usage(problem));
    };
    if args.json {
        let mut recipe = described(name, text);
        recipe["text"] = (*text).into();
        return super::print_json(&recipe);
    }
    super::print(text)
}

fn described(name: &str, text: &str) -> Value {
    let About { command, title } = about(text);
    json!({ "name": name, "command": command, "title": title })
}

/// One recipe after the other: its name, its command and its title.
fn list(columns: usize) -> String {
    let width = SHIPPED.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or(0);
    let lines = SHIPPED.iter().map(|(name, text)| {
        let About { command, title } = about(text);
        let before = format!("{name:<width$}  {command:<6}  ");
        let indent = before.len();
        // What stands before the title counts as the first line's indent.
        let title = wrapped(&title, columns.saturating_sub(indent), 0);
        before + &title.trim_end().replace('\n', &format!("\n{:indent$}", "")) + "\n"
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_fits_into_its_columns() {
        let text = list(60);
        assert!(
            text.lines().all(|line| line.chars().count() <= 60),
            "{text}"
        );
        assert!(
            text.starts_with("quickstart         run     The whole pipeline"),
            "{text}"
        );
        for (name, _) in SHIPPED {
            assert!(text.contains(name), "{text}");
        }
    }
}
