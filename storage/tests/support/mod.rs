//! What the suites of the store share: small settings, random batches, and a map as the model.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each suite uses a part; these are tests.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use escrow_storage::{Batch, DiskStore, Edit, Key, KeyRange, Opened, Options, Read, Store};

/// The state as it must be.
pub type Model = BTreeMap<Key, Bytes>;

/// Settings under which every mechanism runs within a few commits.
pub fn tiny() -> Options {
    Options {
        overlay_bytes_max: 4 << 10,
        journal_file_bytes_max: 8 << 10,
        journal_bytes_max: 32 << 10,
        journal_ahead_bytes: 2 << 10,
        table_cache_bytes: 1 << 20,
        free_floor_bytes: 0,
        ballast_bytes: 0,
        ..Options::default()
    }
}

/// Settings under which nothing leaves the journal.
pub fn journal_only() -> Options {
    Options {
        overlay_bytes_max: 1 << 30,
        journal_file_bytes_max: 1 << 30,
        journal_bytes_max: 1 << 30,
        ..tiny()
    }
}

pub fn open(dir: &Path, options: Options) -> (DiskStore, Opened) {
    DiskStore::open(dir, options).unwrap()
}

/// A batch of up to six edits of a hundred keys; some values have several parts.
pub fn random_batch(rng: &mut fastrand::Rng) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..rng.usize(1..=6) {
        let key = format!("key-{:02}", rng.u8(0..100));
        if rng.u8(0..3) == 0 {
            batch.delete(key);
        } else {
            let length = match rng.u8(0..20) {
                0 => rng.usize(4000..20_000),
                1..5 => rng.usize(200..2000),
                _ => rng.usize(0..60),
            };
            batch.put(key, value_of(rng.u8(..), length));
        }
    }
    batch
}

pub fn value_of(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|index| seed.wrapping_add((index / 7) as u8)).collect()
}

pub fn put(key: &str, value: impl Into<Bytes>) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.to_owned(), value);
    batch
}

pub fn apply(model: &mut Model, batch: Batch) {
    for (key, edit) in batch {
        match edit {
            Edit::Put(value) | Edit::Insert(value) => model.insert(key, value),
            Edit::Delete => model.remove(&key),
        };
    }
}

pub fn everything() -> KeyRange {
    KeyRange::new("", vec![0xff; 16])
}

/// Everything that `reader` shows, read in all three ways.
pub fn assert_equals(reader: &impl Read, model: &Model) {
    let expected: Vec<_> = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let forward = reader.scan(&everything(), usize::MAX).unwrap();
    assert!(forward == expected, "the scan differs: {} entries, {} expected", forward.len(), expected.len());
    let mut backward = reader.scan_back(&everything(), usize::MAX).unwrap();
    backward.reverse();
    assert!(backward == expected, "the scan back differs");
    for number in 0..100 {
        let key = format!("key-{number:02}");
        assert_eq!(reader.get(key.as_bytes()).unwrap().as_ref(), model.get(key.as_bytes()), "{key}");
    }
}

/// Copies a directory whose store is closed, or rests.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below `dir`, sorted.
pub fn files_in(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_in(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// The batch, with what the model does not hold inserted.
pub fn with_inserts(batch: Batch, model: &Model) -> Batch {
    let mut inserting = Batch::new();
    for (key, edit) in batch {
        match edit {
            Edit::Delete => inserting.delete(key),
            Edit::Put(value) | Edit::Insert(value) if model.contains_key(&key) => inserting.put(key, value),
            Edit::Put(value) | Edit::Insert(value) => inserting.insert(key, value),
        }
    }
    inserting
}

/// Commits `count` random batches to both.
pub fn run(store: &mut DiskStore, model: &mut Model, rng: &mut fastrand::Rng, count: usize) {
    for _ in 0..count {
        let batch = with_inserts(random_batch(rng), model);
        store.commit(batch.clone()).unwrap();
        apply(model, batch);
    }
}
