//! A model of what a power cut leaves of files: what was synced, and nothing of what was only written.
//!
//! For tests, behind [`crate::Faults`]. As strict as Linux may be: a sync that fails drops what it should have written,
//! and the next one succeeds without it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The files that were written since the model began.
#[derive(Debug, Default)]
pub(crate) struct Power {
    files: BTreeMap<PathBuf, Image>,
}

/// One file.
#[derive(Debug, Default)]
struct Image {
    /// What the disk holds.
    durable: Vec<u8>,
    /// What only the system's memory holds, in order.
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut { length: usize },
}

impl Power {
    /// A file that holds `bytes` durably; one of that name is gone.
    pub(crate) fn created(&mut self, path: &Path, bytes: &[u8]) {
        self.files.insert(path.into(), Image { durable: bytes.into(), unsynced: Vec::new() });
    }

    /// To be called before the write.
    pub(crate) fn written(&mut self, path: &Path, offset: u64, bytes: &[u8]) {
        self.change(path, Change::Write { offset: offset as usize, bytes: bytes.into() });
    }

    /// To be called before the cut.
    pub(crate) fn cut(&mut self, path: &Path, length: u64) {
        self.change(path, Change::Cut { length: length as usize });
    }

    fn change(&mut self, path: &Path, change: Change) {
        let image = self.files.entry(path.into()).or_insert_with(|| {
            // Written before the model began.
            Image { durable: std::fs::read(path).unwrap_or_default(), unsynced: Vec::new() }
        });
        image.unsynced.push(change);
    }

    pub(crate) fn synced(&mut self, path: &Path) {
        let Some(image) = self.files.get_mut(path) else { return };
        for change in image.unsynced.drain(..) {
            change.apply(&mut image.durable);
        }
    }

    /// The system believes from now on that it has written what it has not.
    pub(crate) fn sync_failed(&mut self, path: &Path) {
        if let Some(image) = self.files.get_mut(path) {
            image.unsynced.clear();
        }
    }

    /// Takes from each file what was never synced.
    pub(crate) fn fail(&mut self) -> io::Result<()> {
        for (path, image) in &mut self.files {
            image.unsynced.clear();
            if path.exists() {
                std::fs::write(path, &image.durable)?;
            }
        }
        Ok(())
    }
}

impl Change {
    fn apply(self, durable: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                durable.resize(durable.len().max(offset + bytes.len()), 0);
                durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
            Self::Cut { length } => durable.resize(length, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_synced_survives_and_a_failed_sync_is_not_made_good_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut power = Power::default();
        let after = |power: &mut Power| {
            std::fs::write(&path, "what the system shows").unwrap();
            power.fail().unwrap();
            String::from_utf8(std::fs::read(&path).unwrap()).unwrap()
        };
        power.created(&path, b"head");
        power.written(&path, 4, b" one");
        assert_eq!(after(&mut power), "head");
        power.written(&path, 4, b" one");
        power.sync_failed(&path);
        power.synced(&path);
        assert_eq!(after(&mut power), "head");
        power.written(&path, 4, b" one");
        power.synced(&path);
        power.cut(&path, 2);
        assert_eq!(after(&mut power), "head one");
        power.cut(&path, 2);
        power.synced(&path);
        assert_eq!(after(&mut power), "he");
    }
}
