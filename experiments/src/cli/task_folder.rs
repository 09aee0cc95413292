//! A model folder and a task's data, as several commands take them.

use std::path::Path;

use burn::tensor::Device;
use moebert_core::pretrained::Pretrained;

use crate::{
    data::{DataError, loader::check_fits, tokenizer::Tokenizer},
    error::Error,
    labels::{check_fine_tuned, load_fine_tuned},
    learner::TaskLearner,
    problem::{Rule, Sequences, Source, Texts},
    recipe::{DataRecipe, DataSplit},
};

/// A fine-tuned model's folder with the data of its task.
pub(super) struct TaskFolder {
    pub pretrained: Pretrained,
    pub tokenizer: Tokenizer,
    data: DataRecipe,
}

impl TaskFolder {
    /// Reads the tokenizer of a folder, and checks that both fit the task that `data` describes.
    pub fn open(pretrained: Pretrained, data: DataRecipe) -> Result<Self, Error> {
        check_fine_tuned(&pretrained, data.task)?;
        let tokenizer = Tokenizer::load(pretrained.dir()).map_err(DataError::from)?;
        tokenizer
            .check_fits(pretrained.config().bert.vocab_size)
            .map_err(DataError::from)?;
        Ok(Self {
            pretrained,
            tokenizer,
            data,
        })
    }

    /// The model, its classes in the task's order.
    pub fn learner(&self, device: &Device) -> Result<TaskLearner, Error> {
        let (model, report) = load_fine_tuned(&self.pretrained, self.data.task, device)?;
        super::tell_of(&report);
        Ok(TaskLearner { model })
    }

    /// The sequences of a split with the rules they are judged by; the development data of some tasks
    /// is in several files.
    pub fn splits(&self, split: DataSplit) -> Result<Vec<(Sequences, Rule)>, Error> {
        let source = self.source();
        let texts = match split {
            DataSplit::Train => vec![(source.train()?, source.train_rule())],
            DataSplit::Dev => source.dev()?,
        };
        self.sequences(texts)
    }

    /// The sequences of the test splits, whose labels may be hidden, with the rules they are judged by.
    pub fn test_splits(&self) -> Result<Vec<(Sequences, Rule)>, Error> {
        self.sequences(self.source().test()?)
    }

    fn source(&self) -> Source<'_> {
        let path = self.data.path.as_deref().unwrap_or(Path::new(""));
        Source::new(&self.data, path)
    }

    fn sequences(&self, texts: Vec<(Texts, Rule)>) -> Result<Vec<(Sequences, Rule)>, Error> {
        let sequences = |texts: Texts| -> Result<Sequences, DataError> {
            let sequences = self.source().features(texts, &self.tokenizer)?;
            check_fits(&sequences.features, &self.pretrained.config().bert)?;
            Ok(sequences)
        };
        texts
            .into_iter()
            .map(|(texts, rule)| Ok((sequences(texts)?, rule)))
            .collect()
    }
}
