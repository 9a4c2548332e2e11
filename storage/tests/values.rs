//! Large values: kept out of the table, found again, moved when little of their file is left, deleted when nothing is.

#![allow(clippy::unwrap_used)] // These are tests, their helpers too.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use escrow_storage::{Batch, DiskStore, Faults, Key, OnDisk, Options, Read, Room, Store, verify};
use support::*;

/// Bytes of all files below `dir`.
fn bytes_below(dir: &std::path::Path) -> u64 {
    if dir.exists() { files_in(dir).iter().map(|path| path.metadata().unwrap().len()).sum() } else { 0 }
}

fn key(number: u32) -> String {
    format!("message-{number:06}")
}

fn insert(number: u32) -> Batch {
    let mut batch = Batch::new();
    batch.insert(key(number), value_of(number as u8, 1000 + number as usize % 50));
    batch
}

#[test]
fn what_is_deleted_soon_never_reaches_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { overlay_bytes_max: 1 << 20, journal_bytes_max: 64 << 10, ..tiny() };
    let (mut store, _) = open(dir.path(), options);
    for number in 0..2000 {
        store.commit(insert(number)).unwrap();
        let mut batch = Batch::new();
        batch.delete(key(number));
        store.commit(batch).unwrap();
        assert_eq!(store.reader().get(key(number).as_bytes()).unwrap(), None);
    }
    store.settle().unwrap();
    let stats = store.stats();
    assert!(stats.spills > 5 && stats.table_records == 0, "{stats:?}");
    assert_eq!(bytes_below(&dir.path().join("values")), 0);
    let journal = files_in(&dir.path().join("journal"));
    let (log, spare): (Vec<_>, Vec<_>) = journal.iter().partition(|path| path.extension().unwrap() == "log");
    let bytes_of = |paths: &[&std::path::PathBuf]| -> u64 {
        paths.iter().map(|path| path.metadata().unwrap().len()).sum()
    };
    assert!(bytes_of(&log) < 64 << 10, "{log:?}");
    // What is kept to be written over: as much as lies behind an overlay, and a file.
    assert!(bytes_of(&spare) <= (64 << 10) + (8 << 10), "{spare:?}");
}

#[test]
fn what_was_written_a_moment_ago_is_known_without_the_disk_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { overlay_bytes_max: 64 << 10, journal_bytes_max: 1 << 20, ..tiny() };
    let (mut store, _) = open(dir.path(), options.clone());
    store.commit(put("old", value_of(1, 20))).unwrap();
    store.settle().unwrap();
    let mut batch = put("small", value_of(2, 20));
    batch.insert(key(1), value_of(3, 1000));
    batch.put("gone", value_of(4, 20));
    store.commit(batch).unwrap();
    let mut batch = Batch::new();
    batch.delete("gone");
    store.commit(batch).unwrap();
    let reader = store.reader();
    assert_eq!(reader.get_from_memory(b"small"), Ok(Some(Bytes::from(value_of(2, 20)))));
    assert_eq!(reader.get_from_memory(key(1).as_bytes()), Ok(Some(Bytes::from(value_of(3, 1000)))));
    assert_eq!(reader.get_from_memory(b"gone"), Ok(None));
    assert_eq!(reader.get_from_memory(b"old"), Err(OnDisk), "it is in the table");
    assert_eq!(reader.get_from_memory(b"never"), Err(OnDisk), "only the table knows that");

    // More than is kept of what was written, and less than an overlay.
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), options);
    (0..60).for_each(|number| assert!(store.commit(insert(number)).is_ok()));
    assert_eq!(store.stats().spills, 0);
    assert_eq!(store.reader().get_from_memory(key(0).as_bytes()), Err(OnDisk), "its frame is not kept");
    assert!(store.reader().get(key(0).as_bytes()).unwrap().is_some());
    assert!(store.reader().get_from_memory(key(59).as_bytes()).is_ok_and(|value| value.is_some()));
}

#[test]
fn a_backlog_is_kept_in_the_journal_files_it_was_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    let mut payload = 0;
    for number in 0..500 {
        payload += 1000 + u64::from(number) % 50;
        store.commit(insert(number)).unwrap();
    }
    store.settle().unwrap();
    store.commit(insert(500)).unwrap();
    let values = dir.path().join("values");
    let names = files_in(&values);
    assert!(names.iter().all(|path| path.extension().is_some_and(|ending| ending == "log")), "{names:?}");
    assert!(bytes_below(&values) < payload + payload / 10, "nothing was written twice");
    assert!(bytes_below(&dir.path().join("table")) < payload, "the table holds no large values");
    store.close().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    for number in 0..=500 {
        let value = store.reader().get(key(number).as_bytes()).unwrap().unwrap();
        assert_eq!(value, value_of(number as u8, 1000 + number as usize % 50));
    }
    for number in 0..=500 {
        let mut batch = Batch::new();
        batch.delete(key(number));
        store.commit(batch).unwrap();
    }
    store.settle().unwrap();
    assert_eq!(bytes_below(&values), 0, "what was consumed costs nothing any more");
    store.close().unwrap();
    assert!(verify(dir.path(), &tiny()).unwrap().is_whole());
}

#[test]
fn many_small_files_are_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { overlay_bytes_max: 1 << 20, journal_bytes_max: 1 << 20, ..tiny() };
    let (mut store, _) = open(dir.path(), options);
    for number in 0..100 {
        // Too little of the journal to keep its file for it.
        store.commit(put("noise", value_of(1, 400))).unwrap();
        store.commit(put("noise", value_of(2, 6000))).unwrap();
        store.commit(put("noise", value_of(3, 400))).unwrap();
        store.commit(insert(number)).unwrap();
        store.settle().unwrap();
    }
    let files = files_in(&dir.path().join("values"));
    assert!(files.len() < 40, "{} files", files.len());
    for number in 0..100 {
        let value = store.reader().get(key(number).as_bytes()).unwrap().unwrap();
        assert_eq!(value, value_of(number as u8, 1000 + number as usize % 50));
    }
}

#[test]
fn sparse_files_are_emptied_while_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    let mut model = Model::new();
    let mut rng = fastrand::Rng::with_seed(9);
    // Every tenth stays: its file becomes sparse.
    for number in 0..600 {
        let batch = insert(number);
        store.commit(batch.clone()).unwrap();
        apply(&mut model, batch);
    }
    store.settle().unwrap();
    let kept: Vec<u32> = (0..600).filter(|number| number % 10 == 0).collect();
    let reader = store.reader();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers = [1, 2].map(|seed| {
            let (kept, reader, is_done) = (&kept, reader.clone(), &is_done);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut reads = 0_u64;
                while !is_done.load(Ordering::Relaxed) {
                    let number = kept[rng.usize(0..kept.len())];
                    let value = reader.get(key(number).as_bytes()).unwrap().unwrap();
                    assert_eq!(value, value_of(number as u8, 1000 + number as usize % 50));
                    let found = reader.scan(&everything(), usize::MAX).unwrap();
                    let seen =
                        found.iter().filter(|(key, _)| key.starts_with(b"message-") && key.ends_with(b"0"));
                    assert_eq!(seen.count(), kept.len(), "a walk misses nothing that was there all the time");
                    reads += 1;
                }
                reads
            })
        });
        for number in (0..600).filter(|number| number % 10 != 0) {
            let mut batch = Batch::new();
            batch.delete(key(number));
            store.commit(batch.clone()).unwrap();
            apply(&mut model, batch);
            if number % 50 == 1 {
                store.settle().unwrap();
            }
            let other = put(&format!("other-{}", rng.u8(0..50)), value_of(rng.u8(..), rng.usize(0..900)));
            store.commit(other.clone()).unwrap();
            apply(&mut model, other);
        }
        // Each settling looks at a few files.
        for number in 0..40 {
            let other = put("other-x", value_of(number, 20));
            store.commit(other.clone()).unwrap();
            apply(&mut model, other);
            store.settle().unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    let live: u64 = model.values().map(|value| value.len() as u64).sum();
    let on_disk = bytes_below(&dir.path().join("values"));
    assert!(on_disk < live * 3, "{on_disk} bytes are kept for {live}");
    assert!(store.reader().verify().unwrap().is_whole());
    store.close().unwrap();
    let (store, _) = open(dir.path(), tiny());
    let expected: Vec<(Key, Bytes)> = model.into_iter().collect();
    assert_eq!(store.reader().scan(&everything(), usize::MAX).unwrap(), expected);
}

/// Each settling looks at a few files.
fn settle_often(store: &mut DiskStore) {
    for number in 0..40 {
        store.commit(put("other-x", value_of(number, 20))).unwrap();
        store.settle().unwrap();
    }
}

/// Emptying writes before it frees: on a disk that is nearly full that would end the store.
#[test]
fn sparse_files_are_not_emptied_while_the_disk_has_no_room_for_their_copies() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::planned();
    // The table is still written to.
    faults.set_free_bytes(Some(100 << 20));
    let (mut store, _) = open(dir.path(), Options { faults: faults.clone(), ..tiny() });
    for number in 0..600 {
        store.commit(insert(number)).unwrap();
    }
    store.settle().unwrap();
    for number in (0..600).filter(|number| number % 10 != 0) {
        let mut batch = Batch::new();
        batch.delete(key(number));
        store.commit(batch).unwrap();
    }
    let values = dir.path().join("values");
    store.settle().unwrap();
    let before = files_in(&values);
    settle_often(&mut store);
    let is_left = |path: &std::path::PathBuf| path.exists();
    assert!(before.len() > 20 && before.iter().all(is_left), "a file was emptied");
    faults.set_free_bytes(None);
    settle_often(&mut store);
    assert!(!before.iter().any(is_left), "they are emptied when there is room");
    assert!(store.reader().verify().unwrap().is_whole());
}

/// Looks so often at most for what another thread is about to do.
const LOOKS_MAX: u32 = 20_000_000;

/// While new messages are refused for want of room nothing comes that would fill the overlay: the deletions of what is
/// consumed would wait in memory for ever, and so would whoever was refused.
#[test]
fn what_is_deleted_on_a_full_disk_goes_although_nothing_new_comes() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::planned();
    let options = Options { faults: faults.clone(), free_floor_bytes: 4000, ..tiny() };
    let (mut store, _) = open(dir.path(), options);
    for number in 0..10 {
        store.commit(insert(number)).unwrap();
    }
    store.settle().unwrap();
    store.commit(put("other", "begins the next file")).unwrap();
    let values = dir.path().join("values");
    store.settle().unwrap();
    assert!(bytes_below(&values) > 10_000);
    // Below the floor, and enough for the table.
    faults.set_free_bytes(Some(2000));
    for number in 0..10 {
        let mut batch = Batch::new();
        batch.delete(key(number));
        store.commit(batch).unwrap();
    }
    assert_eq!(store.room(), Room::Low);
    let is_gone = (0..LOOKS_MAX).any(|_| {
        std::thread::yield_now();
        std::fs::read_dir(&values).unwrap().next().is_none()
    });
    assert!(is_gone, "what nobody needs is kept");
}
