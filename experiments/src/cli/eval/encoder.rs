//! `kiln eval` on the tasks of a BERT, dense or expert.

use super::{EvalArgs, EvalSplit, predictions::PredictionFile};
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

/// The metrics of the task on a split, whose answers are written where the command line says.
pub(super) fn scores(args: &EvalArgs, task: Task) -> Result<Scores, Error> {
    let split = args.split().with_labels()?;
    let device = backend::open(args.device.as_deref())?;
    let watch = args.watch(BATCH_SIZE)?;
    let pretrained = args.variant.encoder(&args.model)?;
    let mut data = args.reading.data(&pretrained, task, &args.data)?;
    if let (Some(squad), Some(tokens)) = (&mut data.squad, args.max_answer_length) {
        squad.max_answer_length = tokens;
    }
    let task = TaskFolder::open(pretrained, data)?;
    let parts = task.splits(split)?;
    let files = parts
        .iter()
        .map(|(_, rule)| PredictionFile::new(args, rule.suffix()))
        .collect::<Result<Vec<_>, Error>>()?;
    let learner = task.learner(&device)?;
    let mut scores = Scores::default();
    for ((sequences, rule), file) in parts.iter().zip(files) {
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
        if let Some(file) = &file {
            let answers = sequences.answers(&predictions, rule)?;
            file.write(&answers, &sequences.ids(), rule)?;
        }
        match sequences.judge(&predictions, rule) {
            Ok(found) => scores.extend(found),
            // The answers are what there is to say of a split without labels.
            Err(DataError::NoLabels) if file.is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(scores)
}
