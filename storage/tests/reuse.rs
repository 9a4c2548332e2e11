//! Journal files that are written over older ones: what those held is never taken for a frame, for a torn write or for
//! damage, and real damage is still found.

#![allow(clippy::unwrap_used)] // These are tests, their helpers too.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use escrow_storage::{
    Batch, DiskStore, Fault, Faults, Observer, OpenError, Operation, Options, Room, Sequence, Store,
};
use support::*;

/// Commits so many at most until a file is reused: the table is far quicker.
const COMMITS_MAX: u64 = 20_000;
/// How often is looked for what another thread is about to do.
const LOOKS_MAX: u32 = 20_000_000;

fn batch_of(sequence: u64) -> Batch {
    put(&format!("key-{:02}", sequence % 100), value_of(sequence as u8, 200 + (sequence % 7) as usize * 30))
}

fn model_after(sequence: u64) -> Model {
    let mut model = Model::new();
    (1..=sequence).for_each(|sequence| apply(&mut model, batch_of(sequence)));
    model
}

fn commit_next(store: &mut DiskStore, last: &mut u64) {
    *last += 1;
    assert_eq!(store.commit(batch_of(*last)).unwrap(), Sequence(*last));
}

fn newest_file(dir: &Path) -> PathBuf {
    let files = files_in(&dir.join("journal"));
    files.into_iter().rfind(|path| path.extension().is_some_and(|ending| ending == "log")).unwrap()
}

/// Where each frame of a journal file begins, and where the last one ends.
fn frames_of(bytes: &[u8]) -> Vec<usize> {
    let u64_at = |at: usize| bytes.get(at..at + 8).map(|field| u64::from_be_bytes(field.try_into().unwrap()));
    let first = u64_at(20).unwrap();
    let mut starts = vec![40];
    while let Some(&start) = starts.last() {
        if u64_at(start + 8) != Some(first + starts.len() as u64 - 1) {
            break;
        }
        let length = u32::from_be_bytes(bytes[start..start + 4].try_into().unwrap()) as usize;
        starts.push(start + 16 + length);
    }
    starts
}

fn is_reused(bytes: &[u8]) -> bool {
    bytes[28..36] != [0; 8]
}

/// Counts the spills that are over, with all they do to files.
#[derive(Default)]
struct Spills(AtomicU64);

impl Observer for Spills {
    fn committed(&self, _: u64, _: Duration, _: Duration, _: Duration) {}

    fn spilled(&self, _: u64, _: Duration) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn met_corrupt(&self) {}
}

impl Spills {
    /// Until the thread behind the store has nothing to do: a directory that is copied meanwhile is not one that a crash
    /// leaves, for its files are of different moments.
    fn wait_for_rest(&self, store: &DiskStore) {
        let is_at_rest = (0..LOOKS_MAX).any(|_| {
            std::thread::yield_now();
            let stats = store.stats();
            stats.frozen_bytes == 0 && stats.spills == self.0.load(Ordering::SeqCst)
        });
        assert!(is_at_rest, "a spill does not end");
    }
}

/// A live store at rest whose newest journal file is written over an older one, holds four frames, and old bytes behind
/// them. Far too little is in memory for the next commit to begin a spill.
fn with_reused_file(dir: &Path) -> (DiskStore, u64) {
    let spills = Arc::new(Spills::default());
    let (mut store, _) = open(dir, Options { observer: Some(spills.clone()), ..tiny() });
    let mut last = 0;
    loop {
        commit_next(&mut store, &mut last);
        spills.wait_for_rest(&store);
        let bytes = std::fs::read(newest_file(dir)).unwrap();
        let frames = frames_of(&bytes);
        let rest = &bytes[frames[frames.len() - 1]..];
        if is_reused(&bytes) && frames.len() == 5 && rest.iter().filter(|byte| **byte != 0).count() > 1000 {
            return (store, last);
        }
        assert!(last < COMMITS_MAX, "no journal file was reused");
    }
}

fn assert_opens_with(dir: &Path, last: u64) -> u64 {
    let (store, opened) = open(dir, tiny());
    assert_eq!(opened.last_sequence, Sequence(last));
    assert_equals(&store.reader(), &model_after(last));
    store.close().unwrap();
    assert!(escrow_storage::verify(dir, &tiny()).unwrap().is_whole());
    opened.torn_bytes_cut
}

fn quick() -> Options {
    Options { table_open_limit: Duration::from_secs(5), ..tiny() }
}

fn assert_refused(dir: &Path, what: &str) {
    let refused = DiskStore::open(dir, quick());
    assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{what}: {refused:?}");
    assert!(!escrow_storage::verify(dir, &quick()).unwrap().is_whole(), "{what}");
}

#[test]
fn a_last_frame_torn_over_old_bytes_is_cut_and_old_bytes_are_no_torn_write() {
    let live = tempfile::tempdir().unwrap();
    let (mut store, mut last) = with_reused_file(live.path());
    let path = newest_file(live.path());
    let before = std::fs::read(&path).unwrap();
    commit_next(&mut store, &mut last);
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(live.path(), crashed.path());
    drop(store);
    let path = crashed.path().join("journal").join(path.file_name().unwrap());
    let after = std::fs::read(&path).unwrap();
    assert_eq!(before.len(), after.len(), "the frame was to overwrite");
    let frames = frames_of(&after);
    let (start, end) = (frames[4], frames[5]);
    for torn_at in (start..=end).step_by(3).chain([end]) {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(crashed.path(), dir.path());
        let torn = [&after[..torn_at], &before[torn_at..]].concat();
        std::fs::write(dir.path().join("journal").join(path.file_name().unwrap()), torn).unwrap();
        let whole = torn_at == end;
        let torn_bytes = assert_opens_with(dir.path(), if whole { last } else { last - 1 });
        let expected = if whole || torn_at < start + 16 { 0 } else { (end - start) as u64 };
        assert_eq!(torn_bytes, expected, "torn at {} of {}", torn_at - start, end - start);
    }
}

#[test]
fn damage_before_the_last_frame_of_a_reused_file_is_found() {
    let live = tempfile::tempdir().unwrap();
    let (store, _) = with_reused_file(live.path());
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(live.path(), crashed.path());
    drop(store);
    let path = newest_file(crashed.path());
    let whole = std::fs::read(&path).unwrap();
    let frames = frames_of(&whole);
    for frame in &frames[..frames.len() - 2] {
        for offset in [0, 5, 9, 15, 16, 40, 150] {
            let mut damaged = whole.clone();
            damaged[frame + offset] ^= 0x20;
            std::fs::write(&path, &damaged).unwrap();
            assert_refused(crashed.path(), &format!("{offset} behind {frame}"));
        }
    }
}

/// The cut of a closed file is not synced: after a power cut its old bytes may be there again.
#[test]
fn a_closed_file_may_get_its_old_bytes_back_but_not_lose_a_frame() {
    let live = tempfile::tempdir().unwrap();
    let (mut store, mut last) = with_reused_file(live.path());
    let path = newest_file(live.path());
    let uncut = std::fs::read(&path).unwrap();
    // Keeps the table as it is, and so the file.
    let snapshot = store.snapshot();
    while newest_file(live.path()) == path {
        commit_next(&mut store, &mut last);
    }
    commit_next(&mut store, &mut last);
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(live.path(), crashed.path());
    drop(snapshot);
    drop(store);
    let path = crashed.path().join("journal").join(path.file_name().unwrap());
    let cut = std::fs::read(&path).unwrap();
    let frames = frames_of(&cut);
    let end = frames[frames.len() - 1];
    assert_eq!(cut.len(), end, "a closed file is cut");
    let old = uncut.get(end..).filter(|old| !old.is_empty()).map_or_else(|| vec![0x5a; 700], <[u8]>::to_vec);

    let mut damaged = [&cut[..], &old].concat();
    for offset in [0, 9, 15, 20] {
        damaged[frames[frames.len() - 2] + offset] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert_refused(crashed.path(), &format!("{offset} behind the last frame's start"));
        damaged[frames[frames.len() - 2] + offset] ^= 1;
    }
    std::fs::write(&path, &damaged).unwrap();
    assert_opens_with(crashed.path(), last);
}

/// A spill lets go of all files of the journal behind it. Were one kept and the others deleted, most of what follows would be
/// written twice: zeros first, in a file that is begun anew.
#[test]
fn all_files_that_a_spill_lets_go_of_are_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, spills) = with_long_journal(dir.path(), tiny());
    let mut last = 0;
    let mut begun = std::collections::BTreeMap::new();
    while spills.0.load(Ordering::SeqCst) < 5 {
        commit_next(&mut store, &mut last);
        spills.wait_for_rest(&store);
        let path = newest_file(dir.path());
        let is_reused = is_reused(&std::fs::read(&path).unwrap());
        begun.entry(path).or_insert((spills.0.load(Ordering::SeqCst), is_reused));
        assert!(last < COMMITS_MAX, "nothing goes to the table");
    }
    // The first one lets go of one less than is begun until the second: its own newest is not closed yet.
    let later: Vec<bool> = begun.values().filter(|(after, _)| *after > 1).map(|(_, is)| *is).collect();
    assert!(later.len() >= 12, "{begun:?}");
    assert!(later.iter().all(|is_reused| *is_reused), "{begun:?}");
    store.close().unwrap();
    assert_opens_with(dir.path(), last);
}

/// The files behind one that cannot be taken away stay, too, until it can: with a gap between them the store would not open.
#[test]
fn a_file_that_cannot_be_taken_away_leaves_no_gap_in_the_journal() {
    for nth in 1..=6 {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::planned();
        let (mut store, spills) = with_long_journal(dir.path(), Options { faults: faults.clone(), ..tiny() });
        faults.fail(Operation::Retire, nth, 1, Fault::Broken);
        let mut last = 0;
        while spills.0.load(Ordering::SeqCst) < 3 {
            commit_next(&mut store, &mut last);
            spills.wait_for_rest(&store);
            let crashed = tempfile::tempdir().unwrap();
            if last % 10 == 0 {
                copy_dir(dir.path(), crashed.path());
                assert_opens_with(crashed.path(), last);
            }
            assert!(last < COMMITS_MAX, "nothing goes to the table");
        }
        let log = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "log");
        let files = files_in(&dir.path().join("journal")).into_iter().filter(log).count();
        assert!(files <= 2, "what stayed was taken away later: {files} files");
        store.close().unwrap();
        assert_opens_with(dir.path(), last);
    }
}

/// Where consumers are behind, journal files are kept for the values in them, and let go when those are gone.
#[test]
fn files_of_values_that_are_let_go_of_are_written_over() {
    const LIVE: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let spills = Arc::new(Spills::default());
    let (mut store, _) = open(dir.path(), Options { observer: Some(spills.clone()), ..tiny() });
    let mut model = Model::new();
    let mut last: u64 = 0;
    let mut reused = std::collections::BTreeSet::new();
    while reused.len() < 10 {
        last += 1;
        let mut batch = put(&format!("{last:06}"), value_of(last as u8, 1500));
        if let Some(gone) = last.checked_sub(LIVE) {
            batch.delete(format!("{gone:06}").as_str());
        }
        apply(&mut model, batch.clone());
        assert_eq!(store.commit(batch).unwrap(), Sequence(last));
        spills.wait_for_rest(&store);
        let path = newest_file(dir.path());
        if is_reused(&std::fs::read(&path).unwrap()) {
            reused.insert(path);
        }
        // Every value of a journal file is there when the table overtakes it: none is let go of by the journal itself.
        assert!(
            last < 1_000,
            "no file of values was written over: {:?}",
            files_in(&dir.path().join("values"))
        );
        assert_equals(&store.reader(), &model);
    }
    store.close().unwrap();
    let (store, _) = open(dir.path(), tiny());
    assert_equals(&store.reader(), &model);
    store.close().unwrap();
    assert!(escrow_storage::verify(dir.path(), &tiny()).unwrap().is_whole());
}

#[test]
fn a_full_disk_costs_the_spare_files_before_it_refuses_anything() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::planned();
    let (mut store, _) = open(dir.path(), Options { faults: faults.clone(), ..tiny() });
    let mut last = 0;
    commit_next(&mut store, &mut last);
    // While it lives nothing reaches the table: the next commit begins a file before that happens, so the file before is
    // retired, and the next one is not due.
    let snapshot = store.snapshot();
    commit_next(&mut store, &mut last);
    drop(snapshot);
    let is_kept = (0..LOOKS_MAX).any(|_| {
        std::thread::yield_now();
        spares_in(dir.path()) > 0
    });
    assert!(is_kept, "no journal file was kept");
    faults.fail(Operation::Write, 1, 1, Fault::NoSpace);
    commit_next(&mut store, &mut last);
    assert_eq!(spares_in(dir.path()), 0, "all were given up for the commit");
    store.close().unwrap();
    assert_opens_with(dir.path(), last);
}

/// A store whose overlay holds all keys, so that only the journal behind it makes it go to the table, four files at a time.
fn with_long_journal(dir: &Path, options: Options) -> (DiskStore, Arc<Spills>) {
    let spills = Arc::new(Spills::default());
    let options = Options { overlay_bytes_max: 256 << 10, observer: Some(spills.clone()), ..options };
    (open(dir, options).0, spills)
}

/// Commits until so many more spills are over.
fn spill(store: &mut DiskStore, last: &mut u64, spills: &Spills, times: u64) {
    let until = spills.0.load(Ordering::SeqCst) + times;
    let from = *last;
    while spills.0.load(Ordering::SeqCst) < until {
        commit_next(store, last);
        spills.wait_for_rest(store);
        assert!(*last - from < COMMITS_MAX, "nothing goes to the table");
    }
}

fn spares_in(dir: &Path) -> usize {
    let files = files_in(&dir.join("journal"));
    files.iter().filter(|path| path.extension().is_some_and(|ending| ending == "tmp")).count()
}

/// A later sync of the directory may succeed without having written what this one should have.
#[test]
fn a_file_whose_name_may_not_last_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::planned();
    let (mut store, spills) = with_long_journal(dir.path(), Options { faults: faults.clone(), ..tiny() });
    let mut last = 0;
    faults.fail(Operation::SyncNames, 1, 1, Fault::Broken);
    spill(&mut store, &mut last, &spills, 1);
    assert_eq!(spares_in(dir.path()), 0);
    spill(&mut store, &mut last, &spills, 1);
    assert!(spares_in(dir.path()) > 1, "those of the next spill are kept");
    store.close().unwrap();
    assert_opens_with(dir.path(), last);
}

#[test]
fn no_spare_file_takes_room_that_somebody_could_miss() {
    const FLOOR: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::planned();
    let options = Options { faults: faults.clone(), free_floor_bytes: FLOOR, ..tiny() };
    let (mut store, spills) = with_long_journal(dir.path(), options);
    let mut last = 0;
    for (free_floors, is_kept) in [(9, false), (20, true), (9, false)] {
        faults.set_free_bytes(Some(free_floors * FLOOR));
        // The answer of the system may be old for the first.
        spill(&mut store, &mut last, &spills, 60);
        assert_eq!(spares_in(dir.path()) > 0, is_kept, "{free_floors} times the floor are free");
        assert_eq!(store.room(), Room::Enough);
    }
}

#[test]
fn memory_that_is_short_costs_no_spare_file_and_a_full_disk_does() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::planned();
    let options = Options { faults: faults.clone(), free_floor_bytes: 1 << 20, ..tiny() };
    faults.set_free_bytes(Some(100 << 20));
    let (mut store, spills) = with_long_journal(dir.path(), options);
    let mut last = 0;
    spill(&mut store, &mut last, &spills, 3);
    commit_next(&mut store, &mut last);
    // It freezes that, and while it lives nothing reaches the table: what is committed now stays in memory.
    let snapshot = store.snapshot();
    let mut large = Batch::new();
    (0..2_000).for_each(|number| large.put(format!("more-{number:04}"), value_of(number as u8, 400)));
    store.commit(large).unwrap();
    assert_eq!(store.room(), Room::Low);
    assert!(spares_in(dir.path()) > 0);
    faults.set_free_bytes(Some(1));
    // The answer of the system may be old for the first looks.
    let is_gone = (0..200_000).any(|_| store.room() == Room::Low && spares_in(dir.path()) == 0);
    assert!(is_gone, "a full disk did not cost them");
    drop(snapshot);
}

#[test]
fn nothing_of_it_is_left_by_a_clean_close_or_an_open() {
    let dir = tempfile::tempdir().unwrap();
    let (store, last) = with_reused_file(dir.path());
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), crashed.path());
    // The second is what the only spare file was called once.
    for leftover in ["spare-7.tmp", "spare.tmp", "unfinished.tmp"] {
        std::fs::write(crashed.path().join("journal").join(leftover), "an old file").unwrap();
    }
    store.close().unwrap();
    for dir in [dir.path(), crashed.path()] {
        assert_opens_with(dir, last);
        for path in files_in(&dir.join("journal")) {
            let bytes = std::fs::read(&path).unwrap();
            assert_ne!(path.extension().unwrap(), "tmp", "{}", path.display());
            assert_eq!(bytes.len(), *frames_of(&bytes).last().unwrap(), "{}", path.display());
        }
    }
}
