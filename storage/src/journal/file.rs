//! One journal file: the only way in which bytes of the journal are written, cut and synced once it has its name.
//!
//! Asks [`Faults`] before it asks the system, and tells it what was done, so that a power cut can be had in a test.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::Header;
use crate::faults::{Fault, Faults, Operation};

/// An open file of the journal.
#[derive(Debug)]
pub(crate) struct JournalFile {
    file: File,
    path: PathBuf,
    faults: Faults,
}

impl JournalFile {
    /// Makes a file with a durable `header` as `unfinished`, and gives it its name `path`, which is not yet durable.
    pub(super) fn create(
        unfinished: &Path,
        path: &Path,
        header: &Header,
        faults: &Faults,
    ) -> io::Result<Self> {
        faults.check(Operation::Create).map_err(|(_, error)| error)?;
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(unfinished)?;
        let header = header.encode();
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        std::fs::rename(unfinished, path)?;
        faults.note_created(path, &header);
        Ok(Self { file, path: path.into(), faults: faults.clone() })
    }

    /// Gives `spare` a durable `header` and the name `path`, which is not yet durable. What else it holds stays, and its
    /// blocks are there to be overwritten.
    pub(super) fn reuse(spare: &Path, path: &Path, header: &Header, faults: &Faults) -> io::Result<Self> {
        faults.check(Operation::Create).map_err(|(_, error)| error)?;
        let file = OpenOptions::new().read(true).write(true).open(spare)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        std::fs::rename(spare, path)?;
        faults.note_reused(path)?;
        Ok(Self { file, path: path.into(), faults: faults.clone() })
    }

    /// How long it is.
    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Opens a file that an earlier process has written.
    pub(crate) fn open(path: &Path, faults: &Faults) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, path: path.into(), faults: faults.clone() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err((fault, error)) = self.faults.check(Operation::Write) {
            if fault == Fault::NoSpace {
                self.write_unasked(&bytes[..bytes.len() / 2], offset)?;
            }
            return Err(error);
        }
        self.write_unasked(bytes, offset)
    }

    /// Writes zeros that nobody needs: it does not count as an operation.
    pub(super) fn write_zeros(&self, count: u64, offset: u64) -> io::Result<()> {
        self.write_unasked(&vec![0; count as usize], offset)
    }

    fn write_unasked(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.faults.note_write(&self.path, offset, bytes);
        self.file.write_all_at(bytes, offset)
    }

    /// Makes `length` the end of the file.
    pub(crate) fn cut(&self, length: u64) -> io::Result<()> {
        self.faults.check(Operation::Cut).map_err(|(_, error)| error)?;
        self.faults.note_cut(&self.path, length);
        self.file.set_len(length)
    }

    /// Gives back the zeros behind `length`. If that fails, they stay, which is as good.
    pub(super) fn give_back(&self, length: u64) {
        self.faults.note_cut(&self.path, length);
        let _ = self.file.set_len(length);
    }

    /// `fdatasync`: makes durable what was written.
    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.sync_with(File::sync_data)
    }

    /// `fsync`: the whole file, for a start, where nobody waits for each millisecond.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.sync_with(File::sync_all)
    }

    fn sync_with(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        if let Err((fault, error)) = self.faults.check(Operation::Sync) {
            self.faults.note_failed_sync(&self.path, fault);
            return Err(error);
        }
        sync(&self.file)?;
        self.faults.note_synced(&self.path);
        Ok(())
    }
}
