//! Damage: never a wrong value, never a silent loss; and what verify, repair and salvage make of it.

#![allow(clippy::unwrap_used)] // These are tests, their helpers too.

mod support;

use std::path::Path;

use bytes::Bytes;
use escrow_storage::{
    CommitError, Consent, DiskStore, Epoch, OpenError, Options, Read, ReadError, RepairError, Sequence,
    Store, repair, salvage, verify,
};
use support::*;

/// A small closed store with records in the table (one with a large value) and batches in the journal.
fn small_store(dir: &Path) -> Model {
    let mut model = Model::new();
    let (mut store, _) = open(dir, journal_only());
    for number in 0..30_u8 {
        let length = if number == 7 { 9000 } else { 40 };
        let batch = put(&format!("key-{number:02}"), value_of(number, length));
        store.commit(batch.clone()).unwrap();
        apply(&mut model, batch);
    }
    store.settle().unwrap();
    // The file of the large value leaves the journal at the first start that finds a newer one.
    for _ in 0..2 {
        store.close().unwrap();
        (store, _) = open(dir, journal_only());
    }
    for number in 20..40_u8 {
        let batch = put(&format!("key-{number:02}"), value_of(number + 1, 30));
        store.commit(batch.clone()).unwrap();
        apply(&mut model, batch);
    }
    store.close().unwrap();
    model
}

/// The only journal file that holds batches.
fn journal_file(dir: &Path) -> std::path::PathBuf {
    files_in(&dir.join("journal")).pop().unwrap()
}

fn flip(path: &Path, offset: usize, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
}

fn quick() -> Options {
    Options { table_open_limit: std::time::Duration::from_secs(5), ..journal_only() }
}

/// What a message says to type works: everything is saved that is not named as lost, and nothing wrong.
fn assert_salvages(dir: &Path, model: &Model, what: &str) {
    let into = tempfile::tempdir().unwrap();
    let saved = salvage(dir, into.path(), &quick()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (store, _) = open(into.path(), journal_only());
    let entries = store.reader().scan(&everything(), usize::MAX).unwrap();
    assert!(entries.iter().all(|(key, value)| model.get(key) == Some(value)), "{what}: a wrong entry");
    assert!(entries.len() == model.len() || !saved.lost.is_empty(), "{what}: a silent loss: {saved:?}");
}

/// Whether the damaged directory still tells the truth: it refuses, or reads right, or names what it cannot read, or (as
/// sled may lose keys without a word) a verify says so.
fn assert_harmless_or_detected(dir: &Path, model: &Model, what: &str) {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir, copy.path());
    let store = match DiskStore::open(dir, quick()) {
        Err(OpenError::Damaged { remedy, .. }) => {
            if remedy.contains("--salvage-into") {
                assert_salvages(dir, model, what);
            }
            return;
        }
        Err(OpenError::Newer { .. } | OpenError::NotOurs { .. } | OpenError::Io { .. }) => return,
        Err(other) => panic!("{what}: {other}"),
        Ok((store, _)) => store,
    };
    let reader = store.reader();
    let mut is_missing = false;
    for (key, value) in model {
        match reader.get(key) {
            Ok(Some(read)) => assert!(read == *value, "{what}: a wrong value at {key:?}"),
            Ok(None) => is_missing = true,
            Err(_) => {}
        }
    }
    if let Ok(entries) = reader.scan(&everything(), usize::MAX) {
        for (key, value) in entries {
            assert_eq!(model.get(&key), Some(&value), "{what}: a wrong entry");
        }
    }
    drop(store);
    if is_missing {
        assert!(!verify(copy.path(), &quick()).unwrap().is_whole(), "{what}: a silent loss");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_detected_or_harmless() {
    let original = tempfile::tempdir().unwrap();
    let model = small_store(original.path());
    let mut rng = fastrand::Rng::with_seed(11);
    for path in files_in(original.path()) {
        let name = path.strip_prefix(original.path()).unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let used: Vec<_> = (0..bytes.len()).filter(|offset| bytes[*offset] != 0).collect();
        let count = if name.starts_with("table") { 120 } else { 12 };
        for _ in 0..count.min(bytes.len()) {
            let offset = if used.is_empty() || rng.u8(0..8) == 0 {
                rng.usize(0..bytes.len())
            } else {
                used[rng.usize(0..used.len())]
            };
            let dir = tempfile::tempdir().unwrap();
            copy_dir(original.path(), dir.path());
            flip(&dir.path().join(&name), offset, rng.usize(0..8));
            assert_harmless_or_detected(dir.path(), &model, &format!("{} at {offset}", name.display()));
        }
    }
}

/// What the table says of the files of values is for deleting them: nobody needs it who saves what can be read.
#[test]
fn what_the_table_says_of_files_of_values_may_be_lost_and_all_else_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let model = small_store(dir.path());
    let db = sled::open(dir.path().join("table")).unwrap();
    let (key, _) = db.range(&b"f"[..]..&b"g"[..]).next().expect("there is a large value").unwrap();
    db.insert(key, "no such record").unwrap();
    db.flush().unwrap();
    drop(db);
    let error = DiskStore::open(dir.path(), quick()).unwrap_err();
    assert!(error.to_string().contains("--salvage-into"), "{error}");
    let into = tempfile::tempdir().unwrap();
    let saved = salvage(dir.path(), into.path(), &quick()).unwrap();
    assert_eq!((saved.records, saved.lost.len()), (model.len() as u64, 0), "{saved:?}");
    let (store, _) = open(into.path(), journal_only());
    assert_equals(&store.reader(), &model);
}

#[test]
fn a_missing_file_is_named() {
    let original = tempfile::tempdir().unwrap();
    small_store(original.path());
    let newest = journal_file(original.path());
    let journal_name = newest.strip_prefix(original.path()).unwrap();
    for name in [Path::new("FORMAT"), Path::new("WATERMARK"), Path::new("table/db"), journal_name] {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(original.path(), dir.path());
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let error = DiskStore::open(dir.path(), quick()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{}: {error}", name.display());
        assert!(!verify(dir.path(), &quick()).unwrap().is_whole(), "{}", name.display());
    }
}

#[test]
fn an_older_or_empty_table_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    store.commit(put("key-01", "1")).unwrap();
    store.settle().unwrap();
    store.close().unwrap();
    let old = tempfile::tempdir().unwrap();
    copy_dir(&dir.path().join("table"), old.path());
    let (mut store, _) = open(dir.path(), tiny());
    store.commit(put("key-02", "2")).unwrap();
    store.settle().unwrap();
    store.close().unwrap();
    for table in [Some(old.path()), None] {
        std::fs::remove_dir_all(dir.path().join("table")).unwrap();
        match table {
            Some(table) => copy_dir(table, &dir.path().join("table")),
            None => drop(sled::open(dir.path().join("table")).unwrap()),
        }
        let error = DiskStore::open(dir.path(), tiny()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(matches!(
            repair(dir.path(), &tiny(), Consent::GiveUpLostCommits),
            Err(RepairError::Table(_))
        ));
        assert!(!verify(dir.path(), &tiny()).unwrap().is_whole());
        let into = tempfile::tempdir().unwrap();
        let saved = salvage(dir.path(), into.path(), &tiny()).unwrap();
        // The newest journal file still holds commit 2.
        let lost: &[&str] = if table.is_some() { &[] } else { &["the commits 1 to 1"] };
        assert_eq!(saved.lost, lost);
        let opened = open(into.path(), tiny()).1;
        assert_eq!((opened.last_sequence, opened.epoch), (Sequence(2), Epoch(3)), "no number is used twice");
    }
}

#[test]
fn damage_in_the_journal_is_repaired_with_consent_and_its_price_is_named() {
    for options in [journal_only(), Options { journal_file_bytes_max: 4096, ..journal_only() }] {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            open(dir.path(), options.clone()).0.close().unwrap();
        }
        let (mut store, _) = open(dir.path(), options.clone());
        for number in 1..=60_u8 {
            store.commit(put(&format!("key-{number:02}"), vec![number; 150])).unwrap();
        }
        store.close().unwrap();
        let path = files_in(&dir.path().join("journal")).swap_remove(0);
        flip(&path, 40 + 183 * 9 + 100, 0); // in the tenth frame
        let report = verify(dir.path(), &options).unwrap();
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        assert_eq!(report.findings[0].file, path);

        let looked = repair(dir.path(), &options, Consent::LookOnly).unwrap();
        assert!(!looked.was_done);
        let lost = looked.lost_sequences.clone().unwrap();
        assert_eq!(lost, 10..=60, "{looked:?}");
        assert!(DiskStore::open(dir.path(), options.clone()).is_err(), "looking mends nothing");
        let done = repair(dir.path(), &options, Consent::GiveUpLostCommits).unwrap();
        assert!(done.was_done && done.lost_sequences == Some(lost));
        let (store, opened) = open(dir.path(), options.clone());
        assert_eq!((opened.last_sequence, opened.epoch), (Sequence(9), Epoch(4)));
        assert_eq!(store.reader().scan(&everything(), 99).unwrap().len(), 9);
        store.close().unwrap();
        assert!(verify(dir.path(), &options).unwrap().is_whole());
        assert!(
            !repair(dir.path(), &options, Consent::GiveUpLostCommits).unwrap().was_done,
            "nothing is left"
        );
    }
}

#[test]
fn damaged_small_files_are_written_again_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let model = small_store(dir.path());
    std::fs::write(dir.path().join("FORMAT"), "escrow store\nformat 0\n").unwrap();
    std::fs::write(dir.path().join("WATERMARK"), [0; 100]).unwrap();
    assert!(DiskStore::open(dir.path(), quick()).is_err());
    let done = repair(dir.path(), &quick(), Consent::GiveUpLostCommits).unwrap();
    assert!(done.was_done && done.lost_sequences.is_none(), "{done:?}");
    assert_equals(&open(dir.path(), quick()).0.reader(), &model);
}

/// Changes a stored value behind the store's back.
fn tamper(dir: &Path, table_key: &[u8], change: impl FnOnce(&mut Vec<u8>) -> bool) {
    let db = sled::open(dir.join("table")).unwrap();
    let mut value = db.get(table_key).unwrap().unwrap().to_vec();
    if change(&mut value) {
        db.insert(table_key, value).unwrap();
    } else {
        db.remove(table_key).unwrap();
    }
    db.flush().unwrap();
}

/// The file of values in which the one large value of [`small_store`] lies.
fn value_file(dir: &Path) -> std::path::PathBuf {
    files_in(&dir.join("values")).pop().unwrap()
}

#[test]
fn a_damaged_value_is_named_counted_left_out_of_a_salvage_and_healed() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = small_store(dir.path());
    let path = value_file(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    let value = &model[&b"key-07"[..]];
    let at = bytes.windows(value.len()).position(|window| window == &value[..]).unwrap();
    flip(&path, at + 5000, 3);
    let report = verify(dir.path(), &quick()).unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert!(report.findings[0].fault.contains("6b65792d3037"), "{:?}", report.findings);

    let (mut store, _) = open(dir.path(), journal_only());
    let reader = store.reader();
    assert!(matches!(reader.get(b"key-07"), Err(ReadError::Corrupt { .. })));
    assert!(reader.scan(&everything(), 99).is_err());
    assert_eq!(store.stats().corrupt_records, 2);
    assert_eq!(reader.verify().unwrap().findings.len(), 1);
    assert!(escrow_storage::backup(&store.snapshot(), &mut Vec::new()).is_err(), "a backup hides no damage");

    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let into = tempfile::tempdir().unwrap();
    let saved = salvage(copy.path(), into.path(), &quick()).unwrap();
    assert_eq!((saved.lost.len(), saved.records), (1, model.len() as u64 - 1), "{saved:?}");
    assert!(saved.lost[0].starts_with("6b65792d3037: "));
    store.commit(put("key-07", "new")).unwrap();
    store.settle().unwrap();
    assert_eq!(store.reader().get(b"key-07").unwrap(), Some(Bytes::from("new")));
    assert!(store.reader().verify().unwrap().is_whole());
    assert!(!path.exists(), "nothing points into it any more");
    store.close().unwrap();

    model.remove(&b"key-07"[..]);
    let (store, opened) = open(into.path(), quick());
    assert_equals(&store.reader(), &model);
    assert_eq!(opened.last_sequence, Sequence(50));
    assert!(salvage(copy.path(), into.path(), &quick()).is_err(), "not into a store");
}

#[test]
fn a_damaged_block_is_named_never_written_over_and_left_out_of_a_salvage() {
    let dir = tempfile::tempdir().unwrap();
    let model = small_store(dir.path());
    tamper(dir.path(), b"bkey-00", |value| {
        value[20] ^= 1;
        true
    });
    let report = verify(dir.path(), &quick()).unwrap();
    assert_eq!(report.findings.len(), 2, "the block, and the count: {:?}", report.findings);
    assert!(report.findings[0].fault.contains("6b65792d3030"), "{:?}", report.findings);

    let (mut store, _) = open(dir.path(), journal_only());
    let reader = store.reader();
    assert!(matches!(reader.get(b"key-03"), Err(ReadError::Corrupt { .. })));
    assert!(matches!(reader.get(b"key-unknown"), Err(ReadError::Corrupt { .. })), "nobody knows");
    assert_eq!(reader.get(b"key-25").unwrap().unwrap(), value_of(26, 30), "the journal has it");
    store.commit(put("key-03", "new")).unwrap();
    assert_eq!(reader.get(b"key-03").unwrap().unwrap(), "new");
    assert!(matches!(store.settle(), Err(escrow_storage::CommitError::Failed(_))), "a silent gap was made");
    drop(store);

    let into = tempfile::tempdir().unwrap();
    let saved = salvage(dir.path(), into.path(), &quick()).unwrap();
    assert_eq!(saved.lost.len(), 2, "{saved:?}");
    let (store, _) = open(into.path(), quick());
    let mut expected: Model = model.into_iter().filter(|(key, _)| key[..] >= b"key-20"[..]).collect();
    expected.insert("key-03".into(), "new".into());
    assert_equals(&store.reader(), &expected);
}

#[test]
fn a_missing_or_short_file_of_values_is_named_before_anything_is_changed() {
    for is_short in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let model = small_store(dir.path());
        let path = value_file(dir.path());
        if is_short {
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        let before = files_in(dir.path());
        match DiskStore::open(dir.path(), quick()) {
            Err(OpenError::Damaged { file, remedy, .. }) => {
                assert!(file == path && remedy.contains("salvage"), "{} {remedy}", file.display());
            }
            other => panic!("{}", other.err().map_or("it opened".into(), |error| error.to_string())),
        }
        assert_eq!(files_in(dir.path()), before);
        let found = verify(dir.path(), &quick()).unwrap().findings;
        assert!(found.iter().any(|finding| finding.file == path), "{found:?}");
        let into = tempfile::tempdir().unwrap();
        let saved = salvage(dir.path(), into.path(), &quick()).unwrap();
        assert_eq!((saved.lost.len(), saved.records), (1, model.len() as u64 - 1), "{saved:?}");
    }
}

/// A repair would refuse: it has nothing to put in the place of what the table points to.
#[test]
fn a_short_journal_file_into_which_the_table_points_is_named_with_a_remedy_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    let (mut store, _) = open(dir.path(), journal_only());
    for (name, length) in [("small", 40), ("large", 9000)] {
        let batch = put(name, value_of(1, length));
        store.commit(batch.clone()).unwrap();
        apply(&mut model, batch);
    }
    store.settle().unwrap();
    store.close().unwrap();
    let path = files_in(&dir.path().join("journal")).swap_remove(0);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();

    let error = DiskStore::open(dir.path(), journal_only()).unwrap_err();
    let OpenError::Damaged { file, remedy, .. } = &error else { panic!("{error}") };
    assert_eq!(*file, path);
    assert!(remedy.contains("--salvage-into") && remedy.contains("store restore"), "{remedy}");
    assert!(!remedy.contains("give up"), "{remedy}");
    let refused = repair(dir.path(), &journal_only(), Consent::GiveUpLostCommits);
    assert!(matches!(refused, Err(RepairError::Table(_))), "{refused:?}");
    assert_salvages(dir.path(), &model, "a journal file of 1000 bytes");
}

#[test]
fn a_large_value_that_is_damaged_in_the_journal_is_neither_served_nor_copied() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { journal_bytes_max: 1 << 20, journal_file_bytes_max: 1 << 20, ..tiny() };
    let (mut store, _) = open(dir.path(), options.clone());
    let large = value_of(5, 3000);
    store.commit(put("large", large.clone())).unwrap();
    // More of it than of the value: the file is not worth keeping, and the value is to be copied.
    for seed in 0..20 {
        store.commit(put("noise", value_of(seed, 400))).unwrap();
    }
    assert_eq!(store.reader().get(b"large").unwrap().unwrap(), large, "it is whole so far");
    let path = files_in(&dir.path().join("journal")).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(large.len()).position(|window| window == large).unwrap();
    bytes[at + 1500] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let read = store.reader().get(b"large");
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    assert_eq!(store.stats().corrupt_records, 1);
    let settled = store.settle();
    let Err(CommitError::Failed(reason)) = &settled else { panic!("{settled:?}") };
    let name = format!("journal/{}", path.file_name().unwrap().to_str().unwrap());
    assert!(reason.contains(&name), "{reason}");
    drop(store);
    let error = DiskStore::open(dir.path(), options).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { file, .. } if *file == path), "{error}");
}

#[test]
fn a_verification_sends_nobody_to_a_repair_that_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), journal_only());
    store.commit(put("small", value_of(1, 40))).unwrap();
    store.commit(put("large", value_of(1, 9000))).unwrap();
    store.settle().unwrap();
    // In the next file: the one before has lost its end, and large values of the table with it.
    store.commit(put("behind", value_of(1, 40))).unwrap();
    store.close().unwrap();
    let path = files_in(&dir.path().join("journal")).swap_remove(0);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let report = verify(dir.path(), &journal_only()).unwrap();
    let of_the_journal = report.findings.iter().filter(|finding| finding.file == path);
    assert!(of_the_journal.count() >= 2, "as a journal file and as one of values: {:?}", report.findings);
    for finding in &report.findings {
        assert!(!finding.remedy.contains("give up"), "{finding:?}");
        assert!(finding.remedy.contains("--salvage-into"), "{finding:?}");
    }
    let refused = repair(dir.path(), &journal_only(), Consent::GiveUpLostCommits);
    assert!(matches!(refused, Err(RepairError::Table(_))), "{refused:?}");
}

#[test]
fn a_damaged_record_of_format_1_is_named_and_nothing_else_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/1"), dir.path());
    tamper(dir.path(), b"hin-the-table", |value| {
        value[9] ^= 1;
        true
    });
    let report = verify(dir.path(), &quick()).unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    for _ in 0..2 {
        let error = DiskStore::open(dir.path(), quick()).err().unwrap().to_string();
        assert!(error.contains("salvage") && error.contains("696e2d7468652d7461626c65"), "{error}");
    }
    let into = tempfile::tempdir().unwrap();
    let saved = salvage(dir.path(), into.path(), &quick()).unwrap();
    assert_eq!((saved.lost.len(), saved.records), (1, 2), "{saved:?}");
    assert_eq!(open(into.path(), quick()).0.reader().get(b"in-the-journal").unwrap().unwrap(), "newest");
}

#[test]
fn a_journal_file_missing_in_the_middle_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { journal_file_bytes_max: 4096, ..journal_only() };
    let (mut store, _) = open(dir.path(), options.clone());
    for number in 0..60_u8 {
        store.commit(put(&format!("key-{number:02}"), vec![number; 200])).unwrap();
    }
    store.close().unwrap();
    let files = files_in(&dir.path().join("journal"));
    assert!(files.len() >= 3);
    std::fs::remove_file(&files[1]).unwrap();
    let error = DiskStore::open(dir.path(), options).unwrap_err().to_string();
    assert!(error.contains("begins with sequence"), "{error}");
}

#[test]
fn a_running_store_is_verified_while_it_works() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), tiny());
    let mut model = Model::new();
    let mut rng = fastrand::Rng::with_seed(3);
    let reader = store.reader();
    let checker = std::thread::spawn(move || (0..10).map(|_| reader.verify().unwrap()).collect::<Vec<_>>());
    while !checker.is_finished() {
        run(&mut store, &mut model, &mut rng, 5);
    }
    for report in checker.join().unwrap() {
        assert!(report.is_whole(), "{:?}", report.findings);
    }
}

#[test]
fn newer_and_foreign_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    small_store(dir.path());
    let format = "escrow store\nformat 3\n";
    let text = format!("{format}crc32 {:08x}\n", crc32fast::hash(format.as_bytes()));
    std::fs::write(dir.path().join("FORMAT"), text).unwrap();
    for refused in
        [DiskStore::open(dir.path(), quick()).unwrap_err(), verify(dir.path(), &quick()).unwrap_err()]
    {
        assert!(matches!(refused, OpenError::Newer { found: 3, supported: 2, .. }), "{refused}");
    }
    std::fs::write(dir.path().join("holiday.jpg"), "x").unwrap();
    assert!(matches!(DiskStore::open(dir.path(), quick()), Err(OpenError::NotOurs { .. })));
}
