//! Journal files that nobody needs any more, kept so that the next ones are written over them: a sync of blocks that exist
//! costs half of one that has to add them, and nothing need be written ahead.
//!
//! Owns `<data>/journal/spare-<first sequence>.tmp`. Must never hand out a file whose new name is not durable: after a power
//! cut it could stand under its old name again, with a header that is not its own.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{Closed, spare_path};
use crate::lock::lock;

/// The files that are kept.
#[derive(Debug)]
pub(crate) struct Spares {
    /// What they may take on disk together.
    bytes_max: u64,
    kept: Mutex<VecDeque<Spare>>,
}

#[derive(Debug)]
struct Spare {
    path: PathBuf,
    bytes: u64,
    is_name_durable: bool,
}

impl Spares {
    /// None are kept so far; later those that take at most `bytes_max` together.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    /// Takes `file` out of the journal: keeps it if `wanted` and there are not enough, else deletes it. Follow it with
    /// [`Spares::names_are_durable`].
    ///
    /// # Errors
    /// If it is still where it was.
    pub(crate) fn retire(&self, file: &Closed, wanted: bool) -> std::io::Result<()> {
        let mut kept = lock(&self.kept);
        let bytes: u64 = kept.iter().map(|spare| spare.bytes).sum();
        // One is kept whatever its size: that of the file it is to become is no other.
        if !wanted || (!kept.is_empty() && bytes.saturating_add(file.bytes) > self.bytes_max) {
            return std::fs::remove_file(&file.path);
        }
        let path = spare_path(&file.path);
        std::fs::rename(&file.path, &path)?;
        kept.push_back(Spare { path, bytes: file.bytes, is_name_durable: false });
        Ok(())
    }

    /// The directory was synced after the last file was retired.
    pub(crate) fn names_are_durable(&self) {
        lock(&self.kept).iter_mut().for_each(|spare| spare.is_name_durable = true);
    }

    /// Has the oldest file used, if there is one: `rename` gives it another name. If it does not, the file is deleted.
    /// Meanwhile none is retired.
    pub(super) fn reuse<T>(&self, rename: impl FnOnce(&Path) -> T) -> Option<T> {
        let mut kept = lock(&self.kept);
        let spare = if kept.front()?.is_name_durable { kept.pop_front()? } else { return None };
        let renamed = rename(&spare.path);
        // Renamed, it is gone already.
        let _ = std::fs::remove_file(&spare.path);
        Some(renamed)
    }

    /// Deletes the files for the room they take. Whether there were any.
    pub(crate) fn give_up(&self) -> bool {
        let given_up = std::mem::take(&mut *lock(&self.kept));
        given_up.iter().filter(|spare| std::fs::remove_file(&spare.path).is_ok()).count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(dir: &Path, first: u64, bytes: u64) -> Closed {
        let path = crate::journal::file_path(dir, first);
        std::fs::write(&path, first.to_string()).unwrap();
        Closed { path, id: crate::values::FileId::journal(first), last: first, bytes }
    }

    fn rename_to(dir: &Path, name: &str) -> impl FnOnce(&Path) {
        let to = dir.join(name);
        move |path| std::fs::rename(path, to).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_kept_and_handed_out_oldest_first_once_their_names_are_durable() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(20);
        spares.retire(&closed(dir.path(), 1, 10), true).unwrap();
        assert!(spares.reuse(|_| ()).is_none(), "its name is not durable");
        spares.names_are_durable();
        spares.retire(&closed(dir.path(), 2, 10), true).unwrap();
        spares.reuse(rename_to(dir.path(), "a")).unwrap();
        assert!(spares.reuse(|_| ()).is_none(), "the second's name is not durable");
        spares.names_are_durable();
        spares.reuse(rename_to(dir.path(), "b")).unwrap();
        assert!(spares.reuse(|_| ()).is_none());
        assert_eq!(names(dir.path()), ["a", "b"]);
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"1");
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"2");
    }

    #[test]
    fn what_is_beyond_the_bound_is_deleted_but_one_of_any_size_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(20);
        for first in 1..=3 {
            spares.retire(&closed(dir.path(), first, 10), true).unwrap();
        }
        assert_eq!(names(dir.path()).len(), 2);
        assert!(spares.give_up());
        spares.retire(&closed(dir.path(), 4, 100), true).unwrap();
        spares.retire(&closed(dir.path(), 5, 1), true).unwrap();
        assert_eq!(names(dir.path()), ["spare-00000000000000000004.tmp"]);
    }

    #[test]
    fn what_is_not_wanted_is_deleted_and_so_are_those_that_are_given_up_or_not_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(20);
        spares.retire(&closed(dir.path(), 1, 10), false).unwrap();
        assert!(!spares.give_up());
        spares.retire(&closed(dir.path(), 2, 10), true).unwrap();
        spares.retire(&closed(dir.path(), 3, 10), true).unwrap();
        spares.names_are_durable();
        spares.reuse(|_| ()).unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        assert!(spares.give_up());
        assert!(spares.reuse(|_| ()).is_none());
        assert!(names(dir.path()).is_empty());
    }
}
