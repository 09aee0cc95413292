//! `kiln eval` on the tasks of a BERT, dense or expert.

use super::{EvalArgs, EvalSplit, Judged, predictions::PredictionFile};
use crate::{
    backend,
    cli::task_folder::TaskFolder,
    error::Error,
    predict::predict,
    recipe::{DataSplit, Task},
};

/// Examples per batch, unless the command line sets it.
const BATCH_SIZE: usize = 32;

/// The metrics of the task on a split, whose answers are written where the command line says.
pub(super) fn judged(args: &EvalArgs, task: Task) -> Result<Judged, Error> {
    let device = backend::open(args.device.as_deref())?;
    let watch = args.watch(BATCH_SIZE)?;
    let pretrained = args.variant.encoder(&args.model)?;
    let mut data = args.reading.data(&pretrained, task, &args.data)?;
    if let (Some(squad), Some(tokens)) = (&mut data.squad, args.max_answer_length) {
        squad.max_answer_length = tokens;
    }
    let task = TaskFolder::open(pretrained, data)?;
    let parts = match args.split() {
        EvalSplit::Train => task.splits(DataSplit::Train)?,
        EvalSplit::Dev => task.splits(DataSplit::Dev)?,
        EvalSplit::Test => task.test_splits()?,
    };
    let mut files = vec![];
    for (sequences, rule) in &parts {
        let file = PredictionFile::new(args, rule.suffix())?;
        // Of a split without labels, the answers are what there is to say.
        let has_labels = match sequences.check_labels(rule) {
            Err(error) if file.is_none() => return Err(error.into()),
            checked => checked.is_ok(),
        };
        files.push((file, has_labels));
    }
    let learner = task.learner(&device)?;
    let mut judged = Judged::default();
    for ((sequences, rule), (file, has_labels)) in parts.iter().zip(files) {
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
        let answers = sequences.answers(&predictions, rule)?;
        if let Some(file) = &file {
            file.write(&answers, &sequences.ids(), rule)?;
        }
        if has_labels {
            judged.scores.extend(sequences.judge(&answers, rule)?);
            judged.examples.push(sequences.examples(&answers, rule)?);
        }
    }
    Ok(judged)
}
