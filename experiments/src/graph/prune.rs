//! Deletes stages and checkpoints that no run needs.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use moebert_core::file;

use super::{
    done::FILE,
    error::StoreError,
    key::Key,
    lease::{self, Leases},
    owner,
    store::Store,
    walk,
};

/// A file or folder that was deleted, or would be in a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The file or folder.
    pub path: PathBuf,
    /// The length of the file, or the total length of the folder's files, in bytes.
    pub bytes: u64,
}

/// Deletes the stages, finished or in progress, that are neither in `keep` nor a direct or indirect input of a stage in
/// `keep`. Stages with a live lease and stages changed less than `older` ago stay. Also empties the trash of an
/// interrupted call, and deletes what killed processes were writing in the store's own folders. With `dry_run`, nothing is
/// deleted.
///
/// Returns what was deleted, or would be.
///
/// # Errors
///
/// If the store cannot be read or written, or the record of a kept stage is damaged.
pub fn sweep(
    leases: &Leases,
    keep: &BTreeSet<Key>,
    older: Duration,
    dry_run: bool,
) -> Result<Vec<Removed>, StoreError> {
    let store = leases.store();
    let keep = mark(store, keep)?;
    let mut doomed = vec![];
    for key in store.done()? {
        let folder = store.stage(&key);
        if !keep.contains(&key)
            && is_older(&folder.join(FILE), older)
            && !leases.is_held(key.as_str())?
        {
            doomed.push(folder);
        }
    }
    for (key, folder) in abandoned(leases)? {
        if !keep.contains(&key) && is_older(&folder, older) {
            doomed.push(folder);
        }
    }
    let mut removed = remove(store, doomed, dry_run)?;
    for path in temporary(store, older)? {
        let bytes = walk::size(&path)?;
        if !dry_run {
            walk::remove_file(&path)?;
        }
        removed.push(Removed { path, bytes });
    }
    Ok(removed)
}

/// The temporary files in the store's own folders that were written at least `age` ago.
fn temporary(store: &Store, age: Duration) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = vec![];
    for folder in store.own() {
        for name in walk::names(&folder)? {
            let path = folder.join(&name);
            if file::is_temporary(&name) && is_older(&path, age) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Deletes the work folders of stages in progress without a live lease, with their checkpoints: these stages start from
/// the beginning the next time. The trash, `dry_run` and the result are as for [`sweep`].
///
/// # Errors
///
/// If the store cannot be read or written.
pub fn checkpoints(leases: &Leases, dry_run: bool) -> Result<Vec<Removed>, StoreError> {
    let folders = abandoned(leases)?.into_iter().map(|(_, folder)| folder);
    remove(leases.store(), folders.collect(), dry_run)
}

/// The given keys and their direct and indirect inputs.
fn mark(store: &Store, keep: &BTreeSet<Key>) -> Result<BTreeSet<Key>, StoreError> {
    let mut marked = BTreeSet::new();
    let mut open: Vec<_> = keep.iter().cloned().collect();
    while let Some(key) = open.pop() {
        if let Some(done) = store.read(&key)? {
            let inputs = done.document.inputs.into_values();
            open.extend(inputs.filter(|input| !marked.contains(input)));
        }
        marked.insert(key);
    }
    Ok(marked)
}

/// The work folders without a live lease. A lease is created before its work folder, so the lease of a listed folder
/// is visible if it is live.
fn abandoned(leases: &Leases) -> Result<Vec<(Key, PathBuf)>, StoreError> {
    let work = leases.store().work();
    let mut abandoned = vec![];
    for name in walk::names(&work)? {
        let key = lease::split(&name).and_then(|(key, _)| key.parse::<Key>().ok());
        let Some(key) = key else { continue };
        if !leases.is_held(key.as_str())? {
            abandoned.push((key, work.join(name)));
        }
    }
    Ok(abandoned)
}

/// Whether a file or folder was changed at least `age` ago; false if it does not exist. The clocks of machines may
/// differ, but by much less than the ages of interest.
fn is_older(path: &Path, age: Duration) -> bool {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|since| since >= age)
        })
}

fn remove(store: &Store, folders: Vec<PathBuf>, dry_run: bool) -> Result<Vec<Removed>, StoreError> {
    let trash = store.trash();
    let left = walk::names(&trash)?;
    let mut removed = vec![];
    for path in left.iter().map(|name| trash.join(name)) {
        let bytes = walk::size(&path)?;
        if !dry_run {
            walk::remove_folder(&path)?;
        }
        removed.push(Removed { path, bytes });
    }
    for path in folders {
        let bytes = walk::size(&path)?;
        if !dry_run {
            walk::make(&trash)?;
            // The rename comes first, so that a stage is whole or absent even while it is being deleted.
            let doomed = trash.join(owner::unique());
            match fs::rename(&path, &doomed) {
                Ok(()) => walk::remove_folder(&doomed)?,
                // Another process has taken over or deleted it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(walk::write(&path)(error).into()),
            }
        }
        removed.push(Removed { path, bytes });
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{
        testing::{document, ours, outcome, publish, store, worker},
        work::Claim,
    };

    const DAY: Duration = Duration::from_hours(24);

    fn age(store: &Store, key: &Key) {
        let path = store.stage(key).join(FILE);
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * DAY).unwrap();
    }

    #[test]
    fn sweeps_what_is_old_and_not_kept_with_its_inputs() {
        let (_folder, store) = store();
        let teacher = publish(&store, &document(1), "teacher");
        let mut student = document(2);
        student.inputs = [("teacher".to_owned(), teacher.clone())].into();
        let student = publish(&store, &student, "student");
        let unused = publish(&store, &document(3), "12345");
        let young = publish(&store, &document(4), "young");
        for key in [&teacher, &student, &unused] {
            age(&store, key);
        }
        let (leases, _) = worker(&store);
        let keep = [student.clone(), document(9).key().unwrap()].into();
        let would = sweep(&leases, &keep, DAY, true).unwrap();
        assert!(store.is_done(&unused).unwrap());
        assert!(!store.trash().exists());
        let removed = sweep(&leases, &keep, DAY, false).unwrap();
        assert_eq!(removed, would);
        assert_eq!(removed.len(), 1);
        assert_eq!(removed[0].path, store.stage(&unused));
        assert!(removed[0].bytes > 5);
        let mut left = vec![teacher, student, young];
        left.sort();
        assert_eq!(store.done().unwrap(), left);
        assert_eq!(walk::names(&store.trash()).unwrap().len(), 0);
        assert!(sweep(&leases, &keep, DAY, false).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_record_of_a_kept_stage_stops_it() {
        let (_folder, store) = store();
        let key = publish(&store, &document(1), "weights");
        fs::write(store.stage(&key).join(FILE), "{").unwrap();
        let (leases, _) = worker(&store);
        let error = sweep(&leases, &[key].into(), DAY, false).unwrap_err();
        assert!(error.to_string().contains("done.json"), "{error}");
    }

    #[test]
    fn empties_the_trash_of_an_interrupted_call() {
        let (_folder, store) = store();
        let left = store.trash().join("left");
        walk::make(&left).unwrap();
        fs::write(left.join("file"), "123").unwrap();
        let (leases, _) = worker(&store);
        let removed = checkpoints(&leases, false).unwrap();
        let bytes = 3;
        assert_eq!(
            removed,
            [Removed {
                path: left.clone(),
                bytes
            }]
        );
        assert!(!left.exists());
    }

    #[test]
    fn deletes_what_a_killed_process_was_writing() {
        let (_folder, store) = store();
        let (leases, _) = worker(&store);
        let folders = store.own();
        let left = folders.map(|folder| {
            walk::make(&folder).unwrap();
            let left = folder.join(".tmpAb12");
            fs::write(&left, "12").unwrap();
            left
        });
        assert!(
            sweep(&leases, &BTreeSet::new(), DAY, false)
                .unwrap()
                .is_empty()
        );
        let removed = sweep(&leases, &BTreeSet::new(), Duration::ZERO, false).unwrap();
        let paths: Vec<_> = removed.into_iter().map(|removed| removed.path).collect();
        assert_eq!(paths, left);
        assert!(left.iter().all(|path| !path.exists()));
    }

    #[test]
    fn never_touches_live_leases() {
        let (_folder, store) = store();
        let (leases, _) = worker(&store);
        let (live, released, dead) = (document(1), document(2), document(3));
        let [live_key, released_key, dead_key] =
            [&live, &released, &dead].map(|document| document.key().unwrap());
        let work = ours(&leases, &live_key);
        fs::write(work.folder().join("checkpoint"), "1").unwrap();
        ours(&leases, &released_key).release().unwrap();
        drop(ours(&leases, &dead_key));
        fs::create_dir(store.work().join("foreign")).unwrap();

        let (pruner, clock) = worker(&store);
        // The lease of an owner that died counts as live until it expires.
        let removed = checkpoints(&pruner, true).unwrap();
        assert_eq!(removed.len(), 1);
        clock.advance(100);
        work.beat();
        assert_eq!(
            sweep(
                &pruner,
                &[released_key, dead_key].into(),
                Duration::ZERO,
                false
            )
            .unwrap(),
            []
        );
        let removed = checkpoints(&pruner, false).unwrap();
        assert_eq!(removed.len(), 2);
        assert_eq!(walk::names(&store.work()).unwrap().len(), 2);
        work.publish(outcome(&live)).unwrap();
        assert!(store.is_done(&live_key).unwrap());
    }

    #[test]
    fn a_claim_after_a_sweep_goes_on_with_higher_numbers() {
        let (_folder, store) = store();
        let (leases, _) = worker(&store);
        let key = document(1).key().unwrap();
        ours(&leases, &key).release().unwrap();
        let removed = sweep(&leases, &BTreeSet::new(), Duration::ZERO, false).unwrap();
        assert_eq!(removed.len(), 1);
        let again = match super::super::work::claim(&leases, &key).unwrap() {
            Claim::Ours(work) => work,
            other => panic!("not ours: {other:?}"),
        };
        assert!(!again.is_resumed());
        assert!(again.folder().ends_with(format!("{key}.2")));
    }
}
