use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;
use crate::graph::{
    failure::Cause,
    lease::{Monotonic, Timing},
    testing::{document, ours, outcome, publish, store, timing, worker},
};

fn failure(cause: Cause) -> Failure {
    Failure {
        cause,
        message: "no space left".to_owned(),
        place: None,
        log: vec![],
        elapsed: Duration::from_secs(1),
    }
}

/// A stage whose owner stalls, and the owner that takes it over.
fn taken_over(store: &Store, key: &Key) -> (Work, Work) {
    let (stalled, _) = worker(store);
    let stalled = ours(&stalled, key);
    fs::write(stalled.folder().join("checkpoint"), "step 1").unwrap();
    let (next, clock) = worker(store);
    assert!(matches!(claim(&next, key).unwrap(), Claim::Held));
    clock.advance(100);
    (stalled, ours(&next, key))
}

#[test]
fn a_stage_is_published_whole_and_nothing_else_is_left() {
    let (_folder, store) = store();
    let document = document(1);
    let key = document.key().unwrap();
    let (leases, _) = worker(&store);
    let work = ours(&leases, &key);
    assert!(!work.is_resumed() && !work.is_lost());
    let folder = work.folder().to_owned();
    fs::create_dir(folder.join("logs")).unwrap();
    fs::write(folder.join("logs/train.jsonl"), "{}\n").unwrap();
    fs::write(folder.join("model.bin"), "abc").unwrap();
    // A killed owner left half a file and a record that was not published.
    fs::write(folder.join("logs/.tmpAb12"), "{").unwrap();
    fs::write(folder.join("done.json"), "{").unwrap();
    fs::write(folder.join(PROGRESS), "{}").unwrap();
    assert!(!store.is_done(&key).unwrap());
    let publication = work.publish(outcome(&document)).unwrap();
    assert_eq!(publication, Publication::Published);

    let done = store.read(&key).unwrap().unwrap();
    let names = done.files.keys().collect::<Vec<_>>();
    assert_eq!(names, ["logs/train.jsonl", "model.bin"]);
    assert_eq!(done.files["model.bin"].sha256, Digest::of("abc"));
    assert_eq!(done.host, owner::host());
    assert!(store.check().unwrap().is_empty());
    for hidden in [store.work(), store.lease(), store.failed()] {
        assert!(walk::names(&hidden).unwrap().is_empty());
    }
    assert!(matches!(claim(&leases, &key).unwrap(), Claim::Done));
    assert!(!work.beat());
}

#[test]
fn a_dead_owner_is_followed_with_its_checkpoints() {
    let (_folder, store) = store();
    let document = document(1);
    let key = document.key().unwrap();
    let (dead, next) = taken_over(&store, &key);
    drop(dead);
    assert!(next.is_resumed());
    let checkpoint = next.folder().join("checkpoint");
    assert_eq!(fs::read_to_string(checkpoint).unwrap(), "step 1");
    let record = failure::read(&store, &key).unwrap().unwrap();
    assert_eq!(record.attempts[0].cause, Cause::Lost);
    next.publish(outcome(&document)).unwrap();
    assert!(failure::read(&store, &key).unwrap().is_none());
}

#[test]
fn a_clean_stop_is_followed_at_once_and_ends_a_series_of_deaths() {
    let (_folder, store) = store();
    let key = document(1).key().unwrap();
    let (_dead, next) = taken_over(&store, &key);
    next.release().unwrap();
    assert!(failure::read(&store, &key).unwrap().is_none());
    let (leases, _) = worker(&store);
    let last = ours(&leases, &key);
    assert!(last.is_resumed());
    assert!(last.folder().ends_with(format!("{key}.3")));
    assert!(failure::read(&store, &key).unwrap().is_none());
}

#[test]
fn an_owner_that_was_taken_over_cannot_write_publish_or_fail() {
    let (_folder, store) = store();
    let document = document(1);
    let key = document.key().unwrap();
    let (stalled, next) = taken_over(&store, &key);
    assert!(!stalled.folder().exists());
    assert!(file::write(&stalled.folder().join("checkpoint"), b"step 2").is_err());
    let publication = stalled.publish(outcome(&document)).unwrap();
    assert_eq!(publication, Publication::Fenced);
    assert!(!stalled.beat() && stalled.is_lost());
    let before = failure::read(&store, &key).unwrap();
    assert!(!stalled.fail(failure(Cause::Disk)).unwrap());
    assert_eq!(failure::read(&store, &key).unwrap(), before);
    assert!(!store.is_done(&key).unwrap());
    let publication = next.publish(outcome(&document)).unwrap();
    assert_eq!(publication, Publication::Published);
}

#[test]
fn an_owner_that_stalls_before_the_rename_cannot_publish() {
    let (_folder, store) = store();
    let document = document(1);
    let key = document.key().unwrap();
    let (leases, _) = worker(&store);
    let stalled = ours(&leases, &key);
    let done = stalled.seal(outcome(&document)).unwrap();
    let (next, clock) = worker(&store);
    claim(&next, &key).unwrap();
    clock.advance(100);
    let free = next.look(key.as_str()).unwrap().unwrap();
    let lease = next.take(key.as_str(), &free).unwrap().unwrap();
    // The next owner has the lease and not yet the folder.
    let publication = stalled.commit(&done).unwrap();
    assert_eq!(publication, Publication::Fenced);
    let Claim::Ours(next) = settle(&store, &key, lease).unwrap() else {
        panic!("not ours")
    };
    assert!(next.is_resumed() && !stalled.folder().exists());
    assert_eq!(stalled.commit(&done).unwrap(), Publication::Fenced);
    next.publish(outcome(&document)).unwrap();
}

#[test]
fn an_owner_that_stalls_before_it_has_a_folder_leaves_the_next_its_own() {
    let (_folder, store) = store();
    let key = document(1).key().unwrap();
    let (leases, _) = worker(&store);
    let free = leases.look(key.as_str()).unwrap().unwrap();
    let stalled = leases.take(key.as_str(), &free).unwrap().unwrap();
    let (next, clock) = worker(&store);
    claim(&next, &key).unwrap();
    clock.advance(100);
    let next = ours(&next, &key);
    let claim = settle(&store, &key, stalled).unwrap();
    assert!(matches!(claim, Claim::Held));
    assert_eq!(walk::names(&store.work()).unwrap().len(), 1);
    assert!(next.folder().exists());
}

#[test]
fn the_same_bytes_of_the_next_owner_are_not_ones_own_publication() {
    let (_folder, store) = store();
    let document = document(1);
    let key = document.key().unwrap();
    let (leases, _) = worker(&store);
    let stalled = ours(&leases, &key);
    let (next, clock) = worker(&store);
    claim(&next, &key).unwrap();
    let done = stalled.seal(outcome(&document)).unwrap();
    clock.advance(100);
    let next = ours(&next, &key);
    next.publish(outcome(&document)).unwrap();
    let publication = stalled.commit(&done).unwrap();
    assert_eq!(publication, Publication::Repeated { same: true });
}

#[test]
fn an_owner_that_published_just_before_it_was_followed() {
    let (_folder, store) = store();
    let document = document(1);
    let key = document.key().unwrap();
    let (leases, _) = worker(&store);
    let (next, _) = worker(&store);
    let free = next.look(key.as_str()).unwrap().unwrap();
    let first = ours(&leases, &key);
    first.publish(outcome(&document)).unwrap();
    // Its lease is gone, so the same number is free again.
    let lease = next.take(key.as_str(), &free).unwrap().unwrap();
    assert!(matches!(settle(&store, &key, lease).unwrap(), Claim::Done));
    assert!(walk::names(&store.lease()).unwrap().is_empty());
    assert!(walk::names(&store.work()).unwrap().is_empty());
}

#[test]
fn the_loser_of_a_race_compares_and_deletes_its_own() {
    for (content, same) in [("weights", true), ("other", false)] {
        let [(_one, ours_store), (_two, other)] = [store(), store()];
        let document = document(1);
        let key = publish(&other, &document, content);
        let (leases, _) = worker(&ours_store);
        let work = ours(&leases, &key);
        fs::write(work.folder().join("model.bin"), "weights").unwrap();
        // The stage comes from another store meanwhile.
        fs::rename(other.stage(&key), ours_store.stage(&key)).unwrap();
        let publication = work.publish(outcome(&document)).unwrap();
        assert_eq!(publication, Publication::Repeated { same });
        let kept = fs::read_to_string(ours_store.stage(&key).join("model.bin"));
        assert_eq!(kept.unwrap(), content);
        assert!(walk::names(&ours_store.work()).unwrap().is_empty());
        assert!(walk::names(&ours_store.lease()).unwrap().is_empty());
        assert!(ours_store.check().unwrap().is_empty());
    }
}

#[test]
fn failures_are_not_tried_again_until_someone_asks() {
    let (_folder, store) = store();
    let key = document(1).key().unwrap();
    let (leases, _) = worker(&store);
    let work = ours(&leases, &key);
    fs::write(work.folder().join("checkpoint"), "step 1").unwrap();
    assert!(work.fail(failure(Cause::NotFinite)).unwrap());
    assert!(matches!(claim(&leases, &key).unwrap(), Claim::Failed));
    assert!(failure::retry(&store, &key).unwrap());
    assert!(ours(&leases, &key).is_resumed());
}

#[test]
fn a_stage_that_ends_three_processes_is_a_failure() {
    let (_folder, store) = store();
    let key = document(1).key().unwrap();
    let (leases, clock) = worker(&store);
    drop(ours(&leases, &key));
    for death in 1..=3 {
        assert!(matches!(claim(&leases, &key).unwrap(), Claim::Held));
        clock.advance(100);
        match claim(&leases, &key).unwrap() {
            Claim::Ours(work) if death < 3 => drop(work),
            Claim::Failed if death == 3 => {}
            other => panic!("{death}: {other:?}"),
        }
    }
    assert!(matches!(claim(&leases, &key).unwrap(), Claim::Failed));
    assert!(failure::retry(&store, &key).unwrap());
    ours(&leases, &key);
}

#[test]
fn without_the_leases_of_before_checkpoints_are_found_all_the_same() {
    let (_folder, store) = store();
    let key = document(1).key().unwrap();
    let (leases, _) = worker(&store);
    let work = ours(&leases, &key);
    fs::write(work.folder().join("checkpoint"), "step 1").unwrap();
    work.release().unwrap();
    fs::remove_dir_all(store.lease()).unwrap();
    let work = ours(&leases, &key);
    assert!(work.is_resumed());
    assert!(work.folder().join("checkpoint").exists());
}

#[test]
fn a_log_goes_on_in_another_file() {
    let (_folder, store) = store();
    let key = document(1).key().unwrap();
    let (leases, clock) = worker(&store);
    let stalled = ours(&leases, &key);
    let mut log = File::create(stalled.folder().join("log")).unwrap();
    let mut write = |text: &str| io::Write::write_all(&mut log, text.as_bytes()).unwrap();
    write("step 1\nstep");
    claim(&leases, &key).unwrap();
    clock.advance(100);
    let next = ours(&leases, &key);
    next.resume_log("log", 7).unwrap();
    write(" 2\n");
    let text = fs::read_to_string(next.folder().join("log")).unwrap();
    assert_eq!(text, "step 1\n");
    let error = next.resume_log("log", 8).unwrap_err().to_string();
    assert!(error.contains("it has 7 bytes"), "{error}");
}

#[test]
fn a_result_of_another_stage_is_refused() {
    let (_folder, store) = store();
    let key = document(1).key().unwrap();
    let (leases, _) = worker(&store);
    let work = ours(&leases, &key);
    let error = work.publish(outcome(&document(2))).unwrap_err();
    assert!(matches!(error, StoreError::OtherStage { .. }), "{error}");
    assert!(store.done().unwrap().is_empty());
}

/// Paths in the way fail where a full disk would.
#[test]
fn failures_of_the_disk_leave_nothing_half_written() {
    let (_folder, store) = store();
    let document = document(1);
    let key = document.key().unwrap();
    let (leases, _) = worker(&store);

    // No work folder can be made: the lease is given back.
    fs::write(store.work(), "").unwrap();
    let error = claim(&leases, &key).unwrap_err().to_string();
    assert!(error.contains("work"), "{error}");
    fs::remove_file(store.work()).unwrap();
    let work = ours(&leases, &key);

    // The record cannot be written: the stage is not published, and can fail.
    fs::create_dir(work.folder().join("done.json")).unwrap();
    let error = work.publish(outcome(&document)).unwrap_err().to_string();
    assert!(error.contains("done.json"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    assert!(store.done().unwrap().is_empty());

    // The failure cannot be recorded: the lease is given back all the same.
    fs::write(store.failed(), "").unwrap();
    let error = work.fail(failure(Cause::Disk)).unwrap_err().to_string();
    assert!(error.contains("failed"), "{error}");
    fs::remove_file(store.failed()).unwrap();
    let work = ours(&leases, &key);
    fs::remove_dir(work.folder().join("done.json")).unwrap();
    work.publish(outcome(&document)).unwrap();
    assert!(store.check().unwrap().is_empty());
    let hidden = walk::names(&store.root().join(".kiln")).unwrap();
    assert!(!hidden.iter().any(|name| file::is_temporary(name)));
}

#[cfg(unix)]
#[test]
fn a_link_is_no_part_of_a_stage() {
    let (_folder, store) = store();
    let document = document(1);
    let (leases, _) = worker(&store);
    let work = ours(&leases, &document.key().unwrap());
    std::os::unix::fs::symlink("/", work.folder().join("link")).unwrap();
    let error = work.publish(outcome(&document)).unwrap_err().to_string();
    assert!(error.contains("link cannot be kept in a store"), "{error}");
    assert!(store.done().unwrap().is_empty());
}

/// Threads do all stages while owners lose their leases all the time.
#[test]
fn threads_publish_each_stage_once() {
    let (_folder, store) = store();
    let documents = (0..12).map(document).collect::<Vec<_>>();
    let keys = documents.iter().map(|document| document.key().unwrap());
    let keys = keys.collect::<Vec<_>>();
    let published = keys.iter().map(|_| AtomicUsize::new(0)).collect::<Vec<_>>();
    let timing = Timing {
        expiry: Duration::from_micros(100),
        ..timing()
    };
    let run = || {
        let leases = Leases::with(&store, timing, Arc::new(Monotonic::default()));
        while store.done().unwrap().len() < keys.len() {
            for (index, key) in keys.iter().enumerate() {
                let work = match claim(&leases, key).unwrap() {
                    Claim::Ours(work) => work,
                    Claim::Failed => {
                        failure::retry(&store, key).unwrap();
                        continue;
                    }
                    Claim::Done | Claim::Held => continue,
                };
                // Its folder may be gone already.
                if fs::write(work.folder().join("model.bin"), "weights").is_err() {
                    continue;
                }
                let outcome = outcome(&documents[index]);
                if work.publish(outcome).unwrap() == Publication::Published {
                    published[index].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(run);
        }
    });
    for count in published {
        assert_eq!(count.into_inner(), 1);
    }
    assert!(store.check().unwrap().is_empty());
}
