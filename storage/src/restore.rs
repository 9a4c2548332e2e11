//! Reading a backup into an empty directory.
//!
//! Must never leave a part of a backup where a store could be opened: everything is built in a directory of its own and
//! moved when the trailer was seen to fit, `FORMAT` last.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::backup::{Digest, FORMAT, HEADER_BYTES, MAGIC, TRAILER_BYTES, block_checksum};
use crate::builder::Builder;
use crate::codec::{BATCH_BYTES_MAX, Cursor, KEY_BYTES_MAX};
use crate::directory::{self, Layout, create_with_parents, io_error, sync_dir};
use crate::{Edit, Epoch, Key, OpenError, Options, Sequence};

/// Where a restore builds. Its name is foreign to a data directory, so nothing opens one in which it is left.
const STAGING: &str = ".restoring";
/// What an empty directory may hold.
const HARMLESS: [&str; 3] = ["LOCK", "lost+found", STAGING];

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The last commit in the backup; the next one follows it.
    pub sequence: Sequence,
    /// The claim of the store the backup was taken from; the next open has a later one.
    pub epoch: Epoch,
    /// How many records were restored.
    pub records: u64,
    /// Their digest, which the next backup has too if nothing changes.
    pub digest: Digest,
}

/// Why nothing was restored. The directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is no backup, or it was cut off or altered. Remedy: another copy of it.
    #[error("this is not a whole backup: {0}")]
    NotWhole(String),
    /// A newer release wrote it. Remedy: restore with that.
    #[error("the backup has format {found}, this release reads up to {supported}")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest that is known here.
        supported: u32,
    },
    /// The directory holds something. Remedy: choose an empty one.
    #[error("{path} is not empty (it holds {name}); a backup is restored into an empty directory only")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One of the things it holds.
        name: String,
    },
    /// The backup cannot be read.
    #[error("the backup cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The directory cannot be written.
    #[error(transparent)]
    Write(#[from] OpenError),
}

/// Restores the backup in `source` into `dir`, which must be empty or absent.
///
/// # Errors
/// [`RestoreError`]; nothing is left in `dir` then.
pub fn restore(
    source: &mut impl Read,
    dir: impl AsRef<Path>,
    options: &Options,
) -> Result<RestoreReport, RestoreError> {
    let layout = Layout::new(dir.as_ref());
    let existed = layout.root.exists();
    create_with_parents(&layout.root)?;
    refuse_full(&layout.root)?;
    let lock = directory::lock_only(&layout)?;
    let staging = Layout::new(&layout.root.join(STAGING));
    let restored = build(source, &staging, &options.clone().checked()).and_then(|report| {
        move_out(&staging, &layout)?;
        Ok(report)
    });
    if restored.is_err() {
        let _ = std::fs::remove_dir_all(&staging.root);
        let _ = std::fs::remove_file(layout.root.join("LOCK"));
        if !existed {
            let _ = std::fs::remove_dir(&layout.root);
        }
    }
    drop(lock);
    restored
}

fn refuse_full(root: &Path) -> Result<(), RestoreError> {
    for entry in std::fs::read_dir(root).map_err(|source| io_error(root, source))? {
        let name = entry.map_err(|source| io_error(root, source))?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            let name = name.to_string_lossy().into_owned();
            return Err(RestoreError::NotEmpty { path: root.into(), name });
        }
    }
    Ok(())
}

/// Reads the whole backup into a directory without `FORMAT`.
fn build(source: &mut impl Read, staging: &Layout, options: &Options) -> Result<RestoreReport, RestoreError> {
    let mut backup = Backup::open(source)?;
    if staging.root.exists() {
        std::fs::remove_dir_all(&staging.root).map_err(|error| io_error(&staging.root, error))?;
    }
    let mut builder = Builder::begin(staging, options)?;
    backup.each_record(|key, value| Ok(builder.add(key, Edit::Put(value))?))?;
    let (sequence, epoch) = (backup.sequence, backup.epoch);
    builder.finish(sequence.0, epoch, options)?.close();
    Ok(RestoreReport { sequence, epoch, records: backup.records, digest: backup.digest })
}

pub(crate) fn record(cursor: &mut Cursor<'_>) -> Option<(Key, Bytes)> {
    let key_length = usize::from(cursor.u16()?);
    let value_length = cursor.u32()? as usize;
    if key_length > KEY_BYTES_MAX {
        return None;
    }
    let key = Key::from(cursor.take(key_length)?);
    Some((key, Bytes::copy_from_slice(cursor.take(value_length)?)))
}

/// Moves the finished parts to their places; `FORMAT` makes them a data directory.
fn move_out(staging: &Layout, layout: &Layout) -> Result<(), RestoreError> {
    let moves = [
        (staging.values(), layout.values()),
        (staging.table(), layout.table()),
        (staging.journal(), layout.journal()),
        (staging.watermark(), layout.watermark()),
    ];
    for (from, to) in moves {
        std::fs::rename(&from, &to).map_err(|source| io_error(&to, source))?;
    }
    let cleared = std::fs::remove_dir(&staging.root).and_then(|()| sync_dir(&layout.root));
    cleared.map_err(|source| io_error(&layout.root, source))?;
    directory::write_format(layout)?;
    Ok(())
}

fn not_whole(fault: &str) -> RestoreError {
    RestoreError::NotWhole(fault.to_owned())
}

/// A backup that is being read. Believes nothing that it has not checked.
pub(crate) struct Backup<'a, R> {
    source: &'a mut R,
    salt: u32,
    epoch: Epoch,
    sequence: Sequence,
    blocks: u64,
    pub(crate) records: u64,
    digest: Digest,
}

impl<'a, R: Read> Backup<'a, R> {
    pub(crate) fn open(source: &'a mut R) -> Result<Self, RestoreError> {
        let header = take(source, HEADER_BYTES)?;
        let mut cursor = Cursor::new(&header);
        let fields =
            (|| Some((cursor.array::<8>()?, cursor.u32()?, cursor.u64()?, cursor.u64()?, cursor.u32()?)))();
        let (magic, format, epoch, sequence, salt) = fields.ok_or_else(|| not_whole("it is too short"))?;
        if magic != MAGIC {
            return Err(not_whole("it does not begin like a backup"));
        }
        if crc32fast::hash(&header[..HEADER_BYTES - 4]) != salt {
            return Err(not_whole("the checksum of its header does not match"));
        }
        if format > FORMAT {
            return Err(RestoreError::Newer { found: format, supported: FORMAT });
        }
        let (epoch, sequence) = (Epoch(epoch), Sequence(sequence));
        Ok(Self { source, salt, epoch, sequence, blocks: 0, records: 0, digest: Digest::default() })
    }

    /// Hands every record to `take`, in order, up to a trailer that fits them.
    pub(crate) fn each_record(
        &mut self,
        mut take: impl FnMut(Key, Bytes) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let mut last_key: Option<Key> = None;
        while let Some(block) = self.next_block()? {
            let mut cursor = Cursor::new(&block);
            while !cursor.is_empty() {
                let (key, value) =
                    record(&mut cursor).ok_or_else(|| not_whole("a record does not fit its block"))?;
                if last_key.as_ref().is_some_and(|last| *last >= key) {
                    return Err(not_whole("its records are out of order"));
                }
                self.count(&key, &value);
                last_key = Some(key.clone());
                take(key, value)?;
            }
        }
        Ok(())
    }

    /// The next block; `None` after a trailer that fits everything that was counted.
    fn next_block(&mut self) -> Result<Option<Vec<u8>>, RestoreError> {
        let head = take(self.source, 8)?;
        let mut cursor = Cursor::new(&head);
        let (length, crc) = cursor.u32().zip(cursor.u32()).ok_or_else(|| not_whole("it is too short"))?;
        let length = length as usize;
        if length > BATCH_BYTES_MAX {
            return Err(RestoreError::NotWhole(format!("a block claims {length} bytes")));
        }
        let bytes = take(self.source, if length == 0 { TRAILER_BYTES } else { length })?;
        if block_checksum(self.salt, self.blocks, &bytes) != crc {
            return Err(RestoreError::NotWhole(format!(
                "the checksum of block {} does not match",
                self.blocks
            )));
        }
        self.blocks += 1;
        if length > 0 {
            return Ok(Some(bytes));
        }
        self.check_trailer(&bytes)?;
        Ok(None)
    }

    fn count(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.digest.add_record(key, value);
    }

    fn check_trailer(&mut self, trailer: &[u8]) -> Result<(), RestoreError> {
        let mut cursor = Cursor::new(trailer);
        let records = cursor.u64();
        let digest = cursor.array().map(u128::from_be_bytes);
        if records != Some(self.records) || digest != Some(self.digest.0) {
            return Err(not_whole("count or digest do not match its trailer"));
        }
        if self.source.read(&mut [0]).map_err(RestoreError::Read)? != 0 {
            return Err(not_whole("something follows its trailer"));
        }
        Ok(())
    }
}

/// Exactly `length` bytes, without believing that so many are there.
fn take(source: &mut impl Read, length: usize) -> Result<Vec<u8>, RestoreError> {
    let mut bytes = Vec::new();
    source.take(length as u64).read_to_end(&mut bytes).map_err(RestoreError::Read)?;
    if bytes.len() < length {
        return Err(not_whole("it ends too soon"));
    }
    Ok(bytes)
}
