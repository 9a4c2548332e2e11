//! Writing a backup: every record as of one commit, as a stream that proves itself whole. Drawn in docs/format.md.
//!
//! Logical: it holds records, no files, so it can be restored by any later release and comes out compact.

use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{Epoch, Key, ReadError, Sequence, Snapshot};

pub(crate) const MAGIC: [u8; 8] = *b"ESCROWBK";
/// The format of backups that this release writes, and the newest that it restores.
pub(crate) const FORMAT: u32 = 1;
/// magic, format u32, epoch u64, sequence u64, crc32 u32.
pub(crate) const HEADER_BYTES: usize = 32;
/// The trailer behind its length and checksum: records u64, digest u128.
pub(crate) const TRAILER_BYTES: usize = 24;
/// A block is closed when it has reached this. It can be larger by one record.
const BLOCK_BYTES: usize = 64 << 10;

/// A number that depends on every key and every value: equal for equal contents, whatever the store's history. FNV-1a
/// with 128 bits: it finds every accident, it does not resist a forger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub u128);

impl Default for Digest {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Digest {
    /// Adds a record; the order of records counts.
    pub(crate) fn add_record(&mut self, key: &[u8], value: &[u8]) {
        // The lengths go in first, so that no byte can move between key and value.
        self.add(&(key.len() as u64).to_be_bytes());
        self.add(&(value.len() as u64).to_be_bytes());
        self.add(key);
        self.add(value);
    }

    fn add(&mut self, bytes: &[u8]) {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a backup contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The last commit in it.
    pub sequence: Sequence,
    /// The claim of the store it was taken from.
    pub epoch: Epoch,
    /// How many records it holds.
    pub records: u64,
    /// Its size.
    pub bytes: u64,
    /// The digest of its records.
    pub digest: Digest,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A record is damaged or the disk failed: a backup without it would hide that. Remedy: `escrow store verify`, then
    /// an older backup or `escrow store repair`.
    #[error("the store cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The target takes no more.
    #[error("the backup cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Writes everything in `snapshot` to `out`, and flushes it. Making the target durable is the caller's part.
///
/// # Errors
/// [`BackupError`]; what was written until then has no trailer and is refused by a restore.
pub fn backup(snapshot: &Snapshot, out: &mut impl Write) -> Result<BackupReport, BackupError> {
    let (sequence, epoch) = (snapshot.sequence(), snapshot.epoch());
    let mut writer = Writer::begin(out, epoch, sequence)?;
    let mut failed = None;
    snapshot.walk(&mut |key, value| match writer.add(&key, &value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let (records, bytes, digest) = writer.finish()?;
    Ok(BackupReport { sequence, epoch, records, bytes, digest })
}

/// The checksum of a block: bound to its backup and to its place in it.
pub(crate) fn block_checksum(salt: u32, index: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_be_bytes());
    hasher.update(&index.to_be_bytes());
    hasher.update(&(bytes.len() as u32).to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

pub(crate) struct Writer<'a, W> {
    out: &'a mut W,
    salt: u32,
    /// The records since the last block.
    pub(crate) block: Vec<u8>,
    blocks: u64,
    records: u64,
    bytes: u64,
    digest: Digest,
}

impl<'a, W: Write> Writer<'a, W> {
    pub(crate) fn begin(out: &'a mut W, epoch: Epoch, sequence: Sequence) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&FORMAT.to_be_bytes());
        header.extend_from_slice(&epoch.0.to_be_bytes());
        header.extend_from_slice(&sequence.0.to_be_bytes());
        let salt = crc32fast::hash(&header);
        header.extend_from_slice(&salt.to_be_bytes());
        out.write_all(&header)?;
        let bytes = header.len() as u64;
        Ok(Self { out, salt, block: Vec::new(), blocks: 0, records: 0, bytes, digest: Digest::default() })
    }

    pub(crate) fn add(&mut self, key: &Key, value: &Bytes) -> io::Result<()> {
        self.block.extend_from_slice(&(key.len() as u16).to_be_bytes());
        self.block.extend_from_slice(&(value.len() as u32).to_be_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.digest.add_record(key, value);
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    /// {length u32, crc32 u32, records}
    fn write_block(&mut self) -> io::Result<()> {
        let length = self.block.len() as u32;
        let crc = block_checksum(self.salt, self.blocks, &self.block);
        self.write(&length.to_be_bytes())?;
        self.write(&crc.to_be_bytes())?;
        let mut block = std::mem::take(&mut self.block);
        self.write(&block)?;
        block.clear();
        self.block = block;
        self.blocks += 1;
        Ok(())
    }

    /// The trailer: {length u32 = 0, crc32 u32, records u64, digest u128}.
    pub(crate) fn finish(mut self) -> io::Result<(u64, u64, Digest)> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&self.records.to_be_bytes());
        trailer.extend_from_slice(&self.digest.0.to_be_bytes());
        let crc = block_checksum(self.salt, self.blocks, &trailer);
        self.write(&0_u32.to_be_bytes())?;
        self.write(&crc.to_be_bytes())?;
        self.write(&trailer)?;
        self.out.flush()?;
        Ok((self.records, self.bytes, self.digest))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}
