//! A process at work on the stages of a run: it claims a stage whose inputs are there, does it, and looks for the next.
//! Any number of processes may do so at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use distill::StageError;
use serde_json::Value;

use super::{
    Run,
    family::Family,
    jobs::{Jobs, Made, title},
    nodes::{Job, Node, Nodes, SeedKeys},
};
use crate::{
    error::Error,
    graph::{
        Claim, Key, Lease, Leases, Outcome, Publication, Work, claim,
        failure::{self, Cause, Failure},
    },
    memory,
};

/// How often stages of other processes are looked at.
const POLL: Duration = Duration::from_millis(500);

/// Stages of a run that this process takes part in.
pub(super) struct Worker<'a, F: Family> {
    pub run: &'a Run<'a, F>,
    pub nodes: &'a Nodes,
    pub leases: Leases,
    /// Versions and machine, for the record.
    pub environment: Value,
}

/// A stage that failed.
struct Ended {
    line: String,
    cause: Cause,
}

/// What a round over the stages found.
enum Round {
    /// A stage was done, or failed: others may be ready.
    Moved,
    /// What is left belongs to other processes.
    Waiting,
    /// Nothing is left to do.
    Over,
}

impl<F: Family> Worker<'_, F> {
    /// Works until all stages are done or cannot be.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if stages failed, now or before; a stop; or whatever the store fails with.
    pub fn work(&self) -> Result<(), Error> {
        let mut settled = BTreeSet::new();
        let mut failed: BTreeMap<Key, Ended> = BTreeMap::new();
        let mut is_told = false;
        loop {
            match self.round(&mut settled, &mut failed)? {
                Round::Moved => is_told = false,
                Round::Over => break,
                Round::Waiting => {
                    if !is_told {
                        self.run
                            .progress
                            .say("waiting for stages of another process");
                        is_told = true;
                    }
                    std::thread::sleep(POLL);
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        let is_open = |key| !settled.contains(key) && !failed.contains_key(key);
        let blocked = self.nodes.nodes.iter().filter(|node| is_open(&node.key));
        let blocked = blocked.map(|node| self.title(node)).collect();
        Err(Error::Failed {
            is_bad_input: failed.values().all(|ended| ended.cause == Cause::BadInput),
            failed: failed.into_values().map(|ended| ended.line).collect(),
            blocked,
        })
    }

    /// Does the first stage that is ready.
    fn round(
        &self,
        settled: &mut BTreeSet<Key>,
        failed: &mut BTreeMap<Key, Ended>,
    ) -> Result<Round, Error> {
        let mut is_waiting = false;
        for node in &self.nodes.nodes {
            self.run.options.stop.check()?;
            if settled.contains(&node.key) || failed.contains_key(&node.key) {
                continue;
            }
            let inputs = node.document.inputs.values();
            if !inputs.clone().all(|input| settled.contains(input)) {
                continue;
            }
            match claim(&self.leases, &node.key)? {
                Claim::Done => drop(settled.insert(node.key.clone())),
                Claim::Failed => drop(failed.insert(node.key.clone(), self.before(node)?)),
                Claim::Held => is_waiting = true,
                Claim::Ours(work) => {
                    if let Some(ended) = self.attempt(node, work)? {
                        failed.insert(node.key.clone(), ended);
                    }
                    return Ok(Round::Moved);
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
    fn attempt(&self, node: &Node, work: Work) -> Result<Option<Ended>, Error> {
        let clock = Instant::now();
        let device = &self.run.options.device;
        let (made, bytes) = memory::peak(device, || self.done(node, &work));
        let Made { result, earlier } = match made {
            Ok(made) => made,
            Err(error) => return self.ended(node, work, error, clock.elapsed()),
        };
        let outcome = Outcome {
            document: node.document.clone(),
            result,
            elapsed: earlier + clock.elapsed(),
            peak_memory: Some(bytes),
            backend: self.run.options.device_name.clone(),
            environment: self.environment.clone(),
        };
        if work.publish(outcome)? == Publication::Fenced {
            self.run
                .progress
                .say("another process has taken over this stage");
        }
        Ok(None)
    }

    /// What a stage gives.
    fn done(&self, node: &Node, work: &Work) -> Result<Made, Error> {
        if node.job != Job::Measure {
            return self.jobs(node).work(node.job, work.folder());
        }
        let machine = self.machine()?;
        let result = self.jobs(node).work(node.job, work.folder());
        machine.release()?;
        result
    }

    /// What becomes of a stage that could not be done.
    fn ended(
        &self,
        node: &Node,
        work: Work,
        error: Error,
        elapsed: Duration,
    ) -> Result<Option<Ended>, Error> {
        let cause = match &error {
            Error::Stopped | Error::Interrupted => None,
            error if is_of_disk(error) => None,
            error if is_not_finite(error) => Some(Cause::NotFinite),
            _ => Some(Cause::BadInput),
        };
        let Some(cause) = cause else {
            // Whoever comes next can go on at once.
            work.release()?;
            return Err(error);
        };
        let line = format!("{}: {}", self.title(node), error.line());
        self.run.progress.say(&line);
        work.fail(Failure {
            cause,
            message: error.line(),
            place: None,
            log: vec![],
            elapsed,
        })?;
        Ok(Some(Ended { line, cause }))
    }

    /// Holds the machine for a stage that measures times.
    fn machine(&self) -> Result<Lease, Error> {
        loop {
            self.run.options.stop.check()?;
            if let Some(lease) = self.leases.claim_machine()? {
                return Ok(lease);
            }
            std::thread::sleep(POLL);
        }
    }

    fn jobs(&self, node: &Node) -> Jobs<'_, F> {
        Jobs {
            run: self.run,
            store: self.leases.store(),
            keys: self.keys(node.seed),
        }
    }

    fn keys(&self, seed: u64) -> &SeedKeys {
        let keys = self.nodes.seeds.iter().find(|keys| keys.seed == seed);
        keys.expect("the seeds of the nodes are those of the run")
    }

    fn title(&self, node: &Node) -> String {
        title(self.run.plan, node.seed, node.job)
    }

    /// What a stage failed with before.
    fn before(&self, node: &Node) -> Result<Ended, Error> {
        let record = failure::read(self.leases.store(), &node.key)?;
        let last = record.as_ref().and_then(|record| record.attempts.last());
        let message = last.map_or("", |attempt| attempt.message.as_str());
        let title = self.title(node);
        Ok(Ended {
            line: format!("{title}: {message} (in an earlier start; --retry tries it again)"),
            cause: last.map_or(Cause::Lost, |attempt| attempt.cause),
        })
    }
}

/// Whether a disk is full or cannot be written: no stage is to blame for that.
fn is_of_disk(error: &Error) -> bool {
    // Some errors of Burn keep of the system's error its text alone.
    let text = error.line();
    // No space left, file too large, over quota, read-only.
    [28, 27, 122, 30]
        .iter()
        .any(|code| text.contains(&format!("(os error {code})")))
}

/// Whether a number stopped being finite.
fn is_not_finite(error: &Error) -> bool {
    match error {
        Error::Training(error) => matches!(error, StageError::NotFinite { .. }),
        _ => false,
    }
}
