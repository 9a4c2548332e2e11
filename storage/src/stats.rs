//! What the store measures of itself: a snapshot on demand, and a hook for each event.
//!
//! Owns the counters. Must never decide anything: nothing in the store reads them back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::lock::lock;
use crate::{Room, Sequence};

/// Is told what happened, as it happens, on the thread where it happened: must be quick and must not call the store.
pub trait Observer: Send + Sync {
    /// A batch of `bytes` became durable: writing took `append`, `fdatasync` took `sync`, and before that the commit
    /// was delayed by `delay` for the table to catch up.
    fn committed(&self, bytes: u64, append: Duration, sync: Duration, delay: Duration);

    /// A frozen overlay of `edits` edits was written to the table and synced, which took `took`.
    fn spilled(&self, edits: u64, took: Duration);

    /// A damaged record was met and not served.
    fn met_corrupt(&self);
}

/// How long the syncs took so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// The last one.
    pub last: Duration,
    /// The longest.
    pub max: Duration,
    /// All together; divided by `count` it is the mean.
    pub total: Duration,
}

impl Latency {
    /// The mean, zero before the first.
    pub fn mean(&self) -> Duration {
        u32::try_from(self.count).ok().and_then(|count| self.total.checked_div(count)).unwrap_or_default()
    }

    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.last = took;
        self.max = self.max.max(took);
        self.total += took;
    }
}

/// The state of a store at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The last commit.
    pub last_sequence: Sequence,
    /// The last commit that is in the table; the journal below it is gone.
    pub spilled_sequence: Sequence,
    /// Bytes of all journal files, without the zeros written ahead.
    pub journal_bytes: u64,
    /// How many journal files there are.
    pub journal_files: u64,
    /// Bytes of the commits since the store was opened, as the journal has them: what was asked for, without what the file
    /// system rounds up and what the table adds.
    pub appended_bytes: u64,
    /// Bytes of the live overlay.
    pub overlay_bytes: u64,
    /// Bytes of the live overlay and the one that is being written, together, beyond which new messages are refused.
    pub overlay_bytes_hard: u64,
    /// Bytes of the overlay that is being written to the table.
    pub frozen_bytes: u64,
    /// Bytes of the table on disk. sled's file never shrinks.
    pub table_bytes: u64,
    /// Files outside the journal and the table that hold large values.
    pub value_files: u64,
    /// Bytes of the values in them, and in the journal, to which the table points.
    pub value_bytes: u64,
    /// Records in the table as of `spilled_sequence`.
    pub table_records: u64,
    /// The syncs of the journal.
    pub syncs: Latency,
    /// How many frozen overlays were written to the table.
    pub spills: u64,
    /// How often a damaged record was met.
    pub corrupt_records: u64,
    /// How long the next commit would be delayed.
    pub commit_delay: Duration,
    /// Whether new messages may be accepted.
    pub room: Room,
    /// Free space of the file system when last looked at.
    pub free_bytes: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) corrupt_records: AtomicU64,
    pub(crate) spills: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    /// Of the newest file only.
    pub(crate) journal_bytes: AtomicU64,
    syncs: Mutex<Latency>,
}

impl Counters {
    pub(crate) fn add_sync(&self, took: Duration) {
        lock(&self.syncs).add(took);
    }

    pub(crate) fn syncs(&self) -> Latency {
        *lock(&self.syncs)
    }

    pub(crate) fn set_journal_bytes(&self, bytes: u64) {
        self.journal_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
