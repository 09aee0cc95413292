//! How long a stage will take, and what it will need.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::{
    history::{Group, History},
    measured::{EpochTime, Measured, MeasuredStage},
    signature::Signature,
    work::Work,
};

/// What an estimate is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Stages that differ by their seed alone were timed on this machine.
    Timed,
    /// A few steps were measured for this plan, of this stage or of one whose steps are the same.
    Measured,
    /// Another stage of the kind was timed or measured on this machine; its time is scaled by the work.
    Scaled,
}

/// What a stage will take. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds.
    pub seconds: f64,
    /// What it is made of.
    pub basis: Basis,
    /// The peak memory.
    pub memory: Option<u64>,
    /// The files that it leaves.
    pub disk: u64,
}

/// A stage that is yet to be done.
#[derive(Clone, Copy)]
pub(super) struct Subject {
    /// What determines it but for seeds.
    pub signature: Signature,
    /// What takes time in it.
    pub likeness: Signature,
    /// How much there is to compute in it, if known.
    pub work: Option<Work>,
}

/// Estimates from a history and from measurements, each made once.
pub(super) struct Estimates<'a> {
    history: &'a History,
    measured: Measured,
    known: HashMap<Signature, Option<Estimate>>,
    /// The likenesses that were asked for and are not known.
    asked: HashSet<Signature>,
}

impl<'a> Estimates<'a> {
    pub fn new(history: &'a History) -> Self {
        Self {
            history,
            measured: Measured::new(),
            known: HashMap::new(),
            asked: HashSet::new(),
        }
    }

    /// Whether this machine has done no stage whose steps take as long, and this is the first such one.
    pub fn is_new(&mut self, subject: &Subject) -> bool {
        self.of_runs(subject).is_none() && self.asked.insert(subject.likeness)
    }

    /// Takes in what was measured.
    pub fn take(&mut self, measured: Measured) {
        self.measured = measured;
    }

    /// The estimate for a stage of a kind: by finished stages that are like it, or by one that was measured, or by the stage of
    /// the kind with the nearest work; none if nothing like it was done on this machine.
    pub fn of(&mut self, subject: &Subject, kind: &str) -> Option<Estimate> {
        if let Some(known) = self.known.get(&subject.signature) {
            return *known;
        }
        let found = self
            .of_runs(subject)
            .or_else(|| self.of_measured(subject))
            .or_else(|| self.nearest(kind, subject.work?));
        self.known.insert(subject.signature, found);
        found
    }

    /// By finished stages: the median of those that differ by their seed alone, or else of those with the nearest number of
    /// epochs of the same steps.
    fn of_runs(&self, subject: &Subject) -> Option<Estimate> {
        if let Some(group) = self.history.get(subject.signature) {
            return Some(Candidate::of(group, 1.0).estimate(Basis::Timed));
        }
        let work = subject.work?;
        let alike = self.history.alike(subject.likeness);
        let alike = alike.filter_map(|group| {
            let ratio = work.ratio_of_epochs(&group.work(false)?);
            Some(Candidate::of(group, ratio))
        });
        Some(nearest(alike)?.estimate(Basis::Scaled))
    }

    fn of_measured(&self, subject: &Subject) -> Option<Estimate> {
        let MeasuredStage { time, .. } = self.measured.get(&subject.likeness)?;
        let epochs = subject.work.map_or(1.0, |work| work.epochs());
        let EpochTime { memory, disk, .. } = *time;
        Some(Estimate {
            seconds: time.seconds(epochs),
            basis: Basis::Measured,
            memory: Some(memory),
            disk,
        })
    }

    /// By the stage of a kind with the nearest work, scaled. Those that read their data in the same way come first.
    fn nearest(&self, kind: &str, work: Work) -> Option<Estimate> {
        let among = |in_scope: bool| {
            let fits = move |other: &Work| work.has_scope_of(other) || !in_scope;
            let groups = self.history.of_kind(kind).filter_map(move |group| {
                let other = group.work(!in_scope).filter(fits)?;
                Some(Candidate::of(group, work.ratio(&other)?))
            });
            let measured = self.measured.values().filter(|stage| stage.kind == kind);
            let measured = measured.filter_map(
                move |MeasuredStage {
                          work: other, time, ..
                      }| {
                    let other = other.filter(fits)?;
                    Some(Candidate {
                        seconds: time.seconds(other.epochs()),
                        memory: Some(time.memory),
                        disk: time.disk,
                        ratio: work.ratio(&other)?,
                    })
                },
            );
            nearest(groups.chain(measured))
        };
        let found = among(true).or_else(|| among(false))?;
        Some(found.estimate(Basis::Scaled))
    }
}

/// A stage whose time is known, and how many times its work that of another one is.
struct Candidate {
    seconds: f64,
    memory: Option<u64>,
    disk: u64,
    ratio: f64,
}

impl Candidate {
    fn of(group: &Group, ratio: f64) -> Self {
        Self {
            seconds: group.seconds(),
            memory: group.memory,
            disk: group.bytes(),
            ratio,
        }
    }

    fn estimate(&self, basis: Basis) -> Estimate {
        Estimate {
            seconds: self.seconds * self.ratio,
            basis,
            memory: self.memory,
            disk: self.disk,
        }
    }
}

/// The candidate whose work is nearest.
fn nearest(candidates: impl Iterator<Item = Candidate>) -> Option<Candidate> {
    // Of equal distances, the order of a map must not decide.
    let distance = |it: &Candidate| (it.ratio.ln().abs(), it.seconds);
    candidates.min_by(|one, other| {
        let ((a, b), (c, d)) = (distance(one), distance(other));
        a.total_cmp(&c).then(b.total_cmp(&d))
    })
}
