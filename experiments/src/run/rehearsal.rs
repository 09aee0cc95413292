//! Stages that are timed for a plan: they pass a sample of their data, in a folder for temporary files.
//!
//! What a stage reads that is not there is made in the same way: a student is timed with a teacher of a few steps.

mod timed;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    env, fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use distill::Ui;

use self::timed::Timed;
use super::{
    Base, Pipeline, Progress, Run, RunOptions, Runnable, Shares,
    jobs::{Jobs, Shelf, title},
    nodes::{Node, SeedKeys},
    plan::{self, Measured, MeasuredStage, Request, Signature, Signatures, Wanted},
    sample::Sample,
};
use crate::{
    error::Error,
    graph::{Key, StoreError},
    interrupt::Stop,
    panics,
    quiet::tell,
    record::Artifacts,
    warning::warn,
};

/// How long all measurements take at most.
const LIMIT: Duration = Duration::from_secs(30);
/// How long the counted steps of one measurement take at least and at most, unless there are too few of them.
const ENOUGH: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];

/// Stages of a plan that are to be timed.
pub(super) struct Rehearsal<'p, 'a, T: Runnable> {
    pipeline: &'p Pipeline<'a, T>,
    bases: Vec<Base<'a, T>>,
}

/// The arms on one base, with a sample of their data.
struct Stand<'a, F> {
    run: Run<'a, F>,
    shares: Shares,
}

impl<'p, 'a, T: Runnable> Rehearsal<'p, 'a, T> {
    /// The stages of the arms on these bases.
    pub fn new(pipeline: &'p Pipeline<'a, T>, bases: Vec<Base<'a, T>>) -> Self {
        Self { pipeline, bases }
    }

    /// How long the stages of a request take. Those that fail, or that there is no time for, are left out.
    ///
    /// # Errors
    ///
    /// If a stop is asked for.
    pub fn times(self, parts: &[plan::Base<'_>], request: &Request<'_>) -> Result<Measured, Error> {
        let mut measured = Measured::new();
        tell("timing a few steps of stages that are like none of the store on this machine");
        let stop = &self.pipeline.options.stop;
        let ended = within(stop, LIMIT, || self.pass(parts, request, &mut measured));
        stop.check()?;
        match ended {
            Ok(()) => {}
            Err(Error::Stopped { .. }) => {
                let limit = LIMIT.as_secs();
                tell(&format!("some stages were not timed within {limit} s"));
            }
            // The run itself will say so, where it is a mistake.
            Err(error) => warn(&format!("stages cannot be timed: {}", error.line())),
        }
        Ok(measured)
    }

    fn pass(
        self,
        parts: &[plan::Base<'_>],
        request: &Request<'_>,
        measured: &mut Measured,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let Self { pipeline, bases } = self;
        let folder = tempfile::tempdir();
        let folder = folder.map_err(|source| Error::file(&env::temp_dir(), source))?;
        let options = RunOptions {
            out: folder.path().to_owned(),
            ui: Ui::None,
            ..pipeline.options.clone()
        };
        let stands = stands(bases, &options, &request.wanted)?;
        let mut made = Made {
            likenesses: request.likenesses,
            folders: request.folders.clone(),
        };
        for (count, wanted) in request.wanted.iter().enumerate() {
            let part = &parts[wanted.base];
            let node = &part.nodes.all[wanted.node];
            let keys = part.nodes.seeds.iter().find(|keys| keys.holds(node));
            let inputs = node.document.inputs.values();
            let (Some(stand), Some(keys)) = (stands.get(&wanted.base), keys) else {
                continue;
            };
            if !inputs.clone().all(|input| made.folder(input).is_some()) {
                continue;
            }
            let title = title(part.plan, node.seed, node.job);
            tell(&format!("timing {title}"));
            let left = LIMIT.saturating_sub(began.elapsed());
            let own = left / (2 * (request.wanted.len() - count)) as u32;
            let sample = Sample {
                enough: own.clamp(ENOUGH[0], ENOUGH[1]),
                ..Sample::default()
            };
            let dir = folder.path().join(node.key.as_str());
            match stand.time(node, keys, &made, &sample, &dir) {
                Ok(time) => {
                    made.folders.insert(wanted.likeness, dir);
                    let stage = MeasuredStage {
                        kind: node.key.kind().to_owned(),
                        work: wanted.work,
                        time,
                    };
                    measured.insert(wanted.likeness, stage);
                }
                Err(error @ Error::Stopped { .. }) => return Err(error),
                Err(error) => warn(&format!("{title} cannot be timed: {}", error.line())),
            }
        }
        Ok(())
    }
}

/// The bases of stages that are wanted, with samples of their data.
fn stands<'o, 'a: 'o, T: Runnable>(
    bases: Vec<Base<'a, T>>,
    options: &'o RunOptions,
    wanted: &[Wanted],
) -> Result<BTreeMap<usize, Stand<'o, T::Family<'a>>>, Error> {
    let places: BTreeSet<usize> = wanted.iter().map(|wanted| wanted.base).collect();
    let mut stands = BTreeMap::new();
    for (place, base) in bases.into_iter().enumerate() {
        if !places.contains(&place) {
            continue;
        }
        let Base { recipe, inputs, .. } = base;
        let data = options.out.join(format!("data-{place}"));
        fs::create_dir_all(&data).map_err(|source| Error::file(&data, source))?;
        let (inputs, shares) = T::sampled(recipe, inputs, &data)?;
        let artifacts = Artifacts::new(&options.out, place);
        let run = Run {
            family: T::prepare(recipe, options, &artifacts, inputs)?,
            plan: recipe.plan(),
            importance: &recipe.importance,
            checkpoint: &recipe.checkpoint,
            tracking: &[],
            options,
            progress: Progress::new(Ui::None),
        };
        stands.insert(place, Stand { run, shares });
    }
    Ok(stands)
}

impl<F: super::family::Family> Stand<'_, F> {
    /// How long a stage takes.
    fn time(
        &self,
        node: &Node,
        keys: &SeedKeys,
        shelf: &Made<'_>,
        sample: &Sample,
        dir: &Path,
    ) -> Result<plan::EpochTime, Error> {
        fs::create_dir_all(dir).map_err(|source| Error::file(dir, source))?;
        let timed = Timed {
            jobs: Jobs {
                run: &self.run,
                shelf,
                keys,
                sample: Some(sample),
            },
            shares: self.shares,
            sample,
        };
        let time = panics::caught(|| timed.time(node.job, dir));
        time.unwrap_or_else(|message| Err(Error::Panic(message)))
    }
}

/// The stages that others read: finished ones of a store, and those that were made to be timed. One stands for all that
/// are like it.
struct Made<'a> {
    likenesses: &'a Signatures,
    folders: HashMap<Signature, PathBuf>,
}

impl Made<'_> {
    fn folder(&self, key: &Key) -> Option<&PathBuf> {
        self.folders.get(&self.likenesses.get(key)?)
    }
}

impl Shelf for Made<'_> {
    fn stage(&self, key: &Key) -> PathBuf {
        self.folder(key).cloned().unwrap_or_default()
    }

    fn has(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(self.folder(key).is_some())
    }

    fn seconds(&self, _: &Key) -> Result<Option<f64>, StoreError> {
        Ok(None)
    }
}

/// Does a piece of work, which is stopped after so long.
fn within<R>(stop: &Stop, limit: Duration, piece: impl FnOnce() -> R) -> R {
    let result = thread::scope(|scope| {
        let (is_done, done) = mpsc::channel::<()>();
        scope.spawn(move || {
            if done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                stop.abandon();
            }
        });
        let result = piece();
        drop(is_done);
        result
    });
    stop.go_on();
    result
}
