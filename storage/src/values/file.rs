//! One file that holds values, open for reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::ValueError;

/// An open file. Reads of it go on when it is moved or deleted; when it is written over, checksums say so.
#[derive(Debug)]
pub(crate) struct ValueFile {
    file: File,
}

impl ValueFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// `length` bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, length: u32) -> Result<Bytes, ValueError> {
        let ends = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ValueError::Damaged(format!(
                "the file of its value ends before offset {}",
                offset + u64::from(length)
            )),
            _ => ValueError::Io(error),
        };
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(ends)?;
        Ok(bytes.into())
    }

    /// As many of `length` bytes from `offset` on as there are.
    pub(super) fn read_some(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}
