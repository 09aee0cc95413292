//! The texts of examples, where the data is still there: the files of GLUE.

use std::{collections::BTreeMap, path::Path};

use crate::{
    data::{
        example::{self, Label},
        glue::{GlueError, GlueTask, Split},
    },
    report::data::{Example, ReportData},
};

/// A longer text is cut, so that a report of long examples stays small.
const LENGTH: usize = 400;

/// Adds texts and labels to the examples, or the reason why there are none.
pub fn read(data: &mut ReportData) {
    if data.examples.is_empty() {
        return;
    }
    match texts(&data.record.recipe, &data.examples) {
        Ok(examples) => data.examples = examples,
        Err(reason) => data.no_texts = Some(reason),
    }
}

fn texts(recipe: &str, examples: &[Example]) -> Result<Vec<Example>, String> {
    let recipe: toml::Table = recipe
        .parse()
        .map_err(|_| "the recipe cannot be read".to_owned())?;
    let setting = |key: &str| recipe.get("data")?.get(key)?.as_str();
    let name = setting("task").unwrap_or_default();
    let task: Result<GlueTask, _> = name.parse();
    let task = task.map_err(|_| format!("texts of the task `{name}` are not kept"))?;
    let folder = setting("path").ok_or("the recipe has no path of data")?;
    let file = task.file(Split::Dev).unwrap_or_default();
    let path = Path::new(folder).join(file);
    let path = path.display();
    let read = task.load(Path::new(folder), Split::Dev);
    let read = read.map_err(|error| match error {
        GlueError::Missing { .. } => format!("{path} is not there any more"),
        _ => format!("{path} is not a file of {name}"),
    })?;
    let is_whole = read.len() == examples.len();
    let by_id: BTreeMap<String, &example::Example> = read
        .iter()
        .map(|example| (example.row.to_string(), example))
        .collect();
    let found = examples.iter().map(|example| {
        let read = by_id.get(&example.id)?;
        Some(Example {
            id: example.id.clone(),
            text: Some(text(read)),
            label: read.label.map(|label| told(task, label)),
        })
    });
    let found: Option<Vec<Example>> = found.collect();
    found
        .filter(|_| is_whole)
        .ok_or_else(|| format!("{path} has other examples than the run was judged on"))
}

/// The first characters of an example's sentences.
fn text(example: &example::Example) -> String {
    let sentences = [Some(example.first.as_str()), example.second.as_deref()];
    let sentences: Vec<&str> = sentences.into_iter().flatten().collect();
    let text = sentences.join(" \u{2014} ");
    text.chars().take(LENGTH).collect()
}

/// A label by its name.
fn told(task: GlueTask, label: Label) -> String {
    match label {
        Label::Class(class) => {
            let name = task.labels().get(class);
            name.map_or_else(|| class.to_string(), ToString::to_string)
        }
        Label::Score(score) => score.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The examples of a run of a task with so many of them, by the file of this text.
    fn read(task: &str, file: &str, count: usize) -> Result<Vec<Example>, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("dev.tsv"), file).unwrap();
        let path = folder.path().display();
        let recipe = format!("[data]\ntask = \"{task}\"\npath = '{path}'\n");
        let examples = (0..count).map(|id| Example {
            id: id.to_string(),
            ..Example::default()
        });
        let found = texts(&recipe, &examples.collect::<Vec<_>>());
        found.map_err(|reason| reason.replace(&format!("{path}/"), ""))
    }

    #[test]
    fn examples_have_their_sentences_and_the_names_of_their_classes() {
        let pair = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n7\t1\t2\tWhat?\tWhy?\t1\n";
        for (task, file, text, label) in [
            ("sst2", "sentence\tlabel\na film\t1\n", "a film", "positive"),
            (
                "cola",
                "gj04\t0\t*\tHim sleeps.\n",
                "Him sleeps.",
                "unacceptable",
            ),
            ("qqp", pair, "What? \u{2014} Why?", "duplicate"),
        ] {
            let found = read(task, file, 1).unwrap();
            assert_eq!(found[0].text.as_deref(), Some(text));
            assert_eq!(found[0].label.as_deref(), Some(label));
        }
        let long = format!("sentence\tlabel\n{}\t1\n", "\u{e9}".repeat(LENGTH + 1));
        let text = read("sst2", &long, 1).unwrap()[0].text.clone().unwrap();
        assert_eq!(text.chars().count(), LENGTH);
    }

    #[test]
    fn other_files_than_those_of_the_run_have_a_reason() {
        for (file, count, reason) in [
            ("a\tb\n", 1, "dev.tsv is not a file of sst2"),
            (
                "sentence\tlabel\na film\t1\n",
                2,
                "dev.tsv has other examples than the run was judged on",
            ),
        ] {
            assert_eq!(read("sst2", file, count).unwrap_err(), reason);
        }
    }

    #[test]
    fn texts_that_moved_are_told() {
        let examples = [Example {
            id: "0".to_owned(),
            ..Example::default()
        }];
        let reason =
            texts("[data]\ntask = \"sst2\"\npath = \"/nowhere\"\n", &examples).unwrap_err();
        assert_eq!(reason, "/nowhere/dev.tsv is not there any more");
        let reason = texts("[data]\ntask = \"synthetic\"\n", &examples).unwrap_err();
        assert_eq!(reason, "texts of the task `synthetic` are not kept");
    }
}
