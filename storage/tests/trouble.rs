//! A full disk, a failing disk, a table that falls behind: what is refused, what goes on, and what is over for good.

#![allow(clippy::unwrap_used)] // These are tests, their helpers too.

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escrow_storage::{
    CommitError, Consent, DiskStore, Fault, Faults, Observer, OpenError, Operation, Options, Read, Room,
    Sequence, Store, repair,
};
use support::*;

fn with(faults: &Faults, options: Options) -> Options {
    Options { faults: faults.clone(), ..options }
}

#[test]
fn a_full_disk_at_any_write_refuses_that_batch_and_nothing_else() {
    for (nth, options) in (1..=30).flat_map(|nth| [(nth, tiny()), (nth, journal_only())]) {
        let faults = Faults::planned();
        let dir = tempfile::tempdir().unwrap();
        // So little that no old journal file is kept, which would be given up first.
        faults.set_free_bytes(Some(1));
        let (mut store, _) = open(dir.path(), with(&faults, options));
        let mut rng = fastrand::Rng::with_seed(nth);
        let mut model = Model::new();
        faults.fail(Operation::Write, nth, 2, Fault::NoSpace);
        let mut refused = 0;
        for _ in 0..40 {
            let batch = random_batch(&mut rng);
            match store.commit(batch.clone()) {
                Ok(_) => apply(&mut model, batch),
                Err(CommitError::Refused(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(refused, 2);
        assert_equals(&store.reader(), &model);
        store.close().unwrap();
        let (store, opened) = open(dir.path(), tiny());
        assert_eq!(opened.last_sequence, Sequence(38), "numbers are not spent on what was refused");
        assert_equals(&store.reader(), &model);
    }
}

#[test]
fn the_ballast_is_given_up_for_a_commit_on_a_full_disk() {
    let faults = Faults::planned();
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), with(&faults, Options { ballast_bytes: 8192, ..tiny() }));
    assert!(dir.path().join("BALLAST").exists());
    faults.set_free_bytes(Some(0));
    faults.fail(Operation::Write, 1, 1, Fault::NoSpace);
    assert_eq!(store.commit(put("key-01", "settled")).unwrap(), Sequence(1));
    assert!(!dir.path().join("BALLAST").exists());
}

#[test]
fn a_store_on_a_full_disk_opens_at_the_price_of_its_ballast() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { ballast_bytes: 8192, ..tiny() };
    open(dir.path(), options.clone()).0.close().unwrap();
    assert!(dir.path().join("BALLAST").exists());
    let faults = Faults::planned();
    faults.set_free_bytes(Some(0));
    let (mut store, _) = open(dir.path(), with(&faults, options));
    assert!(!dir.path().join("BALLAST").exists());
    store.commit(put("key-01", "settled")).unwrap();
}

/// Runs commits until one fails as `Failed`; how many were acknowledged before.
fn run_until_failed(store: &mut DiskStore) -> u64 {
    for sequence in 1..200 {
        match store.commit(put(&format!("key-{:02}", sequence % 100), format!("{sequence}"))) {
            Ok(_) => {}
            Err(CommitError::Failed(_)) => return sequence - 1,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("nothing failed");
}

#[test]
fn a_failed_sync_is_the_end_and_is_never_tried_again() {
    for nth in 1..=10 {
        let faults = Faults::planned();
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), with(&faults, journal_only()));
        faults.fail(Operation::Sync, nth, 1, Fault::Broken);
        let acknowledged = run_until_failed(&mut store);
        assert_eq!(acknowledged, nth - 1);
        let failed_key = format!("key-{nth:02}");
        assert_eq!(
            store.reader().get(failed_key.as_bytes()).unwrap(),
            None,
            "not shown before it is durable"
        );
        let syncs = faults.syncs();
        for _ in 0..3 {
            assert!(matches!(store.commit(put("key-99", "x")), Err(CommitError::Failed(_))));
            assert!(matches!(store.commit(escrow_storage::Batch::new()), Err(CommitError::Failed(_))));
        }
        drop(store);
        assert_eq!(faults.syncs(), syncs, "not by a commit, not by the close");
        let (store, opened) = open(dir.path(), journal_only());
        let last = opened.last_sequence.0;
        assert!(last == acknowledged || last == acknowledged + 1);
        assert_eq!(store.reader().get(b"key-99").unwrap(), None);
    }
}

/// Two commits that are durable and a third whose sync met `fault`: its frame is whole in the system's memory only. If
/// `is_new_file`, it is the first of its file.
fn with_an_unsynced_frame(dir: &Path, faults: &Faults, fault: Fault, is_new_file: bool) {
    let small_files = Options { journal_file_bytes_max: 4096, ..journal_only() };
    let options = if is_new_file { small_files } else { journal_only() };
    let (mut store, _) = open(dir, with(faults, options));
    store.commit(put("key-01", "1")).unwrap();
    store.commit(put("key-02", vec![2; 3000])).unwrap();
    faults.fail(Operation::Sync, 1, 1, fault);
    let unsynced = put("key-03", vec![3; 2000]);
    assert!(matches!(store.commit(unsynced), Err(CommitError::Failed(_))));
    drop(store);
    assert_eq!(dir.join("journal/00000000000000000003.log").exists(), is_new_file);
}

/// Killed between write and sync, or a sync that failed; in the old file or in one that was just begun.
fn ends_between_write_and_sync() -> impl Iterator<Item = (Fault, bool)> {
    [Fault::Killed, Fault::Broken].into_iter().flat_map(|fault| [(fault, false), (fault, true)])
}

#[test]
fn a_power_cut_before_the_restart_takes_what_was_never_synced() {
    for (fault, is_new_file) in ends_between_write_and_sync() {
        let faults = Faults::planned();
        let dir = tempfile::tempdir().unwrap();
        with_an_unsynced_frame(dir.path(), &faults, fault, is_new_file);
        faults.cut_power().unwrap();
        let (store, opened) = open(dir.path(), journal_only());
        assert_eq!(opened.last_sequence, Sequence(2), "{fault:?}: else the tests below test nothing");
        assert_eq!(store.reader().get(b"key-03").unwrap(), None);
    }
}

#[test]
fn what_a_restart_shows_survives_a_power_cut() {
    for (fault, is_new_file) in ends_between_write_and_sync() {
        let faults = Faults::planned();
        let dir = tempfile::tempdir().unwrap();
        with_an_unsynced_frame(dir.path(), &faults, fault, is_new_file);
        let (store, opened) = open(dir.path(), with(&faults, journal_only()));
        assert_eq!(opened.last_sequence, Sequence(3), "{fault:?}: the frame is whole");
        assert_eq!(store.reader().get(b"key-03").unwrap().unwrap(), vec![3; 2000]);
        drop(store);
        faults.cut_power().unwrap();
        let (store, opened) = open(dir.path(), with(&faults, journal_only()));
        assert_eq!(opened.last_sequence, Sequence(3), "{fault:?}: shown, and lost");
        assert_eq!(store.reader().get(b"key-03").unwrap().unwrap(), vec![3; 2000]);
    }
}

/// What an open must not change before the journal is durable.
fn journal_and_watermark(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = files_in(&dir.join("journal"));
    files.push(dir.join("WATERMARK"));
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn an_open_that_cannot_make_the_journal_durable_changes_nothing_and_is_tried_again_in_full() {
    for (fault, is_new_file) in ends_between_write_and_sync() {
        for (operation, fault_at_open) in [
            (Operation::Write, Fault::Broken),
            (Operation::Write, Fault::NoSpace),
            (Operation::Sync, Fault::Killed),
            (Operation::Sync, Fault::Broken),
        ] {
            let what = format!("{fault:?}, new file {is_new_file}, then {operation:?} {fault_at_open:?}");
            let faults = Faults::planned();
            let dir = tempfile::tempdir().unwrap();
            with_an_unsynced_frame(dir.path(), &faults, fault, is_new_file);
            let before = journal_and_watermark(dir.path());
            for _ in 0..2 {
                faults.fail(operation, 1, 1, fault_at_open);
                let refused = DiskStore::open(dir.path(), with(&faults, journal_only()));
                let named = before[before.len() - 2].0.clone(); // the newest journal file
                assert!(
                    matches!(&refused, Err(OpenError::Io { path, .. }) if *path == named),
                    "{what}: {refused:?}"
                );
                assert!(journal_and_watermark(dir.path()) == before, "{what}");
            }
            assert_eq!(open(dir.path(), with(&faults, journal_only())).1.last_sequence, Sequence(3));
            faults.cut_power().unwrap();
            assert_eq!(open(dir.path(), journal_only()).1.last_sequence, Sequence(3), "{what}");
        }
    }
}

#[test]
fn a_clean_journal_is_synced_at_an_open_but_not_written() {
    let faults = Faults::planned();
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), with(&faults, journal_only()));
    store.commit(put("key-01", "1")).unwrap();
    store.close().unwrap();
    let syncs = faults.syncs();
    faults.fail(Operation::Write, 1, 1, Fault::Broken);
    let (mut store, _) = open(dir.path(), with(&faults, journal_only()));
    assert_eq!(faults.syncs(), syncs + 1);
    assert!(store.commit(put("key-02", "2")).is_err(), "the order to fail was still there");
}

#[test]
fn a_repair_makes_durable_what_it_keeps() {
    for (fault, is_new_file) in ends_between_write_and_sync() {
        let faults = Faults::planned();
        let dir = tempfile::tempdir().unwrap();
        with_an_unsynced_frame(dir.path(), &faults, fault, is_new_file);
        std::fs::write(dir.path().join("WATERMARK"), [0; 100]).unwrap();
        let before = journal_and_watermark(dir.path());
        let options = with(&faults, journal_only());
        faults.fail(Operation::Sync, 1, 1, Fault::Broken);
        assert!(repair(dir.path(), &options, Consent::GiveUpLostCommits).is_err());
        assert!(journal_and_watermark(dir.path()) == before);
        let done = repair(dir.path(), &options, Consent::GiveUpLostCommits).unwrap();
        assert!(done.was_done && done.lost_sequences.is_none(), "{done:?}");
        faults.cut_power().unwrap();
        assert_eq!(open(dir.path(), journal_only()).1.last_sequence, Sequence(3), "{fault:?}");
    }
}

#[test]
fn a_broken_write_or_a_cut_that_fails_is_the_end() {
    for orders in [
        vec![(Operation::Write, Fault::Broken)],
        vec![(Operation::Write, Fault::NoSpace), (Operation::Cut, Fault::Broken)],
    ] {
        let faults = Faults::planned();
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), with(&faults, journal_only()));
        store.commit(put("key-01", "1")).unwrap();
        orders.into_iter().for_each(|(operation, fault)| faults.fail(operation, 1, 1, fault));
        assert_eq!(run_until_failed(&mut store), 0);
        drop(store);
        let (store, opened) = open(dir.path(), journal_only());
        assert_eq!(opened.last_sequence, Sequence(1));
        assert_eq!(store.reader().get(b"key-01").unwrap().unwrap(), "1");
    }
}

#[test]
fn without_a_new_journal_file_the_old_one_goes_on() {
    let faults = Faults::planned();
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), with(&faults, tiny()));
    faults.fail(Operation::Create, 1, u64::MAX, Fault::NoSpace);
    let mut model = Model::new();
    let mut rng = fastrand::Rng::with_seed(4);
    run(&mut store, &mut model, &mut rng, 80);
    assert_eq!(store.stats().journal_files, 1);
    store.close().unwrap();
    let refused = DiskStore::open(dir.path(), with(&faults, tiny()));
    assert!(matches!(refused, Err(OpenError::Io { .. })), "an open needs its epoch on disk");
    let (store, opened) = open(dir.path(), tiny());
    assert_eq!(opened.last_sequence, Sequence(80));
    assert_equals(&store.reader(), &model);
}

#[test]
fn a_creation_that_was_cut_short_in_the_settings_of_the_table_begins_anew() {
    // As sled writes them: with a checksum behind, which a write that failed left out.
    for settings in ["segment_size: 524288\nuse_compression: false\nversion: 0.34\n", "segment_si", ""] {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("table");
        std::fs::create_dir_all(&table).unwrap();
        std::fs::write(table.join("conf"), settings).unwrap();
        let (mut store, opened) = open(dir.path(), tiny());
        assert!(opened.was_created);
        store.commit(put("key-01", "1")).unwrap();
    }
}

#[test]
fn a_new_journal_file_that_fails_is_the_end() {
    let faults = Faults::planned();
    let dir = tempfile::tempdir().unwrap();
    let small_files = Options { journal_file_bytes_max: 4096, ..journal_only() };
    let (mut store, _) = open(dir.path(), with(&faults, small_files));
    faults.fail(Operation::Create, 1, 1, Fault::Broken);
    let acknowledged = run_until_failed(&mut store);
    drop(store);
    assert_eq!(open(dir.path(), journal_only()).1.last_sequence, Sequence(acknowledged));
}

#[derive(Default)]
struct Seen {
    commits: Mutex<Vec<Duration>>,
    spilled_edits: Mutex<u64>,
}

impl Observer for Seen {
    fn committed(&self, bytes: u64, _append: Duration, sync: Duration, delay: Duration) {
        assert!(bytes > 0 && sync > Duration::ZERO);
        self.commits.lock().unwrap().push(delay);
    }

    fn spilled(&self, edits: u64, _took: Duration) {
        *self.spilled_edits.lock().unwrap() += edits;
    }

    fn met_corrupt(&self) {
        panic!("nothing is damaged");
    }
}

#[test]
fn a_table_that_falls_behind_slows_commits_a_little_and_closes_the_door_in_the_end() {
    let seen = Arc::new(Seen::default());
    let dir = tempfile::tempdir().unwrap();
    let longest = Duration::from_millis(2);
    let options = Options {
        overlay_bytes_max: 16 << 10,
        commit_delay_max: longest,
        observer: Some(Arc::clone(&seen) as Arc<dyn Observer>),
        ..journal_only()
    };
    let (mut store, _) = open(dir.path(), options);
    store.commit(put("key-00", "x")).unwrap();
    let held = store.snapshot(); // freezes, and keeps the table from catching up
    let mut delays = Vec::new();
    for number in 0..100 {
        let room = store.room();
        assert_eq!(room == Room::Low, store.stats().overlay_bytes >= 32 << 10, "{number}");
        delays.push(store.stats().commit_delay);
        store.commit(put(&format!("key-{number:03}"), vec![1; 400])).unwrap();
    }
    assert_eq!(store.room(), Room::Low, "new messages are refused, what settles went on");
    assert_eq!(delays[0], Duration::ZERO);
    assert!(delays.is_sorted() && *delays.last().unwrap() == longest);
    assert!(seen.commits.lock().unwrap().iter().any(|delay| *delay >= longest), "commits were held back");
    drop(held);
    store.settle().unwrap();
    assert_eq!(store.room(), Room::Enough);
    assert_eq!(store.stats().commit_delay, Duration::ZERO);
    assert!(*seen.spilled_edits.lock().unwrap() >= 100);
}

#[test]
fn large_values_that_the_table_does_not_take_close_the_door_by_what_a_restart_would_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { overlay_bytes_max: 1 << 20, journal_bytes_max: 64 << 10, ..journal_only() };
    let (mut store, _) = open(dir.path(), options);
    store.commit(put("key-000", "x")).unwrap();
    let held = store.snapshot();
    let before = store.stats().appended_bytes;
    for number in 0..200 {
        let is_full = store.stats().appended_bytes - before >= 128 << 10;
        assert_eq!(store.room() == Room::Low, is_full, "{number}");
        store.commit(put(&format!("key-{number:03}"), vec![1; 1000])).unwrap();
    }
    let stats = store.stats();
    assert_eq!(store.room(), Room::Low);
    assert!(stats.overlay_bytes < 64 << 10, "values are not in it: {stats:?}");
    drop(held);
    store.settle().unwrap();
    assert_eq!(store.room(), Room::Enough);
}

#[test]
fn low_space_closes_the_door_stops_the_spill_and_both_resume() {
    let faults = Faults::planned();
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), with(&faults, Options { free_floor_bytes: 4000, ..tiny() }));
    assert_eq!(store.room(), Room::Enough);
    faults.set_free_bytes(Some(900));
    store.commit(put("key-01", vec![1; 3000])).unwrap();
    assert_eq!(store.room(), Room::Low);
    for number in 2..20 {
        store.commit(put(&format!("key-{number:02}"), vec![1; 1000])).unwrap();
    }
    assert_eq!(store.stats().spills, 0, "sled is not driven into a full disk");
    assert!(matches!(store.settle(), Err(CommitError::Refused(_))));
    faults.set_free_bytes(None);
    store.commit(put("key-20", vec![1; 3000])).unwrap();
    store.settle().unwrap();
    assert_eq!(store.room(), Room::Enough);
    assert_eq!(store.stats().table_records, 20);
}

#[test]
fn keys_that_are_too_long_are_refused_without_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    let longest = "k".repeat(escrow_storage::KEY_BYTES_MAX);
    store.commit(put(&longest, "fits")).unwrap();
    assert!(matches!(store.commit(put(&format!("{longest}k"), "no")), Err(CommitError::Refused(_))));
    store.settle().unwrap();
    assert_eq!(store.reader().get(longest.as_bytes()).unwrap().unwrap(), "fits");
}
