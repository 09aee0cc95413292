//! How long a whole stage takes, by one that passes a sample.

use std::{path::Path, time::Instant};

use super::super::{
    Shares, family::Family, jobs::Jobs, nodes::Job, plan::EpochTime, sample::Sample,
};
use crate::{
    error::Error,
    graph::size,
    memory,
    recipe::{DataSplit, ImportanceRecipe},
};

/// Stages of a seed that pass a sample of their data.
pub(super) struct Timed<'a, F: Family> {
    pub jobs: Jobs<'a, F>,
    pub shares: Shares,
    pub sample: &'a Sample,
}

/// Seconds of a stage: whatever its epochs, and of each.
type Seconds = [f64; 2];

impl<F: Family> Timed<'_, F> {
    /// Does a stage, whose files go into a folder, and says how long the whole one takes.
    pub fn time(&self, job: Job, dir: &Path) -> Result<EpochTime, Error> {
        let device = &self.jobs.run.options.device;
        let (seconds, memory) = memory::peak(device, || self.seconds(job, dir));
        let [fixed, epoch] = seconds?;
        // The files of judgements grow with what is judged.
        let share = match job {
            Job::Evaluate(_) | Job::Before(_) => self.shares.judged,
            _ => 1.0,
        };
        Ok(EpochTime {
            fixed,
            epoch,
            memory,
            disk: (size(dir)? as f64 / share) as u64,
        })
    }

    fn seconds(&self, job: Job, dir: &Path) -> Result<Seconds, Error> {
        let began = Instant::now();
        match job {
            Job::Start | Job::Draw(_) => {
                self.jobs.work(job, dir)?;
                Ok([began.elapsed().as_secs_f64(), 0.0])
            }
            Job::Importance(_) => {
                self.jobs.work(job, dir)?;
                self.scored(began)
            }
            Job::Train(index) | Job::Rung(index, _) => {
                self.jobs.work(Job::Train(index), dir)?;
                self.trained(began)
            }
            Job::Before(index) | Job::Evaluate(index) => {
                let (learner, model) = match job {
                    Job::Before(_) => self.jobs.untrained(index)?,
                    _ => self.jobs.trained(index)?,
                };
                let loaded = Instant::now();
                self.jobs.judge(&learner, &model, dir)?;
                Ok(self.judged(began, loaded))
            }
            Job::Measure => self.measured(),
        }
    }

    /// Loading, and all batches as fast as those that were passed.
    fn scored(&self, began: Instant) -> Result<Seconds, Error> {
        let ended = Instant::now();
        let clock = &self.sample.train;
        let (Some([first, last]), Some(passed)) = (clock.span(), clock.seconds()) else {
            return Ok([(ended - began).as_secs_f64(), 0.0]);
        };
        let run = self.jobs.run;
        let all = ImportanceRecipe {
            samples: None,
            ..run.importance.clone()
        };
        let share = match all.split {
            DataSplit::Train => self.shares.train,
            DataSplit::Dev => self.shares.valid,
        };
        let kept = run.family.scoring(&all, &run.options.device)?.num_items();
        let whole = kept as f64 / share;
        let [of_sample, of_whole] = match run.importance.samples {
            Some(samples) => {
                let samples = samples as f64;
                [samples.min(kept as f64), samples.min(whole)]
            }
            None => [kept as f64, whole],
        };
        let rest = (first - began) + (ended - last);
        Ok([
            rest.as_secs_f64() + passed * of_whole / of_sample.max(1.0),
            0.0,
        ])
    }

    /// Loading and saving once, and in each epoch the steps, the validation and a checkpoint.
    fn trained(&self, began: Instant) -> Result<Seconds, Error> {
        let ended = Instant::now();
        let Sample { train, dev, .. } = self.sample;
        let spans = train.span().zip(dev.span());
        let passed = train.seconds().zip(dev.seconds());
        let (Some(([first, _], [_, last])), Some((steps, validation))) = (spans, passed) else {
            return Err(Error::Usage("too few batches".to_owned()));
        };
        // A checkpoint is written at the end of each epoch, and the model at the end of the training.
        let saved = (ended - last).as_secs_f64() / 2.0;
        let fixed = (first - began).as_secs_f64() + saved;
        let epoch = steps / self.shares.train + validation / self.shares.valid + saved;
        Ok([fixed, epoch])
    }

    fn judged(&self, began: Instant, loaded: Instant) -> Seconds {
        let judged = loaded.elapsed().as_secs_f64() / self.shares.judged;
        [(loaded - began).as_secs_f64() + judged, 0.0]
    }

    /// The passes of the first model that is judged, for each of them.
    fn measured(&self) -> Result<Seconds, Error> {
        let Jobs { run, keys, .. } = &self.jobs;
        let mut judged = keys.judged();
        let Some(first) = judged.next() else {
            return Ok([0.0, 0.0]);
        };
        let began = Instant::now();
        let (learner, _) = self.jobs.trained(first)?;
        run.family.latencies(&[learner], &run.options.stop)?;
        let models = (1 + judged.count()) as f64;
        Ok([models * began.elapsed().as_secs_f64(), 0.0])
    }
}
