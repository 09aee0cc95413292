//! How far each stage of a run is, read again and again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use distill::Progress;
use moebert_core::file;

use super::{
    estimates::{EVALUATE, Estimates},
    time_left::{Times, task},
};
use crate::{
    error::Error,
    graph::{
        Held, Key, Life, Observer, PROGRESS, Stamp, Store,
        failure::{self, Record},
        work_folder,
    },
    record::ARMS,
    results::{ArmsFile, StageLine},
    unix_time::now,
};

/// How far a stage is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// It is yet to be done.
    ToDo,
    /// A process has claimed it.
    Held {
        /// The claim.
        held: Held,
        /// How far it is, if it tells.
        progress: Option<Progress>,
    },
    /// Its result is in the store.
    Done,
    /// It failed and is not tried again.
    Failed,
    /// It needs the stage at this place, which failed.
    Blocked(usize),
}

impl State {
    /// Whether a process that is not known to be dead is at work on it.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Held { held, .. } if held.life != Life::Dead)
    }
}

/// Something that happened while a run was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was seen, in seconds since 1970-01-01 UTC.
    pub time: u64,
    /// What happened.
    pub text: String,
}

/// A run that is watched. Nothing is written.
pub struct Watch {
    pub(super) run: PathBuf,
    pub(super) store: Store,
    pub(super) plan: ArmsFile,
    pub(super) stages: Stages,
    pub(super) estimates: Estimates,
    stamp: Option<Stamp>,
    observer: Observer,
    events: Vec<Event>,
    /// Whether the store was read before.
    is_known: bool,
}

/// The stages of a run in the order of its plan.
#[derive(Default)]
pub(super) struct Stages {
    /// The places of keys.
    places: HashMap<String, usize>,
    /// The places of the stages that each one reads.
    inputs: Vec<Vec<usize>>,
    /// The arms that each one judges.
    arms: HashMap<usize, Vec<usize>>,
    pub states: Vec<State>,
    pub times: Times,
    /// The records of failed attempts that were read, with their stamps.
    pub records: BTreeMap<usize, (Stamp, Record)>,
}

impl Watch {
    /// Opens a run. Its stages are read by [`poll`](Self::poll).
    ///
    /// # Errors
    ///
    /// If the folder is not that of a run, or there is no store.
    pub fn open(run: &Path, store: &Path) -> Result<Self, Error> {
        let plan = ArmsFile::read(run)?.ok_or_else(|| {
            let run = run.display();
            Error::Usage(format!(
                "{run} has no {ARMS}; name the folder of a run that has begun"
            ))
        })?;
        let found = Store::find(store)?.ok_or_else(|| {
            let store = store.display();
            Error::Usage(format!("--store {store}: there is no such store"))
        })?;
        Ok(Self {
            observer: Observer::new(&found),
            stamp: Stamp::of(&run.join(ARMS))?,
            estimates: Estimates::new(&plan),
            stages: Stages::new(&plan),
            run: run.to_owned(),
            store: found,
            plan,
            events: vec![],
            is_known: false,
        })
    }

    /// Reads what can have changed, and brings estimates up to date for `budget` at most; true if something has changed.
    ///
    /// # Errors
    ///
    /// If run or store cannot be read.
    pub fn poll(&mut self, budget: Duration) -> Result<bool, Error> {
        let mut is_changed = self.read_plan()?;
        let states = self.read_states()?;
        is_changed |= states != self.stages.states;
        self.take_in(states)?;
        if self.estimates.is_behind() {
            is_changed = true;
            let stages = &self.stages;
            let is_done = |key: &Key| stages.state(key) == Some(&State::Done);
            self.estimates
                .catch_up(&self.plan, &self.store, budget, is_done);
        }
        self.is_known = true;
        Ok(is_changed)
    }

    /// Whether estimates are out of date, because bringing them up to date took longer than the budget.
    pub fn is_behind(&self) -> bool {
        self.estimates.is_behind()
    }

    /// Whether every stage is done or cannot be.
    pub fn is_over(&self) -> bool {
        let mut states = self.stages.states.iter();
        !states.any(|state| matches!(state, State::ToDo | State::Held { .. }))
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The first line of what a stage failed with.
    pub(super) fn record(&self, place: usize) -> Option<&Record> {
        self.stages.records.get(&place).map(|(_, record)| record)
    }

    /// Reads the plan again if a new start of the run has replaced it.
    fn read_plan(&mut self) -> Result<bool, Error> {
        let stamp = Stamp::of(&self.run.join(ARMS))?;
        if stamp.is_none() || stamp == self.stamp {
            return Ok(false);
        }
        self.stamp = stamp;
        let Some(plan) = ArmsFile::read(&self.run)? else {
            return Ok(false);
        };
        if plan == self.plan {
            return Ok(false);
        }
        self.estimates = Estimates::new(&plan);
        self.stages = Stages::new(&plan);
        self.plan = plan;
        self.is_known = false;
        Ok(true)
    }

    fn read_states(&mut self) -> Result<Vec<State>, Error> {
        let Self {
            store,
            plan,
            stages,
            observer,
            ..
        } = self;
        let is_open = |name: &str| {
            let place = stages.places.get(name);
            place.is_some_and(|place| stages.states[*place] != State::Done)
        };
        // Leases first: a stage whose lease is gone by now is found to be done below.
        let held = observer.look(is_open)?;
        let mut states: Vec<State> = stages.states.clone();
        for state in &mut states {
            if *state != State::Done {
                *state = State::ToDo;
            }
        }
        for key in store.done()? {
            if let Some(place) = stages.places.get(key.as_str()) {
                states[*place] = State::Done;
            }
        }
        for (key, stamp) in failure::records(store)? {
            let Some(place) = stages.places.get(key.as_str()).copied() else {
                continue;
            };
            if states[place] == State::Done {
                continue;
            }
            let known = stages.records.get(&place);
            if known.is_none_or(|(known, _)| *known != stamp) {
                let record = failure::read(store, &key)?.unwrap_or_default();
                stages.records.insert(place, (stamp, record));
            }
            if stages.records[&place].1.is_failed() {
                states[place] = State::Failed;
            }
        }
        for (name, held) in held {
            let place = stages.places[&name];
            if states[place] == State::ToDo {
                let progress = read_progress(store, &plan.stages[place].key, held.number);
                states[place] = State::Held { held, progress };
            }
        }
        for place in 0..states.len() {
            if states[place] == State::ToDo {
                let cause = stages.inputs[place].iter();
                let cause = cause.copied().find_map(|input| match states[input] {
                    State::Failed => Some(input),
                    State::Blocked(cause) => Some(cause),
                    _ => None,
                });
                if let Some(cause) = cause {
                    states[place] = State::Blocked(cause);
                }
            }
        }
        Ok(states)
    }

    /// Takes new states in: reads the times of stages that are done now, and notes events.
    fn take_in(&mut self, states: Vec<State>) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.stages.states, states);
        for (place, before) in before.iter().enumerate() {
            let (state, stage) = (&self.stages.states[place], &self.plan.stages[place]);
            if state == before {
                continue;
            }
            let mut seconds = None;
            if *state == State::Done {
                seconds = self.store.seconds(&stage.key)?;
                if let Some(seconds) = seconds {
                    self.stages.times.add(stage, seconds);
                }
                for arm in self.stages.arms.get(&place).into_iter().flatten() {
                    self.estimates.add(*arm);
                }
            }
            if self.is_known
                && let Some(text) = self.event(place, before, seconds)
            {
                self.events.push(Event { time: now(), text });
            }
        }
        Ok(())
    }

    /// What is told of a stage whose state has changed.
    fn event(&self, place: usize, before: &State, seconds: Option<f64>) -> Option<String> {
        let title = short_title(&self.plan.stages[place]);
        Some(match (&self.stages.states[place], before) {
            (State::Done, _) => match seconds {
                Some(seconds) => format!("{title} done in {}", super::text::duration(seconds)),
                None => format!("{title} done"),
            },
            (State::Failed, _) => {
                let last = self.record(place)?.attempts.last()?;
                format!("{title} failed: {}", last.message)
            }
            (State::Held { held: new, .. }, State::Held { held: old, .. }) => {
                let is_same =
                    (new.number, new.life == Life::Dead) == (old.number, old.life == Life::Dead);
                if is_same {
                    return None;
                }
                match new.life {
                    Life::Dead => format!("{title}: no sign of life of {}:{}", new.host, new.pid),
                    _ => format!("{title} goes on, {}:{}", new.host, new.pid),
                }
            }
            (State::Held { held, .. }, _) => {
                format!("{title} begins, {}:{}", held.host, held.pid)
            }
            (State::ToDo, State::Held { .. }) => format!("{title} was stopped"),
            (State::ToDo | State::Blocked(_), _) => return None,
        })
    }
}

impl Stages {
    fn new(plan: &ArmsFile) -> Self {
        let places = plan.stages.iter().enumerate();
        let places: HashMap<String, usize> = places
            .map(|(place, stage)| (stage.key.as_str().to_owned(), place))
            .collect();
        let place = |key: &Key| places.get(key.as_str()).copied();
        let inputs = plan.stages.iter();
        let inputs = inputs.map(|stage| stage.inputs.iter().filter_map(place).collect());
        let inputs = inputs.collect();
        let mut arms: HashMap<usize, Vec<usize>> = HashMap::new();
        for (arm, stages) in plan.arms.iter().enumerate() {
            for seed in &stages.seeds {
                if let Some(place) = seed.stages.get(EVALUATE).and_then(place) {
                    arms.entry(place).or_default().push(arm);
                }
            }
        }
        Self {
            states: vec![State::ToDo; plan.stages.len()],
            places,
            inputs,
            arms,
            ..Self::default()
        }
    }

    pub fn state(&self, key: &Key) -> Option<&State> {
        Some(&self.states[self.place(key)?])
    }

    pub fn place(&self, key: &Key) -> Option<usize> {
        self.places.get(key.as_str()).copied()
    }

    /// The owners at work, by host and process number.
    pub fn workers(&self) -> BTreeSet<(&str, u32)> {
        let running = self.states.iter().filter(|state| state.is_running());
        let owners = running.filter_map(|state| match state {
            State::Held { held, .. } => Some((held.host.as_str(), held.pid)),
            _ => None,
        });
        owners.collect()
    }
}

/// What a stage does, in short: ``training `random` seed 3``.
pub(super) fn short_title(stage: &StageLine) -> String {
    let task = task(stage);
    // What follows the name tells how it is trained.
    let end = task.find("`, ").map_or(task.len(), |end| end + 1);
    format!("{} seed {}", task[..end].replace('`', ""), stage.seed)
}

/// How far a stage is that a process is at work on; none if it does not tell.
fn read_progress(store: &Store, key: &Key, number: u64) -> Option<Progress> {
    let bytes = file::read_if_there(&work_folder(store, key, number).join(PROGRESS));
    serde_json::from_slice(&bytes.ok()??).ok()
}
