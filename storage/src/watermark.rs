//! How far the table is known to have come: a file of two slots that are written in turn, so that a torn write never
//! costs both.
//!
//! Owns `<data>/WATERMARK`. Written only after the table was synced: a table that opens with less has lost something.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::codec::Cursor;
use crate::directory::io_error;
use crate::{OpenError, remedy};

const MAGIC: [u8; 8] = *b"ESCROWWM";
/// magic, generation u64, sequence u64, records u64, epoch u64, committed u64, crc32 u32.
pub(crate) const SLOT_BYTES: usize = 52;
/// Each slot has a page of its own, so that no write touches both.
const SLOT_STRIDE: u64 = 4096;

/// What the table holds at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The last sequence in it.
    pub(crate) sequence: u64,
    /// How many records it had then.
    pub(crate) records: u64,
    /// The last claim: a journal that knows only of older ones has lost its newest file.
    pub(crate) epoch: u64,
    /// The last commit that was seen to be durable: a journal that ends before it has lost something.
    pub(crate) committed: u64,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Watermark {
    file: File,
    path: PathBuf,
    generation: u64,
    mark: Mark,
}

impl Watermark {
    /// Creates the file with `mark`; replaces one that is there.
    pub(crate) fn create(path: &Path, mark: Mark) -> Result<Self, OpenError> {
        let open = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path);
        let file = open.map_err(|source| io_error(path, source))?;
        let mut watermark = Self { file, path: path.into(), generation: 0, mark };
        watermark.write(mark).map_err(|source| io_error(path, source))?;
        Ok(watermark)
    }

    /// Opens the file and reads the newer whole slot.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let open = OpenOptions::new().read(true).write(true).open(path);
        let file = match open {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(path, "it is missing"));
            }
            Err(source) => return Err(io_error(path, source)),
        };
        let slots = [0, 1].map(|slot| read_slot(&file, slot));
        let newest = slots.into_iter().flatten().max_by_key(|(generation, _)| *generation);
        let (generation, mark) = newest.ok_or_else(|| damaged(path, "neither of its two slots is whole"))?;
        Ok(Self { file, path: path.into(), generation, mark })
    }

    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `mark` durable in the slot that does not hold the current one.
    pub(crate) fn write(&mut self, mark: Mark) -> io::Result<()> {
        let generation = self.generation + 1;
        self.file.write_all_at(&encode(generation, mark), (generation % 2) * SLOT_STRIDE)?;
        self.file.sync_all()?;
        self.generation = generation;
        self.mark = mark;
        Ok(())
    }
}

pub(crate) fn encode(generation: u64, mark: Mark) -> [u8; SLOT_BYTES] {
    let mut out = [0; SLOT_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&generation.to_be_bytes());
    out[16..24].copy_from_slice(&mark.sequence.to_be_bytes());
    out[24..32].copy_from_slice(&mark.records.to_be_bytes());
    out[32..40].copy_from_slice(&mark.epoch.to_be_bytes());
    out[40..48].copy_from_slice(&mark.committed.to_be_bytes());
    let crc = crc32fast::hash(&out[..48]);
    out[48..].copy_from_slice(&crc.to_be_bytes());
    out
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, Mark)> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_STRIDE).ok()?;
    decode(&bytes)
}

pub(crate) fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Mark)> {
    let mut cursor = Cursor::new(bytes);
    let magic: [u8; 8] = cursor.array()?;
    let generation = cursor.u64()?;
    let (sequence, records) = (cursor.u64()?, cursor.u64()?);
    let mark = Mark { sequence, records, epoch: cursor.u64()?, committed: cursor.u64()? };
    let is_whole = magic == MAGIC && cursor.u32()? == crc32fast::hash(&bytes[..48]);
    is_whole.then_some((generation, mark))
}

fn damaged(path: &Path, fault: &str) -> OpenError {
    OpenError::Damaged {
        file: path.into(),
        fault: fault.into(),
        remedy: remedy::write_again(remedy::root_above(path, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_other_and_two_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("WATERMARK");
        let old = Mark { sequence: 5, records: 2, epoch: 1, committed: 5 };
        let new = Mark { sequence: 9, records: 3, epoch: 1, committed: 9 };
        let mut watermark = Watermark::create(&path, old).unwrap();
        watermark.write(new).unwrap();
        assert_eq!(Watermark::open(&path).unwrap().mark(), new);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..SLOT_BYTES * 8 {
            let mut torn = whole.clone();
            torn[bit / 8] ^= 1 << (bit % 8); // generation 2 is in slot 0
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(Watermark::open(&path).unwrap().mark(), old, "bit {bit}");
        }
        std::fs::write(&path, [0; 64]).unwrap();
        assert!(matches!(Watermark::open(&path), Err(OpenError::Damaged { .. })));
    }
}
