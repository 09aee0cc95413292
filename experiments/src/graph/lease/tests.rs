use std::{process::Command, sync::Barrier, thread};

use super::*;
use crate::graph::{
    owner::Process,
    testing::{store, timing, worker},
};

const NAME: &str = "train-00112233445566778899aabbccddeeff";

fn get(leases: &Leases) -> Option<Lease> {
    let free = leases.look(NAME).unwrap()?;
    leases.take(NAME, &free).unwrap()
}

/// The line of a lease.
fn line(store: &Store, number: u64) -> Line {
    let bytes = fs::read(path(&store.lease(), NAME, number)).unwrap();
    Line::parse(&bytes).unwrap()
}

/// Makes the lease of another process.
fn write_line(store: &Store, number: u64, line: &[u8]) {
    walk::make(&store.lease()).unwrap();
    fs::write(path(&store.lease(), NAME, number), line).unwrap();
}

/// A store on a file system without hard links, as far as its settings say.
fn store_without_links() -> (tempfile::TempDir, Store) {
    let (folder, store) = store();
    let settings = store.root().join(".kiln/store.toml");
    fs::write(settings, "format = 1\nclaim = \"create\"").unwrap();
    let store = Store::open(store.root()).unwrap();
    assert_eq!(store.claim(), ClaimBy::Create);
    (folder, store)
}

#[test]
fn one_owner_at_a_time_and_numbers_that_rise() {
    for (_folder, store) in [store(), store_without_links()] {
        let [(one, _), (two, _)] = [worker(&store), worker(&store)];
        let first = get(&one).unwrap();
        assert_eq!((first.number(), first.lost_by()), (1, None));
        assert!(first.holds().unwrap());
        assert!(get(&two).is_none());
        assert!(get(&one).is_none());
        first.release().unwrap();
        assert!(line(&store, 1).released);
        let second = get(&two).unwrap();
        assert_eq!((second.number(), second.lost_by()), (2, None));
        // Nothing is left of the ways there.
        let names = walk::names(&store.lease()).unwrap();
        assert_eq!(names, [format!("{NAME}.1"), format!("{NAME}.2")]);
    }
}

#[test]
fn an_owner_is_dead_after_the_expiry_of_the_observers_clock() {
    let (_folder, store) = store();
    let (owner, _) = worker(&store);
    let lease = get(&owner).unwrap();
    let (observer, clock) = worker(&store);
    clock.advance(1000);
    for _ in 0..3 {
        // The first look starts the count, and so does the first after a beat.
        assert!(observer.look(NAME).unwrap().is_none());
        clock.advance(99);
        assert!(observer.look(NAME).unwrap().is_none());
        assert!(lease.beat().unwrap());
        clock.advance(1);
    }
    assert_eq!(line(&store, 1).counter, 3);
    assert!(observer.look(NAME).unwrap().is_none());
    clock.advance(100);
    let taken = get(&observer).unwrap();
    assert_eq!(taken.number(), 2);
    assert_eq!(taken.lost_by(), Some(owner::host().as_str()));
    // Another observer has not seen the old lease, and finds the new one.
    let (late, late_clock) = worker(&store);
    late_clock.advance(1000);
    assert!(get(&late).is_none());
    // The owner before finds out, by itself or when it asks.
    assert!(!lease.is_lost());
    assert!(!lease.holds().unwrap());
    assert!(!lease.beat().unwrap());
    assert!(lease.is_lost());
    assert_eq!(line(&store, 1).counter, 3);
    lease.release().unwrap();
    assert!(!line(&store, 1).released);
    assert!(taken.beat().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn an_owner_on_this_machine_is_dead_when_its_process_is() {
    let (_folder, store) = store();
    let mut child = Command::new("true").spawn().unwrap();
    let process = Process {
        pid: child.id(),
        host: "node2".to_owned(),
        ..Process::this()
    };
    child.wait().unwrap();
    let mut line = Line::first(Owner {
        process,
        ..Owner::new()
    });
    write_line(&store, 3, &line.to_bytes());
    let (observer, _) = worker(&store);
    let lease = get(&observer).unwrap();
    assert_eq!((lease.number(), lease.lost_by()), (4, Some("node2")));
    // On another machine, its number says nothing.
    "another boot".clone_into(&mut line.owner.process.boot);
    write_line(&store, 5, &line.to_bytes());
    assert!(get(&observer).is_none());
}

#[test]
fn a_file_without_a_whole_line_expires_as_any_other() {
    let (_folder, store) = store_without_links();
    write_line(&store, 1, b"");
    let (observer, clock) = worker(&store);
    assert!(get(&observer).is_none());
    clock.advance(100);
    let lease = get(&observer).unwrap();
    assert_eq!((lease.number(), lease.lost_by()), (2, Some("unknown")));
}

#[test]
fn a_claim_on_an_old_look_fails() {
    for (_folder, store) in [store(), store_without_links()] {
        let [(one, _), (two, _)] = [worker(&store), worker(&store)];
        let old = two.look(NAME).unwrap().unwrap();
        let lease = get(&one).unwrap();
        assert!(two.take(NAME, &old).unwrap().is_none());
        assert!(lease.holds().unwrap());
        assert_eq!(walk::names(&store.lease()).unwrap().len(), 1);
    }
}

#[test]
fn a_lease_ends_when_the_stage_is_there_or_its_line_is_not_its_own() {
    for end in ["published", "removed", "foreign"] {
        let (_folder, store) = store();
        let (owner, _) = worker(&store);
        let lease = get(&owner).unwrap();
        match end {
            "published" => fs::create_dir(store.root().join(NAME)).unwrap(),
            "removed" => fs::remove_file(path(&store.lease(), NAME, 1)).unwrap(),
            _ => write_line(&store, 1, &Line::first(Owner::new()).to_bytes()),
        }
        assert!(!lease.beat().unwrap(), "{end}");
        assert!(lease.is_lost(), "{end}");
        assert!(!lease.holds().unwrap(), "{end}");
    }
}

#[test]
fn threads_that_race_for_a_name_get_one_lease() {
    const THREADS: usize = 8;
    for (_folder, store) in [store(), store_without_links()] {
        let barrier = Barrier::new(THREADS);
        let (leases, _) = worker(&store);
        for number in 1..=5 {
            let winners = thread::scope(|scope| {
                let race = |_| {
                    scope.spawn(|| {
                        barrier.wait();
                        get(&leases)
                    })
                };
                let threads = (0..THREADS).map(race).collect::<Vec<_>>();
                let leases = threads.into_iter().map(|thread| thread.join().unwrap());
                leases.flatten().collect::<Vec<_>>()
            });
            // A thread may come late, after the winner is known, but nobody has released it yet.
            assert_eq!(winners.len(), 1);
            for lease in winners {
                assert_eq!(lease.number(), number);
                lease.release().unwrap();
            }
        }
    }
}

#[test]
fn the_heartbeat_finds_by_itself_that_the_lease_has_ended() {
    let (_folder, store) = store();
    let timing = Timing {
        beat: Duration::from_millis(1),
        ..timing()
    };
    let leases = Leases::with(&store, timing, Arc::new(Monotonic::default()));
    let lease = get(&leases).unwrap();
    // A line is rewritten in place, so a read may meet half of it.
    let counter = || Line::parse(&fs::read(path(&store.lease(), NAME, 1)).unwrap());
    while counter().is_none_or(|line| line.counter < 3) {
        thread::yield_now();
    }
    write_line(&store, 2, &Line::first(Owner::new()).to_bytes());
    while !lease.is_lost() {
        thread::yield_now();
    }
}

#[test]
fn a_machine_is_held_by_one_measurement() {
    let (_folder, store) = store();
    let (leases, _) = worker(&store);
    let lease = leases.claim_machine().unwrap().unwrap();
    assert!(leases.claim_machine().unwrap().is_none());
    lease.release().unwrap();
    assert!(leases.claim_machine().unwrap().is_some());
}

#[test]
fn a_path_in_the_way_is_named_and_leaves_nothing() {
    let (_folder, store) = store();
    let (leases, _) = worker(&store);
    fs::write(store.lease(), "").unwrap();
    let error = get_error(&leases);
    assert!(error.contains("lease"), "{error}");
    assert_eq!(fs::read(store.lease()).unwrap(), b"");
    fs::remove_file(store.lease()).unwrap();
    // A folder with the name of the next lease.
    let free = leases.look(NAME).unwrap().unwrap();
    fs::create_dir_all(path(&store.lease(), NAME, 1)).unwrap();
    assert!(leases.take(NAME, &free).unwrap().is_none());
    let error = get_error(&leases);
    assert!(error.contains(&format!("{NAME}.1")), "{error}");
    assert_eq!(walk::names(&store.lease()).unwrap().len(), 1);
}

fn get_error(leases: &Leases) -> String {
    leases.look(NAME).unwrap_err().to_string()
}

#[test]
fn names_with_dots_are_told_apart() {
    assert_eq!(split("measure-a.b.12"), Some(("measure-a.b", 12)));
    for other in ["measure", ".tmp-0", "a.01", "a.", ".1", "a.-1"] {
        assert_eq!(split(other), None, "{other}");
    }
}
