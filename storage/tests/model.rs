//! The store against a map: whatever is committed, spilled, closed and opened again, both show the same.

#![allow(clippy::unwrap_used)] // These are tests, their helpers too.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use escrow_storage::{Batch, DiskStore, Epoch, Key, KeyRange, Options, Read, Sequence, Snapshot, Store};
use support::*;

#[test]
fn random_batches_and_reopens_equal_the_model() {
    for seed in 0..6 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        for round in 0..4 {
            let (mut store, opened) = open(dir.path(), tiny());
            assert_eq!(opened.epoch, Epoch(round + 1));
            assert_eq!(opened.torn_bytes_cut, 0);
            assert_equals(&store.reader(), &model);
            let count = rng.usize(1..120);
            run(&mut store, &mut model, &mut rng, count);
            assert_equals(&store.reader(), &model);
            if rng.bool() {
                store.settle().unwrap();
                assert_equals(&store.reader(), &model);
                assert_eq!(store.stats().table_records, model.len() as u64, "the count is exact");
            }
            store.close().unwrap();
        }
        let report = escrow_storage::verify(dir.path(), &tiny()).unwrap();
        assert!(report.is_whole(), "{:?}", report.findings);
    }
}

#[test]
fn sequences_are_dense_over_reopens_and_old_journal_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 1;
    for _ in 0..3 {
        let (mut store, opened) = open(dir.path(), tiny());
        assert_eq!(opened.last_sequence, Sequence(next - 1));
        for _ in 0..40 {
            assert_eq!(store.commit(put("key-01", vec![7; 500])).unwrap(), Sequence(next));
            next += 1;
        }
        assert_eq!(store.commit(Batch::new()).unwrap(), Sequence(next - 1), "an empty batch is free");
        store.settle().unwrap();
        store.commit(put("key-02", "begins a new file")).unwrap();
        next += 1;
        assert!(store.stats().journal_files <= 2, "{:?}", store.stats());
        assert!(store.stats().spills > 0);
    }
}

#[test]
fn scans_keep_their_limits_over_layers_and_tombstones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    let key = |number: u32| Key::from(&number.to_be_bytes());
    let mut batch = Batch::new();
    (0..1000).for_each(|number| batch.put(key(number), number.to_be_bytes().to_vec()));
    store.commit(batch).unwrap();
    store.settle().unwrap();
    // Most of the table is hidden by tombstones above it, some entries are new.
    let mut batch = Batch::new();
    (0..1000).filter(|number| number % 100 != 0).for_each(|number| batch.delete(key(number)));
    (2000..2003).for_each(|number| batch.put(key(number), "new"));
    let held = store.snapshot(); // keeps the overlay where it is
    store.commit(batch).unwrap();
    let reader = store.reader();
    let keys = |entries: Vec<(Key, Bytes)>| entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let range = KeyRange::new(key(0), key(5000));
    assert_eq!(keys(reader.scan(&range, 3).unwrap()), [key(0), key(100), key(200)]);
    assert_eq!(keys(reader.scan_back(&range, 4).unwrap()), [key(2002), key(2001), key(2000), key(900)]);
    assert_eq!(reader.scan(&range, usize::MAX).unwrap().len(), 13);
    assert_eq!(reader.scan(&range, 0).unwrap(), []);
    assert_eq!(reader.scan(&KeyRange::new("z", "a"), 9).unwrap(), []);
    assert_eq!(held.scan(&range, usize::MAX).unwrap().len(), 1000, "the snapshot is older");
}

#[test]
fn values_of_every_size_survive_shrink_and_vanish_without_blob_files() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 4087, 4088, 8192, 131_072, 140_000, 1_000_000];
    let (mut store, _) = open(dir.path(), tiny());
    for (shift, _) in sizes.iter().enumerate() {
        let mut batch = Batch::new();
        for key in 0..sizes.len() {
            batch.put(format!("key-{key}"), value_of(shift as u8, sizes[(key + shift) % sizes.len()]));
        }
        store.commit(batch).unwrap();
        store.settle().unwrap();
    }
    store.close().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    for key in 0..sizes.len() {
        let expected = value_of(sizes.len() as u8 - 1, sizes[(key + sizes.len() - 1) % sizes.len()]);
        assert_eq!(store.reader().get(format!("key-{key}").as_bytes()).unwrap().unwrap(), expected);
    }
    let mut batch = Batch::new();
    (0..sizes.len()).for_each(|key| batch.delete(format!("key-{key}")));
    (0..3000_u32)
        .for_each(|key| batch.put(vec![(key % 7) as u8 + b'a'; 380 - (key % 50) as usize], vec![1; 4000]));
    store.commit(batch).unwrap();
    store.settle().unwrap();
    store.close().unwrap();
    let report = escrow_storage::verify(dir.path(), &tiny()).unwrap();
    assert!(report.is_whole(), "no part is left behind: {:?}", report.findings);
    assert_eq!(std::fs::read_dir(dir.path().join("table/blobs")).unwrap().count(), 0);
}

#[test]
fn thousands_of_full_leaves_make_no_blob_files() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), Options { overlay_bytes_max: 4 << 20, ..tiny() });
    let key = |number: u32| format!("{}{number:08}", "k".repeat(370));
    for round in 0..4 {
        let mut batch = Batch::new();
        (round * 500..(round + 1) * 500).for_each(|number| batch.put(key(number), vec![number as u8; 4080]));
        store.commit(batch).unwrap();
    }
    store.settle().unwrap();
    // Thin the leaves out so that they merge into full neighbours.
    let mut batch = Batch::new();
    (0..2000)
        .filter(|number| number % 16 > 2 && number / 160 % 2 == 0)
        .for_each(|number| batch.delete(key(number)));
    store.commit(batch).unwrap();
    store.settle().unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("table/blobs")).unwrap().count(), 0);
}

#[test]
fn what_is_put_and_deleted_in_one_overlay_never_reaches_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), journal_only());
    let marker = b"a body that nobody stores";
    for number in 0..200 {
        let mut batch = Batch::new();
        batch.put(format!("message-{number}"), &marker[..]);
        store.commit(batch).unwrap();
        let mut batch = Batch::new();
        batch.delete(format!("message-{number}"));
        store.commit(batch).unwrap();
    }
    store.commit(put("kept", "a value that is kept")).unwrap();
    store.settle().unwrap();
    assert_eq!(store.stats().table_records, 1);
    store.close().unwrap();
    let holds = |text: &[u8]| {
        let bytes = std::fs::read(dir.path().join("table/db")).unwrap();
        bytes.windows(text.len()).any(|window| window == text)
    };
    assert!(holds(b"kept"));
    assert!(!holds(marker) && !holds(b"message-1"), "neither value nor tombstone was written");
}

/// Reads while commits and spills go on. Invariant kept by the writer: all of `pair-a-*`/`pair-b-*` with one number have the same
/// value, which only grows; `steady` never changes and is always there.
#[test]
fn readers_see_every_commit_while_overlays_move_to_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    store.commit(put("steady", value_of(3, 10_000))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (reader, stop) = (store.reader(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut seen = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(reader.get(b"steady").unwrap().unwrap(), value_of(3, 10_000));
                    let bytes = reader.get(b"counter").unwrap().unwrap_or_default();
                    let count =
                        bytes.get(..8).map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
                    assert!(count >= seen, "went back from {seen} to {count}");
                    assert!(bytes.iter().skip(8).all(|byte| *byte == count as u8), "a mixed value");
                    seen = count;
                    let entries = reader.scan(&KeyRange::new("a", "z"), 10).unwrap();
                    assert!(entries.iter().any(|(key, _)| **key == *b"steady"));
                    let backwards = reader.scan_back(&KeyRange::new("a", "z"), 1).unwrap();
                    assert_eq!(backwards[0].0, "steady".into());
                }
                seen
            })
        })
        .collect();
    let reader = store.reader();
    for count in 1..=400_u64 {
        let mut value = count.to_be_bytes().to_vec();
        value.resize(8 + (count as usize * 97) % 9000, count as u8);
        store.commit(put("counter", value.clone())).unwrap();
        assert_eq!(reader.get(b"counter").unwrap().unwrap(), value, "a commit is seen when it returns");
    }
    store.settle().unwrap();
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(store.stats().spills > 5);
    assert_eq!(store.stats().corrupt_records, 0);
}

#[test]
fn a_snapshot_does_not_move_while_the_store_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut store, _) = open(dir.path(), tiny());
    let mut model = Model::new();
    run(&mut store, &mut model, &mut rng, 60);
    let snapshot: Snapshot = store.snapshot();
    let (then, sequence) = (model.clone(), snapshot.sequence());
    run(&mut store, &mut model, &mut rng, 60);
    assert_eq!(sequence, Sequence(60));
    assert_equals(&snapshot, &then);
    assert_equals(&store.reader(), &model);
    let second = store.snapshot();
    drop(snapshot);
    assert_equals(&second, &model);
    drop(second);
    store.settle().unwrap();
    assert_equals(&store.reader(), &model);
}

#[test]
fn a_reader_that_outlives_the_store_fails_and_does_not_keep_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    store.commit(put("key-01", vec![1; 9000])).unwrap();
    store.settle().unwrap();
    let reader = store.reader();
    assert!(DiskStore::open(dir.path(), tiny()).is_err(), "locked");
    store.close().unwrap();
    assert!(reader.get(b"key-01").is_err());
    let (store, _) = open(dir.path(), tiny());
    assert_eq!(store.reader().get(b"key-01").unwrap().unwrap(), vec![1; 9000]);
}
