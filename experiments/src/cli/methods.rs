//! `kiln methods`: the methods that a recipe can name.

use std::fmt::Write;

use clap::Args;
use masformer_core::nearest::hint;
use serde_json::json;

use crate::{
    error::Error,
    learner::TaskLearner,
    methods::{self, Entry},
};

/// List the methods that a recipe can name, or show the page of one
#[derive(Debug, Args)]
#[command(after_help = "Example: the page of a method\n  kiln methods lora")]
pub struct MethodsArgs {
    /// The method whose page is shown: what it does, its settings, its source and where it applies
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the list, or a page.
///
/// # Errors
/// There is no such method, or the text cannot be written.
pub fn run(args: &MethodsArgs) -> Result<(), Error> {
    // Methods are the same for encoders and decoders.
    let entries = methods::all::<TaskLearner>();
    let Some(name) = &args.name else {
        if args.json {
            let entries = entries.iter();
            let entries = entries.map(|it| json!({ "name": it.name, "title": it.title() }));
            return super::print_json(&entries.collect::<Vec<_>>());
        }
        let titles = entries.iter().map(Entry::title);
        return super::print(&titles.fold(String::new(), |text, title| text + title + "\n"));
    };
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
        let problem = format!("`{name}` is no method; {}", hint(name, &names));
        return Err(Error::Usage(problem));
    };
    if args.json {
        let (page, defaults) = (entry.page, &entry.defaults());
        return super::print_json(&json!({ "name": name, "page": page, "defaults": defaults }));
    }
    let mut text = entry.page.to_owned();
    text.push_str("\nDefaults:\n");
    for (setting, value) in entry.defaults().as_object().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {setting} = {value}");
    }
    super::print(&text)
}
