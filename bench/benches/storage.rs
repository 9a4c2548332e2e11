//! Micro-benchmarks of the store: the journal (a commit appends one frame and syncs it), and reads that the overlay
//! answers. On the disk of the system's temporary files; set `TMPDIR` to measure another.
//!
//! `cargo bench -p escrow-tests --bench storage`

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use escrow_storage::{Batch, DiskStore, Key, KeyRange, MemDisk, MemStore, Options, Read as _, Store as _};
use tempfile::TempDir;

const BODY_BYTES: usize = 1024;
/// Entries the overlay holds while it is read.
const HELD: u64 = 10_000;
/// Entries of a page.
const PAGE: usize = 128;

fn main() {
    divan::main();
}

/// Encode, append and sync: what every acknowledgement waits for.
#[divan::bench(args = [1, 64, 1024])]
fn commit(bencher: Bencher<'_, '_>, entries: usize) {
    let (_directory, mut store) = store();
    let mut next = 0;
    bencher
        .counter(ItemsCount::new(entries))
        .counter(BytesCount::new(entries * BODY_BYTES))
        .with_inputs(|| {
            next += entries as u64;
            batch(next, entries)
        })
        .bench_local_values(|batch| store.commit(batch).expect("the disk works"));
}

/// The same without a disk: what is left is the batch and the map.
#[divan::bench(args = [64])]
fn commit_in_memory(bencher: Bencher<'_, '_>, entries: usize) {
    let mut store = MemStore::claim(&MemDisk::new());
    bencher
        .counter(ItemsCount::new(entries))
        .with_inputs(|| batch(0, entries))
        .bench_local_values(|batch| store.commit(batch).expect("memory works"));
}

#[divan::bench]
fn get_from_the_overlay(bencher: Bencher<'_, '_>) {
    let (_directory, mut store) = store();
    store.commit(batch(0, HELD as usize)).expect("the disk works");
    let reader = store.reader();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 7919) % HELD;
        reader.get(black_box(&key(next))).expect("readable")
    });
}

#[divan::bench]
fn page_from_the_overlay(bencher: Bencher<'_, '_>) {
    let (_directory, mut store) = store();
    store.commit(batch(0, HELD as usize)).expect("the disk works");
    let reader = store.reader();
    let range = KeyRange { start: key(1000), end: key(HELD) };
    bencher
        .counter(ItemsCount::new(PAGE))
        .bench_local(|| reader.scan(black_box(&range), PAGE).expect("readable"));
}

fn store() -> (TempDir, DiskStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = DiskStore::open(directory.path(), Options::default()).expect("a new store");
    (directory, store)
}

fn key(number: u64) -> Key {
    Key::from(&number.to_be_bytes())
}

fn batch(first: u64, entries: usize) -> Batch {
    let mut batch = Batch::new();
    for number in first..first + entries as u64 {
        batch.put(key(number), Bytes::from(vec![7; BODY_BYTES]));
    }
    batch
}
