//! The journal: the files to which a batch is appended and synced before anything else happens. The only thing a commit
//! waits for.
//!
//! Owns `<data>/journal/`. Must never sync again after a sync failed, and must never write behind a frame that is not
//! known to be durable. Nothing may rely on what a scan read before [`make_durable`].

mod durable;
mod file;
pub(crate) mod frame;
mod scan;
mod spares;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use durable::make_durable;
pub(crate) use file::JournalFile;
pub(crate) use scan::{
    Damage, FileScan, Kept, Remains, Scan, Tail, check_closed, paths_behind, scan, scan_bytes,
};
pub(crate) use spares::Spares;
pub(crate) use writer::{AppendError, Appended, Closed, Journal, create_file};

/// What the names of journal files end in.
pub(crate) const SUFFIX: &str = ".log";

/// A file that was being created when the process died. Deleted at the next open.
pub(crate) const UNFINISHED: &str = "unfinished.tmp";

/// What the names of files begin with that are no longer needed and kept to be written over.
const SPARE: &str = "spare";
const SPARE_SUFFIX: &str = ".tmp";

/// Deletes what an earlier process left in `dir` that is not of the journal.
pub(crate) fn delete_leftovers(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if is_leftover(&entry.file_name().to_string_lossy()) {
            // If it stays, it only takes space, until the next open.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Whether a file of that name, in the directory of the journal, does not belong to it.
fn is_leftover(name: &str) -> bool {
    // `spare.tmp` is what the only one was called.
    name == UNFINISHED || (name.starts_with(SPARE) && name.ends_with(SPARE_SUFFIX))
}

/// Where the file of this number is kept to be written over.
fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{SPARE}-{number}{SPARE_SUFFIX}"))
}

/// The first sequence of the journal file at `path`, by its name.
pub(crate) fn first_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

/// The journal file that begins with sequence `first`. Zero padded, so that the order of names is the order of files.
pub(crate) fn file_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{SUFFIX}"))
}
