//! The journal: the files to which a batch is appended and synced before anything else happens. The only thing a commit
//! waits for.
//!
//! Owns `<data>/journal/`. Must never sync again after a sync failed, and must never write behind a frame that is not
//! known to be durable. Nothing may rely on what a scan read before [`make_durable`].

mod durable;
mod file;
pub(crate) mod frame;
mod scan;
mod spare;
mod writer;

use std::path::{Path, PathBuf};

pub(crate) use durable::make_durable;
pub(crate) use file::JournalFile;
pub(crate) use scan::{
    Damage, FileScan, Kept, Remains, Scan, Tail, check_closed, paths_behind, scan, scan_bytes,
};
pub(crate) use spare::Spare;
pub(crate) use writer::{AppendError, Appended, Closed, Journal, create_file};

/// What the names of journal files end in.
pub(crate) const SUFFIX: &str = ".log";

/// A file that was being created when the process died. Deleted at the next open.
pub(crate) const UNFINISHED: &str = "unfinished.tmp";

/// A file that is no longer needed, kept to be written over. Deleted at the next open.
pub(crate) const SPARE: &str = "spare.tmp";

/// The first sequence of the journal file at `path`, by its name.
pub(crate) fn first_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

/// The journal file that begins with sequence `first`. Zero padded, so that the order of names is the order of files.
pub(crate) fn file_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{SUFFIX}"))
}
