//! What the run was made with.

use crate::report::{
    section::{Block, Made, Section, Table},
    subject::Subject,
    summary::value_text,
};

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let record = &subject.data.record;
    let results = &subject.data.results;
    let mut blocks = vec![];
    let mut keys = Table::new("Keys that arms change", &["arm", "key", "value"], 3);
    keys.is_folded = true;
    for arm in &results.arms {
        for (key, value) in &arm.set {
            keys.rows
                .push(vec![arm.name.clone(), key.clone(), value_text(value)]);
        }
    }
    if !keys.rows.is_empty() {
        blocks.push(Block::Table(keys));
    }
    if let Some(starts) = starts(subject) {
        blocks.push(Block::Table(starts));
    }
    if !record.fingerprints.is_empty() {
        let mut table = Table::new(
            "Fingerprints of data, by the stages that read it",
            &["stage", "data"],
            2,
        );
        let rows = record.fingerprints.iter();
        table.rows = rows
            .map(|(kind, data)| vec![kind.clone(), data.clone()])
            .collect();
        blocks.push(Block::Table(table));
    }
    for (number, start) in record.starts.iter().enumerate() {
        let patch = start.get("patch").and_then(|patch| patch.as_str());
        if let Some(patch) = patch.filter(|patch| !patch.is_empty()) {
            blocks.push(Block::Code {
                title: format!("Patch of start {}", number + 1),
                text: patch.to_owned(),
            });
        }
    }
    if !record.recipe.is_empty() {
        blocks.push(Block::Code {
            title: "Recipe, with all defaults".to_owned(),
            text: record.recipe.clone(),
        });
    }
    if blocks.is_empty() {
        return Err("the run folder has no recipe and no record of starts".to_owned());
    }
    Ok(Section {
        id: "record",
        title: "Record",
        blocks,
    })
}

/// What is known of the starts, one column per start; equal ones are one.
fn starts(subject: &Subject<'_>) -> Option<Table> {
    let mut starts = vec![];
    for start in &subject.data.record.starts {
        let mut start = start.clone();
        start.shift_remove("patch");
        start.shift_remove("started_unix_s");
        if !starts.contains(&start) {
            starts.push(start);
        }
    }
    let first = starts.first()?;
    let mut header = vec!["what".to_owned()];
    let numbers = 1..=starts.len();
    header.extend(numbers.map(|number| format!("start {number}")));
    let mut table = Table {
        caption: "Program, machine and command; starts that differ in time alone are one"
            .to_owned(),
        texts: header.len(),
        header,
        rows: vec![],
        is_folded: false,
    };
    let mut keys: Vec<&String> = first.keys().collect();
    for start in &starts {
        keys.extend(start.keys().filter(|key| !first.contains_key(*key)));
    }
    for key in keys {
        let mut row = vec![key.replace('_', " ")];
        row.extend(
            starts
                .iter()
                .map(|start| match (key.as_str(), start.get(key)) {
                    ("command", Some(serde_json::Value::Array(words))) => command(words),
                    (_, None | Some(serde_json::Value::Null)) => "unknown".to_owned(),
                    (_, Some(value)) => value_text(value),
                }),
        );
        if !table.rows.contains(&row) {
            table.rows.push(row);
        }
    }
    Some(table)
}

/// A command line as it can be given again.
fn command(words: &[serde_json::Value]) -> String {
    let words = words.iter().map(|word| {
        let word = value_text(word);
        let is_plain = |character: char| {
            character.is_alphanumeric()
                || matches!(character, '-' | '_' | '.' | '/' | '=' | ':' | ',' | '+')
        };
        if !word.is_empty() && word.chars().all(is_plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_can_be_given_again() {
        let words = [
            json!("kiln"),
            json!("arms=[]"),
            json!("a=b,c"),
            json!("it's"),
        ];
        assert_eq!(command(&words), r"kiln 'arms=[]' a=b,c 'it'\''s'");
    }
}
