//! MRPC from the files of the Microsoft corpus that GLUE made it of.

use std::{collections::HashSet, path::Path};

use super::{GlueError, GlueTask, Split};
use crate::data::example::Example;

const TRAIN: &str = "msr_paraphrase_train.txt";
const TEST: &str = "msr_paraphrase_test.txt";
const DEV_IDS: &str = "dev_ids.tsv";

/// Whether a folder holds the Microsoft corpus.
pub(super) fn is_there(dir: &Path) -> bool {
    dir.join(TRAIN).exists()
}

/// A split of MRPC: the training file holds GLUE's training and development pairs.
pub(super) fn load(dir: &Path, split: Split) -> Result<Vec<Example>, GlueError> {
    let task = GlueTask::Mrpc;
    if split.is_test() {
        return task.read(&dir.join(TEST), split, |_, _| true);
    }
    let ids = task.open(&dir.join(DEV_IDS))?;
    let rows = ids.rows().map(|row| row.map(|row| row.cells));
    let dev: HashSet<Vec<&str>> = rows
        .collect::<Result<_, _>>()
        .map_err(|error| GlueError::Table(ids.not_text(error)))?;
    task.read(&dir.join(TRAIN), split, |header, row| {
        let pair = header
            .cells
            .iter()
            .zip(&row.cells)
            .filter(|(name, _)| matches!(**name, "#1 ID" | "#2 ID"));
        let pair: Vec<&str> = pair.map(|(_, id)| *id).collect();
        dev.contains(&pair) == (split == Split::Dev)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mrpc_is_read_from_the_microsoft_corpus() {
        let header = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n";
        let folder = tempfile::tempdir().unwrap();
        let files = [
            (
                TRAIN,
                format!("{header}1\t1\t2\ttrain\tB\r\n0\t3\t4\tdev\tB\r\n"),
            ),
            (TEST, format!("{header}1\t5\t6\ttest\tB\r\n")),
            (DEV_IDS, "3\t4\n".to_owned()),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        for split in [Split::Train, Split::Dev, Split::Test] {
            let examples = GlueTask::Mrpc.load(folder.path(), split).unwrap();
            assert_eq!(examples.len(), 1);
            assert_eq!(examples[0].first, split.to_string());
        }
    }
}
