//! The answer to every example, in the forms that others read.

use std::path::{Path, PathBuf};

use moebert_core::file;
use serde_json::{Map, Value};

use super::EvalArgs;
use crate::{
    cli::output,
    error::Error,
    predictions,
    problem::{Answer, Rule, best_class},
    quiet::tell,
    recipe::{AnyTask, LanguageTask, Task},
};

/// A form of answers, by the end of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// GLUE's submission: `index` and `prediction`, separated by a tab.
    Tsv,
    /// The predictions of the official scripts of `SQuAD`: an object from ids to answers.
    Json,
    /// One object per line.
    JsonLines,
}

impl Form {
    fn ending(self) -> &'static str {
        match self {
            Self::Tsv => "tsv",
            Self::Json => "json",
            Self::JsonLines => "jsonl",
        }
    }

    /// The forms in which the answers to a task can be written.
    fn of_task(task: AnyTask) -> &'static [Self] {
        match task {
            AnyTask::Encoder(Task::Glue(_) | Task::Synthetic) => &[Self::Tsv, Self::JsonLines],
            AnyTask::Encoder(Task::Squad(_)) => &[Self::Json, Self::JsonLines],
            AnyTask::Decoder(LanguageTask::Summary) => &[Self::JsonLines],
            AnyTask::Decoder(LanguageTask::Text | LanguageTask::Recall) => &[],
        }
    }
}

/// Where the answers to a split go, and in which form.
pub(super) struct PredictionFile {
    path: PathBuf,
    form: Form,
}

impl PredictionFile {
    /// The file that the command line names, if it does, for a part of the split whose metrics end in `suffix`.
    ///
    /// # Errors
    ///
    /// If the answers to the task cannot be written in the form of its name, or the file is something that must
    /// stay.
    pub fn new(args: &EvalArgs, suffix: &str) -> Result<Option<Self>, Error> {
        let Some(path) = &args.predictions else {
            return Ok(None);
        };
        let forms = Form::of_task(args.task);
        let ending = path.extension().and_then(|ending| ending.to_str());
        let form = forms.iter().find(|form| Some(form.ending()) == ending);
        let Some(form) = form.copied() else {
            let endings: Vec<String> = forms
                .iter()
                .map(|form| format!(".{}", form.ending()))
                .collect();
            return Err(Error::Usage(format!(
                "`--predictions` {}: the answers to {} are written as {}; end the name so",
                path.display(),
                args.task,
                endings.join(" or ")
            )));
        };
        let path = with_suffix(path, suffix);
        output::check_file("--predictions", &path, &args.inputs())?;
        Ok(Some(Self { path, form }))
    }

    /// Writes the answers of a BERT, whole or not at all; `ids` are those of their examples.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, answers: &[Answer], ids: &[String], rule: &Rule) -> Result<(), Error> {
        let rows = ids.iter().zip(answers);
        let text = match self.form {
            Form::Tsv => {
                let lines = rows.map(|(id, answer)| format!("{id}\t{}\n", cell(answer, rule)));
                "index\tprediction\n".to_owned() + &lines.collect::<String>()
            }
            Form::Json => {
                let answers: Map<String, Value> = rows
                    .map(|(id, answer)| (id.clone(), cell(answer, rule).into()))
                    .collect();
                format!("{:#}\n", Value::Object(answers))
            }
            Form::JsonLines => {
                let objects = rows.map(|(id, answer)| predictions::of_answer(id, answer, rule));
                predictions::lines(objects)
            }
        };
        self.write_text(&text)
    }

    /// Writes summaries, whole or not at all; `ids` are those of their texts.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_summaries(&self, summaries: &[String], ids: &[&str]) -> Result<(), Error> {
        let rows = ids.iter().zip(summaries);
        let objects = rows.map(|(id, summary)| predictions::of_summary(id, summary));
        self.write_text(&predictions::lines(objects))
    }

    fn write_text(&self, text: &str) -> Result<(), Error> {
        file::write(&self.path, text.as_bytes())?;
        tell(&format!("predictions are in {}", self.path.display()));
        Ok(())
    }
}

/// `path` with a suffix before the ending of its name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let part =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    if suffix.is_empty() {
        return path.to_owned();
    }
    let (stem, ending) = (part(path.file_stem()), part(path.extension()));
    path.with_file_name(format!("{stem}{suffix}.{ending}"))
}

/// An answer as one text. Numbers have every digit, so that scores can be computed from them again.
fn cell(answer: &Answer, rule: &Rule) -> String {
    match answer {
        Answer::Class(scores) => match rule {
            Rule::Glue(task, _) => task.class_text(best_class(scores)),
            _ => best_class(scores).to_string(),
        },
        Answer::Score(score) => score.to_string(),
        Answer::Span(version, span) => span.text(*version, 0.0).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::glue::{GlueTask, Split};
    use crate::data::squad::{SquadVersion, spans::SpanPrediction};

    #[test]
    fn answers_have_the_forms_that_others_read() {
        let mnli = Rule::Glue(GlueTask::Mnli, Split::Dev);
        let class = Answer::Class(vec![0.0, 2.0, 2.0]);
        assert_eq!(cell(&class, &mnli), "neutral");
        assert_eq!(cell(&class, &Rule::Glue(GlueTask::Sst2, Split::Dev)), "1");
        let score = Answer::Score(0.1);
        assert_eq!(cell(&score, &Rule::Glue(GlueTask::Stsb, Split::Dev)), "0.1");
        let span = Answer::Span(
            SquadVersion::V2,
            SpanPrediction {
                id: "q".to_owned(),
                answer: "the cat".to_owned(),
                null_margin: 0.5,
            },
        );
        assert_eq!(cell(&span, &Rule::Accuracy), "");
    }

    #[test]
    fn parts_of_a_split_go_to_files_of_their_own() {
        let path = |suffix| with_suffix(Path::new("out/mnli.tsv"), suffix);
        assert_eq!(path(""), Path::new("out/mnli.tsv"));
        assert_eq!(path("_mismatched"), Path::new("out/mnli_mismatched.tsv"));
    }
}
