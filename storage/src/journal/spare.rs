//! A journal file that nobody needs any more, kept so that the next one is written over it: a sync of blocks that exist
//! costs half of one that has to add them, and nothing need be written ahead.
//!
//! Owns `<data>/journal/spare.tmp`. Must never hand out a file whose new name is not durable: after a power cut it could
//! stand under its old name again, with a header that is not its own.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{Closed, SPARE};
use crate::lock::lock;

/// The one file that is kept, if there is one.
#[derive(Debug)]
pub(crate) struct Spare {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    None,
    /// It has its name, which is not durable yet.
    Named,
    Ready,
}

impl Spare {
    /// None is kept in the journal `dir` so far.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join(SPARE), state: Mutex::new(State::None) }
    }

    /// Takes `file` out of the journal: keeps it if `wanted` and there is no other, else deletes it. Follow it with
    /// [`Spare::names_are_durable`].
    ///
    /// # Errors
    /// If it is still where it was.
    pub(crate) fn retire(&self, file: &Closed, wanted: bool) -> std::io::Result<()> {
        let mut state = lock(&self.state);
        if !wanted || *state != State::None {
            return std::fs::remove_file(&file.path);
        }
        std::fs::rename(&file.path, &self.path)?;
        *state = State::Named;
        Ok(())
    }

    /// The directory was synced after the last file was retired.
    pub(crate) fn names_are_durable(&self) {
        let mut state = lock(&self.state);
        if *state == State::Named {
            *state = State::Ready;
        }
    }

    /// Has the file used, if there is one: `rename` gives it another name. If it does not, the file is deleted. Meanwhile
    /// none is retired.
    pub(super) fn reuse<T>(&self, rename: impl FnOnce(&Path) -> T) -> Option<T> {
        let mut state = lock(&self.state);
        if *state != State::Ready {
            return None;
        }
        let renamed = rename(&self.path);
        // Renamed, it is gone already.
        let _ = std::fs::remove_file(&self.path);
        *state = State::None;
        Some(renamed)
    }

    /// Deletes the file for the room it takes. Whether there was one.
    pub(crate) fn give_up(&self) -> bool {
        let mut state = lock(&self.state);
        let had_one = *state != State::None;
        *state = State::None;
        had_one && std::fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(dir: &Path, name: &str) -> Closed {
        let path = dir.join(name);
        std::fs::write(&path, name).unwrap();
        Closed { path, id: crate::values::FileId::journal(1), last: 1, bytes: 1 }
    }

    #[test]
    fn one_file_is_kept_and_handed_out_once_its_name_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let spare = Spare::new(dir.path());
        spare.retire(&closed(dir.path(), "one"), true).unwrap();
        spare.retire(&closed(dir.path(), "two"), true).unwrap();
        assert!(spare.reuse(|_| ()).is_none(), "its name is not durable");
        spare.names_are_durable();
        spare.reuse(|path| std::fs::rename(path, dir.path().join("three"))).unwrap().unwrap();
        assert_eq!(std::fs::read(dir.path().join("three")).unwrap(), b"one");
        assert!(spare.reuse(|_| ()).is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_wanted_is_deleted_and_so_is_one_that_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let spare = Spare::new(dir.path());
        spare.retire(&closed(dir.path(), "one"), false).unwrap();
        assert!(!spare.give_up());
        spare.retire(&closed(dir.path(), "two"), true).unwrap();
        assert!(spare.give_up());
        spare.names_are_durable();
        assert!(spare.reuse(|_| ()).is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
