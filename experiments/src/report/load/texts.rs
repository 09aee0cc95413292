//! The texts of examples, where the data is still there: the files of GLUE.

use std::{fs, path::Path};

use crate::report::data::{Example, ReportData};

/// A longer text is cut, so that a report of long examples stays small.
const LENGTH: usize = 400;

/// A task: its name, the columns of its texts and its label, and the names of its classes.
struct Task {
    name: &'static str,
    file: &'static str,
    texts: &'static [&'static str],
    label: &'static str,
    classes: &'static [&'static str],
}

const fn task(
    name: &'static str,
    texts: &'static [&'static str],
    label: &'static str,
    classes: &'static [&'static str],
) -> Task {
    Task {
        name,
        file: "dev.tsv",
        texts,
        label,
        classes,
    }
}

const TASKS: [Task; 9] = [
    task("sst2", &["sentence"], "label", &["negative", "positive"]),
    task(
        "cola",
        &["sentence"],
        "label",
        &["unacceptable", "acceptable"],
    ),
    task(
        "mrpc",
        &["#1 String", "#2 String"],
        "Quality",
        &["not_equivalent", "equivalent"],
    ),
    task(
        "qqp",
        &["question1", "question2"],
        "is_duplicate",
        &["not_duplicate", "duplicate"],
    ),
    task("stsb", &["sentence1", "sentence2"], "score", &[]),
    task("qnli", &["question", "sentence"], "label", &[]),
    task("rte", &["sentence1", "sentence2"], "label", &[]),
    task(
        "wnli",
        &["sentence1", "sentence2"],
        "label",
        &["not_entailment", "entailment"],
    ),
    Task {
        file: "dev_matched.tsv",
        ..task("mnli", &["sentence1", "sentence2"], "gold_label", &[])
    },
];

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
    let task = TASKS.iter().find(|task| task.name == name);
    let task = task.ok_or_else(|| format!("texts of the task `{name}` are not kept"))?;
    let folder = setting("path").ok_or("the recipe has no path of data")?;
    let path = Path::new(folder).join(task.file);
    let text = fs::read_to_string(&path)
        .map_err(|_| format!("{} is not there any more", path.display()))?;
    let rows =
        rows(task, &text).ok_or_else(|| format!("{} is not a file of {name}", path.display()))?;
    let found = examples.iter().map(|example| {
        let place: usize = example.id.parse().ok()?;
        let (text, label) = rows.get(place)?;
        Some(Example {
            id: example.id.clone(),
            text: Some(text.chars().take(LENGTH).collect()),
            label: Some(label.clone()),
        })
    });
    let found: Option<Vec<Example>> = found.collect();
    let is_whole = rows.len() == examples.len();
    found.filter(|_| is_whole).ok_or_else(|| {
        format!(
            "{} has other examples than the run was judged on",
            path.display()
        )
    })
}

/// Texts and labels of a file.
fn rows(task: &Task, text: &str) -> Option<Vec<(String, String)>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.clone().next()?.split('\t').map(str::trim).collect();
    let column = |name: &str| header.iter().position(|cell| *cell == name);
    let columns: Option<Vec<usize>> = task.texts.iter().map(|name| column(name)).collect();
    let (columns, label) = match columns.zip(column(task.label)) {
        Some(found) => {
            lines.next();
            found
        }
        // CoLA has no header: source, label, the author's mark, sentence.
        None if task.name == "cola" => (vec![3], 1),
        None => return None,
    };
    let rows = lines.filter(|line| !line.is_empty()).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let texts: Option<Vec<&str>> = columns
            .iter()
            .map(|column| cells.get(*column).copied())
            .collect();
        let label = cells.get(label)?.trim();
        let class = label.parse::<usize>().ok();
        let class = class.and_then(|class| task.classes.get(class).copied());
        Some((texts?.join(" \u{2014} "), class.unwrap_or(label).to_owned()))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_and_without_a_header_are_read() {
        let found = rows(&TASKS[0], "sentence\tlabel\na film\t1\n").unwrap();
        assert_eq!(found, [("a film".to_owned(), "positive".to_owned())]);
        let found = rows(&TASKS[1], "gj04\t0\t*\tHim sleeps.\n").unwrap();
        assert_eq!(
            found,
            [("Him sleeps.".to_owned(), "unacceptable".to_owned())]
        );
        assert!(rows(&TASKS[2], "a\tb\n").is_none());
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
