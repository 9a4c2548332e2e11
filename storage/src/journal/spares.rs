//! Files that nobody needs any more, kept so that the next ones of the journal are written over them: a sync of blocks that
//! exist costs half of one that has to add them, and nothing need be written ahead.
//!
//! Owns `<data>/journal/spare-<number>.tmp`. Must never hand out a file whose new name is not durable: after a power
//! cut it could stand under its old name again, with a header that is not its own.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::spare_path;
use crate::lock::lock;

/// The files that are kept.
#[derive(Debug)]
pub(crate) struct Spares {
    dir: PathBuf,
    /// What they may take on disk together.
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    kept: VecDeque<Spare>,
    /// How many were kept in all: no two have the same number.
    numbered: u64,
}

#[derive(Debug)]
struct Spare {
    path: PathBuf,
    bytes: u64,
    is_name_durable: bool,
}

impl Spares {
    /// None are kept in the journal `dir` so far; later those that take at most `bytes_max` together.
    pub(crate) fn new(dir: &Path, bytes_max: u64) -> Self {
        Self { dir: dir.into(), bytes_max, state: Mutex::default() }
    }

    /// Takes the file at `path`, so large, from where it is: keeps it if `wanted` and there are not enough, else deletes it.
    /// Follow it with [`Spares::names_are_durable`].
    ///
    /// # Errors
    /// If it is still where it was.
    pub(crate) fn retire(&self, path: &Path, bytes: u64, wanted: bool) -> std::io::Result<()> {
        let mut state = lock(&self.state);
        let kept_bytes: u64 = state.kept.iter().map(|spare| spare.bytes).sum();
        // One is kept whatever its size: that of the file it is to become is no other.
        if !wanted || (!state.kept.is_empty() && kept_bytes.saturating_add(bytes) > self.bytes_max) {
            return std::fs::remove_file(path);
        }
        let spare = spare_path(&self.dir, state.numbered + 1);
        if std::fs::rename(path, &spare).is_err() {
            return std::fs::remove_file(path);
        }
        state.numbered += 1;
        state.kept.push_back(Spare { path: spare, bytes, is_name_durable: false });
        Ok(())
    }

    /// This directory, and those from which files came, were synced after the last one was retired.
    pub(crate) fn names_are_durable(&self) {
        lock(&self.state).kept.iter_mut().for_each(|spare| spare.is_name_durable = true);
    }

    /// The directories could not be synced: deletes the files whose names may not last, with what they always held.
    pub(crate) fn give_up_unnamed(&self) {
        lock(&self.state).kept.retain(|spare| {
            if !spare.is_name_durable {
                let _ = std::fs::remove_file(&spare.path);
            }
            spare.is_name_durable
        });
    }

    /// Has the oldest file used, if there is one: `rename` gives it another name. If it does not, the file is deleted.
    /// Meanwhile none is retired.
    pub(super) fn reuse<T>(&self, rename: impl FnOnce(&Path) -> T) -> Option<T> {
        let mut state = lock(&self.state);
        let spare = if state.kept.front()?.is_name_durable { state.kept.pop_front()? } else { return None };
        let renamed = rename(&spare.path);
        // Renamed, it is gone already.
        let _ = std::fs::remove_file(&spare.path);
        Some(renamed)
    }

    /// Deletes the files for the room they take. Whether there were any.
    pub(crate) fn give_up(&self) -> bool {
        let given_up = std::mem::take(&mut lock(&self.state).kept);
        given_up.iter().filter(|spare| std::fs::remove_file(&spare.path).is_ok()).count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retire(spares: &Spares, number: u64, bytes: u64, wanted: bool) {
        let path = spares.dir.join(number.to_string());
        std::fs::write(&path, number.to_string()).unwrap();
        spares.retire(&path, bytes, wanted).unwrap();
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
        let spares = Spares::new(dir.path(), 20);
        retire(&spares, 1, 10, true);
        assert!(spares.reuse(|_| ()).is_none(), "its name is not durable");
        spares.names_are_durable();
        retire(&spares, 2, 10, true);
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
    fn what_has_no_durable_name_is_not_made_good_by_the_next_sync() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(dir.path(), 20);
        retire(&spares, 1, 10, true);
        spares.names_are_durable();
        retire(&spares, 2, 10, true);
        spares.give_up_unnamed();
        spares.names_are_durable();
        assert_eq!(names(dir.path()), ["spare-1.tmp"]);
        spares.reuse(rename_to(dir.path(), "a")).unwrap();
        assert!(spares.reuse(|_| ()).is_none());
    }

    #[test]
    fn what_is_beyond_the_bound_is_deleted_but_one_of_any_size_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(dir.path(), 20);
        for first in 1..=3 {
            retire(&spares, first, 10, true);
        }
        assert_eq!(names(dir.path()).len(), 2);
        assert!(spares.give_up());
        retire(&spares, 4, 100, true);
        retire(&spares, 5, 1, true);
        assert_eq!(names(dir.path()), ["spare-3.tmp"]);
    }

    #[test]
    fn what_is_not_wanted_is_deleted_and_so_are_those_that_are_given_up_or_not_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(dir.path(), 20);
        retire(&spares, 1, 10, false);
        assert!(!spares.give_up());
        retire(&spares, 2, 10, true);
        retire(&spares, 3, 10, true);
        spares.names_are_durable();
        spares.reuse(|_| ()).unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        assert!(spares.give_up());
        assert!(spares.reuse(|_| ()).is_none());
        assert!(names(dir.path()).is_empty());
    }
}
