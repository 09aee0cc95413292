//! A process at work on the stages of a run: it claims a stage whose inputs are there, does it, and looks for the next.
//! Any number of processes may do so at once.

mod failures;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Part, Progress, RunOptions,
    family::Family,
    jobs::{Jobs, Made, title},
    nodes::{Job, Node, SeedKeys},
    share::{Share, Whose},
};
use crate::{
    error::Error,
    graph::{
        Claim, Key, Lease, Leases, Outcome, Publication, Work, claim,
        failure::{self, Cause, Failure},
    },
    memory, panics,
};
use failures::{Ended, Start, cause};

pub(super) use failures::Failures;

/// How often stages of other processes are looked at.
const POLL: Duration = Duration::from_millis(500);

/// Stages of a run that this process takes part in.
pub(super) struct Worker<'a, F: Family> {
    pub parts: &'a [Part<'a, F>],
    /// The stages that it does; all if none.
    pub share: Option<Share>,
    pub options: &'a RunOptions,
    pub progress: Progress,
    pub leases: Leases,
    /// Versions and machine, for the record.
    pub environment: Value,
}

/// A stage, and the arms that have it.
struct Stage<'a, F: Family> {
    part: &'a Part<'a, F>,
    node: &'a Node,
}

/// What a round over the stages found.
enum Round {
    /// A stage was done, or failed in this way: others may be ready.
    Moved(Option<Ended>),
    /// What is left belongs to other processes.
    Waiting,
    /// Nothing is left to do.
    Over,
}

impl<F: Family> Worker<'_, F> {
    /// Works until all stages are done or cannot be; returns those that failed, now or before.
    ///
    /// # Errors
    ///
    /// A stop, or whatever the store fails with.
    pub fn work(&self) -> Result<Failures, Error> {
        let mut settled = BTreeSet::new();
        let mut failed: BTreeMap<Key, Ended> = BTreeMap::new();
        // Whoever started this process measures, when nothing else is at work.
        let is_asked =
            |stage: &Stage<'_, F>| !(self.options.is_worker && stage.node.job == Job::Measure);
        let stages: Vec<Stage<'_, F>> = self.stages().filter(is_asked).collect();
        // The first stage that is not over. They are done in about this order, so that few of those that are over are seen
        // again.
        let mut first = 0;
        let mut is_told = false;
        let mut start = Start::default();
        loop {
            let is_over = |stage: &&Stage<'_, F>| {
                let key = &stage.node.key;
                settled.contains(key) || failed.contains_key(key)
            };
            first += stages[first..].iter().take_while(is_over).count();
            match self.round(&stages[first..], &mut settled, &mut failed)? {
                Round::Moved(ended) => {
                    is_told = false;
                    start.take(ended, self.options.keep_going)?;
                }
                Round::Over => break,
                Round::Waiting => {
                    if !is_told {
                        self.progress.say("waiting for stages of another process");
                        is_told = true;
                    }
                    thread::sleep(POLL);
                }
            }
        }
        if failed.is_empty() {
            return Ok(Failures::default());
        }
        let is_open = |node: &Node| {
            let is_settled = settled.contains(&node.key) || failed.contains_key(&node.key);
            !is_settled && self.whose(node) == Whose::Own
        };
        let blocked = self.stages().filter(|stage| is_open(stage.node));
        let blocked = blocked.map(|stage| stage.title()).collect();
        Ok(Failures {
            is_not_input: failed.values().any(|ended| ended.cause != Cause::BadInput),
            failed: failed.into_values().map(|ended| ended.line).collect(),
            blocked,
        })
    }

    /// Does the first of some stages that is ready.
    fn round(
        &self,
        stages: &[Stage<'_, F>],
        settled: &mut BTreeSet<Key>,
        failed: &mut BTreeMap<Key, Ended>,
    ) -> Result<Round, Error> {
        let mut is_waiting = false;
        for stage in stages {
            let node = stage.node;
            self.options.stop.check()?;
            if settled.contains(&node.key) || failed.contains_key(&node.key) {
                continue;
            }
            let inputs = node.document.inputs.values();
            if !inputs.clone().all(|input| settled.contains(input)) {
                continue;
            }
            let whose = self.whose(node);
            if whose == Whose::Others {
                if self.leases.store().is_done(&node.key)? {
                    settled.insert(node.key.clone());
                }
                continue;
            }
            match claim(&self.leases, &node.key)? {
                Claim::Done => drop(settled.insert(node.key.clone())),
                Claim::Failed => drop(failed.insert(node.key.clone(), self.before(stage)?)),
                Claim::Held => is_waiting |= whose == Whose::Own,
                Claim::Ours(work) => {
                    let ended = self.attempt(stage, work)?;
                    if let Some(ended) = &ended {
                        failed.insert(node.key.clone(), ended.clone());
                    }
                    return Ok(Round::Moved(ended));
                }
            }
        }
        Ok(if is_waiting {
            Round::Waiting
        } else {
            Round::Over
        })
    }

    /// Does a stage; the line of its failure, if it fails.
    fn attempt(&self, stage: &Stage<'_, F>, work: Work) -> Result<Option<Ended>, Error> {
        let clock = Instant::now();
        let device = &self.options.device;
        let (made, bytes) = memory::peak(device, || {
            self.while_ours(&work, || {
                let made = panics::caught(|| self.done(stage, &work));
                made.unwrap_or_else(|message| Err(Error::Panic(message)))
            })
        });
        let Made { result, earlier } = match made {
            Ok(made) => made,
            // Whatever went wrong, the stage and its files belong to another process.
            Err(_) if work.is_lost() => {
                self.tell_fenced();
                return Ok(None);
            }
            Err(error) => return self.ended(stage, work, error, clock.elapsed()),
        };
        let outcome = Outcome {
            document: stage.node.document.clone(),
            result,
            elapsed: earlier + clock.elapsed(),
            peak_memory: Some(bytes),
            backend: self.options.device_name.clone(),
            environment: self.environment.clone(),
        };
        if work.publish(outcome)? == Publication::Fenced {
            self.tell_fenced();
        }
        Ok(None)
    }

    fn tell_fenced(&self) {
        self.progress
            .say("another process has taken over this stage");
    }

    /// Does a piece of work, and stops it if another process takes over the stage: nothing of it would be published.
    fn while_ours<R>(&self, work: &Work, piece: impl FnOnce() -> R) -> R {
        let stop = &self.options.stop;
        let result = thread::scope(|scope| {
            let (is_done, done) = mpsc::channel::<()>();
            scope.spawn(move || {
                while done.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                    if work.is_lost() {
                        stop.abandon();
                        break;
                    }
                }
            });
            let result = piece();
            drop(is_done);
            result
        });
        stop.go_on();
        result
    }

    /// What a stage gives.
    fn done(&self, stage: &Stage<'_, F>, work: &Work) -> Result<Made, Error> {
        let job = stage.node.job;
        if job != Job::Measure {
            return self.jobs(stage).work(job, work.folder());
        }
        let machine = self.machine()?;
        let result = self.jobs(stage).work(job, work.folder());
        machine.release()?;
        result
    }

    /// What becomes of a stage that could not be done.
    fn ended(
        &self,
        stage: &Stage<'_, F>,
        work: Work,
        error: Error,
        elapsed: Duration,
    ) -> Result<Option<Ended>, Error> {
        let Some(cause) = cause(&error) else {
            // Whoever comes next can go on at once.
            work.release()?;
            return Err(error);
        };
        let line = format!("{}: {}", stage.title(), error.line());
        self.progress.say(&line);
        let message = error.line();
        let log = log_of(work.folder());
        work.fail(Failure {
            cause,
            message: message.clone(),
            place: None,
            log,
            elapsed,
        })?;
        Ok(Some(Ended {
            line,
            message,
            cause,
        }))
    }

    /// Holds the machine for a stage that measures times.
    fn machine(&self) -> Result<Lease, Error> {
        loop {
            self.options.stop.check()?;
            if let Some(lease) = self.leases.claim_machine()? {
                return Ok(lease);
            }
            thread::sleep(POLL);
        }
    }

    fn jobs<'s>(&'s self, stage: &'s Stage<'_, F>) -> Jobs<'s, F> {
        Jobs {
            run: stage.part.run,
            shelf: self.leases.store(),
            keys: stage.keys(),
            sample: None,
        }
    }

    /// Whether this worker does a stage.
    fn whose(&self, node: &Node) -> Whose {
        let share = self.share.as_ref();
        share.map_or(Whose::Own, |share| share.whose(&node.key))
    }

    /// All stages, each after those that it reads.
    fn stages(&self) -> impl Iterator<Item = Stage<'_, F>> {
        self.parts.iter().flat_map(|part| {
            let nodes = part.nodes.all.iter();
            nodes.map(move |node| Stage { part, node })
        })
    }

    /// What a stage failed with before.
    fn before(&self, stage: &Stage<'_, F>) -> Result<Ended, Error> {
        let record = failure::read(self.leases.store(), &stage.node.key)?;
        let last = record.as_ref().and_then(|record| record.attempts.last());
        let message = last.map_or("", |attempt| attempt.message.as_str());
        let title = stage.title();
        Ok(Ended {
            line: format!("{title}: {message} (in an earlier start; --retry tries it again)"),
            message: message.to_owned(),
            cause: last.map_or(Cause::Lost, |attempt| attempt.cause),
        })
    }
}

impl<F: Family> Stage<'_, F> {
    fn keys(&self) -> &SeedKeys {
        let mut seeds = self.part.nodes.seeds.iter();
        let keys = seeds.find(|keys| keys.seed == self.node.seed);
        keys.expect("the seeds of the nodes are those of the run")
    }

    fn title(&self) -> String {
        title(self.part.run.plan, self.node.seed, self.node.job)
    }
}

/// The last lines of the metrics of a training in its folder, for the record; none where nothing was trained.
fn log_of(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("training/metrics.jsonl")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(failure::LINES)..].iter();
    last.map(|line| (*line).to_owned()).collect()
}
