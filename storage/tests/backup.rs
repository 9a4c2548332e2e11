//! Backups: consistent while the store runs, whole or refused, and the same again after a restore.

#![allow(clippy::unwrap_used)] // These are tests, their helpers too.

mod support;

use std::path::Path;

use escrow_storage::{
    BackupReport, DiskStore, Epoch, RestoreError, RestoreReport, Sequence, Store, backup, restore,
};
use support::*;

fn take(store: &DiskStore) -> (Vec<u8>, BackupReport) {
    let mut bytes = Vec::new();
    let report = backup(&store.snapshot(), &mut bytes).unwrap();
    assert_eq!(report.bytes, bytes.len() as u64);
    (bytes, report)
}

fn restore_from(bytes: &[u8], dir: &Path) -> Result<RestoreReport, RestoreError> {
    restore(&mut &bytes[..], dir, &tiny())
}

#[test]
fn a_restored_store_is_the_same_and_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    let mut model = Model::new();
    open(dir.path(), tiny()).0.close().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    run(&mut store, &mut model, &mut rng, 150);
    let (bytes, report) = take(&store);
    assert_eq!(
        (report.sequence, report.epoch, report.records),
        (Sequence(150), Epoch(2), model.len() as u64)
    );

    let target = dir.path().join("table").join(".."); // not empty
    assert!(matches!(restore_from(&bytes, &target), Err(RestoreError::NotEmpty { .. })));
    let empty = tempfile::tempdir().unwrap();
    for target in [empty.path().to_owned(), empty.path().join("journal-to-be/new")] {
        if target != empty.path() {
            std::fs::remove_dir_all(empty.path()).unwrap();
        }
        let restored = restore_from(&bytes, &target).unwrap();
        assert_eq!((restored.digest, restored.records), (report.digest, report.records));
        let (mut store, opened) = open(&target, tiny());
        assert_eq!(
            (opened.last_sequence, opened.epoch),
            (Sequence(150), Epoch(3)),
            "no lease token comes twice"
        );
        assert_equals(&store.reader(), &model);
        assert_eq!(take(&store).1.digest, report.digest);
        assert_eq!(store.commit(put("key-01", "on")).unwrap(), Sequence(151));
        assert_ne!(take(&store).1.digest, report.digest);
        store.close().unwrap();
        assert!(escrow_storage::verify(&target, &tiny()).unwrap().is_whole());
    }
}

#[test]
fn a_backup_is_one_moment_of_a_running_store() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    let mut rng = fastrand::Rng::with_seed(2);
    let mut model = Model::new();
    run(&mut store, &mut model, &mut rng, 50);
    let reader = store.reader();
    let taker = std::thread::spawn(move || {
        (0..12)
            .map(|_| {
                let mut bytes = Vec::new();
                let report = backup(&reader.snapshot(), &mut bytes).unwrap();
                (bytes, report)
            })
            .collect::<Vec<_>>()
    });
    let mut history = vec![(50, model.clone())];
    while !taker.is_finished() {
        run(&mut store, &mut model, &mut rng, 1);
        history.push((history.len() as u64 + 50, model.clone()));
    }
    for (bytes, report) in taker.join().unwrap() {
        let target = tempfile::tempdir().unwrap();
        restore_from(&bytes, target.path()).unwrap();
        let (_, then) = history.iter().find(|(sequence, _)| *sequence == report.sequence.0).unwrap();
        assert_equals(&open(target.path(), tiny()).0.reader(), then);
    }
}

#[test]
fn an_altered_or_torn_backup_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    for number in 0..4 {
        store.commit(put(&format!("key-{number:02}"), vec![number; 12])).unwrap();
    }
    let (bytes, _) = take(&store);
    let target = tempfile::tempdir().unwrap();
    let assert_refused = |altered: &[u8], what: &str| {
        let refused = restore_from(altered, target.path());
        assert!(refused.is_err(), "{what}");
        assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0, "{what} left something");
    };
    for offset in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[offset] ^= 1 << (offset % 8);
        assert_refused(&altered, &format!("a flipped bit at {offset}"));
    }
    for length in (0..bytes.len()).step_by(3) {
        assert_refused(&bytes[..length], &format!("cut at {length}"));
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_refused(&longer, "one byte more");
    restore_from(&bytes, target.path()).unwrap();
}

#[test]
fn an_empty_store_can_be_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), tiny());
    let (bytes, report) = take(&store);
    assert_eq!(report.records, 0);
    let target = dir.path().join("../restored-empty").join(dir.path().file_name().unwrap());
    restore_from(&bytes, &target).unwrap();
    let (store, opened) = open(&target, tiny());
    assert_eq!(opened.last_sequence, Sequence(0));
    drop(store);
    std::fs::remove_dir_all(target.parent().unwrap()).unwrap();
}

#[test]
fn a_restore_that_died_is_not_taken_for_a_store_and_can_be_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    store.commit(put("key-01", "1")).unwrap();
    let (bytes, _) = take(&store);
    let target = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(target.path().join(".restoring/table")).unwrap();
    std::fs::write(target.path().join(".restoring/WATERMARK"), "half").unwrap();
    assert!(DiskStore::open(target.path(), tiny()).is_err());
    restore_from(&bytes, target.path()).unwrap();
    open(target.path(), tiny());
}
