//! Directories that released formats wrote still open. Each lies in `tests/formats/<number>/` and is never changed.

#![allow(clippy::unwrap_used)] // These are tests, their helpers too.

mod support;

use std::path::Path;

use escrow_storage::{Read, Sequence, Store};
use support::*;

/// Makes the directory that is kept for the present format. Run once, by hand, when a format is released:
/// `ESCROW_WRITE_FORMAT=<dir> cargo test -p escrow-storage --test compat`.
fn write_format(dir: &Path) {
    let (mut store, _) = open(dir, journal_only());
    store.commit(put("in-the-table", "small")).unwrap();
    store.commit(put("in-parts", value_of(5, 10_000))).unwrap();
    store.settle().unwrap();
    // The file of the large value leaves the journal at the first start that finds a newer one.
    for _ in 0..2 {
        store.close().unwrap();
        (store, _) = open(dir, journal_only());
    }
    store.commit(put("in-the-journal", "newest")).unwrap();
    store.close().unwrap();
}

#[test]
fn a_directory_of_each_format_opens_with_everything_in_it() {
    if let Ok(dir) = std::env::var("ESCROW_WRITE_FORMAT") {
        write_format(Path::new(&dir));
    }
    for format in 1..=escrow_storage::FORMAT {
        opens(format);
    }
}

fn opens(format: u32) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/formats/{format}"));
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&kept, dir.path());
    assert!(escrow_storage::verify(dir.path(), &journal_only()).unwrap().is_whole());
    let (mut store, opened) = open(dir.path(), journal_only());
    assert_eq!(
        (opened.last_sequence, opened.spilled_sequence, opened.frames_replayed),
        (Sequence(3), Sequence(2), 1)
    );
    let reader = store.reader();
    assert_eq!(reader.get(b"in-the-table").unwrap().unwrap(), "small");
    assert_eq!(reader.get(b"in-parts").unwrap().unwrap(), value_of(5, 10_000));
    assert_eq!(reader.get(b"in-the-journal").unwrap().unwrap(), "newest");
    assert_eq!(store.commit(put("next", "one")).unwrap(), Sequence(4));
    store.settle().unwrap();
    store.close().unwrap();
    assert!(escrow_storage::verify(dir.path(), &journal_only()).unwrap().is_whole());
    let text = std::fs::read_to_string(dir.path().join("FORMAT")).unwrap();
    assert!(text.contains(&format!("format {}", escrow_storage::FORMAT)), "{text}");
}
