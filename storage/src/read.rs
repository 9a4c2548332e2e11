//! Reading: point look-ups and bounded scans over the newest durable state.

use bytes::Bytes;

use crate::{Key, ReadError};

/// A key with its value.
pub type Entry = (Key, Bytes);

/// Keys from `start` (included) to `end` (excluded), in byte order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that belongs.
    pub start: Key,
    /// The first key that does not.
    pub end: Key,
}

impl KeyRange {
    /// The range `start..end`.
    pub fn new(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// Every key that begins with `prefix`. A prefix of nothing but `0xff` has no end in byte order and is not used by
    /// any keyspace.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.last_mut() {
            if *last < 0xff {
                *last += 1;
                break;
            }
            end.pop();
        }
        Self { start: Key::from(prefix), end: end.into() }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start[..] <= *key && *key < self.end[..]
    }
}

/// Only the disk knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDisk;

/// A view of what is durable. Cheap to share; reads never wait for a sync.
///
/// A scan sees, for each key, a value that was durable at some moment during the scan.
pub trait Read: Send + Sync {
    /// The value of `key`, or `None`.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the record is damaged, [`ReadError::Failed`] if the disk is.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;

    /// The value of `key`, or `None`, as [`Read::get`] has it, for a thread that must not wait for a disk.
    ///
    /// # Errors
    /// [`OnDisk`], also for what is damaged: ask [`Read::get`] on a thread that may block. So it always is for a reader that keeps
    /// nothing in memory, which is what this does unless it is overridden.
    fn get_from_memory(&self, _key: &[u8]) -> Result<Option<Bytes>, OnDisk> {
        Err(OnDisk)
    }

    /// At most `limit` entries of `range`, ascending.
    ///
    /// # Errors
    /// As [`Read::get`]; a damaged record ends the scan with its error.
    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError>;

    /// At most `limit` entries of `range`, descending from its end.
    ///
    /// # Errors
    /// As [`Read::get`].
    fn scan_back(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError>;
}
