//! Sudden ends: at every fail point, by `kill -9` at any moment, and with the last frame torn at every byte. What was
//! acknowledged is there afterwards, and nothing but whole batches.

#![allow(clippy::unwrap_used)] // These are tests, their helpers too.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use escrow_storage::{
    Batch, Consent, DiskStore, FailPoint, FailPoints, Fault, Key, OpenError, Operation, Options, Sequence,
    Store,
};
use support::*;

const DIR: &str = "ESCROW_CRASH_DIR";
const POINT: &str = "ESCROW_FAILPOINT";

/// The batch of a sequence: the same in child and parent.
fn batch_of(sequence: u64) -> Batch {
    random_batch(&mut fastrand::Rng::with_seed(sequence))
}

fn model_after(sequence: u64) -> Model {
    let mut model = Model::new();
    (1..=sequence).for_each(|sequence| apply(&mut model, batch_of(sequence)));
    model
}

/// Not a test of its own: the process that the others let die. It prints each sequence that was acknowledged.
#[test]
fn child_that_writes_until_it_dies() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let failpoints = FailPoints::parse(&std::env::var(POINT).unwrap()).unwrap();
    let (mut store, opened) = open(Path::new(&dir), Options { failpoints, ..tiny() });
    let mut last = opened.last_sequence.0;
    for _ in 0..3000 {
        last += 1;
        assert_eq!(store.commit(batch_of(last)).unwrap(), Sequence(last));
        println!("acknowledged {last}");
    }
}

fn spawn_child(dir: &Path, point: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_it_dies", "--nocapture"])
        .env(DIR, dir)
        .env(POINT, point)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads what the child acknowledged; kills it after `kill_after` lines.
fn last_acknowledged(mut child: Child, kill_after: Option<usize>) -> u64 {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut last = 0;
    let mut count = 0;
    for line in lines {
        let Some(number) = line.strip_prefix("acknowledged ") else { continue };
        last = number.parse().unwrap();
        count += 1;
        if kill_after == Some(count) {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child was to die, not to finish");
    last
}

/// Opens what a crash left; the last sequence that is there.
fn check_after_crash(dir: &Path, acknowledged: u64) -> u64 {
    let (store, opened) = open(dir, tiny());
    let last = opened.last_sequence.0;
    assert!(last == acknowledged || last == acknowledged + 1, "{acknowledged} acknowledged, {last} there");
    assert_equals(&store.reader(), &model_after(last));
    store.close().unwrap();
    let report = escrow_storage::verify(dir, &tiny()).unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    last
}

#[test]
fn a_death_at_any_fail_point_loses_nothing_acknowledged() {
    for point in FailPoint::ALL {
        let dir = tempfile::tempdir().unwrap();
        let mut last = 0;
        let tries: &[u64] = if point == FailPoint::DuringRecovery { &[1, 1] } else { &[1, 3, 9] };
        for nth in tries {
            let child = spawn_child(dir.path(), &format!("{}:{nth}", point.name()));
            let acknowledged = last_acknowledged(child, None).max(last);
            last = check_after_crash(dir.path(), acknowledged);
        }
    }
}

/// Dying before the table was synced leaves one that is ahead of its watermark. It is believed only after a sync, of
/// which the raised watermark is the witness.
#[test]
fn a_table_that_is_ahead_is_synced_and_noted_at_the_open() {
    let dir = tempfile::tempdir().unwrap();
    last_acknowledged(spawn_child(dir.path(), "between_flush_and_sync:2"), None);
    let noted = || {
        let bytes = std::fs::read(dir.path().join("WATERMARK")).unwrap();
        let slots = [0, 4096].map(|at| bytes.get(at + 8..at + 24).unwrap_or(&[0; 16]));
        let newest = slots.into_iter().max().unwrap(); // generation, then sequence
        u64::from_be_bytes(newest[8..].try_into().unwrap())
    };
    let before = noted();
    // Not even then is anything noted before the journal is durable.
    let faults = escrow_storage::Faults::planned();
    faults.fail(Operation::Sync, 1, 1, Fault::Broken);
    let refused = DiskStore::open(dir.path(), Options { faults, ..tiny() });
    assert!(matches!(refused, Err(OpenError::Io { .. })), "{refused:?}");
    assert_eq!(noted(), before);
    // On a full disk nothing is spilled meanwhile.
    let faults = escrow_storage::Faults::planned();
    faults.set_free_bytes(Some(0));
    let (store, opened) = open(dir.path(), Options { faults, free_floor_bytes: 4096, ..tiny() });
    assert!(opened.spilled_sequence.0 > before, "the table is ahead");
    assert_eq!(noted(), opened.spilled_sequence.0);
    drop(store);
}

#[test]
fn a_kill_at_any_moment_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..8 {
        let child = spawn_child(dir.path(), "");
        let acknowledged = last_acknowledged(child, Some(rng.usize(1..200))).max(last);
        last = check_after_crash(dir.path(), acknowledged);
    }
}

/// A directory as a crash leaves it: seven small commits in one journal file. Returns where each frame
/// begins and the last one ends.
fn crashed_dir(dir: &Path, options: Options) -> (std::path::PathBuf, Vec<usize>) {
    let live = tempfile::tempdir().unwrap();
    let (mut store, _) = open(live.path(), options);
    for sequence in 1..=7_u8 {
        store.commit(put(&format!("key-{sequence:02}"), vec![sequence; 20])).unwrap();
    }
    copy_dir(live.path(), dir);
    let path = dir.join("journal/00000000000000000001.log");
    let bytes = std::fs::read(&path).unwrap();
    let mut starts = vec![40];
    while let Some(&start) = starts.last().filter(|_| starts.len() <= 7) {
        let length = u32::from_be_bytes(bytes[start..start + 4].try_into().unwrap()) as usize;
        starts.push(start + 16 + length);
    }
    (path, starts)
}

fn seven(last: u8) -> Model {
    (1..=last).map(|number| (Key::from(format!("key-{number:02}")), Bytes::from(vec![number; 20]))).collect()
}

#[test]
fn a_last_frame_torn_at_any_byte_is_cut_and_reported() {
    for ahead in [0, 512] {
        let original = tempfile::tempdir().unwrap();
        let options = Options { journal_ahead_bytes: ahead, ..journal_only() };
        let (path, starts) = crashed_dir(original.path(), options);
        let whole = std::fs::read(&path).unwrap();
        let (last_start, end) = (starts[6], starts[7]);
        for torn_at in (last_start..=end).step_by(if ahead == 0 { 1 } else { 7 }) {
            let dir = tempfile::tempdir().unwrap();
            copy_dir(original.path(), dir.path());
            let torn_path = dir.path().join("journal").join(path.file_name().unwrap());
            let mut torn = whole[..torn_at].to_vec();
            if ahead > 0 {
                torn.resize(whole.len(), 0); // the zeros written ahead are still there
            }
            std::fs::write(&torn_path, &torn).unwrap();
            let (store, opened) = open(dir.path(), journal_only());
            let last = if torn_at == end { 7 } else { 6 };
            assert_eq!(opened.last_sequence, Sequence(last), "torn at {torn_at}");
            let is_visible = last == 6 && whole[last_start..torn_at].iter().any(|byte| *byte != 0);
            assert_eq!(opened.torn_bytes_cut > 0, is_visible, "zeros are what is written ahead");
            if ahead == 0 && is_visible {
                assert_eq!(opened.torn_bytes_cut, (torn_at - last_start) as u64);
            }
            assert_equals(&store.reader(), &seven(last as u8));
        }
    }
}

#[test]
fn a_damaged_frame_before_the_last_is_never_taken_for_a_torn_write() {
    let original = tempfile::tempdir().unwrap();
    let (path, starts) = crashed_dir(original.path(), journal_only());
    let whole = std::fs::read(&path).unwrap();
    for (frame, offset) in (0..6).flat_map(|frame| [(frame, starts[frame]), (frame, starts[frame] + 30)]) {
        let mut damaged = whole.clone();
        damaged[offset] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let error = DiskStore::open(original.path(), journal_only()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, OpenError::Damaged { .. }), "{text}");
        assert!(text.contains(&format!("at offset {}", starts[frame])), "{text}");
        assert!(text.contains("escrow store repair") && text.contains("escrow store restore"), "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing was changed");
    }
}

#[test]
fn after_a_clean_close_even_the_last_frame_cannot_pass_for_torn() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), journal_only());
    store.commit(put("key-01", "first")).unwrap();
    store.commit(put("key-02", "last")).unwrap();
    store.close().unwrap();
    let path = dir.path().join("journal/00000000000000000001.log");
    let whole = std::fs::read(&path).unwrap();
    for offset in 40..whole.len() {
        let mut damaged = whole.clone();
        damaged[offset] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let refused = DiskStore::open(dir.path(), journal_only());
        assert!(matches!(refused, Err(OpenError::Damaged { .. })), "offset {offset}");
    }
    let looked = escrow_storage::repair(dir.path(), &journal_only(), Consent::LookOnly).unwrap();
    assert_eq!(looked.lost_sequences, Some(2..=2));
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(open(dir.path(), journal_only()).1.last_sequence, Sequence(2));
}
