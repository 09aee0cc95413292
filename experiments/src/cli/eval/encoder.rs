//! `kiln eval` on the tasks of a BERT, dense or expert.

use super::{EvalArgs, EvalSplit};
use crate::{
    backend,
    cli::task_folder::TaskFolder,
    data::DataError,
    error::Error,
    metric::Scores,
    predict::predict,
    recipe::{DataSplit, Task},
};

/// Examples a batch, where the command line does not say.
const BATCH_SIZE: usize = 32;

impl EvalSplit {
    /// The split of a task whose test data has no labels.
    fn with_labels(self) -> Result<DataSplit, DataError> {
        match self {
            Self::Train => Ok(DataSplit::Train),
            Self::Dev => Ok(DataSplit::Dev),
            Self::Test => Err(DataError::NoLabels),
        }
    }
}

/// The metrics of the task on a split.
pub(super) fn scores(args: &EvalArgs, task: Task) -> Result<Scores, Error> {
    let split = args.split().with_labels()?;
    let device = backend::open(args.device.as_deref())?;
    let watch = args.watch(BATCH_SIZE)?;
    let pretrained = args.variant.encoder(&args.model)?;
    let task = TaskFolder::open(pretrained, task, &args.data, args.max_length)?;
    let splits = task.splits(split)?;
    let learner = task.learner(&device)?;
    let mut scores = Scores::new();
    for (sequences, rule) in splits {
        let bar = watch.progress.bar("evaluate", sequences.features.len());
        let predictions = predict(
            &learner,
            &sequences.features,
            watch.batch_size,
            task.tokenizer.pad_id(),
            &watch.stop,
            |done, _| bar.set_position(done as u64),
        )?;
        bar.finish_and_clear();
        scores.extend(sequences.judge(&predictions, &rule).map_err(Error::from)?);
    }
    Ok(scores)
}
