//! The protocol of claims as a state machine: three workers, each with a clock of its own, in any order.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::graph::{
    lease::Free,
    testing::{Manual, document, outcome, store, worker},
};

/// An event in the life of a worker.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// Takes the next step of the protocol; a worker that takes none has stalled.
    Step,
    /// Writes a heartbeat.
    Beat,
    /// Writes a checkpoint.
    Save,
    /// Advances its clock, in seconds; leases expire after 100 s.
    Wait(u64),
    /// Stops cleanly.
    Stop,
    /// Dies.
    Die,
}

/// Bursts of events of one worker, during which the others stall.
fn actions() -> impl Strategy<Value = Vec<(usize, Action)>> {
    let action = prop_oneof![
        4 => Just(Action::Step),
        1 => Just(Action::Beat),
        1 => Just(Action::Save),
        3 => prop_oneof![Just(60), Just(100)].prop_map(Action::Wait),
        1 => Just(Action::Stop),
        1 => Just(Action::Die),
    ];
    let burst = (0..3_usize, action, 1..4_usize);
    let repeat = |(worker, action, times)| vec![(worker, action); times];
    prop::collection::vec(burst.prop_map(repeat), 0..40).prop_map(|bursts| bursts.concat())
}

/// Where a worker is between the steps of the protocol.
enum State {
    Idle,
    Looked(Free),
    Taken(Lease),
    Working(Work),
    Sealed(Work, Box<Done>),
}

struct Worker {
    leases: Leases,
    clock: Arc<Manual>,
    state: State,
}

/// The store and its expected state.
struct World {
    store: Store,
    document: Document,
    key: Key,
    /// The fencing numbers of all leases.
    taken: BTreeSet<u64>,
    /// The highest fencing number whose owner finished its claim.
    highest: u64,
    /// The fencing number of the owner that published.
    published: Option<u64>,
    /// The content of the latest checkpoint.
    saved: u64,
}

impl World {
    fn new(store: Store) -> Self {
        let document = document(1);
        Self {
            store,
            key: document.key().unwrap(),
            document,
            taken: BTreeSet::new(),
            highest: 0,
            published: None,
            saved: 0,
        }
    }

    fn act(&mut self, worker: &mut Worker, action: Action) {
        let state = std::mem::replace(&mut worker.state, State::Idle);
        worker.state = match (action, state) {
            (Action::Step, state) => self.step(&worker.leases, state),
            (Action::Wait(seconds), state) => {
                worker.clock.advance(seconds);
                state
            }
            (Action::Beat, state) => {
                self.beat(&state);
                state
            }
            (Action::Save, State::Working(work)) => {
                let next = self.saved + 1;
                let path = work.folder().join("checkpoint");
                let written = file::write(&path, next.to_string().as_bytes());
                // Only the latest owner can write.
                assert_eq!(written.is_ok(), self.has_folder(work.lease.number()));
                self.saved = if written.is_ok() { next } else { self.saved };
                State::Working(work)
            }
            (Action::Stop, State::Working(work)) => {
                work.release().unwrap();
                State::Idle
            }
            (Action::Die, _) => State::Idle,
            (Action::Save | Action::Stop, state) => state,
        };
        self.check();
    }

    fn has_folder(&self, number: u64) -> bool {
        self.published.is_none() && number == self.highest
    }

    fn beat(&self, state: &State) {
        let lease = match state {
            State::Taken(lease) => lease,
            State::Working(work) | State::Sealed(work, _) => &work.lease,
            State::Idle | State::Looked(_) => return,
        };
        let is_ours = lease.beat().unwrap();
        // A worker must stop when it is fenced; here it continues, which must do no harm.
        if self.published.is_some() || lease.number() < self.highest {
            assert!(!is_ours);
        }
    }

    fn step(&mut self, leases: &Leases, state: State) -> State {
        match state {
            State::Idle => {
                if self.store.is_done(&self.key).unwrap() {
                    return State::Idle;
                }
                if failure::is_failed(&self.store, &self.key).unwrap() {
                    assert!(failure::retry(&self.store, &self.key).unwrap());
                }
                let free = leases.look(self.key.as_str()).unwrap();
                free.map_or(State::Idle, State::Looked)
            }
            State::Looked(free) => match leases.take(self.key.as_str(), &free).unwrap() {
                Some(lease) => {
                    let is_new = self.taken.insert(lease.number());
                    assert!(is_new || self.published.is_some());
                    State::Taken(lease)
                }
                None => State::Idle,
            },
            State::Taken(lease) => {
                let number = lease.number();
                match settle(&self.store, &self.key, lease).unwrap() {
                    Claim::Ours(work) => {
                        assert!(self.published.is_none() && number > self.highest);
                        self.highest = number;
                        let saved = fs::read_to_string(work.folder().join("checkpoint"));
                        let saved = saved.map_or(0, |text| text.parse().unwrap());
                        assert_eq!(saved, self.saved, "a checkpoint is lost");
                        State::Working(work)
                    }
                    Claim::Done => {
                        assert!(self.published.is_some());
                        State::Idle
                    }
                    Claim::Failed | Claim::Held => State::Idle,
                }
            }
            State::Working(work) => {
                let sealed = work.seal(outcome(&self.document));
                let has_folder = self.has_folder(work.lease.number());
                assert_eq!(sealed.is_ok(), has_folder);
                sealed.map_or(State::Idle, |done| State::Sealed(work, Box::new(done)))
            }
            State::Sealed(work, done) => {
                let number = work.lease.number();
                match work.commit(&done).unwrap() {
                    Publication::Published => {
                        assert!(self.published.is_none(), "published twice");
                        let last = self.taken.last();
                        assert_eq!(Some(&number), last, "a fenced owner published");
                        self.published = Some(number);
                    }
                    Publication::Repeated { .. } => assert!(self.published.is_some()),
                    Publication::Fenced => {
                        assert!(self.taken.range(number + 1..).next().is_some());
                    }
                }
                State::Idle
            }
        }
    }

    fn check(&self) {
        let is_done = self.store.is_done(&self.key).unwrap();
        assert_eq!(is_done, self.published.is_some());
        assert!(self.store.check().unwrap().is_empty());
    }
}

proptest! {
    #[test]
    fn any_order_of_events_publishes_once_and_loses_nothing(actions in actions()) {
        let (_folder, store) = store();
        let mut world = World::new(store.clone());
        let start = |_| {
            let (leases, clock) = worker(&store);
            Worker { leases, clock, state: State::Idle }
        };
        let mut workers = [0, 1, 2].map(start);
        for (index, action) in actions {
            world.act(&mut workers[index], action);
        }
        // Whatever happened, a worker that comes later finishes the stage.
        let mut last = start(3);
        for action in [Action::Step, Action::Wait(100)] {
            world.act(&mut last, action);
        }
        for _ in 0..10 {
            world.act(&mut last, Action::Step);
        }
        prop_assert!(store.is_done(&world.key).unwrap());
    }
}
